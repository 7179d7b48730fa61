"""Hand-made hand-overs that keep every contract, as small as the limits allow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config, load_config
from bigel.contracts.accepted import MEASURES_FILE
from bigel.contracts.drift import measures_of
from bigel.store import Record, Workspace, fingerprint, write_json

N = 10  # users, and items
BEHAVIORS = ("click", "favourite", "purchase")
DAY = 86_400
START = 1_700_000_000

Frames = dict[str, pl.DataFrame]


@dataclass
class HandOver:
    """Files by name (without ending), and what goes with them."""

    name: str
    frames: Frames
    counts: dict[str, Any] = field(default_factory=dict)
    facts: Frames = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)

    def record(self, folder: Path) -> Record:
        """Write the files and return a record of them."""
        folder.mkdir(parents=True)
        for name, frame in (self.frames | self.facts).items():
            frame.write_parquet(folder / f"{name}.parquet")
        if self.name == "interactions" and "raw_summary" not in self.frames:
            kept = self.frames["interactions"].select(pl.sum("^count$").alias("kept"))
            kept.write_parquet(folder / "raw_summary.parquet")
        if self.name == "interactions":
            self.counts |= {"kept": self.frames["interactions"].height, "merged": 0}
        if self.name == "drift":
            write_json(folder / MEASURES_FILE, measures_of(self.frames))
        return Record("made", fingerprint(str(folder))[:24], str(folder), False, 0.0, self.counts)

    def config(self) -> Config:
        """Return the configuration that goes with the files."""
        base = ["data.columns.timestamp=timestamp", "recommend.k=3"]
        return load_config("", base + self.settings)

    def validate(self, folder: Path) -> dict[str, Any]:
        """Write the files and validate them in a workspace beside them."""
        from bigel.contracts import validate

        record = self.record(folder / "stage")
        facts = {name: record.file(f"{name}.parquet") for name in self.facts}
        return validate(self.name, record, self.config(), Workspace(folder), **facts)


def raw_log() -> HandOver:
    """Return two files of 100 and 50 rows: one row refused, one ignored on purpose."""
    summary = pl.DataFrame(
        {
            "source_file": ["a.csv", "b.csv"],
            "rows": [100, 50],
            "kept": [98, 50],
            "quarantined": [2, 0],
            "quarantined_share": [1 / 99, 0.0],
            "null_users": [1, 0],
            "null_items": [0, 0],
            "null_behaviors": [0, 0],
            "unknown_behaviors": [0, 0],
            "bad_timestamps": [0, 0],
            "ignored": [1, 0],
        }
    )
    quarantine = pl.DataFrame(
        {
            "source_file": ["a.csv", "a.csv"],
            "row_number": [3, 9],
            "reason": ["null user_id", "ignored behavior"],
            "raw": ["{}", "{}"],
        },
    )
    return HandOver("raw_log", {"raw_summary": summary, "quarantine": quarantine})


def interactions() -> HandOver:
    """Return 20 clicks, 10 favourites and 10 purchases of 10 users within two days."""
    rows = [
        (user, (user + step) % N, behavior, time - user, time, 1, 2_500_000, "train")
        for behavior in BEHAVIORS
        for step in range(2 if behavior == "click" else 1)
        for user in range(N)
        for time in [START + user * DAY // 5 + step]
    ]
    schema = {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
        "amount": pl.Int64,
        "split": pl.String,
    }
    return HandOver("interactions", {"interactions": pl.DataFrame(rows, schema, orient="row")})


def drift() -> HandOver:
    """Return the comparison of two runs that are alike."""
    changes = ("volume_change", "gini_change", "top_share_change")
    clock = [(behavior, hour) for behavior in BEHAVIORS for hour in range(24)]
    steps = ["click to favourite", "favourite to purchase"]
    shares = ("new_user_share", "new_item_share", "duplicate_change", "behavior_psi")
    frames = {
        "behaviors": pl.DataFrame({"behavior": BEHAVIORS, **{c: [0.0] * 3 for c in changes}}),
        "hours": pl.DataFrame(clock, ["behavior", "hour"], orient="row").with_columns(
            hour_change=pl.lit(0.0)
        ),
        "funnel": pl.DataFrame({"step": steps, "rate_change": [0.0, 0.0]}),
        "totals": pl.DataFrame({name: [0.0] for name in shares}),
        "times": pl.DataFrame({"late_share": [0.0], "hour_psi": [0.0]}),
    }
    counts = {"profile": "b" * 24, "reference": "a" * 24, "skipped": {}}
    return HandOver("drift", frames, counts)


def realized() -> HandOver:
    """Return lists that did better than recent popularity."""
    figures = {"users": 9, "newcomers": 1, "ndcg": 0.2, "rule_ndcg": 0.1, "behind": 0.0}
    rows = [{"behavior": behavior, **figures} for behavior in BEHAVIORS]
    return HandOver("realized", {"behaviors": pl.DataFrame(rows)}, {"skipped": {}})


def split() -> HandOver:
    """Return a cut in time: user u has item u in train, u + 1 in valid and u + 2 in test."""
    schema = {
        "user": pl.UInt32,
        "item": pl.UInt32,
        "behavior_index": pl.UInt8,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }
    frames = {}
    for step, (name, users) in enumerate({"train": N, "valid": 5, "test": 5}.items()):
        rows = [
            (user, (user + step) % N, behavior, START + step * DAY + user, START + 9 * DAY, 1)
            for behavior in range(len(BEHAVIORS))
            for user in range(users)
        ]
        frames[name] = pl.DataFrame(rows, schema, orient="row")
    for name, inner in (("users", "user"), ("items", "item")):
        ids = {inner: range(N), f"{inner}_id": [f"id {number}" for number in range(N)]}
        frames[name] = pl.DataFrame(ids, {inner: pl.UInt32, f"{inner}_id": pl.String})
    return HandOver("split", frames, counts={"method": "time"})


def recommendations() -> HandOver:
    """Return three items for each of ten users and three behaviors; item u + 5 was seen."""
    rows = [
        (user, behavior, rank, (user + rank) % N, 1.0 / rank, "model")
        for user in range(N)
        for behavior in BEHAVIORS
        for rank in (1, 2, 3)
    ]
    schema = {
        "user_id": pl.Int64,
        "behavior": pl.String,
        "rank": pl.Int32,
        "item_id": pl.Int64,
        "score": pl.Float32,
        "source": pl.String,
    }
    seen = {
        "user_id": list(range(N)),
        "item_id": [(user + 5) % N for user in range(N)],
        "behavior": ["click"] * N,
    }
    facts = {
        "users": pl.DataFrame({"user_id": range(N)}),
        "items": pl.DataFrame({"item_id": range(N)}),
        "seen": pl.DataFrame(seen),
    }
    lists = pl.DataFrame(rows, schema, orient="row")
    counts = {"behaviors": list(BEHAVIORS), "k": 3, "exclude": "same"}
    return HandOver("recommendations", {"recommendations": lists}, counts, facts)


def catalogue() -> HandOver:
    """Return ten items, of which the log has nine, and knows one more."""
    rows = pl.DataFrame(
        {
            "item_id": [f"sku-{n}" for n in range(10)],
            "category": ["a", "b"] * 5,
            "available_from": [100] * 10,
            "available_until": [200] * 10,
            "in_stock": [True, False] * 5,
        }
    )
    shares = {"known_share": [0.9], "used_share": [0.9]}
    shared = {"of_log": [10], "of_catalogue": [10], "both": [9]}
    return HandOver("catalogue", {"catalogue": rows, "coverage": pl.DataFrame(shared | shares)})


GOOD: dict[str, Callable[[], HandOver]] = {
    "raw_log": raw_log,
    "interactions": interactions,
    "drift": drift,
    "realized": realized,
    "split": split,
    "catalogue": catalogue,
    "recommendations": recommendations,
}
