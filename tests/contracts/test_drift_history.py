"""Drift on the page: from reports of validations to plain HTML."""

import dataclasses
import re
from typing import Any

from bigel.contracts.accepted import Accepted, History
from bigel.contracts.page import render_index
from bigel.sparkline import draw


def report(night: int, value: float | None, **changes: Any) -> dict[str, Any]:
    """Return the validation of a night whose click volume changed by so much."""
    measures = [
        {
            "table": "behaviors",
            "measure": "volume_change",
            "about": "<click>",
            "low": value,
            "high": value,
        },
        {"table": "times", "measure": "hour_psi", "about": "", "low": 0.1, "high": 0.1},
    ]
    failed = []
    if value is not None and value < -0.5:
        parts = ("description", "fix", "relax", "observed")
        failed = [dict.fromkeys(parts, "") | {"count": 1, "samples": [], "severity": "warning"}]
        failed[0] |= {"table": "behaviors", "column": "volume_change"}
    facts = {
        "model": "shop",
        "profile": f"profile {night}",
        "reference": f"profile {night - 1}",
        "measures": measures,
        "limits": {"behaviors.volume_change": [-0.5, 1.0], "times.hour_psi": [None, 0.2]},
    }
    return {
        "run": f"run-{night}",
        "time": f"2026-01-{night:02d}T02:00:00+00:00",
        "fingerprint": f"drift {night}",
        "contract": {"version": "1", "digest": "0"},
        "handover": "drift",
        "success": True,
        "evaluated": 2,
        "failed": failed,
        "skipped": {"hours": "too few"},
        "rows": None,
        "checks": [],
        "file": "drift.toml",
        "reviewed": {},
        "tables": [],
        "drift": facts | changes,
    }


def render(reports: list[dict[str, Any]], history: History | None = None) -> str:
    """Return the page of some validations, the oldest first."""
    return render_index(reports[::-1], history or History())


def first() -> dict[str, Any]:
    found = report(1, None, measures=[], reference=None)
    return found | {"skipped": {"behaviors": "this is the first one"}}


def drawings(page: str) -> list[str]:
    """Return the drawings of a page."""
    return re.findall(r"<svg.*?</svg>", page, re.S)


def cells(page: str, words: str) -> list[str]:
    """Return the texts of the row of a measure."""
    row = next(row for row in re.findall(r"<tr>.*?</tr>", page, re.S) if words in row)
    parts = re.findall(r"<(td|th)\b(.*?)</\1>", row, re.S)
    return [re.sub(r"<[^>]*>", "", f"<{rest}").strip() for _, rest in parts]


def test_the_last_run_is_listed_with_its_limits() -> None:
    page = render([first(), report(2, 0.1), report(3, -0.6)])
    assert cells(page, "volume, change")[:3] == ["! broken", "volume, change", "&lt;click&gt;"]
    assert cells(page, "volume, change")[4:] == ["−60.0%", "−50.0%", "+100.0%"]
    assert cells(page, "hours of the day, PSI")[2] == "the whole log"
    assert cells(page, "hours of the day, PSI")[4:] == ["0.100", "–", "0.200"]
    assert '<a href="#run-3">Last run</a>' in page
    assert "Not checked, hours: too few." in page


def test_a_measure_is_drawn_over_the_runs_with_its_limits_and_refused_runs() -> None:
    drawn = draw(["a", "b", "c"], [[0.0, None, 1.0]], (None, 0.5), [1])
    # 180 by 36 pixels, 4 at each edge; 1.0 is at the top
    assert drawn["lines"] == [{"path": "4.0,32.0 176.0,4.0", "end": [(176.0, 4.0)]}]
    assert (drawn["limits"], drawn["refused"]) == ([18.0], [90.0])
    assert (drawn["first"], drawn["last"]) == ("a", "c")
    page = render([first(), report(2, 0.1), report(3, -0.6) | {"success": False}])
    assert page.count("<svg") == 2
    assert page.count('class="refused"') == 2
    assert page.count("2026-01-02 to 2026-01-03</title>") == 2


