import math

import pytest

from bigel.tracking.gate import (
    Figures,
    Itself,
    Pair,
    Rule,
    SideBySide,
    Unranked,
    decide,
    loses,
)

NAN = math.nan
RULES = {"click": Rule("latest first", 0.1), "buy": Rule("popularity", 0.2)}
UNRANKED = Unranked("version 1", "its bundle is lost")


def version(click: float | None, buy: float | None) -> Figures:
    return {"click": click, "buy": buy}


@pytest.mark.parametrize(
    ("candidate", "rules", "alias", "words"),
    [
        (version(0.11, 0.21), RULES, "champion", ["there was no champion"]),
        (
            version(0.1, 0.9),
            RULES,
            "challenger",
            ["does not beat the best simple rule (latest first) on click"],
        ),
        (version(0.05, 0.9), RULES, "challenger", ["on click (0.0500 against 0.1000)"]),
        (version(0.1, 0.2), RULES, "challenger", ["on click", "on buy"]),
        (version(NAN, 0.9), RULES, "challenger", ["click cannot be compared"]),
        (version(None, 0.9), RULES, "challenger", ["click cannot"]),
        (version(0.9, 0.9), {"click": RULES["click"]}, "challenger", ["buy cannot"]),
        (
            version(0.9, 0.9),
            {"click": Rule("x", NAN), "buy": Rule("x", 0)},
            "challenger",
            ["click"],
        ),
        ({}, RULES, "challenger", ["no behavior was measured"]),
    ],
)
def test_the_first_champion_must_beat_the_best_rule_on_every_behavior(
    candidate: Figures, rules: dict[str, Rule], alias: str, words: list[str]
) -> None:
    decision = decide(candidate, rules, None)
    assert decision.alias == alias
    for word in words:
        assert word in decision.why


def test_the_champion_measured_again_stands_beside_no_other() -> None:
    again = decide(version(0.9, 0.9), RULES, Itself())
    assert again.alias == "champion"
    assert again.why == (
        "beats the best simple rule on every behavior (click 0.9000 against 0.1000 by latest "
        "first; buy 0.9000 against 0.2000 by popularity)"
    )
    behind = decide(version(0.9, 0.1), RULES, Itself())
    assert (behind.alias, behind.why[:31]) == ("challenger", "does not beat the best simple r")


@pytest.mark.parametrize("candidate", [version(0.5, 0.3), version(0.9, 0.9)])
def test_without_the_ranking_side_by_side_the_champion_stays(candidate: Figures) -> None:
    """Logged means tell nothing: of other users, perhaps, and of no behavior by itself."""
    decision = decide(candidate, RULES, UNRANKED, 0.01)
    assert decision.alias == "challenger"
    figures = "; ".join(
        f"{name} {candidate[name]:.4f} against {RULES[name].value:.4f} by {RULES[name].name}"
        for name in ("click", "buy")
    )
    assert decision.why == (
        f"beats the best simple rule on every behavior ({figures}); not ranked side by side with "
        "the champion, version 1: its bundle is lost; to make it champion all the same: bigel "
        "promote challenger --why TEXT"
    )


def test_what_also_lost_to_the_rule_is_not_recommended_for_promotion() -> None:
    decision = decide(version(0.05, 0.9), RULES, UNRANKED)
    assert decision.alias == "challenger"
    assert "on click" in decision.why and "its bundle is lost" in decision.why
    assert "bigel promote" not in decision.why


def beside(click: tuple[float, float], buy: tuple[float, float]) -> SideBySide:
    """The candidate's and the champion's NDCG of two behaviors."""
    pairs = {"click": Pair(10, *click, -0.01, 0.02), "buy": Pair(5, *buy, -0.02, 0.03)}
    means = [(one + other) / 2 for one, other in zip(click, buy, strict=True)]
    return SideBySide("version 1", pairs, Pair(12, *means, -0.015, 0.025))


@pytest.mark.parametrize(
    ("found", "tolerance", "alias", "words"),
    [
        (beside((0.3, 0.2), (0.4, 0.4)), 0.01, "champion",
         ["it is better on the mean", "0.3500 against 0.3000", "-0.0150 to +0.0250",
          "on none worse by more than 1 %"]),
        (beside((0.199, 0.2), (0.5, 0.4)), 0.01, "champion", ["is better"]),
        (beside((0.197, 0.2), (0.5, 0.4)), 0.01, "challenger",
         ["is worse on click by more than 1 % (0.1970 against 0.2000", "-0.0100 to +0.0200",
          "it is better on the mean"]),
        (beside((0.197, 0.2), (0.5, 0.4)), 0.02, "champion", ["more than 2 %"]),
        (beside((0.199, 0.2), (0.4, 0.4)), 0.01, "challenger", ["is not better on the mean"]),
        (beside((0.2, 0.2), (0.4, 0.4)), 0.0, "challenger", ["is not better on the mean"]),
        (beside((0.1, 0.2), (0.1, 0.4)), 0.01, "challenger", ["on click", "on buy", "not better"]),
        (beside((0.1, 0.0), (0.1, 0.0)), 0.01, "champion", ["is better"]),
    ],
)  # fmt: skip
def test_side_by_side_no_behavior_may_lose_and_the_mean_must_win(
    found: SideBySide, tolerance: float, alias: str, words: list[str]
) -> None:
    decision = decide(version(0.9, 0.9), RULES, found, tolerance)
    assert decision.alias == alias
    assert "side by side with the champion, version 1" in decision.why
    for word in words:
        assert word in decision.why


def test_side_by_side_the_rule_must_be_beaten_still() -> None:
    decision = decide(version(0.1, 0.9), RULES, beside((0.3, 0.2), (0.5, 0.4)), 0.01)
    assert (decision.alias, decision.why.count("side by side")) == ("challenger", 0)
    assert "does not beat the best simple rule (latest first) on click" in decision.why


def test_data_that_broke_their_contract_make_no_champion() -> None:
    decision = decide(version(0.9, 0.9), RULES, None, 0.01, ["split", "raw_log"])
    assert decision.alias == "challenger"
    assert decision.why == "the split contract did not pass; the raw_log contract did not pass"


@pytest.mark.parametrize(("buy", "alias"), [((0.5, 0.4), "champion"), ((0.3, 0.4), "challenger")])
def test_a_behavior_that_could_not_be_compared_is_named(
    buy: tuple[float, float], alias: str
) -> None:
    pair = Pair(5, *buy, -0.02, 0.03)
    found = SideBySide("version 1", {"buy": pair}, pair, ("click", "cart"))
    decision = decide(version(0.9, 0.9), RULES, found, 0.01)
    assert decision.alias == alias
    assert "not compared on click, cart: no held-out user that both know" in decision.why


@pytest.mark.parametrize(
    ("candidate", "popularity", "behind"),
    [
        (version(0.11, 0.21), {"click": 0.1, "buy": 0.2}, False),
        (version(0.11, 0.2), {"click": 0.1, "buy": 0.2}, True),
        (version(0.05, 0.9), {"click": 0.1, "buy": 0.2}, True),
        (version(None, 0.9), {"click": 0.1, "buy": 0.2}, True),
        (version(0.9, 0.9), {"click": NAN, "buy": 0.2}, True),
    ],
)
def test_what_does_not_beat_popularity_may_not_make_lists(
    candidate: Figures, popularity: Figures, behind: bool
) -> None:
    assert loses(candidate, popularity) == behind
