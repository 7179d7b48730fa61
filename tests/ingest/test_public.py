"""Each preset reads its public log in the true layout; the files are made up, counted by hand."""

import datetime as dt
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bigel.config import PRESETS, load_config
from bigel.ingest import ingest
from bigel.store import Workspace
from tests.ingest.conftest import read_back

PUBLIC = Path(__file__).parent / "public"
EMPTY_LOGS = {"demo", "taobao", "paper"}  # a synthetic log, plain tables, and none


class Log(NamedTuple):
    """What is in a fixture.

    Args:
        kept, merged: rows.
        behaviors: kept rows per behavior, in cascade order.
        refused: file, row and reason of every other row.
        rows: user, item, behavior, UTC time of the last event or None, rows merged into it.
    """

    kept: int
    merged: int
    behaviors: dict[str, int]
    refused: list[tuple[str, int, str]]
    rows: list[tuple[Any, Any, str, str | None, int]]


NO_USER, NO_ITEM, NO_TIME = "null user_id", "null item_id", "null timestamp"
BAD_TIME, UNKNOWN, IGNORED = "unreadable timestamp", "unknown behavior", "ignored behavior"

LOGS = {
    "userbehavior": Log(
        kept=19,
        merged=4,
        behaviors={"click": 11, "favourite": 2, "cart": 3, "purchase": 3},
        refused=[
            ("UserBehavior.csv", 21, "timestamp before data.time_min"),
            ("UserBehavior.csv", 23, "timestamp after data.time_max"),
            ("UserBehavior.csv", 24, "timestamp before data.time_min"),
        ],
        rows=[
            (101, 5001, "click", "2017-11-25 08:54:20", 2),
            (103, 5006, "purchase", "2017-12-03 15:59:59", 1),
            (104, 5001, "click", "2017-11-24 16:00:00", 1),
        ],
    ),
    "tmall": Log(
        kept=17,
        merged=4,
        behaviors={"click": 9, "favourite": 2, "cart": 2, "purchase": 4},
        refused=[
            ("user_log_format1.csv", 21, BAD_TIME),
            ("user_log_format1.csv", 22, NO_ITEM),
            ("user_log_format1.csv", 23, UNKNOWN),
        ],
        rows=[
            (201, 7001, "click", "2014-08-30 00:00:00", 3),
            (201, 7002, "favourite", "2014-09-01 00:00:00", 1),
            (202, 7001, "cart", "2014-05-11 00:00:00", 1),
            (203, 7005, "purchase", "2014-11-11 00:00:00", 1),
        ],
    ),
    "jdata": Log(
        kept=15,
        merged=5,
        behaviors={"click": 7, "favourite": 2, "cart": 3, "purchase": 3},
        refused=[
            ("JData_Action_201602.csv", 11, IGNORED),
            ("JData_Action_201603_extra.csv", 8, IGNORED),
            ("JData_Action_201603_extra.csv", 11, BAD_TIME),
            ("JData_Action_201603_extra.csv", 12, NO_USER),
        ],
        rows=[
            (266001, 138001, "click", "2016-02-01 00:00:12", 3),
            (266002, 138004, "click", "2016-03-01 08:00:00", 2),
            (266003, 138005, "cart", "2016-03-11 00:01:30", 2),
            (266003, 138002, "favourite", "2016-03-02 20:16:40", 1),
        ],
    ),
    "retailrocket": Log(
        kept=17,
        merged=3,
        behaviors={"view": 10, "cart": 3, "purchase": 4},
        refused=[
            ("events.csv", 20, UNKNOWN),
            ("events.csv", 21, NO_USER),
            ("events.csv", 22, "too few fields"),
            ("events.csv", 24, NO_TIME),
        ],
        rows=[
            (257, 3558, "view", "2015-06-02 05:02:18", 2),
            (257, 3558, "purchase", "2015-06-02 05:05:00", 1),
            (258, 3562, "purchase", "2015-06-03 02:57:20", 1),
        ],
    ),
    "rees46": Log(
        kept=17,
        merged=4,
        behaviors={"view": 8, "cart": 4, "purchase": 5},
        refused=[
            ("2019-Nov.csv", 10, NO_ITEM),
            ("2019-Nov.csv", 11, BAD_TIME),
            ("2019-Oct.csv", 8, IGNORED),
        ],
        rows=[
            (541001, 4001, "view", "2019-10-01 00:00:30", 2),
            (541002, 4003, "cart", "2019-10-03 09:04:00", 1),
            (541003, 4004, "view", "2019-11-01 00:00:40", 2),
            (541004, 4002, "purchase", "2019-11-30 23:59:59", 1),
        ],
    ),
    "yoochoose": Log(
        kept=17,
        merged=3,
        behaviors={"click": 10, "purchase": 7},
        refused=[
            ("yoochoose-buys.dat", 6, "too few fields"),
            ("yoochoose-buys.dat", 9, NO_ITEM),
            ("yoochoose-clicks.dat", 11, BAD_TIME),
            ("yoochoose-clicks.dat", 13, NO_USER),
        ],
        rows=[
            (1, 214536002, "click", "2014-04-07 10:54:46", 2),
            (1, 214536002, "purchase", "2014-04-07 10:58:00", 1),
            (4, 214536001, "purchase", "2014-09-29 08:20:30", 2),
        ],
    ),
    "jd": Log(
        kept=29,
        merged=1,
        behaviors={"click": 14, "favourite": 6, "purchase": 9},
        refused=[
            ("click_train", 9, "too few fields"),
            ("click_train", 12, "too many fields"),
            ("click_valid", 3, "leak: also in train"),
        ],
        rows=[(2, 14, "click", None, 2), (1, 14, "purchase", None, 1)],
    ),
    "adjacency": Log(
        kept=29,
        merged=1,
        behaviors={"view": 13, "cart": 6, "buy": 10},
        refused=[
            ("test.txt", 3, "leak: also in train"),
            ("test.txt", 4, "too few fields"),
            ("view.txt", 5, "too few fields"),
        ],
        rows=[(1, 13, "view", None, 2), (5, 10, "cart", None, 1), (5, 10, "buy", None, 1)],
    ),
    "recbole": Log(
        kept=15,
        merged=3,
        behaviors={"click": 9, "purchase": 6},
        refused=[
            ("tmall-buy.inter", 6, NO_ITEM),
            ("tmall-buy.inter", 8, "repeated header"),
            ("tmall-click.inter", 10, NO_TIME),
            ("tmall-click.inter", 11, "too few fields"),
        ],
        rows=[
            (1001, 9001, "click", "2015-08-02 00:00:00", 2),
            (1002, 9003, "purchase", "2015-08-04 00:00:01", 2),
            (1004, 9001, "click", "2015-08-08 02:13:20", 1),
            (1004, 9005, "click", "2015-08-08 02:13:20", 1),
        ],
    ),
}


