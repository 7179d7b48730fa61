"""A column of times that is not configured: used where it plainly is one, else spoken of."""

import datetime as dt
import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import DataError
from bigel.ingest import ingest
from bigel.ingest.timecolumn import NAMES
from bigel.store import Record, Workspace

START = 1_700_000_000
ROWS = [
    (u, i, ("click", "buy")[(u + i) % 2], START + 500 * u + i) for u in range(8) for i in range(9)
]
FORMATS = ("csv", "tsv", "ndjson", "parquet")


def frame(column: str = "timestamp", times: Any = None, kind: Any = None) -> pl.DataFrame:
    """Return the log with one column more, of the times unless other values are given."""
    log = pl.DataFrame(ROWS, ["user", "item", "behavior", column], orient="row")
    if times is not None:
        log = log.with_columns(pl.Series(column, times, dtype=kind))
    return log


def write(log: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv":
            log.write_csv(path)
        case ".tsv":
            log.write_csv(path, separator="\t")
        case ".ndjson":
            log.write_ndjson(path)
        case ".parquet":
            log.write_parquet(path)


def ingested(folder: Path, name: str = "run", **data: Any) -> Record:
    columns = {"user": "user", "item": "item"} | data.pop("columns", {})
    settings = {"path": str(folder / "log"), "behaviors": ["click", "buy"], "columns": columns}
    return ingest(parse_config({"data": settings | data}), Workspace(folder / name))


def columns_of(record: Record) -> list[str]:
    return pl.read_parquet(record.file("interactions.parquet")).columns


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="bigel.ingest.timecolumn")
    return lambda: [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "bigel.ingest.timecolumn"
    ]


@pytest.mark.parametrize("ending", FORMATS)
def test_it_is_as_if_it_had_been_configured(ending: str, tmp_path: Path, said: Any) -> None:
    write(frame("Event_Time"), tmp_path / "log" / f"a.{ending}")
    found = ingested(tmp_path)
    ((level, text),) = said()
    assert level == "INFO"
    assert "'Event_Time' of " in text and "set it to '' to go without times" in text
    named = ingested(tmp_path, columns={"timestamp": "Event_Time"})
    assert named.reused and named.fingerprint == found.fingerprint
    assert len(said()) == 1  # what is configured needs no word
    rows = pl.read_parquet(found.file("interactions.parquet"))
    assert rows["first"].to_list() == [time for _, _, _, time in ROWS]


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_name_says_that_there_are_no_times(ending: str, tmp_path: Path, said: Any) -> None:
    write(frame(), tmp_path / "log" / f"a.{ending}")
    without = ingested(tmp_path, columns={"timestamp": ""})
    assert columns_of(without) == ["user_id", "item_id", "behavior", "count"]
    assert said() == []
    write(frame().drop("timestamp"), tmp_path / "bare" / "log" / f"a.{ending}")
    bare = ingested(tmp_path / "bare")
    for name in ("interactions.parquet", "quarantine.parquet"):
        assert without.file(name).read_bytes() == bare.file(name).read_bytes()


def test_every_name_of_times_is_written_as_names_are_compared() -> None:
    assert all(name.isalnum() and name == name.lower() for name in NAMES)
    assert len(set(NAMES)) == len(NAMES)


COMMON = ("timestamp", "time", "ts", "event_time", "created_at", "date", "datetime")
WRITTEN = ("event_timestamp", "time_stamp", "TimeStamp", "eventTime", "timestamp:float")


@pytest.mark.parametrize("name", [*COMMON, *WRITTEN])
def test_names_of_times(name: str, tmp_path: Path) -> None:
    write(frame(name), tmp_path / "log" / "a.csv")
    assert "first" in columns_of(ingested(tmp_path))


VALUES = {
    "seconds": [START + n for n in range(72)],
    "milliseconds": [1_000 * (START + n) for n in range(72)],
    "ISO": [f"2023-11-{1 + n % 30:02}T10:00:{n % 60:02}Z" for n in range(72)],
    "days": [f"2023/11/{1 + n % 30:02}" for n in range(72)],
    "with a gap": [None if n == 5 else START + n for n in range(72)],
}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("ending", FORMATS)
def test_values_of_times(values: str, ending: str, tmp_path: Path) -> None:
    write(frame("ts", VALUES[values]), tmp_path / "log" / f"a.{ending}")
    assert "first" in columns_of(ingested(tmp_path))


ONLY_NAMED = {
    "a counter": list(range(72)),
    "a date as a number": [20_231_101 + n % 30 for n in range(72)],
    "words": ["soon"] * 72,
    "one word among times": [START] * 71 + ["soon"],
    "many gaps": [None if n % 4 == 0 else START + n for n in range(72)],
    "nothing": [None] * 72,
}


