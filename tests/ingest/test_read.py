"""What is read well: every format, and every kind of id."""

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.ingest.refusals import _judge_each, judge

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
# What a quick look at whole columns might take for something else than the rules do.
VALUE = st.sampled_from(
    ["1", "0", "42", "007", "+8", "-5", "-0", " 7", "7 ", "1_0", "1e3", "9" * 20, "", "null", "é"]
)
KIND = st.sampled_from(["click", "buy", " click", "click ", "Click", "off", "9", "", "null"])
TIME = st.sampled_from(["5", "5.9", " 5", "-5", "1e3", "9000000000000", "soon", "", "null", "nan"])


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.tuples(VALUE, VALUE, KIND, TIME), min_size=1, max_size=12),
    good=st.integers(0, 40),
    options=st.sampled_from(
        [
            {},
            {"null_values": ["1", "5", "x"]},
            {"ignore": ["buy"]},
            {"time_unit": "s"},
            {"ids": "integer"},
        ]
    ),
    header=st.booleans(),
)
def test_a_quick_look_at_whole_columns_gives_what_the_rules_give_row_by_row(
    values: list[tuple[str, ...]], good: int, options: dict[str, Any], header: bool
) -> None:
    data = DataConfig(
        columns={"user": "user", "item": "item", "timestamp": "time"},
        behaviors=("click", "buy", "9"), time_min=0, time_max=10**9, **options,
    )  # fmt: skip
    values = [("3", "4", "click", "6")] * good + values
    names = ["user_id", "item_id", "behavior", "timestamp"]
    rows = pl.DataFrame(values, dict.fromkeys(names, pl.String), orient="row").with_columns(
        pl.lit(None, pl.String).alias("problem"), pl.lit("raw").alias("raw"),
    ).with_row_index("row_number", 1).cast({"row_number": pl.Int64})  # fmt: skip

    def plain(frames: list[pl.DataFrame]) -> list[Any]:
        text = [one.with_columns(pl.col("user_id", "item_id").cast(pl.String)) for one in frames]
        return pl.concat(text).sort("row_number").drop("raw").rows()

    each, found = plain([_judge_each(rows, data, header)]), plain(judge(rows, data, header))
    assert [row[0] for row in found] == list(range(1, len(values) + 1))
    assert found == each


def test_long_fields_in_quotes_are_read(ingest_files: Callable[..., Any]) -> None:
    long = "x" * 140_000
    lines = ["1,2,click,5,a", f'1,2,click,5,"{long}"', f'1,2,click,5,"{long},"', "1,2,click,6,b"]
    content = "\n".join(["user,item,behavior,time,title", *lines]).encode()
    assert ingest_files({"a.csv": content}).interactions["count"].to_list() == [4]


@pytest.mark.parametrize("title", ["new shoe", "new, red shoe", 'the ""shoe""'])
@pytest.mark.parametrize("quoted", ["title", "user,title", "item,time,title", "behavior,title"])
def test_quotes_may_stand_around_any_field(
    title: str, quoted: str, ingest_files: Callable[..., Any]
) -> None:
    fields = {"user": "3", "item": "4", "behavior": "click", "time": "6", "title": title}
    row = ",".join(f'"{text}"' if name in quoted else text for name, text in fields.items())
    got = ingest_files({"a.csv": "\n".join([",".join(fields), *[row] * 50]).encode()})
    assert got.interactions.rows() == [(3, 4, "click", 6, 6, 50)]