def test_a_run_that_was_validated_again_counts_once() -> None:
    once = drawings(render([report(2, 0.1), report(3, 0.2)]))
    again = render([report(2, 0.9), report(3, 0.2), report(2, 0.1), report(3, 0.2)])
    assert drawings(again) == once
    later = report(2, 0.3) | {"time": "2026-01-04T02:00:00+00:00"}
    back = render([report(2, 0.1), report(3, 0.2), later])
    assert cells(back, "volume, change")[4] == "+30.0%"  # the run that was validated last
    assert '<a href="#run-2">Last run</a>' in back
    assert "2026-01-03 to 2026-01-04</title>" in back


def entry(night: int, value: float | None) -> Accepted:
    """Return the accepted run of a night."""
    run = report(night, value)
    facts = {key: run["drift"][key] for key in ("profile", "reference", "measures", "limits")}
    return Accepted(
        time=run["time"].replace("02:", "03:"),
        behaviors=("<click>",),
        ingest="",
        train="",
        contracts={"drift": run["contract"]},
        **facts,
    )


def test_accepted_runs_are_shown_without_their_validations() -> None:
    nights = {"shop": [entry(night, 0.1) for night in range(1, 25)]}
    page = render([report(25, 0.2)] * 20, History(nights))
    everything = render([report(night, 0.2 if night == 25 else 0.1) for night in range(1, 26)])
    assert drawings(page) == drawings(everything) and "2026-01-01 to 2026-01-25" in page
    assert cells(page, "volume, change")[4:] == ["+20.0%", "−50.0%", "+100.0%"]
    alone = render([], History(nights))
    assert "Last run, 2026-01-24 03:00:00 UTC" in alone and "#None" not in alone
    assert "Drift over" not in render([], History({"empty": []}))


def test_an_entry_of_an_older_version_has_no_limits() -> None:
    old = dataclasses.replace(entry(2, 0.1), limits={}, contracts={})
    assert cells(render([], History({"shop": [old]})), "volume, change")[4:] == ["+10.0%", "–", "–"]


def test_a_first_run_has_no_figure_and_says_why() -> None:
    page = render([first()])
    assert "<svg" not in page
    assert "nothing to compare with: this is the first one." in page


def test_every_model_has_its_section() -> None:
    page = render([report(2, 0.1), report(3, 0.1, model="<other>")])
    part = page.partition('id="drift"')[2].partition("<h2>")[0]
    assert re.findall(r"<h3>(.*?)</h3>", part) == ["&lt;other&gt;", "shop"]


def test_many_runs_and_unknown_values_are_drawn() -> None:
    many = render([report(2 + n, None if n % 3 else 0.1) for n in range(25)])
    assert many.count("<svg") == 2


def night(day: int, lists: float | None = 0.1) -> dict[str, Any]:
    """Return how the lists of a night did."""
    figures = {"ndcg@5": lists, "ndcg_se@5": None if lists is None else 0.01}
    rule = {"ndcg@5": 0.2, "ndcg_se@5": 0.01}
    behaviors = {"<click>": {"lists": figures, "rule": rule}, "buy": {"lists": {}, "rule": {}}}
    moment = 1_767_225_600 + (day - 1) * 86_400
    return {"moment": moment, "cutoff": 5, "behaviors": behaviors}


def test_how_published_lists_did_is_drawn_for_their_model() -> None:
    history = History(nights={"shop": [night(1), night(2, None), night(3)], "gone": [night(1)]})
    page = render([first(), report(2, 0.1), report(3, 0.1, model="other")], history)
    assert page.count("Published lists, realized") == 1
    assert "&lt;click&gt;, NDCG@5" in page and "Recent popularity" in page
    part = page[page.index("Published lists, realized") :]
    assert "2026-01-01 to 2026-01-03</title>" in part
    assert cells(part, "&lt;click&gt;")[2:] == ["0.1000", "0.2000"]
    assert cells(part, "buy")[2:] == ["–", "–"]
    assert "Published lists" not in render([first()])


def test_the_page_loads_nothing() -> None:
    page = render([first(), report(2, 0.1)])
    assert "<script" not in page and "default-src 'none'" in page
    outside = re.findall(r'(?:href|src)="(?:\w+:)?//[^"]*"', page)
    assert outside == []
    assert "<click>" not in page
