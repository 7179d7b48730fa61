"""What is read well: every format, every kind of id, and two readers that agree."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.ingest import careful, pieces
from bigel.ingest.clean import classify
from bigel.ingest.head import Layout
from bigel.ingest.read import read_rows
from bigel.ingest.sources import Source
from bigel.ingest.text import Reader
from tests.ingest.reference import judged, read_carefully, read_text

ROWS = [("u1", "i1", "click", 5), ("u1", "i1", "click", 9), ("u2", "i1", "buy", 7)]
CSV = b"user,item,behavior,time\n" + b"".join(
    b"%s,%s,%s,%d\n" % (u.encode(), i.encode(), b.encode(), t) for u, i, b, t in ROWS
)
FRAME = pl.DataFrame(ROWS, schema=["user", "item", "behavior", "time"], orient="row")
MERGED = [("u1", "i1", "click", 5, 9, 2), ("u2", "i1", "buy", 7, 7, 1)]


def binary(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def quoted(separator: str) -> bytes:
    return binary(lambda s: FRAME.write_csv(s, quote_style="always", separator=separator))


FORMATS: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "CSV": ({"a.csv": CSV}, {}),
    "without a last line end": ({"a.csv": CSV[:-1]}, {}),
    "CRLF": ({"a.csv": CSV.replace(b"\n", b"\r\n")}, {}),
    "BOM": ({"a.csv": b"\xef\xbb\xbf" + CSV}, {}),
    "quotes around all": ({"a.csv": quoted(",")}, {}),
    "quotes around all, TSV": ({"a.tsv": quoted("\t")}, {}),
    "quotes around all, |": ({"a.csv": quoted("|")}, {"separator": "|"}),
    "quotes around all, ^": ({"a.csv": quoted("^")}, {"separator": "^"}),
    "quotes around all, ]": ({"a.csv": quoted("]")}, {"separator": "]"}),
    "spaces around fields": ({"a.csv": CSV.replace(b",", b" ,  ")}, {}),
    "spaces before quotes": ({"a.csv": quoted(",").replace(b",", b", ")}, {}),
    "TSV": ({"a.tsv": CSV.replace(b",", b"\t")}, {}),
    "semicolons": ({"a.csv": CSV.replace(b",", b";")}, {"separator": ";"}),
    "gzip": ({"a.csv.gz": gzip.compress(CSV)}, {}),
    "two gzip members": ({"a.csv.gz": gzip.compress(CSV[:60]) + gzip.compress(CSV[60:])}, {}),
    "zstd": ({"a.csv.zst": pa.compress(CSV, "zstd", asbytes=True)}, {}),
    "gzip under a plain name": ({"a.csv": gzip.compress(CSV)}, {}),
    "no header": (
        {"a.csv": b"\xef\xbb\xbf" + CSV.partition(b"\n")[2]},
        {
            "header": False,
            "columns": {
                "user": "column_1",
                "item": "column_2",
                "behavior": "column_3",
                "timestamp": "column_4",
            },
        },
    ),
    "Parquet": ({"a.parquet": binary(FRAME.write_parquet)}, {}),
    "Parquet with categories": (
        {
            "a.parquet": binary(
                FRAME.with_columns(pl.col(pl.String).cast(pl.Categorical)).write_parquet
            )
        },
        {},
    ),
    "Parquet with dates and times": (
        {"a.parquet": binary(FRAME.with_columns(pl.from_epoch("time")).write_parquet)},
        {},
    ),
    "NDJSON": ({"a.ndjson": binary(FRAME.write_ndjson)}, {}),
    "NDJSON with a BOM": ({"a.jsonl": b"\xef\xbb\xbf" + binary(FRAME.write_ndjson)}, {}),
    "NDJSON gzip": ({"a.jsonl.gz": gzip.compress(binary(FRAME.write_ndjson))}, {}),
    "NDJSON zstd": (
        {"a.ndjson.zst": pa.compress(binary(FRAME.write_ndjson), "zstd", asbytes=True)},
        {},
    ),
    "NDJSON under a name like a glob": ({"a[1].ndjson": binary(FRAME.write_ndjson)}, {}),
    "CSV under a name like a glob": ({"a[1].csv": CSV}, {}),
    "columns in another order, with others": (
        {
            "a.csv": binary(
                FRAME.select(
                    "time", pl.lit("x").alias("page"), "behavior", "item", "user"
                ).write_csv
            )
        },
        {},
    ),
    "commas and line breaks in another column": (
        {"a.csv": binary(FRAME.with_columns(pl.lit('a, "b"\nc').alias("title")).write_csv)},
        {},
    ),
    "a folder of several formats and orders": (
        {
            "a.csv": CSV.partition(b"\n")[0] + b"\nu1,i1,click,5\n",
            "b.ndjson": binary(FRAME[1:2].write_ndjson),
            "c.parquet": binary(FRAME[2:].select("time", "item", "user", "behavior").write_parquet),
        },
        {},
    ),
    "behaviors by file": (
        {
            "click.csv": b"time,user,item\n5,u1,i1\n9,u1,i1\n",
            "buy.parquet": binary(FRAME[2:].drop("behavior").write_parquet),
        },
        {"behavior_by_file": {"click*": "click", "buy*": "buy"}},
    ),
    "behaviors by file, NDJSON, with an old column": (
        {"1.ndjson": binary(FRAME[:2].write_ndjson), "2.ndjson": binary(FRAME[2:].write_ndjson)},
        {"behavior_by_file": {"1*": "pv", "2*": "buy"}, "rename": {"pv": "click"}},
    ),
    "a stated time format": (
        {"a.csv": binary(FRAME.with_columns(pl.format("19700101:00000{}", "time")).write_csv)},
        {"time_format": "%Y%m%d:%H%M%S"},
    ),
    "typed names, as RecBole writes them": (
        {
            "a.inter": binary(
                lambda s: FRAME.rename({"user": "user:token", "time": "time:float"}).write_csv(
                    s, separator="\t"
                )
            )
        },
        {"columns": {"user": "user:token", "item": "item", "timestamp": "time:float"}},
    ),
    "renamed behaviors": (
        {"a.csv": CSV.replace(b"click", b"pv").replace(b"buy", b"4")},
        {"rename": {"pv": "click", "4": "buy"}},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same(name: str, ingest_files: Callable[..., Any]) -> None:
    files, data = FORMATS[name]
    got = ingest_files(files, **data)
    assert list(got.interactions.iter_rows()) == MERGED
    assert got.interactions.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "behavior": pl.String,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }
    assert got.quarantine.height == 0
    counts = got.record.counts
    assert (counts["in"], counts["kept"], counts["merged"], counts["quarantined"]) == (3, 2, 1, 0)


IDS: dict[str, tuple[list[str], list[Any]]] = {
    "integers": (["3", "-5", "10"], [-5, 3, 10]),
    "the ends of int64": ([str(2**63 - 1), str(-(2**63))], [-(2**63), 2**63 - 1]),
    "beyond int64": ([str(2**63), "7"], ["7", str(2**63)]),
    "leading zeros": (["007", "8"], ["007", "8"]),
    "a sign": (["+7", "8"], ["+7", "8"]),
    "minus zero": (["-0", "8"], ["-0", "8"]),
    "like floats": (["12.0", "13"], [12, 13]),
    "no floats": (["v1.0", "1.0.0", "1.5"], ["1.0.0", "1.5", "v1.0"]),
    "mixed types": (["12", "a"], ["12", "a"]),
    "white space around": ([" 12 ", "13\t"], [12, 13]),
    "white space inside": (["a b", "a  b"], ["a  b", "a b"]),
    "other scripts": (["ключ", "日本", "é"], ["é", "ключ", "日本"]),
    "an apostrophe": (["o'hara", "x"], ["o'hara", "x"]),
}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_ids_are_kept_as_given_but_for_whole_numbers_written_as_floats(
    name: str, form: str, ingest_files: Callable[..., Any]
) -> None:
    given_ids, kept = IDS[name]
    frame = pl.DataFrame({"user": given_ids, "item": 1, "behavior": "click", "time": 1})
    content = binary(getattr(frame, f"write_{form}"))
    users = ingest_files({f"a.{form}": content}).interactions["user_id"]
    assert users.to_list() == kept
    assert users.dtype == (pl.Int64 if isinstance(kept[0], int) else pl.String)


def test_whole_floats_of_parquet_and_json_are_integers(ingest_files: Callable[..., Any]) -> None:
    frame = pl.DataFrame({"user": [1.0, None], "item": [2.0, 3.0], "behavior": "click", "time": 1})
    for name, write in {"a.parquet": frame.write_parquet, "a.ndjson": frame.write_ndjson}.items():
        got = ingest_files({name: binary(write)})
        assert got.pairs() == [(1, 2, "click")]
        assert got.interactions["user_id"].dtype == pl.Int64


def test_texts_of_json_that_look_like_other_values_are_ids(
    ingest_files: Callable[..., Any],
) -> None:
    rows = [{"user": "12.5", "item": 1}, {"user": "true", "item": 2.0}, {"user": 1.5, "item": 3}]
    lines = [json.dumps(row | {"behavior": "click", "time": 1}).encode() for row in rows]
    got = ingest_files({"a.ndjson": b"\n".join(lines)})
    assert got.pairs() == [("12.5", 1, "click"), ("true", 2, "click")]
    assert got.refused() == [(3, "id is not a whole number")]


def test_rows_of_other_widths_at_the_start_cost_only_themselves(
    ingest_files: Callable[..., Any],
) -> None:
    rows = b"1,2,click\ncaf\xe9,2,click,5\n1,2,click,5,6\n" + b"1,2,click,5\n" * 3
    got = ingest_files({"a.csv": rows}, header=False, columns=NUMBERED)
    assert got.refused() == [(1, "too few fields"), (2, "not UTF-8"), (3, "too many fields")]
    assert got.pairs() == [(1, 2, "click")]


def test_quoted_ids_may_hold_separators(ingest_files: Callable[..., Any]) -> None:
    got = ingest_files({"a.csv": b'user,item,behavior,time\n"a,b","say ""x""",click,1\n'})
    assert got.pairs() == [("a,b", 'say "x"', "click")]


