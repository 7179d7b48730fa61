"""Every kind of bad input has its error or its reason; a good row beside it is always kept."""

import gzip
import io
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from bigel.config import DataConfig
from bigel.errors import DataError

HEADER = b"user,item,behavior,time\n"
GOOD = b"1,10,click,1600000000\n"
TIMELESS = {"columns": {"user": "user", "item": "item"}}
JSON_GOOD = b'{"user": 1, "item": 10, "behavior": "click", "time": 1600000000}\n'


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_parquet(stream)
    return stream.getvalue()


def good_parquet(**changed: Any) -> bytes:
    columns = {
        "user": [1, 2],
        "item": [10, 20],
        "behavior": ["click"] * 2,
        "time": [1600000000] * 2,
    }
    return parquet(**{**columns, **changed})


LARGE = HEADER + b"".join(b"%d,%d,click,1600000000\n" % (n, n * 7 % 1000) for n in range(20_000))
SHORT_PAIRS = {"click_train": b"1 10\n", "click_test": b"1 20\n"}

# name: (files, settings, text of the DataError)
UNREADABLE: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "no such path": ({}, {"path": "nowhere.csv"}, "no such file or folder"),
    "glob without a match": ({}, {"path": "*.csv"}, "holds no files"),
    "folder without files": ({"day/.hidden": b""}, {"path": "day"}, "holds no files"),
    "folder without known endings": (
        {"a.log": GOOD, "b.log": GOOD},
        {},
        r"a.log, b.log cannot be read as data.format = 'auto'.*\.ndjson",
    ),
    "unknown ending": ({"a.xlsx": b"x"}, {}, r"a.xlsx cannot be read.*set data.format"),
    "empty file": ({"a.csv": b""}, {}, r"holds no rows in 1 file"),
    "empty files": ({"a.csv": b"", "b.tsv": b"", "c.csv": HEADER}, {}, r"holds no rows in 3 file"),
    "blank lines only": ({"a.csv": b"\n  \n"}, {}, r"holds no rows in 1 file"),
    "very many blank lines": ({"a.csv": b"\n" * 70_000 + HEADER}, {}, "65536 bytes of blank lines"),
    "header only": ({"a.csv": HEADER}, {}, r"holds no rows in 1 file"),
    "empty NDJSON": ({"a.ndjson": b""}, {}, "holds no rows"),
    "empty Parquet": ({"a.parquet": b""}, {}, "a.parquet: cannot be read as parquet"),
    "missing column": (
        {"a.csv": b"user,itme,behavior,time\n" + GOOD},
        {},
        r"a.csv: no column 'item' among 'user', 'itme', .*did you mean 'itme'.*data.columns",
    ),
    "missing time column": (
        {"a.csv": b"user,item,behavior\n1,2,click\n"},
        {},
        "no column 'time'",
    ),
    "missing column in Parquet": (
        {"a.parquet": parquet(user=[1], item=[2], event=["click"], time=[1])},
        {},
        "a.parquet: no column 'behavior' among 'user', 'item', 'event'",
    ),
    "missing field in every NDJSON row": (
        {"a.ndjson": b'{"user": 1, "item": 2, "time": 5}\n' * 3},
        {},
        "a.ndjson: no column 'behavior'",
    ),
    "column named twice": (
        {"a.csv": b"user,item,item,behavior,time\n1,2,3,click,5\n"},
        {},
        "column 'item' is there twice",
    ),
    "wrong delimiter": (
        {"a.csv": (HEADER + GOOD).replace(b",", b";")},
        {},
        r"fields look separated by ';': set data.separator = ';'",
    ),
    "no header where one is expected": (
        {"a.csv": GOOD},
        {},
        r"the first line looks like data: set data.header = false",
    ),
    "truncated gzip": ({"a.csv.gz": gzip.compress(LARGE)[:-500]}, {}, "a.csv.gz: cannot be read"),
    "gzip with a wrong checksum": (
        {"a.csv.gz": gzip.compress(LARGE)[:-8] + b"\0" * 4 + gzip.compress(LARGE)[-4:]},
        {},
        "a.csv.gz: cannot be read",
    ),
    "truncated zstd": ({"a.csv.zst": zstd(LARGE)[:-500]}, {}, "a.csv.zst: cannot be read"),
    "truncated gzip NDJSON": (
        {"a.ndjson.gz": gzip.compress(JSON_GOOD * 50_000)[:-20]},
        {},
        "a.ndjson.gz: cannot be read",
    ),
    "truncated Parquet": ({"a.parquet": good_parquet()[:-30]}, {}, "a.parquet: cannot be read"),
    "damaged Parquet": (
        {"a.parquet": good_parquet()[:4] + b"\0" * 60 + good_parquet()[64:]},
        {},
        "a.parquet: cannot be read as parquet",
    ),
    "CSV under the name of Parquet": (
        {"a.parquet": HEADER + GOOD},
        {},
        "a.parquet: cannot be read as parquet.*set data.format",
    ),
    "Parquet under the name of CSV": (
        {"a.csv": good_parquet()},
        {},
        "a.csv: is a Parquet file; set data.format",
    ),
    "UTF-16": ({"a.csv": (HEADER + GOOD).decode().encode("utf-16")}, {}, "is UTF-16.*iconv"),
    "spreadsheet": ({"a.csv": b"PK\x03\x04rest"}, {}, "zip archive or a spreadsheet"),
    "binary": ({"a.csv": b"\x01\x02\0\0\xff" * 50}, {}, "holds zero bytes; it is binary"),
    "bzip2": ({"a.csv": b"BZh91AY&SY"}, {}, "bzip2-compressed; use gzip or zstd"),
    "CR line ends": ({"a.csv": (HEADER + GOOD).replace(b"\n", b"\r")}, {}, "CR alone"),
    "header in Latin-1": (
        {"a.csv": "user,item,behavior,time,prénom\n".encode("latin-1") + GOOD},
        {},
        "first line is not UTF-8.*iconv",
    ),
    "JSON array": ({"a.ndjson": b'[{"user": 1}]'}, {}, "is one JSON array; NDJSON has one object"),
    "nested id column in Parquet": (
        {"a.parquet": good_parquet(item=[[1], [2]])},
        {},
        r"column 'item' is List\(Int64\), integers or text is expected",
    ),
    "objects on one long line": (
        {"a.ndjson": JSON_GOOD.replace(b"\n", b" ") * 2_000},
        {},
        r"none of 1 rows is usable \(1 × not a JSON object\);.*; NDJSON has one JSON object a line",
    ),
    "CSV under the name of NDJSON": (
        {"a.ndjson": HEADER + GOOD},
        {},
        "a.ndjson: no JSON object on its first lines; the first is 'user,item,behavior,time'; ",
    ),
    "all rows bad": (
        {"a.csv": HEADER + b",10,click,1600000000\n1,,click,1600000000\n,3,buy,1\n"},
        {},
        r"none of 3 rows is usable \(2 × null user_id, 1 × null item_id\); the first is a.csv row",
    ),
    "all behaviors unknown": (
        {"a.csv": HEADER + b"1,10,pv,1600000000\n"},
        {},
        r"1 × unknown behavior.*'1,10,pv,1600000000'; unknown: 'pv' 1; name the log's values",
    ),
    "a file of a folder with other columns": (
        {"a.csv": HEADER + GOOD, "b.csv": b"user,product,behavior,time\n" + GOOD},
        {},
        "b.csv: no column 'item'",
    ),
    "pairs with another separator": (
        {"click_train": b"1\t10\n", "click_test": b"1\t20\n"},
        {"format": "pairs"},
        r"click_test: fields look separated by '\\t': set data.separator",
    ),
    "pairs without a test": (
        {"click_train": b"1 10\n", "buy_train": b"1 10\n"},
        {"format": "pairs", "path": ""},
        "no file for test among buy_train, click_train; .*BEHAVIOR_train",
    ),
    "lists without a test": (
        {"click.txt": b"1 10\n", "likes.txt": b"1 10\n"},
        {"format": "lists", "path": ""},
        "no file for test among click.txt, likes.txt; .*BEHAVIOR_train, BEHAVIOR, test",
    ),
    "no file of a behavior": (
        {"a.csv": HEADER + GOOD},
        {"behavior_by_file": {"b*": "buy"}},
        "a.csv match no pattern of data.behavior_by_file",
    ),
    "a behavior by file, an ending without format": (
        {"a.dat": HEADER + GOOD, "b.dat": HEADER + GOOD},
        {"behavior_by_file": {"a*": "buy", "b*": "click"}},
        "a.dat, b.dat cannot be read as data.format = 'auto'.*set data.format",
    ),
    "tables without train": (
        {"test.csv": HEADER + GOOD},
        {"format": "tables", "path": ""},
        "no file for train among test.csv",
    ),
    "two train tables": (
        {"train.csv": HEADER + GOOD, "train.parquet": good_parquet(), "test.csv": HEADER + GOOD},
        {"format": "tables"},
        "train.csv, train.parquet are all train; keep one",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_input(name: str, ingest_files: Callable[..., Any]) -> None:
    files, settings, message = UNREADABLE[name]
    with pytest.raises(DataError, match=message) as caught:
        ingest_files(files, **settings)
    assert caught.value.exit_code == 3


# name: (content after the header and before a good row, reasons of its rows in order, None: kept)
ROWS: dict[str, tuple[bytes, list[str | None]]] = {
    "null user": (b",10,click,1600000000\n", ["null user_id"]),
    "null item": (b"1,,click,1600000000\n", ["null item_id"]),
    "null behavior": (b"1,10,,1600000000\n", ["null behavior"]),
    "null words": (
        b"NULL,10,click,1\n1,NaN,click,1\n1,10,None,1\n",
        ["null user_id", "null item_id", "null behavior"],
    ),
    "blank id": (b"  ,10,click,1600000000\n", ["null user_id"]),
    "unknown behavior": (b"1,10,like,1600000000\n", ["unknown behavior"]),
    "behavior in capitals": (b"1,10,CLICK,1600000000\n", ["unknown behavior"]),
    "null timestamp": (b"1,10,click,\n", ["null timestamp"]),
    "text for a timestamp": (b"1,10,click,yesterday\n", ["unreadable timestamp"]),
    "impossible date": (b"1,10,click,2023-02-30\n", ["unreadable timestamp"]),
    "infinite timestamp": (b"1,10,click,inf\n", ["unreadable timestamp"]),
    "negative timestamp": (b"1,10,click,-5\n", ["timestamp before data.time_min"]),
    "future timestamp": (b"1,10,click,9999999999\n", ["timestamp after data.time_max"]),
    "future date": (b"1,10,click,2222-01-01\n", ["timestamp after data.time_max"]),
    "short row": (b"1,10,click\n", ["too few fields"]),
    "one field": (b"1\n", ["too few fields"]),
    "long row": (b"1,10,click,1600000000,x\n", ["too many fields"]),
    "separator at the end": (b"1,10,click,1600000000,\n", ["too many fields"]),
    "separators only": (b",,,\n", ["null user_id"]),
    "repeated header": (HEADER, ["repeated header"]),
    "blank lines are no rows": (b"\n   \n", []),
    "not UTF-8": (b"caf\xe9,10,click,1600000000\n", ["not UTF-8"]),
    "not UTF-8 in a behavior": (b"1,10,cli\xffck,1600000000\n", ["not UTF-8"]),
    "tab in an id": (b"1\t2,10,click,1600000000\n", ["control character in an id"]),
    "byte order mark of a file within": (
        "\ufeff1,10,click,5\n".encode(),
        ["control character in an id"],
    ),
    "space of no width": ("1,1\u200b0,click,5\n".encode(), ["control character in an id"]),
    "line break in an id": (b'"1\n2",10,click,1600000000\n', ["control character in an id"]),
    "unclosed quote": (b'1,"10,click,1600000000\n', ["broken quotes"]),
    "unclosed quote before good rows": (b'1,"10,click,1\n2,10,click,9\n', ["broken quotes", None]),
    "text behind a quote": (b'1,"10"x,click,1600000000\n', ["broken quotes"]),
    "all sorts": (
        b"1,2\n,3,buy,1\n1,2,buy,5\n1,2,3,4,5\n",
        ["too few fields", "null user_id", None, "too many fields"],
    ),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_refused_rows(name: str, ending: str, ingest_files: Callable[..., Any]) -> None:
    bad, reasons = ROWS[name]
    got = ingest_files({"a.csv": (HEADER + bad + GOOD).replace(b"\n", ending.encode())})
    assert got.refused() == [(row, reason) for row, reason in enumerate(reasons, 1) if reason]
    assert ("1", "10", "click") in [(str(u), str(i), b) for u, i, b in got.pairs()]
    counts = got.record.counts
    assert counts["in"] == len(reasons) + 1
    assert counts["in"] == counts["kept"] + counts["merged"] + counts["quarantined"]


def test_a_zero_byte_far_down_is_refused_alone(ingest_files: Callable[..., Any]) -> None:
    got = ingest_files({"a.csv": LARGE + b"1\x00,10,click,1600000000\n" + GOOD})
    assert got.refused() == [(20_001, "control character in an id")]


def test_by_default_a_time_that_stands_for_none_or_for_a_date_is_refused(
    ingest_files: Callable[..., Any],
) -> None:
    times = (b"1511539270", b"0", b"20171125", b"2017-11-25", b"1970-01-01")
    rows = b"".join(b"%d,1,click,%s\n" % row for row in enumerate(times))
    got = ingest_files({"a.csv": HEADER + rows}, time_min=DataConfig().time_min)
    assert got.refused() == [(n, "timestamp before data.time_min") for n in (2, 3, 5)]


def test_the_range_of_times_includes_its_ends(ingest_files: Callable[..., Any]) -> None:
    rows = b"".join(b"%d,1,click,%d\n" % (time, time) for time in (4, 5, 7, 8))
    got = ingest_files({"a.csv": HEADER + rows}, time_min=5, time_max=7)
    assert got.refused() == [
        (1, "timestamp before data.time_min"),
        (4, "timestamp after data.time_max"),
    ]


def test_row_numbers_are_right_far_down_a_file(ingest_files: Callable[..., Any]) -> None:
    """A row that is not UTF-8 is read apart."""
    spoiled = {7: b",1,click,5\n", 9_999: b"1,2,click\n", 15_000: b"1,2,click,-1\n"}
    lines = LARGE.splitlines(keepends=True)
    for row, line in spoiled.items():
        lines[row] = line
    expected = [
        (7, "null user_id"),
        (9_999, "too few fields"),
        (15_000, "timestamp before data.time_min"),
    ]
    assert ingest_files({"a.csv": b"".join(lines)}).refused() == expected
    lines[19_999] = b"\xff,1,click,5\n"
    got = ingest_files({"b.csv": b"".join(lines)})
    assert got.refused() == [*expected, (19_999, "not UTF-8")]
    assert got.quarantine["raw"].to_list()[1] == "1,2,click"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user": 1, "item": 2, "behavior":\n', "not a JSON object"),
        (b"5\n", "not a JSON object"),
        (b"null\n", "not a JSON object"),
        (b'{"user": 1} {"user": 2}\n', "not a JSON object"),
        (b'{"user": NaN, "item": 2, "behavior": "click", "time": 5}\n', "id is not a whole number"),
        (b'{"user": "\xff", "item": 2, "behavior": "click", "time": 5}\n', "not UTF-8"),
        (b'{"item": 2, "behavior": "click", "time": 5}\n', "null user_id"),
        (b'{"user": 1, "item": null, "behavior": "click", "time": 5}\n', "null item_id"),
        (
            b'{"user": 1, "item": [2], "behavior": "click", "time": 5}\n',
            "id is a list or an object",
        ),
        (
            b'{"user": {"id": 1}, "item": 2, "behavior": "click", "time": 5}\n',
            "id is a list or an object",
        ),
        (
            b'{"user": 12.5, "item": 2, "behavior": "click", "time": 5}\n',
            "id is not a whole number",
        ),
        (
            b'{"user": 1, "item": 1e400, "behavior": "click", "time": 5}\n',
            "id is not a whole number",
        ),
        (
            b'{"user": true, "item": 2, "behavior": "click", "time": 5}\n',
            "id is not a whole number",
        ),
        (
            b'{"user": "a\\nb", "item": 2, "behavior": "click", "time": 5}\n',
            "control character in an id",
        ),
        (
            b'{"user": 1, "item": 2, "behavior": "click", "time": -5}\n',
            "timestamp before data.time_min",
        ),
    ],
)
def test_refused_objects(line: bytes, reason: str, ingest_files: Callable[..., Any]) -> None:
    got = ingest_files({"a.ndjson": JSON_GOOD + line + b"\n" + JSON_GOOD})
    assert got.refused() == [(2, reason)]
    assert got.record.counts["in"] == 3
    assert got.pairs() == [(1, 10, "click")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"user": [None, 1]}, "null user_id"),
        ({"item": [None, 10]}, "null item_id"),
        ({"item": [float("nan"), 10.0]}, "null item_id"),
        ({"item": [1.5, 10.0]}, "id is not a whole number"),
        ({"item": [1e300, 10.0]}, "id is not a whole number"),
        ({"item": [2.0**53, 10.0]}, "id is not a whole number"),
        ({"behavior": ["like", "click"]}, "unknown behavior"),
        ({"time": [None, 5]}, "null timestamp"),
        ({"time": [-1, 5]}, "timestamp before data.time_min"),
    ],
)
def test_refused_parquet_rows(
    changed: dict[str, Any], reason: str, ingest_files: Callable[..., Any]
) -> None:
    got = ingest_files({"a.parquet": good_parquet(**changed)})
    assert got.refused() == [(1, reason)]
    assert got.interactions.height == 1
    assert got.quarantine["raw"][0].startswith('{"user":')


