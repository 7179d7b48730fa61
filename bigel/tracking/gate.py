"""The gate: which alias a new model version gets, and why, in plain words."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Scores:
    """Validation NDCG per behavior (published view, at the selection cutoff) of one ranking.

    Args:
        label: what the sentence calls it, for example "version 3".
        ndcg: behavior to its value; None or NaN where nothing could be measured.
        data: fingerprint of the data it was measured on, "" if not known.
    """

    label: str
    ndcg: Mapping[str, float | None]
    data: str = ""

    def at(self, behavior: str) -> float | None:
        """Return a behavior's value, None where it was not measured.

        >>> Scores("x", {"click": float("nan")}).at("click") is None
        True
        """
        value = self.ndcg.get(behavior)
        return None if value is None or math.isnan(value) else value

    @property
    def mean(self) -> float | None:
        """The mean over behaviors; None unless every behavior was measured."""
        values = [self.at(behavior) for behavior in self.ndcg]
        measured = [value for value in values if value is not None]
        complete = values and len(measured) == len(values)
        return math.fsum(measured) / len(measured) if complete else None


@dataclass(frozen=True)
class Decision:
    """The alias of a version and the reason."""

    alias: str
    why: str


def decide(candidate: Scores, popularity: Scores, champion: Scores | None) -> Decision:
    """Let a candidate become champion only on evidence.

    It must beat popularity on every behavior (strictly) and be no worse than the present
    champion on the mean over behaviors. What was not measured counts as not shown.

    Args:
        candidate: the new version.
        popularity: the most-popular ranking on the same validation data.
        champion: the present champion as it was measured, None if there is none.

    >>> decide(Scores("new", {"buy": 0.2}), Scores("popularity", {"buy": 0.1}), None)
    Decision(alias='champion', why='beats popularity on every behavior; there was no champion')
    """
    lost = [
        problem
        for behavior in candidate.ndcg
        if (problem := _lost_to_popularity(behavior, candidate, popularity))
    ]
    if not candidate.ndcg:
        lost = ["no behavior was measured on validation"]
    against, passed = _against_champion(candidate, champion)
    if lost:
        return Decision(CHALLENGER, "; ".join([*lost, against] if not passed else lost))
    if not passed:
        return Decision(CHALLENGER, against)
    return Decision(CHAMPION, f"beats popularity on every behavior; {against}")


def alias_of(aliases: Collection[str]) -> str:
    """Return the gate's alias among a version's aliases, "" if it has none.

    >>> alias_of(["nightly", "challenger", "champion"])
    'champion'
    """
    return next((alias for alias in (CHAMPION, CHALLENGER) if alias in aliases), "")


def _lost_to_popularity(behavior: str, candidate: Scores, popularity: Scores) -> str:
    ours, baseline = candidate.at(behavior), popularity.at(behavior)
    if ours is None or baseline is None:
        return f"{behavior} cannot be compared with popularity: no validation figure"
    if ours > baseline:
        return ""
    return f"does not beat popularity on {behavior} ({ours:.4f} against {baseline:.4f})"


def _against_champion(candidate: Scores, champion: Scores | None) -> tuple[str, bool]:
    """Return the sentence about the present champion, and whether the candidate holds."""
    if champion is None:
        return "there was no champion", True
    ours, theirs = candidate.mean, champion.mean
    if ours is None:
        return f"its validation mean is not known, that of {champion.label} stays", False
    if theirs is None:
        return (
            f"cannot be compared with the champion, {champion.label}: it has no validation mean "
            "at this cutoff; to replace it, set the alias by hand",
            False,
        )
    passed = ours >= theirs
    verdict = "is no worse than" if passed else "is worse than"
    notes = []
    if set(champion.ndcg) != set(candidate.ndcg):
        notes.append(f"whose behaviors are {', '.join(champion.ndcg)}")
    if champion.data != candidate.data:
        notes.append("measured on other data, so the comparison is rough")
    note = f" ({'; '.join(notes)})" if notes else ""
    return (
        f"{verdict} the champion, {champion.label}, on the validation mean "
        f"({ours:.4f} against {theirs:.4f}){note}",
        passed,
    )
