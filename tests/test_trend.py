"""The last runs in the report: which are kept, and what is shown of them."""

import re
from dataclasses import replace

from bigel.trend import RUNS, stamp_trend, trend_html, with_run
from bigel.verdict import Beside, Line, Verdict

PAGE = '<section id="trend"><!--trend-->none yet<!--/trend--></section>'


def verdict(version: int | None, view: float | None, **more: object) -> Verdict:
    rule = None if view is None else Beside(0.1, view - 0.1, 0.0, 0.1, 9)
    lines = (Line("view", 9, view, rule, rule_name="latest first"), Line("buy", 0, None))
    made = f"2026-11-{version or 1:02}T02:00:00+00:00"
    found = Verdict(
        "shop", version, "champion", made, None, None, "NDCG@5", "rule", None, lines, "why"
    )
    return replace(found, **more)  # type: ignore[arg-type]


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [
        [
            " ".join(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", cell, flags=re.DOTALL).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]


def test_three_runs_by_hand() -> None:
    runs = with_run([], verdict(1, 0.2))
    runs = with_run(runs, verdict(2, 0.15, alias="challenger"))
    runs = with_run(runs, verdict(None, None, alias="", made="2026-11-03T02:00:00+00:00"))
    page = stamp_trend(PAGE, runs)
    assert "none yet" not in page and page.endswith("<!--/trend--></section>")
    assert cells(page) == [
        ["run", "version", "became", "view", "buy"],
        ["2026-11-03 02:00 UTC", "not registered", "not judged", "– (–)", "– (–)"],
        ["2026-11-02 02:00 UTC", "2", "challenger", "0.1500 (0.1000)", "– (–)"],
        ["2026-11-01 02:00 UTC", "1", "champion", "0.2000 (0.1000)", "– (–)"],
    ]
    assert 'title="latest first"' in page and page.count("<svg") == 2
    # From the left: 0.2 stands at the top, 4 pixels from the edge; 0 would at the bottom, 32.
    model, rule = re.findall(r'points="([^"]*)"', page)[:2]
    assert model == "4.0,4.0 90.0,11.0" and rule == "4.0,18.0 90.0,18.0"


def test_one_run_has_no_drawing_and_no_run_changes_nothing() -> None:
    assert "<svg" not in trend_html(with_run([], verdict(1, 0.2)))
    assert stamp_trend(PAGE, []) == PAGE and with_run([], None) == []


def test_a_run_that_found_nothing_new_takes_the_place_of_the_one_before() -> None:
    once = with_run([], verdict(1, 0.2, alias="challenger"))
    again = with_run(once, verdict(1, 0.2, made="2026-11-09T02:00:00+00:00"))
    assert [(one["made"][:10], one["alias"]) for one in again] == [("2026-11-09", "champion")]
    assert len(with_run(again, verdict(1, 0.3))) == len(with_run(again, verdict(2, 0.2))) == 2


def test_a_model_that_waited_for_the_registry_stands_once_and_keeps_its_version() -> None:
    waited = with_run([], verdict(None, 0.2, alias=""))
    told = with_run(waited, verdict(4, 0.2))
    away = with_run(told, verdict(None, 0.2, alias="", made="2026-11-09T02:00:00+00:00"))
    named = [[(one["version"], one["alias"]) for one in runs] for runs in (waited, told, away)]
    assert named == [[(None, "")], [(4, "champion")], [(4, "champion")]]
    assert away[0]["made"] == "2026-11-09T02:00:00+00:00"
    assert len(with_run(waited, verdict(4, 0.3))) == len(with_run(told, verdict(5, 0.2))) == 2


def test_the_last_ten_are_kept() -> None:
    runs: list[dict[str, object]] = []
    for version in range(1, RUNS + 3):
        runs = with_run(runs, verdict(version, 0.2))
    assert [one["version"] for one in runs] == list(range(3, RUNS + 3))


def test_figures_of_another_metric_or_model_are_not_put_beside() -> None:
    runs = with_run(with_run([], verdict(1, 0.2)), verdict(2, 0.4, metric="NDCG@10"))
    runs = with_run(runs, verdict(3, 0.5, model="other", metric="NDCG@10"))
    runs = with_run(runs, verdict(4, 0.6, metric="NDCG@10"))
    assert [row[1] for row in cells(trend_html(runs))] == ["version", "4", "2"]


def test_a_behavior_that_a_run_did_not_have_is_a_gap() -> None:
    old = verdict(1, 0.2, lines=(Line("buy", 9, 0.3),))
    runs = with_run(with_run([], old), verdict(2, 0.2))
    assert cells(trend_html(runs))[2][3:] == ["–", "0.3000 (–)"]
