"""The gate: which alias a new model version gets, and why, in plain words."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

CHAMPION, CHALLENGER = "champion", "challenger"
PREVIOUS = "previous"  # the version that was champion before the present one
BEATS_THE_RULE = "beats the best simple rule on every behavior"


# NDCG on the newest held-out days (published view, at the selection cutoff) of one ranking, by
# behavior; None or NaN where nothing could be measured.
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Rule:
    """The best simple rule of a behavior.

    Args:
        name: what it does.
        value: its figure, on the candidate's users; None or NaN where nothing was measured.
    """

    name: str
    value: float | None


@dataclass(frozen=True)
class Pair:
    """Mean NDCG of candidate and champion over the same users, and their difference.

    Args:
        users: number of users, the denominator.
        candidate: mean of the new version.
        champion: mean of the champion.
        low: lower end of the 95 % interval of the mean difference.
        high: upper end.
    """

    users: int
    candidate: float
    champion: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The candidate's mean minus the champion's."""
        return self.candidate - self.champion

    def __str__(self) -> str:
        """Return the figures as a part of a sentence.

        >>> str(Pair(9, 0.21, 0.2, -0.001, 0.021))
        '0.2100 against 0.2000, 95 % interval of the difference -0.0010 to +0.0210'
        """
        return (
            f"{self.candidate:.4f} against {self.champion:.4f}, "
            f"95 % interval of the difference {self.low:+.4f} to {self.high:+.4f}"
        )


@dataclass(frozen=True)
class SideBySide:
    """Candidate and champion, ranked on the newest held-out days, as each is served by then.

    Args:
        label: what the sentence calls the champion.
        behaviors: behavior to its pair; every behavior has users.
        mean: of the means over these behaviors.
        left_out: behaviors without a held-out user to compare on.
        number: of the champion's version, where it has one.
    """

    label: str
    behaviors: Mapping[str, Pair]
    mean: Pair
    left_out: tuple[str, ...] = ()
    number: int | None = None


@dataclass(frozen=True)
class Unranked:
    """A champion that the candidate was not ranked beside.

    Args:
        label: what the sentence calls the champion.
        why: the reason.
    """

    label: str
    why: str


@dataclass(frozen=True)
class Itself:
    """The candidate is the champion: measured again, it stands beside no other."""


@dataclass(frozen=True)
class Decision:
    """The alias of a version and the reason."""

    alias: str
    why: str


def decide(
    candidate: Figures,
    rules: Mapping[str, Rule],
    champion: SideBySide | Unranked | Itself | None,
    tolerance: float = 0.0,
    broken: Sequence[str] = (),
) -> Decision:
    """Let a candidate become champion only on evidence.

    Its data must have passed their contracts, and it must beat the best simple rule on every
    behavior (strictly). Ranked side by side with the present champion it must be better on the
    mean over behaviors, and on no behavior worse by more than the tolerance. What was not measured
    counts as not shown: without the ranking side by side the champion stays, whatever was logged.

    Args:
        candidate: the new version.
        rules: the best simple rule of each behavior on the same days, chosen before them.
        champion: the present champion side by side with the candidate, or why it could not be
            ranked so; ``Itself`` if the candidate is it; None if there is none.
        tolerance: share of the champion's NDCG that may be lost on a behavior.
        broken: hand-overs whose contract did not pass.

    >>> decide({"buy": 0.2}, {"buy": Rule("popularity", 0.1)}, None).why[:71]
    'beats the best simple rule on every behavior (buy 0.2000 against 0.1000'
    """
    lost = [f"the {handover} contract did not pass" for handover in broken]
    lost += filter(None, (_beaten(name, candidate[name], rules.get(name)) for name in candidate))
    if not candidate:
        lost.append("no behavior was measured")
    against, passed = _against(champion, tolerance)
    if lost:
        why = "; ".join([*lost, against] if not passed else lost)
        return Decision(CHALLENGER, why)
    figures = (
        f"{name} {ours:.4f} against {rules[name].value:.4f} by {rules[name].name}"
        for name, ours in candidate.items()
    )
    beats = f"{BEATS_THE_RULE} ({'; '.join(figures)})"
    if isinstance(champion, Unranked):
        by_hand = "to make it champion all the same: bigel promote challenger --why TEXT"
        return Decision(CHALLENGER, f"{beats}; {against}; {by_hand}")
    if not passed:
        return Decision(CHALLENGER, against)
    return Decision(CHAMPION, "; ".join(filter(None, (beats, against))))


def alias_of(aliases: Collection[str]) -> str:
    """Return the gate's alias among a version's aliases, "" if it has none.

    >>> alias_of(["nightly", "challenger", "champion"])
    'champion'
    """
    return next((alias for alias in (CHAMPION, CHALLENGER, PREVIOUS) if alias in aliases), "")


def loses(candidate: Figures, popularity: Figures) -> bool:
    """Tell whether a model does not beat popularity on every behavior, so that it may not serve.

    >>> loses({"view": 0.2, "buy": 0.1}, {"view": 0.1, "buy": 0.1}), loses({"buy": 0.2}, {})
    (True, True)
    """
    return any(_behind(ours, popularity.get(name)) is not False for name, ours in candidate.items())


def _behind(ours: float | None, other: float | None) -> bool | None:
    """Tell whether a figure is not above another, None where one of them is not known."""
    measured, beside = _measured(ours), _measured(other)
    return None if measured is None or beside is None else not measured > beside


def _beaten(behavior: str, ours: float | None, rule: Rule | None) -> str:
    """Return how the rule is not beaten on a behavior, "" if it is."""
    behind = None if rule is None else _behind(ours, rule.value)
    if rule is None or behind is None:
        return f"{behavior} cannot be compared with a simple rule: no figure of held-out days"
    if not behind:
        return ""
    return (
        f"does not beat the best simple rule ({rule.name}) on {behavior} "
        f"({ours:.4f} against {rule.value:.4f})"
    )


def _measured(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _against(champion: SideBySide | Unranked | Itself | None, tolerance: float) -> tuple[str, bool]:
    """Return the sentence about the present champion, and whether the candidate holds."""
    if isinstance(champion, Itself):
        return "", True
    if champion is None:
        return "there was no champion", True
    if isinstance(champion, Unranked):
        return f"not ranked side by side with the champion, {champion.label}: {champion.why}", False
    return _beside_champion(champion, tolerance)


def _beside_champion(found: SideBySide, tolerance: float) -> tuple[str, bool]:
    """Return the sentence about the champion beside it, and whether the candidate holds."""
    allowed = f"{100 * tolerance:g} %"
    worse = [
        f"is worse on {behavior} by more than {allowed} ({pair})"
        for behavior, pair in found.behaviors.items()
        if pair.difference < -tolerance * pair.champion
    ]
    better = found.mean.difference > 0
    verdict = f"is {'' if better else 'not '}better on the mean over behaviors ({found.mean})"
    kept = "" if worse else f" and on none worse by more than {allowed}"
    names = ", ".join(found.left_out)
    left = f"; not compared on {names}: no held-out user that both know" if names else ""
    return (
        f"ranked side by side with the champion, {found.label}, it "
        f"{'; it '.join([*worse, verdict])}{kept}{left}",
        better and not worse,
    )
