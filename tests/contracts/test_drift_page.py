"""The drift page: from reports of validations to plain HTML."""

import dataclasses
import re
from typing import Any

from bigel.contracts.drift_page import render
from bigel.contracts.history import Accepted, History


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
        failed = [{"table": "behaviors", "column": "volume_change", "severity": "warning"}]
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
        "success": True,
        "failed": failed,
        "skipped": {"hours": "too few"},
        "drift": facts | changes,
    }


def first() -> dict[str, Any]:
    found = report(1, None, measures=[], reference=None)
    return found | {"skipped": {"behaviors": "this is the first one"}}


def cells(page: str, words: str) -> list[str]:
    """Return the texts of the row of a measure."""
    row = next(row for row in re.findall(r"<tr>.*?</tr>", page, re.S) if words in row)
    return [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)]


def test_the_last_run_is_listed_with_its_limits() -> None:
    page = render([first(), report(2, 0.1), report(3, -0.6)])
    assert cells(page, "volume, change") == [
        "✗", "volume, change", "&lt;click&gt;", "−60.0%", "−50.0%", "+100.0%",
    ]  # fmt: skip
    assert cells(page, "hours of the day, PSI")[2:] == ["the whole log", "0.100", "–", "0.200"]
    assert 'href="runs/run-3/index.html"' in page
    assert "Not checked, hours: too few." in page


def test_each_table_has_a_figure_and_each_compared_run_a_tick() -> None:
    page = render([first(), report(2, 0.1), report(3, -0.6)])
    assert page.count("<svg") == 2
    ticks = set(re.findall(r">\s*(01-\d\d)\s*<", page))
    assert ticks == {"01-02", "01-03"}


def test_a_run_that_was_validated_again_counts_once() -> None:
    once = render([report(2, 0.1), report(3, 0.2)])
    again = render([report(2, 0.9), report(3, 0.2), report(2, 0.1), report(3, 0.2)])
    assert again == once
    later = report(2, 0.3) | {"time": "2026-01-04T02:00:00+00:00"}
    back = render([report(2, 0.1), report(3, 0.2), later])
    assert cells(back, "volume, change")[3] == "+30.0%"  # the run that was validated last
    assert 'href="runs/run-2/index.html"' in back
    ticks = re.findall(r">\s*(01-\d\d)\s*<", back)
    assert ticks[:2] == ["01-03", "01-04"]


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
    ticks = [re.findall(r">\s*(01-\d\d)\s*<", text) for text in (page, everything)]
    assert ticks[0] == ticks[1] and ticks[0][0] == "01-01"
    assert cells(page, "volume, change")[3:] == ["+20.0%", "−50.0%", "+100.0%"]
    alone = render([], History(nights))
    assert "Last run, 2026-01-24 03:00:00 UTC" in alone and "runs/None" not in alone
    assert render([], History({"empty": []})).count("<h2>") == 0


def test_an_entry_of_an_older_version_has_no_limits() -> None:
    old = dataclasses.replace(entry(2, 0.1), limits={}, contracts={})
    assert cells(render([], History({"shop": [old]})), "volume, change")[3:] == ["+10.0%", "–", "–"]


def test_a_first_run_has_no_figure_and_says_why() -> None:
    page = render([first()])
    assert "<svg" not in page
    assert "nothing to compare with: this is the first one." in page


def test_every_model_has_its_section() -> None:
    page = render([report(2, 0.1), report(3, 0.1, model="<other>")])
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["&lt;other&gt;", "shop"]


def test_figures_of_all_sizes_and_unknown_values_are_drawn() -> None:
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
    assert "&lt;click&gt;, NDCG@5" in page and "recent popularity" in page
    part = page[page.index("Published lists, realized") :]
    assert re.findall(r">\s*(01-\d\d)\s*<", part)[:3] == ["01-01", "01-02", "01-03"]
    assert "Published lists" not in render([first()])


def test_the_page_loads_nothing() -> None:
    page = render([first(), report(2, 0.1)])
    assert "<script" not in page and "default-src 'none'" in page
    outside = re.findall(r'(?:href|src)="(?:\w+:)?//[^"]*"', page)
    assert outside == []
    assert "<click>" not in page
