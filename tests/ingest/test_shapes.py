"""Logs as people have them: wide, nested, in partitions, with day and hour apart, in a zone."""

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.errors import ConfigError, DataError
from bigel.ingest import read
from bigel.ingest.ndjson import parse_objects
from bigel.ingest.wide import unpivot

Ingest = Callable[..., Any]
WIDE = {"click_at": "click", "buy_at": "buy"}
IDS = {"user": "user", "item": "item"}
OF_SEEN = {"user": "user", "item": "seen[].sku"}
WIDE_OF_SEEN = {"seen[].click": "click", "seen[].buy": "buy"}


def balanced(got: Any) -> bool:
    """Tell whether rows in = kept + merged + quarantined, in the books and in the files."""
    counts = got.record.counts
    stood_for = int(got.interactions["count"].sum())
    return (
        counts["in"] == counts["kept"] + counts["merged"] + counts["quarantined"]
        and counts["in"] == stood_for + got.quarantine.height
        and counts["kept"] == got.interactions.height
    )


def timed(got: Any) -> list[tuple[Any, ...]]:
    names = ("user_id", "item_id", "behavior", "first", "timestamp", "count")
    return list(got.interactions.select(names).iter_rows())


def ndjson(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


# --- a column for each behavior


def test_each_filled_cell_of_a_wide_table_is_an_event(ingest_files: Ingest) -> None:
    table = (
        b"user,item,click_at,buy_at\n"
        b"u1,i1,5,9\n"  # two events
        b"u1,i1,7,\n"  # the click again, later
        b"u2,i1,,\n"  # nothing happened
        b",i2,3,4\n"  # nobody: both cells are refused
        b"u3,i3,soon,NULL\n"  # one cell that cannot be read; NULL did not happen
        b"u4,i4\n"  # too short
    )
    got = ingest_files({"a.csv": table}, columns=IDS, wide=WIDE)
    assert timed(got) == [("u1", "i1", "click", 5, 7, 2), ("u1", "i1", "buy", 9, 9, 1)]
    assert got.refused() == [
        (3, "no behavior happened"),
        (4, "null user_id"),
        (4, "null user_id"),
        (5, "unreadable timestamp"),
        (6, "too few fields"),
    ]
    assert got.quarantine["raw"].to_list()[1] == ",i2,3,4"
    assert balanced(got)
    assert got.record.counts["in"] == 8
    lines = got.record.counts["lines"]
    assert lines["raw"] == lines["header"] + lines["blank"] + lines["inside"] + lines["rows"] == 7
    (ignored,) = got.summary["ignored"]
    assert ignored == 1  # that nothing happened is no fault of the log


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            pl.DataFrame({"click_at": [datetime(1970, 1, 1, 1)], "buy_at": [date(1970, 1, 2)]}),
            [3600, 86400],
        ),
        (pl.DataFrame({"click_at": [5], "buy_at": [7.9]}), [5, 7]),
        (pl.DataFrame({"click_at": ["5"], "buy_at": [None]}), [5]),
        (pl.DataFrame({"click_at": [float("nan")], "buy_at": [None, ][:1]}), []),
    ],
)  # fmt: skip
def test_wide_parquet_may_have_any_type_of_times(
    ingest_files: Ingest, frame: pl.DataFrame, expected: list[int]
) -> None:
    one = pl.DataFrame({"user": ["x"], "item": ["y"], "click_at": ["3"], "buy_at": ["3"]})
    rows = frame.with_columns(user=pl.lit("u"), item=pl.lit("i"))
    got = ingest_files(
        {"a.parquet": parquet(rows), "b.parquet": parquet(one)}, columns=IDS, wide=WIDE
    )
    assert [row[3] for row in timed(got) if row[0] == "u"] == expected and balanced(got)


def test_wide_times_of_types_that_do_not_mix_are_refused_by_name(ingest_files: Ingest) -> None:
    rows = pl.DataFrame(
        {"user": ["u"], "item": ["i"], "click_at": ["5"], "buy_at": [datetime(2026, 1, 1)]}
    )
    with pytest.raises(DataError, match=r"a.parquet: columns of data.wide .*click_at.*convert"):
        ingest_files({"a.parquet": parquet(rows)}, columns=IDS, wide=WIDE)