def test_pairs_with_more_or_fewer_fields(ingest_files: Callable[..., Any]) -> None:
    files = {
        "click_train": b"1 10\n1 2 3\n4\n\n5 6\n",
        "click_test": b"1 20\n",
        "like_test": b"1 1\n",
    }
    got = ingest_files(files, format="pairs")
    assert list(got.quarantine.drop("raw").iter_rows()) == [
        ("click_train", 2, "too many fields"),
        ("click_train", 3, "too few fields"),
        ("like_test", 1, "unknown behavior"),
    ]
    assert got.pairs() == [(1, 10, "click"), (1, 20, "click"), (5, 6, "click")]


def test_one_behavior_absent_is_left_to_the_contract(ingest_files: Callable[..., Any]) -> None:
    got = ingest_files({"a.csv": HEADER + GOOD})
    assert got.record.counts["per_behavior"] == {"click": 1, "buy": 0}


def test_ignored_behaviors_are_counted_apart(ingest_files: Callable[..., Any]) -> None:
    content = HEADER + b"1,,search,\n2,10,like,1600000000\n" + GOOD
    got = ingest_files({"a.csv": content}, ignore=["search"])
    assert got.refused() == [(1, "ignored behavior"), (2, "unknown behavior")]
    row = got.summary.row(0, named=True)
    assert (row["rows"], row["kept"], row["quarantined"], row["ignored"]) == (3, 1, 2, 1)
    assert row["quarantined_share"] == 0.5  # of the two rows that were meant to be used
