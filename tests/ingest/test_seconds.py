import datetime as dt
from typing import Any

import polars as pl
import pytest

from bigel.config import DataConfig
from bigel.ingest.seconds import to_seconds

NOON = 1_511_611_200  # 2017-11-25 12:00:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (str(NOON), NOON),
        (f" {NOON} ", NOON),
        (f"{NOON}.9", NOON),
        ("1.5116112e9", NOON),
        (f"{NOON}999", NOON),
        (f"{NOON}999999", NOON),
        (f"{NOON}999999999", NOON),
        ("99999999999", 10**11 - 1),  # seconds up to here
        ("100000000000", 10**8),  # milliseconds
        ("99999999999999", 10**11 - 1),
        ("100000000000000", 10**8),  # microseconds
        ("99999999999999999", 10**11 - 1),
        ("100000000000000000", 10**8),  # nanoseconds
        ("-1", -1),
        ("-1.5", -2),
        ("2017-11-25 12:00:00", NOON),
        ("2017-11-25T12:00:00Z", NOON),
        ("2017-11-25 12:00:00 UTC", NOON),
        ("2017-11-25T20:00:00.75+08:00", NOON),
        ("2017-11-25 12:00", NOON),
        ("2017-11-25T12:00Z", NOON),
        ("2017-11-25T20:00+08:00", NOON),
        ("2017-11-25 20:00+08", NOON),
        ("2017-11-25 07:00:00.5 -0500", NOON),
        ("2017-11-25 04:00:00-08", NOON),
        ("2017-11-25+08", None),
        ("2017/11/25 12:00:00.123456", NOON),
        ("2017-11-25", NOON - 43_200),
        ("1969-12-31T23:59:59.5", -1),
        ("2017-11-31", None),
        ("noon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_times_as_text(text: str | None, seconds: int | None) -> None:
    both = to_seconds(pl.Series("t", [text, "5"], dtype=pl.String), DataConfig())
    assert both.to_list() == [seconds, 5]
    assert both.dtype == pl.Int64


@pytest.mark.parametrize(
    ("unit", "text", "seconds"),
    [
        ("s", f"{NOON}000", NOON * 1000),
        ("ms", "1999", 1),
        ("us", "-1", -1),
        ("ns", f"{NOON}000000000", NOON),
        ("s", "2017-11-25", None),
        ("iso", "2017-11-25 12:00:00", NOON),
        ("iso", str(NOON), None),
    ],
)
def test_a_stated_unit_is_taken_at_its_word(unit: Any, text: str, seconds: int | None) -> None:
    config = DataConfig(time_unit=unit)
    assert to_seconds(pl.Series([text]), config).to_list() == [seconds]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([NOON]),
        pl.Series([NOON * 1000], dtype=pl.Int64),
        pl.Series([float(NOON) + 0.5]),
        pl.Series([NOON], dtype=pl.UInt32),
        pl.Series([dt.datetime(2017, 11, 25, 12, 0, 0, 900)]),
        pl.Series([dt.datetime(2017, 11, 25, 12)]).cast(pl.Datetime("ns")),
        pl.Series([dt.datetime(2017, 11, 25, 20)]).dt.replace_time_zone("Asia/Shanghai"),
    ],
)
def test_times_of_other_types(values: pl.Series) -> None:
    assert to_seconds(values, DataConfig()).to_list() == [NOON]


def test_dates_and_float_nan() -> None:
    assert to_seconds(pl.Series([dt.date(1970, 1, 2)]), DataConfig()).to_list() == [86_400]
    assert to_seconds(pl.Series([float("nan"), None]), DataConfig()).to_list() == [None, None]


DAY = NOON - 43_200  # 2017-11-25 00:00:00 UTC


@pytest.mark.parametrize(
    ("form", "year", "text", "seconds"),
    [
        ("%m%d", 2017, "1125", DAY),
        ("%m%d", 2018, "0101", DAY + 37 * 86_400),
        ("%m%d", 2018, "101", DAY + 37 * 86_400),  # an integer column lost the zero
        ("%m%d", 2017, "0229", None),
        ("%m%d", 2016, "0229", DAY - 635 * 86_400),
        ("%m%d", 2017, "", None),
        ("%m%d", 2017, None, None),
        ("%d.%m.", 2017, "25.11.", DAY),
        ("%Y%m%d%H%M", None, "201711251200", NOON),
        ("%Y%j", None, "2017329", DAY),
        ("%d/%b/%Y:%H:%M:%S %z", None, "25/Nov/2017:20:00:00 +0800", NOON),
        ("%m/%d/%y %I:%M %p", None, " 11/25/17 12:00 PM ", NOON),
        ("%Y-%m-%d", None, "2017-11-25 12:00", None),
        ("%Y-%m-%d", None, str(NOON), None),
    ],
)
def test_times_of_a_stated_format(
    form: str, year: int | None, text: str | None, seconds: int | None
) -> None:
    config = DataConfig(time_format=form, time_year=year)
    assert to_seconds(pl.Series("t", [text], dtype=pl.String), config).to_list() == [seconds]


def test_a_format_reads_numbers_too() -> None:
    config = DataConfig(time_format="%m%d", time_year=2018)
    for values in (pl.Series([101, None]), pl.Series([101.0, None])):
        assert to_seconds(values, config).to_list() == [DAY + 37 * 86_400, None]