def test_a_cell_that_counts_stands_for_so_many_events(ingest_files: Ingest) -> None:
    table = (
        b"day,user,item,clicks,bought\n"
        b"2026-03-01,u1,i1,3,true\n"
        b"2026-03-02,u1,i1,2.0,0\n"
        b"2026-03-02,u2,i1,0,false\n"
        b"2026-03-02,u3,i1,-1,1.5\n"
        b"2026-03-02,u4,i1,1000001,1\n"
    )
    got = ingest_files(
        {"a.csv": table},
        columns=IDS | {"timestamp": "day"},
        wide={"clicks": "click", "bought": "buy"},
        wide_values="count",
    )
    found = got.interactions.select("user_id", "behavior", "count").rows()
    assert found == [("u1", "click", 5), ("u1", "buy", 1), ("u4", "buy", 1)]
    assert got.refused() == [
        (3, "no behavior happened"),
        (4, "unreadable count"),
        (4, "unreadable count"),
        (5, "unreadable count"),
    ]
    assert balanced(got) and got.record.counts["in"] == 5 + 1 + 1 + 4


@pytest.mark.parametrize("timestamp", [{"timestamp": "time"}, {"timestamp": ""}])
def test_a_row_may_say_how_many_events_it_stands_for(
    ingest_files: Ingest, timestamp: dict[str, str]
) -> None:
    table = (
        b"user,item,behavior,time,n\n"
        b"1,1,click,5,4\n1,1,click,9,1\n2,1,buy,7,0\n2,1,buy,7,\n2,1,buy,7,x\n2,1,buy,7,2\n"
    )
    got = ingest_files(
        {"a.csv": table, "b.csv": table[:40]}, columns=IDS | {"count": "n"} | timestamp
    )
    assert got.interactions["count"].to_list() == [4 + 1 + 4, 2]
    assert [reason for _, reason in got.refused()] == ["unreadable count"] * 3 and balanced(got)


# --- fields inside others


def test_dotted_names_are_fields_of_objects(ingest_files: Ingest) -> None:
    log = ndjson(
        {"userId": 7, "event": "click", "properties": {"product_id": "p1", "at": 5}},
        {"userId": 7, "event": "buy", "properties": {"product_id": 12.5, "at": 6}},
        {"userId": 7, "event": "buy", "properties": {"product_id": {"a": 1}, "at": 6}},
        {"userId": 7, "event": "buy", "properties": "none"},
        {"userId": 8, "event": "buy", "properties.product_id": "p2", "properties": {"at": 8}},
    )
    columns = {
        "user": "userId",
        "item": "properties.product_id",
        "behavior": "event",
        "timestamp": "properties.at",
    }
    got = ingest_files({"a.ndjson": log}, columns=columns)
    assert timed(got) == [(7, "p1", "click", 5, 5, 1), (8, "p2", "buy", 8, 8, 1)]
    assert got.refused() == [
        (2, "id is not a whole number"),
        (3, "id is a list or an object"),
        (4, "null item_id"),
    ]
    assert balanced(got)


