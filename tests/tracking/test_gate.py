import math

import pytest

from bigel.tracking.gate import Pair, Scores, SideBySide, decide

NAN = math.nan
POPULAR = Scores("popularity", {"click": 0.1, "buy": 0.2}, "d1")
CHAMPION = Scores("version 1", {"click": 0.2, "buy": 0.3}, "d1")


def version(
    click: float | None, buy: float | None, data: str = "d1", label: str = "version 2"
) -> Scores:
    return Scores(label, {"click": click, "buy": buy}, data)


@pytest.mark.parametrize(
    ("candidate", "popularity", "champion", "alias", "words"),
    [
        (version(0.11, 0.21), POPULAR, None, "champion", ["there was no champion"]),
        (version(0.2, 0.3), POPULAR, CHAMPION, "champion", ["no worse", "0.2500 against 0.2500"]),
        (version(0.15, 0.36), POPULAR, CHAMPION, "champion", ["no worse", "version 1"]),
        (version(0.11, 0.38), POPULAR, CHAMPION, "challenger", ["is worse", "0.2450", "0.2500"]),
        (version(0.1, 0.9), POPULAR, None, "challenger", ["does not beat popularity on click"]),
        (version(0.05, 0.9), POPULAR, CHAMPION, "challenger", ["on click (0.0500 against 0.1000)"]),
        (version(0.1, 0.2), POPULAR, None, "challenger", ["on click", "on buy"]),
        (version(0.01, 0.3), POPULAR, CHAMPION, "challenger", ["on click", "is worse"]),
        (version(NAN, 0.9), POPULAR, None, "challenger", ["click cannot be compared"]),
        (version(None, 0.9), POPULAR, CHAMPION, "challenger", ["click cannot", "not known"]),
        (version(0.9, 0.9), Scores("p", {"click": 0.1}), None, "challenger", ["buy cannot"]),
        (version(0.9, 0.9), Scores("p", {"click": NAN, "buy": 0}), None, "challenger", ["click"]),
        (version(0.9, 0.9), POPULAR, version(None, 0.1, label="version 1"), "challenger",
         ["cannot be compared with the champion, version 1", "by hand"]),
        (version(0.9, 0.9), POPULAR, version(NAN, NAN), "challenger", ["no validation mean"]),
        (version(0.9, 0.9), POPULAR, Scores("version 1", {}), "challenger", ["cannot be compared"]),
        (Scores("version 2", {}), POPULAR, None, "challenger", ["no behavior was measured"]),
        (version(0.9, 0.9, "d2"), POPULAR, CHAMPION, "champion", ["other data", "rough"]),
        (version(0.19, 0.3, "d2"), POPULAR, CHAMPION, "challenger", ["other data", "is worse"]),
        (version(0.9, 0.9), POPULAR, Scores("version 1", {"click": 0.2}, "d1"), "champion",
         ["whose behaviors are click"]),
    ],
)  # fmt: skip
def test_the_gate(
    candidate: Scores,
    popularity: Scores,
    champion: Scores | None,
    alias: str,
    words: list[str],
) -> None:
    decision = decide(candidate, popularity, champion)
    assert decision.alias == alias
    for word in words:
        assert word in decision.why


def test_a_comparison_on_the_same_data_is_not_called_rough() -> None:
    assert "other data" not in decide(version(0.9, 0.9), POPULAR, CHAMPION).why


def test_the_mean_does_not_depend_on_the_order_of_behaviors() -> None:
    values = {"a": 0.1, "b": 0.7, "c": 0.3, "d": 1e-9}
    backwards = dict(reversed(values.items()))
    assert Scores("x", values).mean == Scores("x", backwards).mean


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
    decision = decide(version(0.9, 0.9), POPULAR, found, tolerance)
    assert decision.alias == alias
    assert "side by side with the champion, version 1" in decision.why
    for word in words:
        assert word in decision.why


def test_side_by_side_popularity_must_be_beaten_still() -> None:
    decision = decide(version(0.1, 0.9), POPULAR, beside((0.3, 0.2), (0.5, 0.4)), 0.01)
    assert (decision.alias, decision.why.count("side by side")) == ("challenger", 0)
    assert "does not beat popularity on click" in decision.why


def test_data_that_broke_their_contract_make_no_champion() -> None:
    decision = decide(version(0.9, 0.9), POPULAR, None, 0.01, ["split", "raw_log"])
    assert decision.alias == "challenger"
    assert decision.why == "the split contract did not pass; the raw_log contract did not pass"


def test_why_a_champion_was_not_ranked_side_by_side_is_said() -> None:
    logged = Scores("version 1", {"click": 0.2, "buy": 0.3}, "d1", "its bundle is lost")
    assert "(not ranked side by side: its bundle is lost)" in (
        decide(version(0.9, 0.9), POPULAR, logged).why
    )
    nothing = Scores("version 1", {}, "d1", "its bundle is lost")
    assert "its bundle is lost" in decide(version(0.9, 0.9), POPULAR, nothing).why
