"""A column by which pairs weigh: how it is read, merged and refused."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.contracts.validation import validate
from bigel.errors import ConfigError, ContractError, DataError
from bigel.ingest import ingest
from bigel.ingest.refusals import BAD_WEIGHT
from bigel.schema import EVENTS_FILE
from bigel.store import Workspace

HOUR = 3_600
HEADER = "user,item,behavior,time,seconds"
SECONDS = {"weight": "seconds"}
Ingest = Callable[..., Any]


def csv(*rows: tuple[Any, ...]) -> bytes:
    """Rows are (user, item, behavior, hour, seconds)."""
    lines = [f"{u},{i},{b},{round(hour * HOUR)},{w}" for u, i, b, hour, w in rows]
    return "\n".join([HEADER, *lines]).encode()


def history_of(got: Any) -> list[tuple[Any, ...]]:
    frame = pl.read_parquet(got.record.file(EVENTS_FILE))
    return frame.select("user_id", "item_id", "timestamp", "count", "amount", "opening").rows()


def amounts(got: Any) -> dict[tuple[Any, ...], float]:
    rows = got.interactions.select("user_id", "item_id", "amount").iter_rows()
    return {(user, item): amount / 1e6 for user, item, amount in rows}


def test_a_pairs_events_are_summed_and_each_hour_knows_its_first(ingest_files: Ingest) -> None:
    log = csv(
        (1, 1, "click", 1.5, 4), (1, 1, "click", 1.2, 0.25), (1, 1, "click", 3, 1),
        (1, 2, "click", 2, 9), (1, 2, "click", 2, 5), (2, 1, "click", 1, 0),
    )  # fmt: skip
    got = ingest_files({"a.csv": log}, **SECONDS)
    assert amounts(got) == {(1, 1): 5.25, (1, 2): 14, (2, 1): 0}
    assert history_of(got) == [
        (1, 1, 4_320, 2, 4_250_000, 250_000),
        (1, 1, 3 * HOUR, 1, 1_000_000, 1_000_000),
        (1, 2, 2 * HOUR, 2, 14_000_000, 5_000_000),  # of one second the smallest
        (2, 1, HOUR, 1, 0, 0),
    ]


BAD = ("", "-1", "nan", "inf", "-inf", "many", "1000000001", "null")
GOOD = {
    "0": 0.0, " 2.5 ": 2.5, "1e3": 1000.0, "1000000000": 1e9, "0.0000004": 0.0,
    "1.0000006": 1.000001,
}  # fmt: skip


def test_what_is_no_weight_goes_to_the_quarantine(ingest_files: Ingest) -> None:
    rows = [(1, at, "click", at, value) for at, value in enumerate([*BAD, *GOOD], 1)]
    got = ingest_files({"a.csv": csv(*rows)}, **SECONDS)
    assert got.refused() == [(at, BAD_WEIGHT) for at in range(1, len(BAD) + 1)]
    assert set(got.quarantine["source_file"]) == {"a.csv"}
    assert got.quarantine["raw"][1] == f"1,2,click,{2 * HOUR},-1"
    assert list(amounts(got).values()) == list(GOOD.values())
    total = got.summary.select(pl.col("rows", "kept", "quarantined").sum()).row(0)
    assert total == (len(rows), len(GOOD), len(BAD))


def test_where_no_row_has_a_weight_the_error_names_file_row_and_remedy(
    ingest_files: Ingest,
) -> None:
    with pytest.raises(DataError, match=r"a\.csv row 1 \(weight is no number.*data\.weight"):
        ingest_files({"a.csv": csv((1, 1, "click", 1, "x"))}, **SECONDS)


def test_a_column_that_is_not_there_is_named(ingest_files: Ingest, tmp_path: Path) -> None:
    said = r"no column 'second' among .*did you mean 'seconds'\?; set data\.weight to a column"
    with pytest.raises(DataError, match=said):
        ingest_files({"a.csv": csv((1, 1, "click", 1, 1))}, weight="second")
    frame(pl.Float64).write_parquet(tmp_path / "made.parquet")
    with pytest.raises(DataError, match=said):
        ingest_files({"a.parquet": (tmp_path / "made.parquet").read_bytes()}, weight="second")
    cells = {"columns": {"user": "user", "item": "item"}, "wide": {"seem": "click"}}
    with pytest.raises(DataError, match=r"no column 'seem' .*; set data\.wide to the columns"):
        ingest_files({"a.csv": b"user,item,seen\n1,1,0\n"}, **cells)


VALUES = [1.5, 2, 0, 3.25]


def frame(dtype: Any) -> pl.DataFrame:
    whole = dtype in (pl.Int64, pl.UInt8)
    values = [int(value) for value in VALUES] if whole else VALUES
    if isinstance(dtype, pl.Decimal):
        values = [Decimal(str(value)) for value in VALUES]
    if dtype == pl.String:
        values = [str(value) for value in VALUES]
    columns = {"user": [1] * 4, "item": [1, 2, 3, 1], "behavior": ["click"] * 4}
    times = {"time": [n * HOUR for n in range(4)]}
    return pl.DataFrame(columns | times | {"seconds": pl.Series(values, dtype=dtype)})


@pytest.mark.parametrize(
    "dtype", [pl.Float64, pl.Float32, pl.Int64, pl.UInt8, pl.Decimal(10, 2), pl.String], ids=str
)
def test_of_parquet_every_type_of_number_is_read(
    ingest_files: Ingest, tmp_path: Path, dtype: Any
) -> None:
    frame(dtype).write_parquet(tmp_path / "made.parquet")
    got = ingest_files({"a.parquet": (tmp_path / "made.parquet").read_bytes()}, **SECONDS)
    whole = dtype in (pl.Int64, pl.UInt8)
    assert amounts(got) == {(1, 1): 4 if whole else 4.75, (1, 2): 2, (1, 3): 0}


def test_of_parquet_nan_infinity_null_and_truth_are_none(
    ingest_files: Ingest, tmp_path: Path
) -> None:
    bad = frame(pl.Float64).with_columns(seconds=pl.Series([None, float("nan"), float("inf"), 1]))
    bad.write_parquet(tmp_path / "made.parquet")
    got = ingest_files({"a.parquet": (tmp_path / "made.parquet").read_bytes()}, **SECONDS)
    assert got.refused() == [(1, BAD_WEIGHT), (2, BAD_WEIGHT), (3, BAD_WEIGHT)]
    frame(pl.Float64).with_columns(seconds=pl.lit(True)).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"'seconds' is Boolean, a number is expected"):
        ingest_files({"a.parquet": (tmp_path / "b.parquet").read_bytes()}, **SECONDS)


def test_of_ndjson_a_field_of_each_element_is_read(ingest_files: Ingest) -> None:
    lines = [
        {"user": 1, "time": 0, "lines": [{"sku": 1, "n": 2}, {"sku": 2, "n": 1.5}]},
        {"user": 1, "time": HOUR, "lines": [{"sku": 1, "n": "3"}, {"sku": 2}]},
    ]
    text = "".join(json.dumps(one | {"behavior": "buy"}) + "\n" for one in lines)
    columns = {"user": "user", "item": "lines[].sku", "timestamp": "time"}
    got = ingest_files({"a.ndjson": text.encode()}, columns=columns, weight="lines[].n")
    assert amounts(got) == {(1, 1): 5, (1, 2): 1.5}
    assert got.refused() == [(2, BAD_WEIGHT)]


def test_each_event_of_a_wide_row_has_the_weight_of_the_row(ingest_files: Ingest) -> None:
    text = b"user,item,seen,bought,seconds\n1,1,0,7200,2.5\n1,2,3600,,4\n"
    got = ingest_files(
        {"a.csv": text}, columns={"user": "user", "item": "item"},
        wide={"seen": "click", "bought": "buy"}, **SECONDS,
    )  # fmt: skip
    assert got.interactions["amount"].to_list() == [2_500_000, 2_500_000, 4_000_000]


def test_without_times_and_with_counts_rows_are_summed(ingest_files: Ingest) -> None:
    text = b"user,item,behavior,n,seconds\n1,1,click,2,2.5\n1,1,click,1,4\n"
    columns = {"user": "user", "item": "item", "timestamp": "", "count": "n"}
    got = ingest_files({"a.csv": text}, columns=columns, **SECONDS)
    assert amounts(got) == {(1, 1): 6.5}
    assert got.interactions["count"].to_list() == [3]
    assert "opening" not in got.interactions.columns


def test_what_takes_an_event_back_needs_no_weight(ingest_files: Ingest) -> None:
    log = csv(
        (1, 1, "buy", 1, 5), (1, 1, "returned", 2, ""), (1, 2, "buy", 1, 5),
        ("x", 1, "returned", 9, ""),
    )  # fmt: skip
    got = ingest_files({"a.csv": log}, undo={"returned": "buy"}, **SECONDS)
    assert got.refused() == []
    assert got.interactions["undone"].to_list() == [2 * HOUR, None]


EVENT = st.tuples(
    st.integers(1, 2), st.integers(1, 2), st.just("click"),
    st.sampled_from([0, 0.25, 0.5, 1, 2.5]), st.sampled_from([0, 0.1, 0.2, 0.3, 7]),
)  # fmt: skip


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(EVENT, min_size=1, max_size=14), st.data())
def test_order_and_files_leave_no_trace_and_sums_are_exact(
    tmp_path_factory: pytest.TempPathFactory, events: list[Any], data: st.DataObject
) -> None:
    found = []
    orders = [events, data.draw(st.permutations(events))]
    for order in orders:
        root = tmp_path_factory.mktemp("log")
        cut = data.draw(st.integers(0, len(order)))
        (root / "log").mkdir()
        (root / "log" / "a.csv").write_bytes(csv(*order[:cut]))
        # A row that each of the two has alone, so that no file is a copy of the other.
        (root / "log" / "b.csv").write_bytes(csv(*order[cut:], (9, 9, "click", 0, 1)))
        columns = {"user": "user", "item": "item", "timestamp": "time"}
        given = {"path": str(root / "log"), "behaviors": ["click"], "columns": columns}
        record = ingest(parse_config({"data": given | {"time_min": 0} | SECONDS}), Workspace(root))
        found.append(pl.read_parquet(record.file(EVENTS_FILE)))
    assert found[0].equals(found[1])
    twin: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for user, item, _, hour, value in [*events, (9, 9, "click", 0, 1)]:
        hours = twin.setdefault((user, item, int(hour)), [])
        hours.append((round(hour * HOUR), round(value * 1e6)))
    rows = found[0].select("user_id", "item_id", "timestamp", "opening", "amount", "count").rows()
    assert rows == [
        (user, item, *min(own), sum(amount for _, amount in own), len(own))
        for (user, item, _), own in sorted(twin.items())
    ]


def test_the_contract_asks_for_the_column(ingest_files: Ingest, tmp_path: Path) -> None:
    log = csv((1, 1, "click", 1, 5), (1, 2, "click", 9, 5))
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    given = {"behaviors": ["click"], "columns": columns, "time_min": 0, "weight": "x"}
    config, checked = parse_config({"data": given}), Workspace(tmp_path / "checked")
    got = ingest_files({"a.csv": log}, behaviors=["click"], **SECONDS)
    validate("interactions", got.record, config, checked)
    got = ingest_files({"a.csv": log}, behaviors=["click"])
    with pytest.raises(ContractError, match="every column that the configuration names is there"):
        validate("interactions", got.record, config, checked)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight": "item"}, "stands for something else"),
        ({"weight": "n", "columns": {"count": "n"}}, "stands for something else"),
        ({"weight": "seconds", "format": "pairs"}, "no column of this log"),
        ({"weight": "seconds", "format": "tables"}, "no column of this log"),
        ({"weight": "seconds", "path": "synth:"}, "no column of this log"),
        ({"weight": ""}, "at least 1 character"),
    ],
)
def test_settings_that_contradict_each_other(more: dict[str, Any], message: str) -> None:
    columns = {"item": "item"} | more.pop("columns", {})
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": {"path": "log", "columns": columns} | more})
