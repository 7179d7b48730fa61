"""One verdict: what it says, and that every place says the same."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.errors import UnreachableError, WorkspaceError
from bigel.latest import LOCK, publish, read_latest
from bigel.store import Record, Workspace, file_digest
from bigel.store.locks import take_lock
from bigel.verdict import Beside, Line, Verdict, stamp, stamp_lists, unjudged

RULE = Beside(0.1, 0.05, 0.01, 0.09, 900)
CHAMPION = Beside(0.16, -0.01, -0.03, 0.01, 850)
VERDICT = Verdict(
    "shop", 3, "challenger", "2026-11-30T02:00:00+00:00", ("2026-11-01", "2026-11-29"),
    ("2026-11-28", "2026-11-29"), "NDCG@5", "best simple rule", 2,
    (
        Line("view", 900, 0.15, RULE, CHAMPION, 0.02, 0.03, "latest first", 0.04),
        Line("a|<b>", 0, None),
    ),
    "is not better on the mean", ("version 2 stays champion",),
)  # fmt: skip
PAGE = "<main><!--verdict-->old<!--/verdict--><!--lists--><!--/lists-->rest</main>"


def test_a_verdict_comes_back_from_json_as_it_was() -> None:
    assert Verdict.from_dict(json.loads(json.dumps(VERDICT.to_dict()))) == VERDICT


def test_the_table_has_the_figure_the_rule_and_the_champion() -> None:
    assert VERDICT.header() == [
        "behavior", "NDCG@5, as served", "best simple rule", "champion, version 2",
    ]  # fmt: skip
    view, nothing = VERDICT.rows()
    assert view == [
        ("view", ""), ("0.1500", "900 users"),
        ("0.1000", "latest first:\n+0.0500 (+0.0100 to +0.0900)"),
        ("0.1600", "-0.0100 (-0.0300 to +0.0100), 850 users"),
    ]  # fmt: skip
    assert nothing[1:] == [("–", "0 users"), ("–", ""), ("–", "")]
    assert VERDICT.mean == 0.15


def test_what_is_below_the_rule_among_new_items_is_a_note() -> None:
    (note,) = VERDICT.notes()
    assert note.startswith(
        "among items that a user never touched it is not above the best simple rule: "
    )
    assert note.endswith("view 0.0200 against 0.0300")


def test_a_policy_under_which_nothing_was_measured_is_a_note_in_every_place(tmp_path: Path) -> None:
    lines = tuple(Line(name, 9, 0.2, RULE) for name in ("view", "cart", "buy", "rent"))
    policies = {"view": "any", "buy": "none", "rent": "none"}
    found = replace(VERDICT, lines=lines, exclude=policies)
    assert Verdict.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    one, two = found.notes()
    assert one == (
        "lists of view leave out what the user has under any behavior (recommend.exclude), but "
        "every figure here leaves out what the user has under the same behavior only"
    )
    assert two == (
        "lists of buy, rent leave out nothing that the user has (recommend.exclude), but every "
        "figure here leaves out what the user has under the same behavior"
    )
    assert found.header()[1] == "NDCG@5" and VERDICT.header()[1] == "NDCG@5, as served"
    for place in (found.html(), found.markdown(), str(found.said())):
        assert one in place and two in place
    headline = {"cutoff": 5, "behaviors": {}, "exclude": policies}
    split = split_of(tmp_path, None, timed=False)
    assert unjudged(headline, split, "shop", "later").exclude == policies


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w.+-]+", text))


def test_every_place_has_the_same_words() -> None:
    said = [VERDICT.title, *VERDICT.header(), VERDICT.why, *VERDICT.todo, *VERDICT.notes()]
    said += [part for row in VERDICT.rows() for cell in row for part in cell]
    said += [text for _, text in VERDICT.facts()]
    page, text = VERDICT.html(), VERDICT.markdown()
    for one in said:
        assert words(one) <= words(re.sub(r"<[^>]+>", " ", page.replace("&#43;", "+"))), one
        assert words(one) <= words(text), one
    assert "<b>" not in page and "<b>" not in text and "a\\|&lt;b>" in text


def test_a_report_shows_the_verdict_that_was_stamped_last() -> None:
    once = stamp(PAGE, VERDICT)
    assert "old" not in once and "shop version 3 is challenger" in once and "rest</main>" in once
    assert stamp(once, VERDICT) == once
    assert stamp("no such place", VERDICT) == "no such place"
    assert "<!--lists-->told<!--/lists-->" in stamp_lists(once, "told")


def lists(folder: Path, version: int, text: str, alias: str = "champion", **counts: Any) -> Record:
    folder.mkdir()
    (folder / "recommendations.parquet").write_text(text)
    model: dict[str, Any] = {"uri": f"models:/shop/{version}", "bundle": "bundle/x", "name": "shop"}
    model |= {"version": version, "alias": alias}
    return Record("recommend", text, str(folder), False, 0.0, {"model": model} | counts)


def test_latest_says_which_version_lists_and_report_are_of(tmp_path: Path) -> None:
    workspace, report = Workspace(tmp_path), tmp_path / "made.html"
    report.write_text(PAGE)
    publish(lists(tmp_path / "a", 2, "first"), workspace, report, VERDICT)
    said = read_latest(workspace)
    assert (said["lists"]["version"], said["report"]["version"]) == (2, 3)
    page = (workspace.latest / "report.html").read_text()
    assert "by version 2, the champion. This page is about version 3." in page
    publish(lists(tmp_path / "b", 4, "an hour later"), workspace)
    said, page = read_latest(workspace), (workspace.latest / "report.html").read_text()
    assert "by version 4, the champion. This page is about version 3." in page
    assert "version 2, the champion." not in page and "shop version 3 is challenger" in page
    assert (said["lists"]["version"], said["report"]["version"]) == (4, 3)
    for part, name in (("lists", "recommendations.parquet"), ("report", "report.html")):
        assert said[part]["digest"] == file_digest(workspace.latest / name)


def published(workspace: Workspace) -> tuple[dict[str, Any], str]:
    page = (workspace.latest / "report.html").read_text("utf-8")
    return read_latest(workspace)["report"], re.sub(r"<[^>]+>", " ", page)


def test_a_report_says_what_its_version_is_now_after_a_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, report = Workspace(tmp_path), tmp_path / "made.html"
    report.write_text(PAGE)
    publish(lists(tmp_path / "a", 2, "night"), workspace, report, VERDICT)
    now = replace(VERDICT, alias="champion", why="crowned by hand", todo=("its lists are served",))
    asked: list[Any] = []

    def ask(*given: Any) -> Verdict:
        asked.append(given)
        return now

    monkeypatch.setattr("bigel.latest.present_verdict", ask)
    publish(lists(tmp_path / "b", 2, "the same champion"), workspace)
    assert not asked, "nothing changed, so the registry is not asked"
    for hour in ("promoted", "an hour later"):
        publish(lists(tmp_path / hour, 3, hour), workspace)
        said, page = published(workspace)
        assert said["alias"] == "champion" and "shop version 3 is champion" in page
        assert "crowned by hand" in page and "version 2 stays champion" not in page
        assert "by version 3, the champion." in page and "This page" not in page
    assert asked == [("shop", 3, workspace)]


def test_a_report_says_what_lists_leave_out_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, report = Workspace(tmp_path), tmp_path / "made.html"
    report.write_text(PAGE)
    of_both: dict[str, Any] = {"behaviors": ["view", "buy"], "exclude": "same"}
    publish(lists(tmp_path / "a", 3, "night", "challenger", **of_both), workspace, report, VERDICT)
    monkeypatch.setattr("bigel.latest.present_verdict", lambda *_: VERDICT)
    of_both["exclude"] = {"buy": "none"}
    publish(lists(tmp_path / "b", 3, "hour", "challenger", **of_both), workspace)
    said, page = published(workspace)
    assert said["exclude"] == {"buy": "none"}
    assert "lists of buy leave out nothing that the user has" in page and "is older" not in page

    def away(*_: Any) -> None:
        raise UnreachableError("away")

    monkeypatch.setattr("bigel.latest.present_verdict", away)
    of_both["exclude"] = "any"
    publish(lists(tmp_path / "c", 3, "later", "challenger", **of_both), workspace)
    said, page = published(workspace)
    assert said["exclude"] == {"buy": "none"}
    assert "What this page says of items that lists leave out is older than they are." in page


def test_a_published_report_has_the_last_runs_side_by_side(tmp_path: Path) -> None:
    workspace, report = Workspace(tmp_path), tmp_path / "made.html"
    report.write_text(PAGE + "<!--trend-->none yet<!--/trend-->")
    publish(lists(tmp_path / "a", 2, "first"), workspace, report, replace(VERDICT, version=2))
    publish(lists(tmp_path / "b", 2, "second"), workspace, report, VERDICT)
    publish(lists(tmp_path / "c", 2, "an hour later"), workspace)
    assert [one["version"] for one in read_latest(workspace)["runs"]] == [2, 3]
    page = published(workspace)[1]
    assert "none yet" not in page and page.count("0.1500 (0.1000)") == 2
    publish(lists(tmp_path / "d", 2, "not judged"), workspace, report)
    page = published(workspace)[1]
    assert "none yet" not in page and page.count("0.1500 (0.1000)") == 2


@pytest.mark.parametrize("answer", [None, UnreachableError("away")])
def test_a_report_whose_verdict_cannot_be_asked_for_says_that_it_is_older(
    answer: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any) -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr("bigel.latest.present_verdict", ask)
    workspace, report = Workspace(tmp_path), tmp_path / "made.html"
    report.write_text(PAGE)
    publish(lists(tmp_path / "a", 2, "night"), workspace, report, VERDICT)
    publish(lists(tmp_path / "b", 3, "promoted"), workspace)
    said, page = published(workspace)
    assert said["alias"] == "challenger" and "shop version 3 is challenger" in page
    assert "The verdict on this page is older: it calls version 3 challenger." in page


def test_latest_is_written_by_one_run_at_a_time_and_vouches_for_its_own_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, mine = Workspace(tmp_path), lists(tmp_path / "a", 2, "mine")
    copy, refused = workspace.publish, []

    def meanwhile(source: Path) -> Path:
        place = copy(source)
        with pytest.raises(WorkspaceError) as caught:
            take_lock(workspace.locks / LOCK, "another run publishes", 0)
        refused.append(str(caught.value))
        place.write_text("of a run of an older bigel, which takes no lock")
        return place

    monkeypatch.setattr(workspace, "publish", meanwhile)
    publish(mine, workspace)
    assert len(refused) == 1 and "another run publishes (process " in refused[0]
    own = file_digest(mine.file("recommendations.parquet"))
    assert read_latest(workspace)["lists"]["digest"] == own
    assert file_digest(workspace.latest / "recommendations.parquet") != own
    take_lock(workspace.locks / LOCK, "let go", 0).close()


ONE = replace(VERDICT.lines[0], discovery=None)
MANY = replace(VERDICT, lines=tuple(replace(ONE, behavior=f"b{k}") for k in range(90)))


@pytest.mark.parametrize("most", [5000, 2500, 900])
def test_where_there_is_no_room_the_last_rows_of_the_table_are_left_out(most: int) -> None:
    text, whole = MANY.markdown(most), MANY.markdown()
    shown = text.count("\n| b")
    assert whole.count("\n| b") == 91 and len(whole) > 5000  # with the header
    assert most - 140 < len(text) <= most
    assert f"… and {91 - shown} more: see verdict.json of the run" in text
    assert text.startswith(whole[:100])
    assert MANY.markdown(len(whole)) == whole == MANY.markdown(99_999)


def test_words_that_are_too_long_by_themselves_end_with_a_mark() -> None:
    text = replace(VERDICT, why="x" * 999).markdown(500)
    assert len(text) == 500 and text.endswith(" …")


def split_of(folder: Path, zone: str | None, timed: bool = True) -> Record:
    """Return a split of a log from the first second of 1 to the last of 30 November, in Tokyo."""
    tokyo = timezone(timedelta(hours=9))
    first = int(datetime(2026, 11, 1, tzinfo=tokyo).timestamp())
    test, now = (int(datetime(2026, *day, tzinfo=tokyo).timestamp()) for day in ((11, 29), (12, 1)))
    for name, times in (("train", [first, test - 1]), ("test", [test, now - 1])):
        frame = pl.DataFrame({"first": times} if timed else {"user": [0, 1]})
        frame.write_parquet(folder / f"{name}.parquet")
    counts: dict[str, Any] = {"moments": {"test": test, "now": now}} if timed else {}
    counts |= {} if zone is None else {"zone": zone}
    return Record("split", "x", str(folder), False, 0.0, counts)


@pytest.mark.parametrize(
    ("zone", "data"),
    [
        ("Asia/Tokyo", "2026-11-01 to 2026-11-30, Asia/Tokyo; held out: 2026-11-29 to 2026-11-30"),
        (None, "2026-10-31 to 2026-11-30, UTC; held out: 2026-11-28 to 2026-11-30"),
    ],
)
def test_days_are_those_of_the_logs_zone_and_say_which(
    zone: str | None, data: str, tmp_path: Path
) -> None:
    found = unjudged({"cutoff": 5, "behaviors": {}}, split_of(tmp_path, zone), "shop", "later")
    assert dict(found.facts())["data"] == f"{data}, the newest days"
    assert Verdict.from_dict(found.to_dict()) == found


def test_a_log_without_times_has_no_zone(tmp_path: Path) -> None:
    split = split_of(tmp_path, None, timed=False)
    found = unjudged({"cutoff": 5, "behaviors": {}}, split, "shop", "later")
    assert found.facts() == [("data", "without times; held out: test")]


def test_a_verdict_that_was_kept_before_zone_and_policies_were_told_is_read() -> None:
    kept = VERDICT.to_dict()
    kept.pop("zone")
    kept.pop("exclude")
    assert Verdict.from_dict(kept) == VERDICT