def test_a_log_without_times_has_no_timestamp(ingest_files: Callable[..., Any]) -> None:
    columns = {"user": "user", "item": "item", "timestamp": ""}
    got = ingest_files({"a.csv": CSV}, columns=columns)
    assert got.interactions.columns == ["user_id", "item_id", "behavior", "count"]


def test_files_of_a_folder_may_differ_in_id_type_and_some_may_be_empty(
    ingest_files: Callable[..., Any],
) -> None:
    got = ingest_files(
        {
            "a.parquet": binary(FRAME.with_columns(user=pl.lit(7), item=pl.lit(8)).write_parquet),
            "b.csv": CSV,
            "c.csv": CSV.partition(b"\n")[0] + b"\n",
            "d.csv": b"",
            "e.csv.gz": gzip.compress(b""),
            "f.ndjson": b"",
        }
    )
    assert got.interactions["user_id"].to_list() == ["7", "7", "u1", "u2"]
    assert got.summary["rows"].to_list() == [3, 3, 0, 0, 0, 0]


NUMBERED = {
    "user": "column_1",
    "item": "column_2",
    "behavior": "column_3",
    "timestamp": "column_4",
}
FIELD = st.text('ab", \t7é', max_size=4)
LINE = st.lists(FIELD, min_size=1, max_size=5).map(",".join)


