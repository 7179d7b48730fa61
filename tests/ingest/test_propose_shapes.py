"""What `bigel init` proposes for wide, nested and parted logs, and that it reads them whole."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import Config, load_config
from bigel.ingest import ingest
from bigel.ingest.propose import propose, proposed_toml
from bigel.store import Workspace

START = 1_772_323_200  # 2026-03-01


def proposed(path: Path, folder: Path) -> tuple[Config, dict[str, Any], list[str]]:
    found = propose(str(path))
    text, _ = proposed_toml(found, "bigel init")
    (folder / "own.toml").write_text(text)
    config = load_config(str(folder / "own.toml"))
    return config, ingest(config, Workspace(folder / "work")).counts, found.notes


def wide(n: int = 120) -> pl.DataFrame:
    at = pl.Series([START + 60 * row for row in range(n)])
    return pl.DataFrame(
        {"visitor": [f"u{row % 7}" for row in range(n)], "sku": [row % 11 for row in range(n)]}
    ).with_columns(
        view_at=at,
        purchase_at=pl.Series([t if row % 8 == 0 else None for row, t in enumerate(at)]),
        cart_at=pl.Series([t if row % 4 == 0 else None for row, t in enumerate(at)]),
        created_at=at,
    )


@pytest.mark.parametrize("form", ["csv", "parquet", "dates"])
def test_a_column_of_times_for_each_behavior(tmp_path: Path, form: str) -> None:
    table = wide()
    if form == "dates":
        table = table.with_columns(pl.from_epoch(pl.col("^.*_at$")))
    path = tmp_path / ("log.csv" if form == "csv" else "log.parquet")
    table.write_csv(path) if form == "csv" else table.write_parquet(path)
    config, counts, _ = proposed(path, tmp_path)
    assert config.data.wide == {"view_at": "view", "purchase_at": "purchase", "cart_at": "cart"}
    assert config.data.behaviors == ("view", "cart", "purchase")
    assert (counts["in"], counts["quarantined"]) == (120 + 15 + 30, 0)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_cells_of_types_that_do_not_mix_make_no_wide_table(
    tmp_path: Path, zone: str | None
) -> None:
    when = pl.from_epoch("view_at")
    other = when.dt.replace_time_zone(zone) if zone else when.dt.to_string()
    table = wide().select("visitor", "sku", view_at=when, cart_at=other)
    table.write_parquet(tmp_path / "log.parquet")
    config, counts, notes = proposed(tmp_path / "log.parquet", tmp_path)
    assert not config.data.wide and counts["in"] == 120
    (told,) = [note for note in notes if "do not mix" in note]
    assert "view_at Datetime" in told and "cart_at" in told and "convert" in told


def test_a_column_of_counts_for_each_behavior(tmp_path: Path) -> None:
    rows = range(100)
    table = pl.DataFrame(
        {
            "day": [f"2026-03-{1 + row % 20:02}" for row in rows],
            "user_id": [row % 9 for row in rows],
            "item_id": [row % 13 for row in rows],
            "clicks": [row % 3 for row in rows],
            "bought": [row % 5 == 0 for row in rows],
            "purchases": [int(row % 5 == 0) for row in rows],
        }
    )
    table.write_csv(tmp_path / "log.csv")
    config, counts, _ = proposed(tmp_path / "log.csv", tmp_path)
    assert config.data.wide == {"clicks": "click", "purchases": "purchase"}
    assert config.data.wide_values == "count" and config.data.columns.timestamp == "day"
    clicks = sum(row % 3 for row in rows)
    empty = sum(row % 3 == 0 and row % 5 != 0 for row in rows)
    assert counts["in"] == clicks + 20 + empty and counts["reasons"] == {
        "no behavior happened": empty
    }


def test_fields_inside_others(tmp_path: Path) -> None:
    lines = [
        {
            "timestamp": f"2026-03-{1 + row % 20:02}T10:00:00Z", "type": "track", "userId": row % 9,
            "event": ["Product Viewed", "Order Completed"][row % 5 == 0],
            "context": {"library": {"name": "x"}, "user": {"id": 3}},
            "properties": {"products": [{"product_id": row % 13}, {"product_id": row % 5}]},
        }
        for row in range(100)
    ]  # fmt: skip
    (tmp_path / "log.ndjson").write_text("\n".join(map(json.dumps, lines)))
    config, counts, _ = proposed(tmp_path / "log.ndjson", tmp_path)
    columns = config.data.columns
    assert (columns.user, columns.behavior) == ("userId", "event")
    assert columns.item == "properties.products[].product_id"
    assert (counts["in"], counts["quarantined"]) == (200, 0)
    pl.DataFrame(lines).write_parquet(tmp_path / "log.parquet")
    config, again, _ = proposed(tmp_path / "log.parquet", tmp_path)
    assert config.data.columns == columns and again["kept"] == counts["kept"]


def test_folders_with_days_and_hours_and_what_takes_back(tmp_path: Path) -> None:
    for day in range(3):
        for hour in (0, 5):
            folder = tmp_path / f"log/dt=2026-11-2{day}/hour={hour}"
            folder.mkdir(parents=True)
            rows = [
                f"{n % 9},{n % 13},{['view', 'buy', 'remove_from_cart'][n % 3]}" for n in range(60)
            ]
            (folder / "part.csv").write_text("\n".join(["user_id,item_id,event", *rows]))
    config, counts, notes = proposed(tmp_path / "log", tmp_path)
    assert (config.data.columns.timestamp, config.data.columns.time_of_day) == ("dt", "hour")
    assert counts["in"] == 360 and set(counts["reasons"]) == {"ignored behavior"}
    assert any("remove_from_cart" in note and "undo" in note for note in notes)


def test_a_table_with_other_times_is_no_wide_one(tmp_path: Path) -> None:
    table = wide().select("visitor", "sku", "created_at", updated_at="view_at")
    table.write_csv(tmp_path / "log.csv")
    config, _, _ = proposed(tmp_path / "log.csv", tmp_path)
    assert not config.data.wide and config.data.columns.timestamp == "created_at"
    wide().write_parquet(tmp_path / "log.parquet")
    known = propose(str(tmp_path / "log.parquet"), behaviors=["order"]).data
    assert not known.wide and known.columns.timestamp == "created_at"