NESTED = {
    "user": "user",
    "item": "ecommerce.items[].item_id",
    "behavior": "event",
    "timestamp": "at",
}
EVENTS: list[dict[str, Any]] = [
    {"user": 1, "event": "click", "at": 5, "ecommerce": {"items": [{"item_id": "a"}]}},
    {
        "user": 1,
        "event": "buy",
        "at": 9,
        "ecommerce": {"items": [{"item_id": "a"}, {"item_id": "b"}, {"item_id": "a"}]},
    },
    {"user": 2, "event": "buy", "at": 9, "ecommerce": {"items": []}},
    {"user": 2, "event": "buy", "at": 9, "ecommerce": None},
    {"user": 2, "event": "buy", "at": 9, "ecommerce": {"items": [{"item_id": "b"}, {}]}},
]


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_each_element_of_a_list_is_an_event(ingest_files: Ingest, form: str) -> None:
    content = ndjson(*EVENTS) if form == "ndjson" else parquet(pl.DataFrame(EVENTS))
    got = ingest_files({f"a.{form}": content}, columns=NESTED)
    assert timed(got) == [
        (1, "a", "click", 5, 5, 1),
        (1, "a", "buy", 9, 9, 2),
        (1, "b", "buy", 9, 9, 1),
        (2, "b", "buy", 9, 9, 1),
    ]
    assert got.refused() == [(3, "null item_id"), (4, "null item_id"), (5, "null item_id")]
    assert balanced(got) and got.record.counts["in"] == 1 + 3 + 1 + 1 + 2


def test_a_list_may_hold_ids_alone_and_what_is_no_list_is_refused(ingest_files: Ingest) -> None:
    log = ndjson(
        {"user": 1, "event": "buy", "at": 5, "items": [3, "4", None, [5]]},
        {"user": 1, "event": "buy", "at": 5, "items": 7},
        {"user": 1, "event": "buy", "at": 5},
        5,
    )
    got = ingest_files({"a.ndjson": log}, columns=NESTED | {"item": "items[]"})
    assert got.pairs() == [(1, 3, "buy"), (1, 4, "buy")]
    assert got.refused() == [
        (1, "null item_id"),
        (1, "id is a list or an object"),
        (2, "no list where items are listed"),
        (3, "null item_id"),
        (4, "not a JSON object"),
    ]
    assert balanced(got)


def test_a_field_that_is_nowhere_is_refused_with_what_is_there(ingest_files: Ingest) -> None:
    wrong = NESTED | {"item": "ecommerce.items[].itemid"}
    for form in ("ndjson", "parquet"):
        content = ndjson(*EVENTS) if form == "ndjson" else parquet(pl.DataFrame(EVENTS))
        with pytest.raises(DataError, match=r"itemid.*did you mean 'ecommerce.items\[\].item_id'"):
            ingest_files({f"a.{form}": content}, f"a.{form}", columns=wrong)
    flat = NESTED | {"item": "user[].id", "user": "at", "timestamp": ""}
    with pytest.raises(DataError, match="'user' is Int64, a list is expected"):
        ingest_files({"a.parquet": parquet(pl.DataFrame(EVENTS))}, "a.parquet", columns=flat)


SEEN: list[dict[str, Any]] = [
    {
        "user": 1,
        "seen": [
            {"sku": "a", "click": 5, "buy": 9},
            {"sku": "b", "click": 6, "buy": None},
            {"sku": "c", "click": None, "buy": None},  # nothing happened
            {"sku": None, "click": 7, "buy": 8},
        ],
    },
    {"user": 2, "seen": []},
    {"user": 3, "seen": [{"sku": "a", "click": None, "buy": None}] * 2},
]


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_wide_and_nested_go_together(ingest_files: Ingest, form: str) -> None:
    content = ndjson(*SEEN) if form == "ndjson" else parquet(pl.DataFrame(SEEN))
    got = ingest_files({f"a.{form}": content}, columns=OF_SEEN, wide=WIDE_OF_SEEN)
    assert got.pairs() == [(1, "a", "click"), (1, "a", "buy"), (1, "b", "click")]
    assert got.refused() == [
        (1, "no behavior happened"),
        *[(1, "null item_id")] * 2,
        (2, "no behavior happened"),
        *[(3, "no behavior happened")] * 2,
    ]
    assert balanced(got) and got.record.counts["in"] == 3 + 1 + 2 + 1 + 2


