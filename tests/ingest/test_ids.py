"""One user is one user, however her number is typed, and two are two."""

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.errors import DataError
from bigel.ingest.ids import plain_id

Ingest = Callable[..., Any]
USERS = [1, 20, -3, 0, 9_007_199_254_740_991]
HUGE = 10**18 + 1  # no float holds it


def as_csv(values: list[str]) -> bytes:
    rows = "".join(f"{value},5,click,9\n" for value in values)
    return ("user,item,behavior,time\n" + rows).encode()


def as_parquet(values: list[Any], dtype: Any) -> bytes:
    frame = pl.DataFrame({"user": pl.Series(values, dtype=dtype)}).with_columns(
        item=pl.lit(5), behavior=pl.lit("click"), time=pl.lit(9)
    )
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def as_ndjson(values: list[str]) -> bytes:
    row = '{{"user": {}, "item": 5, "behavior": "click", "time": 9}}\n'
    return "".join(row.format(value) for value in values).encode()


FORMS: dict[str, tuple[str, bytes]] = {
    "decimal": ("b.parquet", as_parquet([Decimal(u) for u in USERS], pl.Decimal(38, 9))),
    "whole decimal": ("b.parquet", as_parquet([Decimal(u) for u in USERS], pl.Decimal(38, 0))),
    "float": ("b.parquet", as_parquet([float(u) for u in USERS], pl.Float64)),
    "text of parquet": ("b.parquet", as_parquet([f"{u}" for u in USERS], pl.String)),
    "unsigned and a gap": ("b.parquet", as_parquet([1, 20, None], pl.UInt64)),
    "float of csv": ("b.csv", as_csv([f"{u}.0" for u in USERS])),
    "more zeros of csv": ("b.csv", as_csv([f"{u}.000" for u in USERS])),
    "float of json": ("b.ndjson", as_ndjson([f"{u}.0" for u in USERS])),
    "text of json": ("b.ndjson", as_ndjson([f'"{u}"' for u in USERS])),
    "text of json, a float": ("b.ndjson", as_ndjson([f'"{u}.0"' for u in USERS])),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_number_is_one_user_however_it_is_typed(ingest_files: Ingest, form: str) -> None:
    got = ingest_files({"a.csv": as_csv([str(u) for u in USERS]), **dict([FORMS[form]])})
    assert got.interactions["user_id"].to_list() == sorted(USERS)
    assert got.interactions["user_id"].dtype == pl.Int64
    alone = ingest_files({"a.csv": b"user,item,behavior,time\n", **dict([FORMS[form]])})
    assert alone.interactions["user_id"].dtype == pl.Int64


def test_decimals_are_exact_and_those_that_are_not_whole_are_refused(ingest_files: Ingest) -> None:
    values = [Decimal(HUGE), Decimal("1.5"), Decimal("-0.000000001"), Decimal(10**20)]
    got = ingest_files({"a.parquet": as_parquet(values, pl.Decimal(38, 9))})
    assert got.interactions["user_id"].to_list() == [str(10**20), str(HUGE)]
    assert got.refused() == [(2, "id is not a whole number"), (3, "id is not a whole number")]


def test_two_forms_of_an_id_stop_the_run_and_are_shown(ingest_files: Ingest) -> None:
    files = {"a.csv": as_csv(["0108775015"] * 3 + ["x"]), "b.csv": as_csv(["108775015", "7", "7"])}
    with pytest.raises(DataError) as caught:
        ingest_files(files)
    assert str(caught.value) == (
        "1 of user_id are whole numbers in more than one form, for example '0108775015' (3 rows) "
        "and '108775015' (1 rows): set data.ids = 'integer' if they are one, or 'text' if they "
        "are not"
    )


@pytest.mark.parametrize(
    ("ids", "users", "refused"),
    [
        ("integer", [7, 108_775_015], ["x"]),
        ("text", ["+7", "0108775015", "108775015", "7", "x"], []),
    ],
)
def test_the_setting_says_what_two_forms_are(
    ingest_files: Ingest, ids: str, users: list[Any], refused: list[str]
) -> None:
    files = {"a.csv": as_csv(["0108775015", "x"]), "b.csv": as_csv(["108775015", "7", "+7"])}
    got = ingest_files(files, ids=ids)
    assert got.interactions["user_id"].unique().sort().to_list() == users
    assert got.refused() == [(2, "id is not a whole number") for _ in refused]
    assert got.interactions["count"].sum() + len(refused) == 5


def test_floats_as_java_writes_them_are_the_integers_that_they_are(ingest_files: Ingest) -> None:
    files = {"a.csv": as_csv(["1.08775015E8", "1.2E7"]), "b.csv": as_csv(["108775015", "7"])}
    assert ingest_files(files).interactions["user_id"].unique().sort().to_list() == [
        7, 12_000_000, 108_775_015,
    ]  # fmt: skip


def test_numbers_as_a_spreadsheet_shows_them_are_asked_for(ingest_files: Ingest) -> None:
    """They may be rounded, so two ids may look alike."""
    files = {"a.csv": as_csv(["1.00E+01", "1.09E+08"]), "b.csv": as_csv(["10", "7"])}
    with pytest.raises(DataError, match=r"more than one form, for example '1.00E\+01' .* and '10'"):
        ingest_files(files)
    got = ingest_files(files, ids="integer").interactions["user_id"]
    assert got.unique().sort().to_list() == [7, 10, 109_000_000]


def test_powers_that_are_no_whole_numbers_are_refused_as_integers(ingest_files: Ingest) -> None:
    got = ingest_files({"a.csv": as_csv(["1.5E0", "9.1E18", "1.2E3", "7"])}, ids="integer")
    assert got.interactions["user_id"].to_list() == [7, 1_200]
    assert got.refused() == [(1, "id is not a whole number"), (2, "id is not a whole number")]


def test_zeros_in_front_alone_are_text_and_stay(ingest_files: Ingest) -> None:
    got = ingest_files({"a.csv": as_csv(["007", "108"])})
    assert got.interactions["user_id"].to_list() == ["007", "108"]


def test_as_text_each_text_is_an_id_of_one_file_too(ingest_files: Ingest) -> None:
    got = ingest_files({"a.csv": as_csv(["17", "17.0"])}, ids="text")
    assert got.interactions["user_id"].to_list() == ["17", "17.0"]
    assert got.interactions["item_id"].to_list() == ["5", "5"]


NUMBERS = st.integers(-(10**6), 10**6)
WAYS = st.sampled_from(["{}", "{}.0", "{}.", "+{}", "0{}", "000{}.00"])


@settings(deadline=None, max_examples=200)
@given(number=NUMBERS, way=WAYS)
def test_the_plain_form_of_an_integer_is_that_of_the_number(number: int, way: str) -> None:
    text = way.format(abs(number))
    text = f"-{text}" if number < 0 and not text.startswith("+") else text
    wanted = str(int(float(text)))
    found = pl.select(plain_id(pl.lit(text), "integer")).item()
    assert found == wanted
    assert pl.select(plain_id(pl.lit(found), "auto")).item() == found


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    users=st.lists(st.integers(-5, 30), min_size=1, max_size=8),
    forms=st.lists(st.sampled_from(["csv", "float", "decimal", "json"]), min_size=8, max_size=8),
)
def test_users_are_as_many_as_numbers_whatever_form_each_day_has(
    ingest_files: Ingest, users: list[int], forms: list[str]
) -> None:
    files = dict.fromkeys((f"{day}.{end}" for day in range(8) for end in ("csv", "ndjson")), b"")
    files |= {f"{day}.parquet": as_parquet([], pl.Int64) for day in range(8)}
    for day, (user, form) in enumerate(zip(users, forms, strict=False)):
        name, content = {
            "csv": (f"{day}.csv", as_csv([str(user)])),
            "float": (f"{day}.csv", as_csv([f"{user}.0"])),
            "decimal": (f"{day}.parquet", as_parquet([Decimal(user)], pl.Decimal(38, 9))),
            "json": (f"{day}.ndjson", as_ndjson([f"{user}.0"])),
        }[form]
        files[name] = content
    got = ingest_files(files)
    assert got.interactions["user_id"].to_list() == sorted(set(users))
