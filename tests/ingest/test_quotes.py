"""Quotes that mean nothing swallow no rows, and quotes around fields are none of an id."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.errors import ConfigError

Ingest = Callable[..., Any]
HEADER = "user\titem\tbehavior\ttime\ttitle\n"
ROWS = (
    '1\t1\tclick\t1600000000\t"Best buy\n'
    "2\t2\tclick\t1600000001\tlamp\n"
    '3\t3\tclick\t1600000002\tTV 24"\n'
    "4\t4\tbuy\t1600000003\tcup\n"
    "5\t5\tclick\t1600000004\tcup\n"
)
PAIRS = [(n, n, "buy" if n == 4 else "click") for n in range(1, 6)]
SWALLOWED = "quotes around several rows"
QUOTED_ID = "quotes around an id"


def as_csv(text: str) -> bytes:
    return text.replace("\t", ",").encode()


def test_quotes_in_a_tsv_are_characters_like_others(ingest_files: Ingest) -> None:
    got = ingest_files({"log.tsv": (HEADER + ROWS).encode()})
    assert (got.pairs(), got.refused()) == (PAIRS, [])


@pytest.mark.parametrize(
    ("name", "separator"), [("log.csv", "\t"), ("log.csv", "\x01"), ("log.tsv", "\x01")]
)
def test_so_they_are_beside_the_separators_of_hive(
    ingest_files: Ingest, name: str, separator: str
) -> None:
    text = (HEADER + ROWS).replace("\t", separator).encode()
    got = ingest_files({name: text}, separator=separator)
    assert (got.pairs(), got.refused()) == (PAIRS, [])


def test_of_a_csv_the_row_that_opens_a_doubtful_quote_is_refused_and_no_other(
    ingest_files: Ingest,
) -> None:
    got = ingest_files({"log.csv": as_csv(HEADER + ROWS)})
    assert got.pairs() == PAIRS[1:]
    assert got.refused() == [(1, SWALLOWED)]


def test_without_quotes_a_csv_is_whole(ingest_files: Ingest) -> None:
    got = ingest_files({"log.csv": as_csv(HEADER + ROWS)}, quote="")
    assert (got.pairs(), got.refused()) == (PAIRS, [])


def test_told_that_quotes_are_meant_it_takes_what_they_hold(ingest_files: Ingest) -> None:
    got = ingest_files({"log.csv": as_csv(HEADER + ROWS)}, quote='"')
    assert (got.pairs(), got.refused()) == ([PAIRS[0], *PAIRS[3:]], [])


@pytest.mark.parametrize("place", range(5))
def test_whichever_field_opens_the_quote(ingest_files: Ingest, place: int) -> None:
    """Two rows between unpaired quotes in one column, and 100 good ones behind them."""
    columns = ["user", "item", "behavior", "time"]
    rows = [[str(n), str(n), "click", "1600000000"] for n in range(102)]
    for n, row in enumerate(rows):
        row.insert(place, {0: '"Best', 1: '24"'}.get(n, "cup"))
    names = [*columns[:place], "title", *columns[place:]]
    got = ingest_files({"log.csv": "\n".join(map(",".join, [names, *rows])).encode()})
    assert got.pairs() == [(n, n, "click") for n in range(1, 102)]
    assert got.refused() == [(1, SWALLOWED)]


TEXTS = ["two\nlines", "a, b", 'say ""hi""'.replace('""', '"'), "one\n\nnice, cheap\nend", "\n"]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_texts_over_several_lines_are_read_as_they_were_written(
    ingest_files: Ingest, name: str
) -> None:
    stream = io.StringIO()
    writer = csv.writer(
        stream,
        delimiter="\t" if name.endswith("tsv") else ",",
        quoting=csv.QUOTE_ALL if name.endswith("tsv") else csv.QUOTE_MINIMAL,
        lineterminator="\n",
    )
    writer.writerow(["user", "item", "behavior", "time", "text"])
    writer.writerows([n, n, "click", 1_600_000_000, text] for n, text in enumerate(TEXTS))
    got = ingest_files({name: stream.getvalue().encode()})
    assert got.pairs() == [(n, n, "click") for n in range(len(TEXTS))]
    assert got.refused() == []


def test_a_tsv_with_quoted_names_or_with_a_quoted_column_has_quotes(ingest_files: Ingest) -> None:
    named = b'"user"\t"item"\t"behavior"\t"time"\n"1"\t"2"\t"click"\t1600000000\n'
    assert ingest_files({"log.tsv": named}).pairs() == [(1, 2, "click")]


def test_a_tsv_without_header_whose_rows_all_have_quotes_has_quotes(ingest_files: Ingest) -> None:
    bare = b'"1"\t2\t"click"\t1600000000\n"3"\t4\t"buy"\t1600000000\n'
    columns = {"user": "column_1", "item": "column_2", "behavior": "column_3", "timestamp": ""}
    got = ingest_files({"log.tsv": bare}, header=False, columns=columns)
    assert got.pairs() == [(1, 2, "click"), (3, 4, "buy")]


def test_an_id_in_quotes_that_may_mean_nothing_is_refused_not_another_id(
    ingest_files: Ingest,
) -> None:
    text = b'user\titem\tbehavior\ttime\n1\t2\tclick\t1600000000\n"1"\t2\tbuy\t1600000000\n'
    got = ingest_files({"log.tsv": text})
    assert got.pairs() == [(1, 2, "click")]
    assert got.refused() == [(2, QUOTED_ID)]


@pytest.mark.parametrize(
    ("quote", "users"), [('"', [1]), ("", ['"1"', "1"])], ids=["quotes", "no quotes"]
)
def test_told_what_quotes_are_an_id_is_what_that_makes_it(
    ingest_files: Ingest, quote: str, users: list[Any]
) -> None:
    text = b'user\titem\tbehavior\ttime\n1\t2\tclick\t1600000000\n"1"\t2\tbuy\t1600000000\n'
    got = ingest_files({"log.tsv": text}, quote=quote)
    assert sorted(set(got.interactions["user_id"])) == users
    assert got.refused() == []


def test_another_character_may_be_the_quote(ingest_files: Ingest) -> None:
    text = (
        b"user,item,behavior,time,text\n'1',2,click,1600000000,'a, b'\n3,4,'buy',1600000000,it's\n"
    )
    got = ingest_files({"log.csv": text}, quote="'")
    assert (got.pairs(), got.refused()) == ([(1, 2, "click"), (3, 4, "buy")], [])


@pytest.mark.parametrize("settings", [{"quote": "ab"}, {"quote": ";", "separator": ";"}])
def test_a_quote_that_cannot_be_one_is_refused(ingest_files: Ingest, settings: Any) -> None:
    with pytest.raises(ConfigError, match="quote"):
        ingest_files({"log.csv": b"user,item,behavior,time\n"}, **settings)


FIELD = st.text(st.sampled_from("\"' ,\tab;"), max_size=6)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(FIELD, min_size=1, max_size=12), quote=st.sampled_from(['"', "'", ""]))
def test_every_way_of_writing_the_same_rows_gives_the_same_interactions(
    ingest_files: Ingest, texts: list[str], quote: str
) -> None:
    """Text of quotes and separators, quoted as a writer does it, or not at all."""
    rows = [[str(n), str(n), "click", "1600000000", text] for n, text in enumerate(texts)]
    if quote:
        stream = io.StringIO()
        writer = csv.writer(stream, quotechar=quote, lineterminator="\n")
        writer.writerows([["user", "item", "behavior", "time", "text"], *rows])
        content = stream.getvalue()
    else:
        plain = [[field.replace(",", "") for field in row] for row in rows]
        content = "\n".join(["user,item,behavior,time,text", *map(",".join, plain)])
    got = ingest_files({"log.csv": content.encode()}, quote=quote)
    assert (got.pairs(), got.refused()) == ([(n, n, "click") for n in range(len(texts))], [])