def test_a_refused_element_stays_beside_one_that_is_fine(ingest_files: Ingest) -> None:
    elements = [
        {"sku": "a", "click": 5, "buy": 9},
        {"sku": [1], "click": 6, "buy": 7},
        {"sku": "c"},
        {"sku": "d", "click": 8},
    ]
    got = ingest_files(
        {"a.ndjson": ndjson({"user": 1, "seen": elements})}, columns=OF_SEEN, wide=WIDE_OF_SEEN
    )
    assert got.pairs() == [(1, "a", "click"), (1, "a", "buy"), (1, "d", "click")]
    assert got.refused() == [(1, "id is a list or an object"), (1, "no behavior happened")]
    assert balanced(got) and got.record.counts["in"] == 2 + 1 + 1 + 1


def test_a_lost_element_is_told(ingest_files: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(rows: pl.DataFrame, data: Any) -> pl.DataFrame:
        return unpivot(rows[1:], data)

    monkeypatch.setattr(read, "unpivot", loses)
    for form in ("ndjson", "parquet"):
        content = ndjson(*SEEN) if form == "ndjson" else parquet(pl.DataFrame(SEEN))
        with pytest.raises(DataError, match="7 rows were read, but 6 kept"):
            ingest_files({f"a.{form}": content}, f"a.{form}", columns=OF_SEEN, wide=WIDE_OF_SEEN)


def test_a_lost_line_is_told_where_another_has_more_elements(
    ingest_files: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loses(*args: Any, **named: Any) -> pl.DataFrame:
        return parse_objects(*args, **named).filter(pl.col("row_number") != 2)

    monkeypatch.setattr(read, "parse_objects", loses)
    log = ndjson(*({"user": 1, "event": "buy", "at": 5, "items": ids} for ids in ([3, 4], [5])))
    with pytest.raises(DataError, match="2 rows were read, but 1 kept"):
        ingest_files({"a.ndjson": log}, columns=NESTED | {"item": "items[]"})


# --- partitions


def test_folders_give_the_day_and_the_behavior(ingest_files: Ingest) -> None:
    same = b"user,item\n1,1\n"
    files = {
        "event=click/dt=2026-11-28/a.csv": same,
        "event=click/dt=2026-11-29/a.csv": same,
        "event=add%20to%20cart/dt=2026-11-29/a.csv": same,
        "event=buy/dt=__HIVE_DEFAULT_PARTITION__/a.csv": b"user,item\n2,2\n",
        "event=buy/dt=2026-11-30/a.csv": b"user,item\n1,1\n",
    }
    got = ingest_files(
        files,
        path="",
        behaviors=["click", "cart", "buy"],
        rename={"add to cart": "cart"},
        columns=IDS | {"behavior": "event", "timestamp": "dt"},
    )
    days = [int(datetime(2026, 11, day, tzinfo=UTC).timestamp()) for day in (28, 29, 30)]
    assert timed(got) == [
        (1, 1, "click", days[0], days[1], 2),
        (1, 1, "cart", days[1], days[1], 1),
        (1, 1, "buy", days[2], days[2], 1),
    ]
    assert got.quarantine.select("source_file", "row_number", "reason").rows() == [
        ("event=buy/dt=__HIVE_DEFAULT_PARTITION__/a.csv", 1, "null timestamp")
    ]
    assert balanced(got)


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_days_of_folders_are_found_and_go_before_a_column_of_the_file(
    ingest_files: Ingest, form: str
) -> None:
    rows = pl.DataFrame({"user": [1], "item": [2], "behavior": ["buy"], "dt": ["1999-01-01"]})
    write = {"csv": rows.write_csv, "ndjson": rows.write_ndjson, "parquet": rows.write_parquet}
    stream = io.BytesIO()
    write[form](stream)
    name = f"year=2026/month=3/day=09/dt=2026-03-09/a.{form}"
    got = ingest_files({name: stream.getvalue()}, path="", columns=IDS)
    assert got.interactions["first"].to_list() == [
        int(datetime(2026, 3, 9, tzinfo=UTC).timestamp())
    ]
    bare = f"year=2026/month=3/day=09/a.{form}"
    columns = IDS | {"timestamp": "date"}
    without = ingest_files({bare: stream.getvalue()}, path=bare, columns=columns)
    assert timed(without) == timed(got)


# --- day and time of day


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (["0", "9", "23"], [0, 9 * 3600, 23 * 3600]),
        (["00:00:01", "9:30", "23:59:59.5"], [1, 34_200, 86_399]),
    ],
)
def test_day_and_time_of_day_together_are_the_time(
    ingest_files: Ingest, hours: list[str], expected: list[int]
) -> None:
    day = 1_772_323_200  # 2026-03-01
    frame = pl.DataFrame(
        {
            "user": [1, 2, 3],
            "item": 1,
            "behavior": "click",
            "day": "2026-03-01",
            "hour": hours,
        }
    )
    more = "4,1,click,2026-03-01,24\n5,1,click,2026-03-01,\n6,1,click,,3\n"
    columns = IDS | {"timestamp": "day", "time_of_day": "hour"}
    got = ingest_files({"a.csv": (frame.write_csv() + more).encode()}, columns=columns)
    assert got.interactions["first"].to_list() == [day + second for second in expected]
    assert got.refused() == [
        (4, "unreadable timestamp"),
        (5, "null timestamp"),
        (6, "null timestamp"),
    ]
    assert balanced(got)