@pytest.mark.parametrize("values", ONLY_NAMED)
@pytest.mark.parametrize("ending", FORMATS)
def test_a_name_alone_is_spoken_of(values: str, ending: str, tmp_path: Path, said: Any) -> None:
    kind = pl.String if "word" in values else pl.Int64
    texts = [str(v) if kind == pl.String else v for v in ONLY_NAMED[values]]
    write(frame("time", texts, kind), tmp_path / "log" / f"a.{ending}")
    assert "first" not in columns_of(ingested(tmp_path))
    ((level, text),) = said()
    assert level == "WARNING"
    assert "'time' of " in text and "has the name of times, not the values" in text
    assert 'add timestamp = "time" to data.columns' in text and "add timestamp = ''" in text


ONLY_VALUES = {
    "numbers of our days": ([START + n for n in range(72)], None),
    "dates as text": ([f"2023-11-{1 + n % 30:02}" for n in range(72)], None),
    "a type of times": ([dt.datetime(2023, 11, 1 + n % 30) for n in range(72)], None),
    "a type of days": ([dt.date(2023, 11, 1 + n % 30) for n in range(72)], None),
}


@pytest.mark.parametrize("values", ONLY_VALUES)
def test_values_alone_are_spoken_of(values: str, tmp_path: Path, said: Any) -> None:
    write(frame("when", *ONLY_VALUES[values]), tmp_path / "log" / "a.parquet")
    assert "first" not in columns_of(ingested(tmp_path))
    ((level, text),) = said()
    assert level == "WARNING" and "'when' of a.parquet looks like times" in text


@pytest.mark.parametrize("values", [range(72), [3_000_000_000 + n for n in range(72)]])
def test_other_numbers_are_passed_over(values: Any, tmp_path: Path, said: Any) -> None:
    write(frame("price", list(values)), tmp_path / "log" / "a.csv")
    assert "first" not in columns_of(ingested(tmp_path))
    assert said() == []


def test_of_two_columns_of_times_the_more_exact_name_is_taken(tmp_path: Path, said: Any) -> None:
    log = frame("date", VALUES["days"]).with_columns(ts=pl.Series(VALUES["seconds"]))
    write(log, tmp_path / "log" / "a.csv")
    assert pl.read_parquet(ingested(tmp_path).file("history.parquet"))["timestamp"].min() == START
    ((_, text),) = said()
    assert "column 'ts' of a.csv holds times" in text


def test_columns_that_are_something_else_are_no_times(tmp_path: Path, said: Any) -> None:
    write(frame("date").drop("user"), tmp_path / "log" / "a.csv")
    assert "first" not in columns_of(ingested(tmp_path, columns={"user": "date"}))
    assert said() == []


def test_the_first_file_with_rows_decides_for_all(tmp_path: Path) -> None:
    write(frame("ts").clear(), tmp_path / "log" / "a.csv")
    write(frame("ts"), tmp_path / "log" / "b.ndjson")
    write(frame("ts").head(3), tmp_path / "log" / "c.parquet")
    assert "first" in columns_of(ingested(tmp_path))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_later_file_without_the_column_is_named(ending: str, tmp_path: Path) -> None:
    write(frame("ts"), tmp_path / "log" / "a.csv")
    write(frame("ts").drop("ts").head(50), tmp_path / "log" / f"b.{ending}")
    with pytest.raises(DataError, match=rf"^b\.{ending}: no column 'ts' .*columns\.timestamp = ''"):
        ingested(tmp_path)


def test_a_log_that_came_split_keeps_its_protocol(tmp_path: Path, said: Any) -> None:
    for split, rows in (("train", frame("ts")[:60]), ("test", frame("ts")[60:])):
        write(rows, tmp_path / "log" / f"{split}.csv")
    assert "first" not in columns_of(ingested(tmp_path, format="tables"))
    assert said() == []


def test_a_log_without_a_header_has_no_names_of_times(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "log" / "a.csv"
    path.parent.mkdir()
    frame().write_csv(path, include_header=False)
    names = {"user": "column_1", "item": "column_2", "behavior": "column_3"}
    assert "first" not in columns_of(ingested(tmp_path, columns=names, header=False))
    ((_, text),) = said()
    assert "'column_4' of a.csv looks like times" in text
    assert 'add timestamp = "column_4"' in text


def test_nested_values_and_cut_lines_do_no_harm(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"user": u, "item": i, "behavior": b, "ts": t, "more": [1, {"a": 2}], "ok": True}
        )
        for u, i, b, t in ROWS
    ]
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.ndjson").write_text("\n".join(["oops", *lines, '{"user": 1']))
    assert "first" in columns_of(ingested(tmp_path))
