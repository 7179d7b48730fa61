import math

import pytest

from bigel.tracking.gate import Scores, decide

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
