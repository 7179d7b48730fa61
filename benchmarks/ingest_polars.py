"""The clean-up of ``benchmarks/ingest.py`` written directly in polars.

python benchmarks/ingest_polars.py LOG OUT

Its CSV reader fills up short rows, so a missing field and an empty time are one reason here.
"""

import sys
from pathlib import Path

import polars as pl

FIRST, LAST = 1_511_539_200, 1_512_316_799
NAMES = ("user_id", "item_id", "category", "behavior", "timestamp", "more")
PLACES = {"pv": 0, "fav": 1, "cart": 2, "buy": 3}
KEY = ("user_id", "item_id", "behavior")
CONTROL = r"[\x00-\x1f\x7f]"


def empty(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().is_in(["", "null"])


def reason() -> pl.Expr:
    user, item, time = pl.col("user_id"), pl.col("item_id"), pl.col("time")
    rules = {
        "too many fields": pl.col("more").is_not_null(),
        "null user_id": user.is_null() | empty("user_id"),
        "null item_id": item.is_null() | empty("item_id"),
        "null behavior": pl.col("behavior").is_null() | empty("behavior"),
        "control character in an id": user.str.contains(CONTROL) | item.str.contains(CONTROL),
        "unknown behavior": pl.col("place").is_null(),
        "null timestamp": pl.col("timestamp").is_null() | empty("timestamp"),
        "unreadable timestamp": time.is_null(),
        "timestamp before data.time_min": time < FIRST,
        "timestamp after data.time_max": time > LAST,
    }
    return pl.coalesce(pl.when(rule).then(pl.lit(name)) for name, rule in rules.items())


def main(log: str, out: Path) -> None:
    place = (
        pl.when(pl.col("behavior") == raw).then(pl.lit(n, pl.UInt8)) for raw, n in PLACES.items()
    )
    rows = pl.scan_csv(
        log,
        has_header=False,
        schema=dict.fromkeys(NAMES, pl.String),
        missing_columns="insert",
        extra_columns="ignore",
    ).with_columns(
        pl.col("user_id").cast(pl.Int64, strict=False).alias("user"),
        pl.col("item_id").cast(pl.Int64, strict=False).alias("item"),
        pl.col("timestamp").cast(pl.Int64, strict=False).alias("time"),
        pl.coalesce(place).alias("place"),
    )
    fine = pl.all_horizontal(
        pl.col("user", "item", "place").is_not_null(),
        pl.col("time").is_between(FIRST, LAST),
        pl.col("more").is_null(),
    ).fill_null(False)
    usable = rows.filter(fine).select("user", "item", "place", "time")
    raw = [*(pl.col(name).fill_null("") for name in NAMES[:-1]), NAMES[-1]]
    refused = rows.filter(~fine).select(
        reason().alias("reason"), pl.concat_str(raw, separator=",", ignore_nulls=True).alias("raw")
    )
    pl.collect_all(
        [
            usable.sink_parquet(
                out / "usable.parquet", compression="lz4", statistics=False, lazy=True
            ),
            refused.sink_parquet(out / "quarantine.parquet", lazy=True),
        ],
        engine="streaming",
    )
    names = pl.Enum(["click", "favourite", "cart", "purchase"])
    pl.scan_parquet(out / "usable.parquet").group_by("user", "item", "place").agg(
        pl.col("time").min().alias("first"),
        pl.col("time").max(),
        pl.len().cast(pl.UInt32).alias("count"),
    ).sort("user", "item", "place").select(
        pl.col("user").alias("user_id"),
        pl.col("item").alias("item_id"),
        pl.col("place").cat.to(names).cast(pl.String).alias("behavior"),
        "first",
        pl.col("time").alias("timestamp"),
        "count",
    ).sink_parquet(out / "interactions.parquet")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