def test_typed_days_and_times_of_day_are_read_alike(ingest_files: Ingest) -> None:
    columns = IDS | {"timestamp": "day", "time_of_day": "hour"}
    for name, days, hours in (
        ("a", [date(2026, 3, 1)], [time(9, 30, 5)]),
        ("b", [datetime(2026, 3, 1)], [time(9, 30, 5)]),
        ("c", ["2026-03-01"], ["09:30:05"]),
    ):
        frame = pl.DataFrame({"user": 1, "item": 1, "behavior": "buy", "day": days, "hour": hours})
        got = ingest_files({f"{name}.parquet": parquet(frame)}, f"{name}.parquet", columns=columns)
        assert got.interactions["first"].to_list() == [1_772_323_200 + 34_205]
    number = pl.DataFrame(
        {"user": 1, "item": 1, "behavior": "buy", "day": [1_772_323_200], "hour": [9.0]}
    )
    got = ingest_files({"d.parquet": parquet(number)}, "d.parquet", columns=columns)
    assert got.interactions["first"].to_list() == [1_772_323_200 + 9 * 3600]


# --- zones


def at(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp())


LOCAL = {  # in Berlin, and then in UTC
    "2026-01-10 12:00:00": "2026-01-10 11:00:00",
    "2026-07-10 12:00:00": "2026-07-10 10:00:00",
    "2026-07-10": "2026-07-09 22:00:00",
    "2026-03-29 02:30:00": "2026-03-29 01:30:00",  # no clock shows it
    "2026-10-25 02:30:00": "2026-10-25 00:30:00",  # clocks show it twice
    "2026-07-10T12:00:00Z": "2026-07-10 12:00:00",
    "2026-07-10 12:00:00+05:30": "2026-07-10 06:30:00",
    str(at("2026-07-10 12:00:00")): "2026-07-10 12:00:00",
}


@pytest.mark.parametrize("local", LOCAL)
def test_times_that_name_no_zone_are_of_the_zone_of_the_log(
    ingest_files: Ingest, local: str
) -> None:
    log = f"user,item,behavior,time\n1,1,click,{local}\n".encode()
    got = ingest_files({"a.csv": log}, zone="Europe/Berlin")
    assert got.interactions["first"].to_list() == [at(LOCAL[local])]


def test_days_whose_midnight_no_clock_shows_are_kept(ingest_files: Ingest) -> None:
    log = b"user,item,behavior,time,h\n1,1,click,2026-09-06,\n"  # Chile puts clocks forward at 0:00
    got = ingest_files({"a.csv": log}, zone="America/Santiago")
    assert got.interactions["first"].to_list() == [at("2026-09-06 04:00:00")]
    hours = b"user,item,behavior,time,h\n1,1,click,2026-09-06,5\n1,2,click,2026-09-05,5\n"
    columns = IDS | {"timestamp": "time", "time_of_day": "h"}
    got = ingest_files({"b.csv": hours}, "b.csv", zone="America/Santiago", columns=columns)
    assert got.interactions["first"].to_list() == [at("2026-09-06 08:00"), at("2026-09-05 09:00")]


