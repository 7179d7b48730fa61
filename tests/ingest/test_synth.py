from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel.config import SynthConfig, load_config
from bigel.errors import ConfigError
from bigel.ingest import ingest, synth, write_log
from bigel.ingest.synth import DAY, STEP_DELAY
from bigel.workspace import Workspace

BEHAVIORS = ("click", "cart", "purchase")
SMALL = SynthConfig(users=300, items=200, events=6_000, tastes=8, dirt=0.0, seed=3)


def table(path: Path, config: SynthConfig, behaviors: tuple[str, ...] = BEHAVIORS) -> pl.DataFrame:
    write_log(path, config, behaviors)
    return pl.read_parquet(path)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    dirty = SMALL.model_copy(update={"dirt": 0.01})
    for ending in ("csv", "csv.gz", "ndjson", "parquet"):
        paths = [tmp_path / f"{n}.{ending}" for n in ("one", "two", "other")]
        for path, seed in zip(paths, (3, 3, 4), strict=True):
            write_log(path, dirty.model_copy(update={"seed": seed}), BEHAVIORS)
        one, two, other = (path.read_bytes() for path in paths)
        assert one == two != other
        if ending == "csv.gz":
            assert one[4:8] == bytes(4)  # no time of writing


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ndjson"])
def test_every_ending_holds_the_same_rows(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.{ending}"
    write_log(path, SMALL, BEHAVIORS)
    read = pl.read_ndjson if ending == "ndjson" else pl.read_csv
    assert read(path).rows() == table(tmp_path / "log.parquet", SMALL).rows()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log\.xlsx: the ending must be \.csv"):
        write_log(tmp_path / "log.xlsx", SMALL, BEHAVIORS)


def test_the_funnel_narrows_by_the_conversion(tmp_path: Path) -> None:
    for conversion in (0.25, 0.7):
        config = SMALL.model_copy(update={"conversion": conversion, "events": 40_000})
        rows = table(tmp_path / "log.parquet", config)
        sizes = dict(rows.group_by("behavior").len().iter_rows())
        assert sizes["click"] == 40_000
        assert sizes["cart"] / sizes["click"] == pytest.approx(conversion, rel=0.15)
        assert sizes["click"] > sizes["cart"] > sizes["purchase"] > 0
        pairs = {
            name: set(rows.filter(behavior=name).select("user_id", "item_id").iter_rows())
            for name in BEHAVIORS
        }
        assert pairs["purchase"] <= pairs["cart"] <= pairs["click"]


def test_a_conversion_of_one_keeps_every_event(tmp_path: Path) -> None:
    rows = table(tmp_path / "log.parquet", SMALL.model_copy(update={"conversion": 1.0}))
    assert set(rows["behavior"].value_counts()["count"]) == {6_000}


def test_tails_are_long(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"events": 30_000})
    clicks = table(tmp_path / "log.parquet", config).filter(behavior="click")
    for name, number in (("user_id", 300), ("item_id", 200)):
        assert clicks[name].is_between(1, number).all()
        sizes = np.sort(clicks[name].value_counts()["count"].to_numpy())[::-1]
        assert sizes[: number // 10].sum() / sizes.sum() > 0.3  # of an even log: 0.1
        assert len(sizes) > 0.9 * number


def test_times_lie_in_sessions_over_the_days(tmp_path: Path) -> None:
    rows = table(tmp_path / "log.parquet", SMALL)
    clicks = rows.filter(behavior="click").sort("user_id", "timestamp")
    gaps = (
        clicks.group_by("user_id")
        .agg(pl.col("timestamp").diff())["timestamp"]
        .explode()
        .drop_nulls()
    )
    near = (gaps < 600).mean()
    assert 0.5 < near < 0.95  # most events follow one of their session
    assert rows["timestamp"].is_sorted()
    span = rows["timestamp"].max() - rows["timestamp"].min()
    assert 0.9 * SMALL.days * DAY < span < SMALL.days * DAY + 100 * STEP_DELAY


def test_dirt_is_all_quarantined_and_nothing_else(
    tmp_path: Path, ingest_files: Callable[..., Any]
) -> None:
    columns = {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
    results = {}
    for dirt in (0.0, 0.1):
        path = tmp_path / f"{dirt}.csv"
        write_log(path, SMALL.model_copy(update={"dirt": dirt}), BEHAVIORS)
        results[dirt] = ingest_files(
            {path.name: path.read_bytes()}, path=path.name, columns=columns, behaviors=BEHAVIORS
        )
    clean, dirty = results[0.0], results[0.1]
    bad = round(0.1 * clean.record.counts["in"])
    assert clean.record.counts["quarantined"] == 0
    assert dirty.record.counts["in"] == clean.record.counts["in"] + 2 * bad
    assert dirty.record.counts["quarantined"] == bad
    assert dirty.record.counts["merged"] == clean.record.counts["merged"] + bad
    assert dirty.interactions.drop("count").equals(clean.interactions.drop("count"))
    assert len(dirty.record.counts["reasons"]) == 5
    assert min(dirty.record.counts["reasons"].values()) >= bad // 5


def test_chunks_follow_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "CHUNK_EVENTS", 1_500)
    rows = table(tmp_path / "log.parquet", SMALL)
    assert rows["behavior"].value_counts(sort=True)["count"][0] == 6_000
    days = (rows.filter(behavior="click")["timestamp"] - synth.START) / DAY
    means = [days[i : i + 1_500].mean() for i in range(0, 6_000, 1_500)]
    assert means == sorted(means)
    csv = tmp_path / "log.csv"
    write_log(csv, SMALL, BEHAVIORS)
    assert pl.read_csv(csv).rows() == rows.rows()


def test_tastes_last_over_time_and_tell_more_than_popularity(tmp_path: Path) -> None:
    """Item-to-item cosine on the early log ranks the late log's items better than popularity."""
    overrides = ["synth.users=600", "synth.items=450", "synth.events=22500"]
    record = ingest(load_config("demo", overrides), Workspace(tmp_path))
    rows = pl.read_parquet(record.file("interactions.parquet"))
    cut = rows["timestamp"].quantile(0.9)
    users, items = rows["user_id"].max() + 1, rows["item_id"].max() + 1
    known, late = rows.filter(pl.col("timestamp") <= cut), rows.filter(pl.col("timestamp") > cut)
    early = np.zeros((users, items))
    np.add.at(early, (known["user_id"], known["item_id"]), 1)
    unit = early / np.maximum(np.linalg.norm(early, axis=0), 1)
    personal = early @ (unit.T @ unit)
    for behavior in BEHAVIORS:
        own = known.filter(behavior=behavior)
        popular = np.bincount(own["item_id"], minlength=items).astype(float)
        wanted = late.filter(behavior=behavior)
        best = hit_rate(personal, own, wanted)
        assert best > 1.7 * hit_rate(np.tile(popular, (users, 1)), own, wanted)


def hit_rate(scores: np.ndarray[Any, Any], seen: pl.DataFrame, late: pl.DataFrame) -> float:
    """Share of users with a late item among their five best that they have not seen."""
    scores = scores.copy()
    scores[seen["user_id"], seen["item_id"]] = -np.inf
    wanted = late.group_by("user_id").agg("item_id").iter_rows()
    found = [bool(set(np.argsort(-scores[user])[:5]) & set(items)) for user, items in wanted]
    return float(np.mean(found))