# Whole rows that a quick parse might take for others than the exact rules do.
VALUE = st.sampled_from(
    ["1", "0", "42", "007", "+8", "-5", "-0", " 7", "7 ", "1_0", "1e3", "9" * 20, "", "null", "é"]
)
KIND = st.sampled_from(["click", "buy", " click", "click ", "Click", "off", "9", "", "null"])
TIME = st.sampled_from(["5", "5.9", " 5", "-5", "1e3", "9000000000000", "soon", "", "null", "nan"])
END = st.sampled_from(["", "", "", "", ",", ",1", ",,", "\r", " ", ",\x07"])
ROW = st.tuples(VALUE, VALUE, KIND, TIME, END).map(lambda r: ",".join(r[:4]) + r[4])
GOOD = st.just("1,2,click,5")


@settings(max_examples=120, deadline=None)
@given(
    lines=st.lists(GOOD | LINE, max_size=8) | st.lists(GOOD | ROW, max_size=12),
    good=st.integers(0, 60),
    piece=st.sampled_from([1, 30, 300, 1 << 24]),
    options=st.sampled_from(
        [
            {},
            {"null_values": ["1", "x"]},
            {"ignore": ["buy"]},
            {"time_unit": "s"},
            {"header": False},
        ]
    ),
)
def test_the_two_readers_agree(
    lines: list[str], good: int, piece: int, options: dict[str, Any], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "agree.csv"
    lines = ["3,4,click,6"] * good + lines  # few rows in doubt, or many
    header = [] if options.get("header") is False else ["user,item,behavior,time"]
    path.write_bytes("\n".join([*header, *lines]).encode())
    source = Source(path, path.name, "csv")
    names = NUMBERED if not header else {"user": "user", "item": "item", "timestamp": "time"}
    data = DataConfig(
        columns=names, behaviors=("click", "buy", "9"), time_min=0, time_max=10**9, **options
    )
    if not header and (not lines or lines[0] != "3,4,click,6"):
        return
    slow = read_carefully(source, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece)
        quick = list(read_rows(source, data))
    assert bool(quick) == bool(slow)
    if quick:
        assert judged(quick) == judged(slow)


@pytest.mark.parametrize(
    "odd",
    [
        ["007,2,click,5", "+8,2,click,5", "2,007,buy,5", " 7,2,buy,5", "1_0,2,buy,5"],  # ids
        ["1,2,click,5,1", "1,2,click", "1,2,click,5,", "9,8,buy,7"],  # number of fields
        ["", "1,2,off,5", "  ", "", "5,6,buy,7", "1,,buy,7"],  # numbers of rows after blank lines
        ["1,2,click,-5", "1,2,click,9000000000000", "1,2,click,soon", "1,2,click,5.9"],  # times
    ],
)
@pytest.mark.parametrize("piece", [1, 30, 1 << 24])
def test_the_quick_parse_leaves_odd_rows_to_the_exact_rules(
    odd: list[str], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ["3,4,click,6"] * 30
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user,item,behavior,time", *good, *odd, *good]))
    names = {"user": "user", "item": "item", "timestamp": "time"}
    data = DataConfig(columns=names, behaviors=("click", "buy", "9"), time_min=0, time_max=10**9)
    source = Source(path, path.name, "csv")
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
    quick = judged(list(read_rows(source, data)))
    assert quick == judged(read_carefully(source, data))
    assert len(quick) == 60 + sum(1 for line in odd if line.strip())


# Lines that cannot be split at every separator, or look so, and what may open or close one.
ODD = st.sampled_from(
    [
        b'1,"2",click,5', b'"1","2","click","5"', b'1,"2,3",click,5', b'1,"say ""x""",click,5',
        b'1,"2', b'3",click,5', b'1,2,click,"5', b'"', b'""', b'"",""', b'"1""', b'1,2,click,5"',
        b'1\r,"2",click,5', b'1\r,"2,3",click,5',
        b'x"y,2,click,5', b'"1"x,2,click,5', b' "1", "2",click,5', b'1,"2"\r', b'"1\r",2,click,5',
        b"caf\xe9,2,click,5", b'1,"2\xff', b"\xff", b"\xef\xbf\xbd,2,click,5", b"\xc3,2,click,5",
        b"1,2,click,5,", b"1,2,off,5", b"off,off,off,off", b"", b" \r", b"\xef\xbb\xbf1,2,click,5",
    ]
)  # fmt: skip
HEADERS = st.sampled_from(
    [
        b"user,item,behavior,time",
        b'"user",item,behavior,"time"',
        b'\n \n "user",item,behavior,time\r',
        b'user,item,behavior,time,"a, b"',
        b'"user\nof us",item,behavior,time',
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    header=HEADERS,
    lines=st.lists(ODD | st.just(b"3,4,click,6"), max_size=14),
    good=st.integers(0, 40),
    end=st.sampled_from([b"", b"\n", b"\r\n"]),
    piece=st.sampled_from([1, 7, 30, 90, 300, 1 << 24]),
    most=st.sampled_from([1, 2, 100]),
)
def test_the_two_readers_agree_on_odd_lines(
    header: bytes,
    lines: list[bytes],
    good: int,
    end: bytes,
    piece: int,
    most: int,
    tmp_path_factory: Any,
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.csv"
    path.write_bytes(b"\n".join([header, *[b"3,4,click,6"] * good, *lines]) + end)
    source = Source(path, path.name, "csv")
    names = {"user": "user", "item": "item", "timestamp": "time"}
    data = DataConfig(columns=names, behaviors=("click", "buy"), ignore=("off",), time_min=0)
    layout = Layout(
        separator=",",
        width=5 if b"a, b" in header else 4,
        columns={"user_id": 0, "item_id": 1, "behavior": 2, "timestamp": 3},
        header=True,
        quoting=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece)
        patch.setattr(pieces, "MAX_LINES", most)
        patch.setattr(careful, "MAX_LINES", most)
        quick = list(Reader(source, layout, data).read())
        slow = classify(read_text(source, layout).lazy(), data, header=True).collect()
    assert bool(quick) == bool(slow.height)
    if quick:
        assert judged(quick) == judged([slow])


def certain_and_judged(path: Path, data: DataConfig) -> tuple[int, list[Any]]:
    """Read quickly, as carefully must; return how many rows needed no exact rules."""
    source = Source(path, path.name, "csv")
    frames = list(read_rows(source, data))
    assert judged(frames) == judged(read_carefully(source, data))
    quick = [frame.height for frame in frames if frame.schema["user_id"] == pl.Int64]
    return sum(quick), judged(frames)


@pytest.mark.parametrize(
    "odd",
    [b'5,"6,7",click,8', b'5,"6\n7",click,8', b'5,"6', b"caf\xe9,6,click,8", b'x"y,6,click,8'],
)
@pytest.mark.parametrize("piece", [200, 1 << 24])
def test_an_odd_line_costs_only_itself_the_quick_parse(
    odd: bytes, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv"
    good = [b"3,4,click,6"] * 300
    path.write_bytes(b"\n".join([b"user,item,behavior,time", *good, odd, *good, odd, *good]))
    names = {"user": "user", "item": "item", "timestamp": "time"}
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
    certain, _ = certain_and_judged(path, DataConfig(columns=names, time_min=0))
    assert certain == 900


def test_a_field_too_long_for_the_standard_parser_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    long = "x" * 140_000
    lines = ["1,2,click,5,a", f'1,2,click,5,"{long}"', f'1,2,click,5,"{long},"', "1,2,click,6,b"]
    path.write_text("\n".join(["user,item,behavior,time,title", *lines]))
    names = {"user": "user", "item": "item", "timestamp": "time"}
    certain, rows = certain_and_judged(path, DataConfig(columns=names, time_min=0))
    assert certain == 2
    assert [row[1] for row in rows[:2]] == ["broken quotes"] * 2


@pytest.mark.parametrize("share", [5, 2])
def test_rows_left_out_on_purpose_leave_the_others_certain(share: int, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    kinds = ["off" if row % share == 0 else "click" for row in range(100)]
    path.write_text("\n".join(["user,item,behavior,time", *(f"3,4,{kind},6" for kind in kinds)]))
    names = {"user": "user", "item": "item", "timestamp": "time"}
    certain, rows = certain_and_judged(path, DataConfig(columns=names, ignore=("off",), time_min=0))
    assert certain == kinds.count("click")
    assert [row[1] for row in rows].count("ignored behavior") == kinds.count("off")


@pytest.mark.parametrize("title", ["new shoe", "new, red shoe", 'the ""shoe""'])
@pytest.mark.parametrize("quoted", ["title", "user,title", "item,time,title", "behavior,title"])
def test_quotes_around_whole_fields_leave_rows_certain(
    title: str, quoted: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    fields = {"user": "3", "item": "4", "behavior": "click", "time": "6", "title": title}
    row = ",".join(f'"{text}"' if name in quoted else text for name, text in fields.items())
    path.write_text("\n".join([",".join(fields), *[row] * 50]))
    names = {"user": "user", "item": "item", "timestamp": "time"}
    certain, _ = certain_and_judged(path, DataConfig(columns=names, time_min=0))
    assert certain == 50


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(st.lists(st.text('ab", 7é\n;', max_size=4), min_size=4, max_size=4), max_size=6)
)
def test_the_careful_reader_is_the_standard_one_on_well_formed_text(
    rows: list[list[str]], tmp_path_factory: Any
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "standard.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
            [["user", "item", "behavior", "time"], *rows]
        )
    source = Source(path, path.name, "csv")
    layout = Layout(
        separator=",",
        width=4,
        columns={"user_id": 0, "item_id": 1, "behavior": 2, "timestamp": 3},
        header=True,
        quoting=True,
    )
    got = [row[1:5] for row in read_text(source, layout).rows()]
    assert got == [tuple(row) for row in rows]