def test_typed_times_and_stated_formats_are_of_the_zone_too(ingest_files: Ingest) -> None:
    naive = datetime(2026, 7, 10, 12)
    frame = pl.DataFrame({"user": 1, "item": 1, "behavior": "buy", "time": [naive]})
    aware = frame.with_columns(pl.col("time").dt.replace_time_zone("Asia/Tokyo"))
    for name, rows, expected in (
        ("a", frame, "2026-07-10 10:00:00"),
        ("b", aware, "2026-07-10 03:00:00"),
        ("c", frame.with_columns(pl.col("time").cast(pl.Date)), "2026-07-09 22:00:00"),
    ):
        path = f"{name}.parquet"
        got = ingest_files({path: parquet(rows)}, path, zone="Europe/Berlin")
        assert got.interactions["first"].to_list() == [at(expected)]
    log = b"user,item,behavior,time\n1,1,click,10/07/2026 12:00\n"
    got = ingest_files({"d.csv": log}, "d.csv", zone="Europe/Berlin", time_format="%d/%m/%Y %H:%M")
    assert got.interactions["first"].to_list() == [at("2026-07-10 10:00:00")]


# --- the same log in every shape

EVENT = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from(["click", "buy"]))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(EVENT, st.integers(1, 9), min_size=1, max_size=12))
def test_every_shape_of_a_log_gives_the_same_interactions(
    ingest_files: Ingest, events: dict[tuple[int, int, str], int]
) -> None:
    long = [(u, i, b, day * 86_400) for (u, i, b), day in events.items()]
    plain = pl.DataFrame(long, schema=["user", "item", "behavior", "time"], orient="row")
    wide = plain.pivot("behavior", index=["user", "item"], values="time", sort_columns=True)
    cells = {name: name for name in wide.columns if name in ("click", "buy")}
    baskets = plain.group_by("user", "behavior", "time").agg(pl.struct(sku="item").alias("items"))
    expected = timed(ingest_files({"p/a.csv": plain.write_csv().encode()}, "p/a.csv"))
    nested = {"user": "user", "item": "items[].sku", "timestamp": "time"}
    found = [
        ingest_files({"w/a.csv": wide.write_csv().encode()}, "w/a.csv", columns=IDS, wide=cells),
        ingest_files({"w/a.parquet": parquet(wide)}, "w/a.parquet", columns=IDS, wide=cells),
        ingest_files({"n/a.ndjson": baskets.write_ndjson().encode()}, "n/a.ndjson", columns=nested),
        ingest_files({"n/a.parquet": parquet(baskets)}, "n/a.parquet", columns=nested),
    ]
    for got in found:
        assert timed(got) == expected and balanced(got)


# --- settings


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"wide": {"at": "bye"}}, r"wide.at = 'bye' is neither .*did you mean 'buy'"),
        ({"wide": {"user_id": "buy"}}, "wide.user_id: columns names it too"),
        ({"wide": WIDE, "columns": {"timestamp": "t"}}, "leave columns.timestamp out"),
        ({"wide": WIDE, "columns": {"count": "n"}}, "leave columns.count out"),
        ({"wide": WIDE, "behavior_by_file": {"*": "buy"}}, "leave one out"),
        ({"wide": WIDE, "format": "pairs"}, "reads tables and NDJSON"),
        ({"columns": {"time_of_day": "h"}}, "name it in timestamp"),
        ({"columns": {"user": "a[].u", "item": "b[].i"}}, "by one list only"),
        ({"columns": {"item": "a[].b[].i"}}, "by one list only"),
        ({"columns": {"count": "n"}, "format": "tables"}, "has no counts"),
        ({"zone": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
    ],
)
def test_shapes_that_contradict_themselves_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config({"data": {"path": "log.csv", "behaviors": ["click", "buy"], **wrong}})
