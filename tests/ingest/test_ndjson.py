"""NDJSON: what each value of a field becomes, and that a line costs only itself."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.ingest import lines
from bigel.ingest.ndjson import parse_objects

Ingest = Callable[..., Any]
NAMES = {"user_id": "u", "item_id": "i", "behavior": 'b/~"x'}
NOT_WHOLE = "id is not a whole number"
NESTED = "id is a list or an object"
NO_OBJECT = "not a JSON object"


def parsed(given_lines: list[str]) -> list[tuple[Any, ...]]:
    rows = pl.DataFrame({"raw": given_lines}).with_columns(problem=pl.lit(None, pl.String))
    with duckdb.connect() as base:
        found = parse_objects(rows.with_row_index("row_number", 1), NAMES, base)
    assert found["row_number"].is_sorted() and found["raw"].to_list() == given_lines
    return found.drop("row_number", "raw").rows()


LONG = (str(2**64 + 1), str(2**128 + 1), "1" + "0" * 60)
IDS: dict[str, str] = {  # an id as it stands in the file, and as it is kept
    **{n: n for n in ("0", "7", "-7", "9007199254740993", *LONG)},
    **{"1.0": "1", "0.1e1": "1", "1e3": "1000", "-0.0": "-0", "9007199254740991.0": str(2**53 - 1)},
    **{'"007"': "007", '" 7 "': " 7 ", '"7.0"': "7.0", '"12.5"': "12.5", '"true"': "true"},
    **{'"[7]"': "[7]", '"NaN"': "NaN", '"\\u0037"': "7", '"\\ud83d\\ude00"': "\U0001f600"},
    **{'""': "", '"\\n"': "\n", '"\\u0000"': "\0", '"é"': "é"},
}  # fmt: skip
BROKEN = ('"\\ud83d"', '"\\ude00"', '"a\tb"', '"\\x"', "01", "+1", ".5", "1.", "tru", "")
REFUSED: dict[str, str] = {
    **dict.fromkeys(("12.5", "1e400", "1e-7", "9007199254740992.0", "-1e16"), NOT_WHOLE),
    **dict.fromkeys(("true", "false", "NaN", "Infinity"), NOT_WHOLE),
    **dict.fromkeys(("[7]", "[]", "{}", '{"a":1}'), NESTED),
    **dict.fromkeys(BROKEN, NO_OBJECT),
}


@pytest.mark.parametrize("token", IDS)
def test_an_id_is_kept_with_all_its_digits(token: str) -> None:
    line = f'{{"i": {token}, "u": {token}, "x": [{token}]}}'
    assert parsed([line]) == [(IDS[token], IDS[token], None, None)]


@pytest.mark.parametrize("token", REFUSED)
@pytest.mark.parametrize("field", ["u", "i"])
def test_an_id_that_is_none_is_refused(token: str, field: str) -> None:
    other = "i" if field == "u" else "u"
    (row,) = parsed([f'{{"{field}": {token}, "{other}": 1}}'])
    assert row[-1] == REFUSED[token]


@pytest.mark.parametrize(
    "line",
    [
        *("5", "null", '"x"', "[1]", "}", "\x0c{}", "\ufeff{}", "{'u':1}", '{"u":1', '{"u":1},'),
        *('{"u":1} {"u":2}', '{"u":1}x', '{"u":' + "[" * 200_000, '{"a":' * 3000),
    ],
)  # fmt: skip
def test_a_line_without_an_object_costs_only_itself(line: str) -> None:
    good = ' \t{"u": 1, "i": "a", "us": 3} \r'
    kept = ("1", "a", None, None)
    assert parsed([good, line, good]) == [kept, (None, None, None, NO_OBJECT), kept]


def test_fields_are_found_by_their_whole_name_and_the_first_of_two_counts() -> None:
    deep = "[" * 999 + "]" * 999
    line = '{"u": 1, "b/~\\"x": ["é", 1.5], "b": 3, "i": 2, "u": 4, "deep": ' + deep + "}"
    assert parsed([line]) == [("1", "2", '["é",1.5]', None)]


VALUES = st.one_of(
    st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.none()
)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=8), plain=st.booleans()
)
def test_what_python_writes_is_read_back(rows: list[tuple[Any, ...]], plain: bool) -> None:
    written = [
        json.dumps(dict(zip(NAMES.values(), row, strict=True)), ensure_ascii=plain) for row in rows
    ]
    wanted = [tuple(None if one is None else str(one) for one in row) for row in rows]
    assert [row[:3] for row in parsed(written)] == wanted


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.integers(1, 200), packed=st.booleans())
def test_rows_of_many_blocks_are_numbered_on(size: int, packed: bool, ingest_files: Ingest) -> None:
    rows: list[dict[str, Any]] = [
        {"user": n, "item": -n, "behavior": "buy", "time": 1} for n in range(40)
    ]
    rows[7]["user"], rows[23]["behavior"] = None, "like"
    text = "\n\n".join(map(json.dumps, rows)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", size)
        got = ingest_files({"log.ndjson": gzip.compress(text) if packed else text})
    assert got.refused() == [(8, "null user_id"), (24, "unknown behavior")]
    assert got.quarantine["raw"][1] == json.dumps(rows[23])
    assert got.interactions["item_id"].sort(descending=True).to_list() == [
        -n for n in range(40) if n not in (7, 23)
    ]
