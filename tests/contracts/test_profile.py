"""A profile of six hand-made interactions, worked out by hand."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import Config, load_config
from bigel.contracts.profile import (
    HOURS_FILE,
    concentration,
    days_of,
    profile_log,
    read_profile,
    span_of,
)
from bigel.store import Record, Workspace

HOUR = 3_600
DAY = 86_400
START = 20_000 * DAY
SCHEMA: dict[str, Any] = {
    "user_id": pl.Int64,
    "item_id": pl.String,
    "behavior": pl.String,
    "timestamp": pl.Int64,
    "count": pl.UInt32,
}
ROWS = [
    (1, "a", "click", START, 3),
    (1, "b", "click", START + 10, 1),
    (2, "a", "click", START + HOUR, 1),
    (3, "a", "click", START + DAY + HOUR, 1),
    (1, "a", "purchase", START + 2 * DAY, 1),
    (3, "a", "purchase", START + 20, 2),
]
CONFIG = load_config("", ["data.behaviors=['click', 'cart', 'purchase']"])


def ingested(folder: Path, frame: pl.DataFrame) -> Record:
    folder.mkdir(parents=True)
    frame.write_parquet(folder / "interactions.parquet")
    kept, usable = frame.height, int(frame["count"].sum())
    counts = {"in": usable + 1, "kept": kept, "merged": usable - kept, "quarantined": 1}
    return Record("ingest", "f" * 24, str(folder), False, 0.0, counts)


def profile(tmp_path: Path, frame: pl.DataFrame, config: Config = CONFIG) -> Record:
    return profile_log(ingested(tmp_path / "ingest", frame), config, Workspace(tmp_path))


@pytest.fixture
def log() -> pl.DataFrame:
    return pl.DataFrame(ROWS, SCHEMA, orient="row")


def test_figures_of_a_small_log(tmp_path: Path, log: pl.DataFrame) -> None:
    record = profile(tmp_path, log)
    figures = read_profile(Path(record.path))
    click = figures["behaviors"]["click"]
    # items a and b have 3 and 1 of 4 pairs: 2 * (1*1 + 2*3) / (2*4) - 3/2 = 0.25
    shares = {"gini": 0.25, "top_share": 0.75}
    sizes = {"users": 3, "items": 2, "largest_user": 2, "largest_item": 3}
    assert click == {"events": 6, "pairs": 4, **sizes, **shares}
    purchase = figures["behaviors"]["purchase"]
    sizes = {"users": 2, "items": 1, "largest_user": 1, "largest_item": 2}
    assert purchase == {"events": 3, "pairs": 2, **sizes, "gini": 0.0, "top_share": 1.0}
    nothing = {"events": 0, "pairs": 0, **dict.fromkeys(sizes, 0), "gini": None, "top_share": None}
    assert figures["behaviors"]["cart"] == nothing
    assert (figures["rows"], figures["merged"], figures["stood_for"]) == (9, 3, 9)
    assert (figures["users"], figures["items"]) == (3, 2)
    assert (figures["first"], figures["last"]) == (START, START + 2 * DAY)
    assert figures["days"] == 49 / 24  # 48 whole hours and the one that begins
    assert record.counts == {"rows": 9, "merged": 3, "users": 3, "items": 2}


def test_files_hold_distinct_ids_and_hours(tmp_path: Path, log: pl.DataFrame) -> None:
    record = profile(tmp_path, log)
    assert pl.read_parquet(record.file("users.parquet"))["user_id"].to_list() == [1, 2, 3]
    assert pl.read_parquet(record.file("items.parquet"))["item_id"].to_list() == ["a", "b"]
    first = START // HOUR
    assert pl.read_parquet(record.file(HOURS_FILE)).rows() == [
        ("click", first, 2),
        ("click", first + 1, 1),
        ("click", first + 25, 1),
        ("purchase", first, 1),
        ("purchase", first + 48, 1),
    ]


def test_a_stray_time_makes_no_log_of_decades(tmp_path: Path, log: pl.DataFrame) -> None:
    times = [START + n * DAY // 200 for n in range(2_000)]  # ten days
    frame = pl.concat([log.head(1)] * 2_000).with_columns(timestamp=pl.Series(times))
    stray = frame.with_columns(
        timestamp=pl.when(pl.int_range(pl.len()) == 7).then(0).otherwise("timestamp")
    )
    found = [
        read_profile(Path(profile(tmp_path / name, rows).path))
        for name, rows in (("clean", frame), ("stray", stray))
    ]
    assert [figures["days"] for figures in found] == [10.0, 10.0]
    assert found[1]["first"] == 0


def test_a_day_at_least_and_nothing_of_an_empty_log(tmp_path: Path, log: pl.DataFrame) -> None:
    assert read_profile(Path(profile(tmp_path, log.head(2)).path))["days"] == 1.0
    empty = pl.DataFrame(schema={"hour": pl.Int64, "pairs": pl.Int64})
    assert (span_of(empty), days_of(empty)) == (None, 0.0)


def test_a_log_without_times_has_no_hours(tmp_path: Path, log: pl.DataFrame) -> None:
    record = profile(tmp_path, log.drop("timestamp"))
    assert not record.file(HOURS_FILE).exists()
    assert "days" not in read_profile(Path(record.path))


def test_the_same_data_are_profiled_once(tmp_path: Path, log: pl.DataFrame) -> None:
    source = ingested(tmp_path / "ingest", log)
    first = profile_log(source, CONFIG, Workspace(tmp_path))
    again = profile_log(source, CONFIG, Workspace(tmp_path))
    assert (first.reused, again.reused) == (False, True)
    assert first.fingerprint == again.fingerprint


def test_the_head_is_a_hundredth_of_the_items_and_at_least_one() -> None:
    sizes = pl.Series([0, 10, 20, 30, 0, *[1] * 247])
    assert concentration(sizes)["top_share"] == 60 / 307  # three of 250 items
