"""Returns and removals: what they take back, from when on, and that no row is lost over it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.config import Config, parse_config
from bigel.contracts.profile import profile_log
from bigel.contracts.validation import validate
from bigel.data.interactions import Interactions
from bigel.data.split import split
from bigel.errors import ConfigError
from bigel.ingest import ingest
from bigel.realized.scoring import new_pairs, read_log
from bigel.schema import SPLITS, UNDONE_FILE, split_file
from bigel.signals.history import History
from bigel.store import Record, Workspace

HOUR = 3_600
UNDO = {"returned": "buy", "removed": "click"}
Ingest = Callable[..., Any]


def csv(*rows: tuple[Any, ...]) -> bytes:
    """Rows are (user, item, raw behavior, hour)."""
    lines = [f"{u},{i},{b},{round(hour * HOUR)}" for u, i, b, hour in rows]
    return "\n".join(["user,item,behavior,time", *lines]).encode()


def standing(got: Any) -> dict[tuple[Any, ...], tuple[float, float | None]]:
    """Return pair to the hours of its first time and of its taking back."""
    return {
        tuple(row[:3]): (row[3] / HOUR, None if row[4] is None else row[4] / HOUR)
        for row in got.interactions.select(
            "user_id", "item_id", "behavior", "first", "undone"
        ).iter_rows()
    }


def test_what_happened_last_decides(ingest_files: Ingest) -> None:
    log = csv(
        (1, 1, "buy", 1), (1, 1, "returned", 9),  # taken back
        (1, 2, "buy", 1), (1, 2, "returned", 9), (1, 2, "buy", 20),  # and bought again
        (1, 3, "returned", 1), (1, 3, "buy", 9),  # too early: takes nothing back
        (1, 4, "returned", 5),  # of what nobody has seen
        (1, 5, "buy", 3), (1, 5, "click", 2), (1, 5, "returned", 4),  # the click stays
        (2, 1, "buy", 3),  # another user
        (3, 1, "buy", 3), (3, 1, "returned", 3),  # at the same second
        (4, 1, "buy", 3), (4, 1, "returned", 4), (4, 1, "buy", 5), (4, 1, "returned", 6),
        (5, 1, "buy", 3.0), (5, 1, "returned", 3.2), (5, 1, "buy", 3.4),  # within an hour
        (5, 2, "buy", 3.0), (5, 2, "buy", 3.4), (5, 2, "returned", 3.5), (5, 2, "returned", 7),
    )  # fmt: skip
    got = ingest_files({"a.csv": log}, undo=UNDO)
    assert standing(got) == {
        (1, 1, "buy"): (1, 9),
        (1, 2, "buy"): (20, None),
        (1, 3, "buy"): (9, None),
        (1, 5, "click"): (2, None),
        (1, 5, "buy"): (3, 4),
        (2, 1, "buy"): (3, None),
        (3, 1, "buy"): (3, 3),
        (4, 1, "buy"): (5, 6),
        (5, 1, "buy"): (3, None),
        (5, 2, "buy"): (3, 3.5),
    }
    counts = got.record.counts
    rows = log.count(b"\n")
    assert counts["in"] == rows == counts["kept"] + counts["merged"] and not got.quarantine.height
    assert counts["undo"] == {"rows": 11, "taken_back": 5, "rows_without_effect": 4}
    undone = pl.read_parquet(got.record.file(UNDONE_FILE)).filter(~pl.col("took"))
    found = {
        (u, i, at / HOUR) for u, i, at in undone.select("user_id", "item_id", "timestamp").rows()
    }
    assert found == {(1, 3, 1), (1, 4, 5), (5, 1, 3.2), (5, 2, 7)}


def test_it_does_not_matter_in_which_file_or_how_late_it_comes(
    ingest_files: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(1, 1, "buy", 5), (1, 1, "returned", 30), (1, 2, "buy", 5), (2, 2, "removed", 6)]
    whole = ingest_files({"a/1.csv": csv(*rows)}, "a", undo=UNDO)
    with caplog.at_level(logging.WARNING):
        parts = {f"b/{n}.csv": csv(row) for n, row in enumerate(reversed(rows))}
        parted = ingest_files(parts, "b", undo=UNDO)
    assert parted.interactions.equals(whole.interactions)
    assert "1 of 2 rows that take an event back found none" in caplog.text


def test_an_undoing_that_is_no_good_row_is_refused_like_any(ingest_files: Ingest) -> None:
    log = csv((1, 1, "buy", 5), ("", 1, "returned", 6), (1, 1, "return", 6))
    got = ingest_files({"a.csv": log}, undo=UNDO)
    assert got.refused() == [(2, "null user_id"), (3, "unknown behavior")]
    assert standing(got) == {(1, 1, "buy"): (5, None)}


def test_wide_tables_and_counts_may_take_back_too(ingest_files: Ingest) -> None:
    log = b"user,item,bought,back\n1,1,3600,7200\n1,2,3600,\n"
    cells = {"bought": "buy", "back": "returned"}
    columns = {"user": "user", "item": "item"}
    got = ingest_files({"a.csv": log}, undo=UNDO, wide=cells, columns=columns)
    assert standing(got) == {(1, 1, "buy"): (1, 2), (1, 2, "buy"): (1, None)}
    counted = b"user,item,behavior,time,n\n1,1,buy,3600,3\n1,1,returned,7200,2\n"
    columns |= {"timestamp": "time", "count": "n"}
    got = ingest_files({"b.csv": counted}, "b.csv", undo=UNDO, columns=columns)
    assert standing(got) == {(1, 1, "buy"): (1, 2)}
    assert got.record.counts["in"] == 5 and got.record.counts["merged"] == 4


def config_of(path: Path, **data: Any) -> Config:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    settings = {"path": str(path), "behaviors": ["click", "buy"], "time_min": 0, "undo": UNDO}
    tree = {"data": settings | {"columns": columns} | data, "split": {"method": "time"}}
    return parse_config(tree)


def parted(path: Path, workspace: Path, until: int | None = None) -> Record:
    config, place = config_of(path), Workspace(workspace)
    return split(ingest(config, place), config, place, until)


def naive(events: list[tuple[int, int, str, int]], moment: int) -> dict[tuple[int, int, int], int]:
    """Return the pairs that stand at a moment (in hours), with their first time."""
    stands: dict[tuple[int, int, int], int] = {}
    for u, i, raw, hour in sorted(events, key=lambda event: (event[3], event[2] in UNDO)):
        if hour >= moment:
            continue
        key = (u, i, ["click", "buy"].index(UNDO.get(raw, raw)))
        if raw in UNDO:
            stands.pop(key, None)
        else:
            stands.setdefault(key, hour)
    return stands


PAIR = (st.integers(0, 2), st.integers(0, 2))
EVENT = st.tuples(*PAIR, st.sampled_from(["click", "buy", *UNDO]), st.integers(1, 30))
LATE = st.tuples(*PAIR, st.sampled_from(list(UNDO)), st.integers(31, 40))
PLACE = ("user", "item", "behavior_index")
MORE = [(3 + n, n % 3, "click", 1 + n) for n in range(30)]  # so that no split is empty
EVERY = [(u, 3, "click", 1 + u) for u in (0, 1, 2)]  # and ids are inner ids


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT, max_size=30), st.lists(LATE, max_size=5), st.integers(20, 42))
def test_at_each_moment_that_stands_which_was_not_taken_back_before(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, int, str, int]],
    late: list[tuple[int, int, str, int]],
    moment: int,
) -> None:
    tmp_path = tmp_path_factory.mktemp("undo")
    events = [*drawn, *late, *MORE, *EVERY]
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*events))
    record = parted(path, tmp_path)
    history = History.load(record)
    assert history.n_users == 33 and history.n_items == 4
    for at in (moment, 12, 41):
        then = history.at(at * HOUR)
        expected = naive(events, at)
        pairs = zip(then.pairs.users, then.pairs.items, then.pairs.behavior_index, strict=True)
        assert {tuple(map(int, pair)) for pair in pairs} == set(expected)
        firsts = then.times[then._starts] // HOUR
        assert sorted(firsts.tolist()) == sorted(expected.values())
    cut = parted(path, tmp_path, until=moment * HOUR)
    frames = [pl.read_parquet(cut.file(split_file(name))) for name in SPLITS]
    rows = pl.concat(frames).select("user", "item", "behavior_index", "first").rows()
    assert {row[:3]: row[3] // HOUR for row in rows} == naive(events, moment)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(EVENT, max_size=30),
    st.lists(LATE, max_size=5),
    st.lists(st.tuples(*PAIR, st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))),
)
def test_train_is_what_stood_at_its_end_and_the_rest_what_stands_at_the_end_of_the_log(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, int, str, int]],
    late: list[tuple[int, int, str, int]],
    again: list[tuple[int, int, int, int, int]],
) -> None:
    tmp_path = tmp_path_factory.mktemp("undo")
    events = [*drawn, *late, *MORE, *EVERY]
    for user, item, *hours in again:
        raws = ("buy", "returned", "buy")
        events += [(user, item, raw, hour) for raw, hour in zip(raws, sorted(hours), strict=True)]
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*events))
    record = parted(path, tmp_path)
    frames = {name: pl.read_parquet(record.file(split_file(name))) for name in SPLITS}
    train, valid, test = (
        {row[:3]: row[3] // HOUR for row in frames[name].select(*PLACE, "first").rows()}
        for name in SPLITS
    )
    assert train == naive(events, record.counts["moments"]["valid"] // HOUR)
    later = {key: hour for key, hour in naive(events, 41).items() if key not in train}
    assert valid | test == later and not set(valid) & set(test)
    assert max(valid.values()) < record.counts["moments"]["test"] // HOUR <= min(test.values())


def test_what_is_bought_again_later_stays_in_train(tmp_path: Path) -> None:
    rows = [(n, n % 5, "click", 2 * n) for n in range(50)]  # valid from about 80, test from 90
    rows += [(0, 1, "buy", 3), (0, 1, "returned", 91), (0, 1, "buy", 95)]
    rows += [(0, 2, "buy", 3), (0, 2, "buy", 4.5), (0, 2, "returned", 84), (0, 2, "buy", 85)]
    rows += [(0, 2, "returned", 96)]
    rows += [(0, 3, "buy", 3), (0, 3, "returned", 5), (0, 3, "buy", 95)]  # back before train ends
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*rows))
    record = parted(path, tmp_path)
    found = {}
    for name in SPLITS:
        bought = pl.read_parquet(record.file(split_file(name))).filter(behavior_index=1)
        for _, item, first, undone, count in bought.select(
            "user", "item", "first", "undone", "count"
        ).rows():
            found[name, item] = (first / HOUR, undone and undone / HOUR, count)
    assert found == {
        ("train", 1): (3, 91, 1),
        ("train", 2): (3, 84, 2),
        ("test", 3): (95, None, 2),
    }
    config, workspace = config_of(path), Workspace(tmp_path)
    assert validate("split", record, config, workspace)


def test_splits_hold_what_was_known(tmp_path: Path) -> None:
    rows = [
        (n, n % 5, "click", 2 * n) for n in range(50)
    ]  # to hour 98: valid from 80, test from 90
    rows += [
        (0, 1, "buy", 3), (0, 1, "returned", 70),  # back before valid begins
        (0, 2, "buy", 3), (0, 2, "returned", 84),  # back in valid: train did not know
        (0, 3, "buy", 3), (0, 3, "returned", 97),  # back in test
        (0, 4, "buy", 81), (0, 4, "returned", 96),  # valid's, back in test: no positive
        (1, 1, "buy", 82),
    ]  # fmt: skip
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*rows))
    record = parted(path, tmp_path)

    def bought(log: Interactions) -> set[tuple[int, int]]:
        users, items = log.of(1)
        return set(zip(users.tolist(), items.tolist(), strict=True))

    moments = record.counts["moments"]
    assert 70 * HOUR < moments["valid"] <= 81 * HOUR and 84 * HOUR < moments["test"] <= 96 * HOUR
    assert bought(Interactions.load(record, "train")) == {(0, 2), (0, 3)}
    assert bought(Interactions.held_out(record, "valid")) == {(1, 1)}
    assert bought(Interactions.before_test(record)) == {(0, 3), (1, 1)}
    assert bought(History.load(record).at(moments["test"]).pairs) == {(0, 3), (0, 4), (1, 1)}
    assert bought(History.load(record).at(moments["now"]).pairs) == {(1, 1)}
    assert record.counts["taken_back"] == 2


def test_a_moment_knows_what_was_taken_back_before_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*MORE, *EVERY, (0, 0, "buy", 5), (0, 0, "returned", 25)))
    history = History.load(parted(path, tmp_path))
    for moment, stands in ((25 * HOUR, 1), (25 * HOUR + 1, 0)):
        assert len(history.at(moment).pairs.of(1)[0]) == stands
        cut = parted(path, tmp_path, until=moment)
        assert sum(cut.counts[name]["buy"] for name in SPLITS) == stands
        assert len(History.load(cut).at(moment).pairs.of(1)[0]) == stands


def test_a_return_after_the_last_event_takes_back_what_is_served(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(csv(*MORE, *EVERY, (0, 0, "buy", 5), (0, 0, "returned", 35)))
    record = parted(path, tmp_path)
    now = record.counts["moments"]["now"]
    assert now == 35 * HOUR + 1
    assert not len(History.load(record).at(now).pairs.of(1)[0])
    assert len(History.load(record).at(35 * HOUR).pairs.of(1)[0]) == 1


def test_what_was_taken_back_is_no_hit_of_last_nights_lists(ingest_files: Ingest) -> None:
    log = csv((1, 1, "buy", 5), (1, 2, "buy", 6), (1, 1, "returned", 7), (1, 1, "click", 7))
    got = ingest_files({"a.csv": log}, undo=UNDO)
    rows = read_log(got.record.file("interactions.parquet"))
    assert rows is not None
    found = new_pairs(rows, 0, 10 * HOUR).select("item_id", "behavior").rows()
    assert sorted(found) == [(1, "click"), (2, "buy")]


def test_contracts_hold_and_balance(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [(n, n % 5, "click", n) for n in range(50)] + [(n, n % 5, "buy", n) for n in range(20)]
    path.write_bytes(csv(*rows, (3, 3, "returned", 40), (60, 1, "returned", 2)))
    config, workspace = config_of(path), Workspace(tmp_path / "w")
    ingested = ingest(config, workspace)
    profile_log(ingested, config, workspace)
    parts = split(ingested, config, workspace)
    for name, record in (("raw_log", ingested), ("interactions", ingested), ("split", parts)):
        assert validate(name, record, config, workspace)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"undo": {"returned": "by"}}, r"undo.returned = 'by' is not in behaviors.*'buy'"),
        ({"undo": {"buy": "buy"}}, "undo.buy: 'buy' is in behaviors, rename or ignore too"),
        ({"undo": UNDO, "format": "tables"}, "leave undo out"),
        ({"undo": UNDO, "columns": {"timestamp": ""}}, "undo goes by times"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config({"data": {"path": "log.csv", "behaviors": ["click", "buy"], **wrong}})


def test_a_log_in_which_no_times_are_found_is_refused(ingest_files: Ingest) -> None:
    log = b"user,item,behavior\n1,1,buy\n1,1,returned\n"
    columns = {"user": "user", "item": "item"}
    with pytest.raises(ConfigError, match=r"data.undo goes by times, and no column"):
        ingest_files({"a.csv": log}, undo=UNDO, columns=columns)
    counts = b"user,item,bought,back\n1,1,2,1\n"
    cells = {"bought": "buy", "back": "returned"}
    with pytest.raises(ConfigError, match=r"data.undo goes by times, and no column"):
        ingest_files(
            {"b.csv": counts}, "b.csv", undo=UNDO, columns=columns, wide=cells, wide_values="count"
        )
