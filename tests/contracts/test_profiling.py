"""A profile of six hand-made interactions, worked out by hand."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import Config, load_config
from bigel.contracts.profiling import HOURS_FILE, concentration, profile_log, read_profile
from bigel.workspace import Record, Workspace

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
    assert click == {"events": 6, "pairs": 4, "gini": 0.25, "top_share": 0.75}
    purchase = figures["behaviors"]["purchase"]
    assert purchase == {"events": 3, "pairs": 2, "gini": 0.0, "top_share": 1.0}
    nothing = {"events": 0, "pairs": 0, "gini": None, "top_share": None}
    assert figures["behaviors"]["cart"] == nothing
    assert (figures["rows"], figures["merged"]) == (9, 3)
    assert (figures["users"], figures["items"]) == (3, 2)
    assert (figures["first"], figures["last"], figures["days"]) == (START, START + 2 * DAY, 2.0)
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
    sizes = pl.DataFrame({"behavior": ["click"] * 250, "size": [10, 20, 30, *[1] * 247]})
    (row,) = concentration(sizes).rows(named=True)
    assert row["top_share"] == pytest.approx(60 / 307)  # three of 250 items