def test_each_preset_of_a_log_has_a_fixture() -> None:
    assert set(LOGS) == set(PRESETS) - EMPTY_LOGS == {path.name for path in PUBLIC.iterdir()}


@pytest.mark.parametrize("preset", LOGS)
def test_the_preset_reads_its_log(preset: str, tmp_path: Path) -> None:
    files = load_config(preset).data.path.removeprefix("../shared/").removeprefix("data/")
    config = load_config(preset, [f"data.path={PUBLIC / files}"])
    got = read_back(ingest(config, Workspace(tmp_path)))
    log, counts = LOGS[preset], got.record.counts
    assert (counts["kept"], counts["merged"]) == (log.kept, log.merged)
    assert counts["in"] == log.kept + log.merged + len(log.refused)
    assert list(counts["per_behavior"].items()) == list(log.behaviors.items())
    assert got.quarantine.drop("raw").rows() == log.refused
    found = {
        row[:3]: row[3:]
        for row in got.interactions.select(
            "user_id",
            "item_id",
            "behavior",
            *(["timestamp"] if "timestamp" in got.interactions.columns else []),
            "count",
        ).iter_rows()
    }
    for *key, time, count in log.rows:
        at = [] if time is None else [dt.datetime.fromisoformat(time + "Z").timestamp()]
        assert found[tuple(key)] == (*at, count), key


def test_splits_of_the_pre_split_logs_are_kept(tmp_path: Path) -> None:
    splits = {}
    for preset in ("jd", "adjacency"):
        config = load_config(preset, [f"data.path={PUBLIC / preset}"])
        rows = read_back(ingest(config, Workspace(tmp_path))).interactions
        splits[preset] = dict(rows.group_by("split").len().iter_rows())
    assert splits == {
        "jd": {"train": 9 + 4 + 5, "valid": 2 + 1 + 2, "test": 3 + 1 + 2},
        "adjacency": {"train": 13 + 6 + 6, "test": 4},
    }
