import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel.config import SynthConfig, load_config
from bigel.errors import ConfigError
from bigel.ingest import ingest
from bigel.store import Workspace
from bigel.synth import events, files, write_log
from bigel.synth.rhythm import DAY, HOURS, WEEKDAYS

ROOT = Path(__file__).parents[2]
BEHAVIORS = ("click", "cart", "purchase")
SMALL = SynthConfig(users=300, items=200, events=6_000, tastes=8, seed=3)
DIRT = {"duplicate": 0.01, "null_user": 0.01, "unknown_behavior": 0.005}
STILL: dict[str, Any] = {"item_lifetime": 0, "user_stay": 0, "trend_share": 0}
LARGE = SynthConfig(users=5_000, items=10_000, events=200_000, tastes=10, days=28, drift=0, **STILL)


def changed(config: SynthConfig, **values: Any) -> SynthConfig:
    return SynthConfig(**{**config.model_dump(), **values})


def table(path: Path, config: SynthConfig, behaviors: tuple[str, ...] = BEHAVIORS) -> pl.DataFrame:
    write_log(path, config, behaviors)
    return pl.read_parquet(path)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for ending in ("csv", "csv.gz", "ndjson", "parquet"):
        paths = [tmp_path / f"{n}.{ending}" for n in ("one", "two", "other")]
        for path, seed in zip(paths, (3, 3, 4), strict=True):
            write_log(path, changed(SMALL, dirt=DIRT, seed=seed), BEHAVIORS)
        one, two, other = (path.read_bytes() for path in paths)
        assert one == two != other
        if ending == "csv.gz":
            assert one[4:8] == bytes(4)  # no time of writing


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    config = changed(SMALL, events=40_000, dirt=DIRT)
    write_log(tmp_path / "here.csv", config, BEHAVIORS)
    code = (
        "import sys, pathlib, polars; from bigel.config import SynthConfig;"
        "from bigel.synth import write_log; assert polars.thread_pool_size() == 3;"
        "config = SynthConfig.model_validate_json(sys.argv[2]);"
        f"write_log(pathlib.Path(sys.argv[1]), config, {BEHAVIORS})"
    )
    there = tmp_path / "there.csv"
    arguments = [sys.executable, "-c", code, str(there), config.model_dump_json()]
    subprocess.run(arguments, check=True, env={"POLARS_MAX_THREADS": "3", "PYTHONPATH": str(ROOT)})
    assert there.read_bytes() == (tmp_path / "here.csv").read_bytes()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ndjson"])
def test_every_ending_holds_the_same_rows(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.{ending}"
    number = write_log(path, SMALL, BEHAVIORS)
    read = pl.read_ndjson if ending == "ndjson" else pl.read_csv
    assert read(path).rows() == table(tmp_path / "log.parquet", SMALL).rows()
    assert read(path).height == number


def test_a_log_that_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = changed(SMALL, dirt={"nested_id": 0.1, "null_user": 0.1})
    with pytest.raises(ConfigError, match=r"log\.xlsx: the ending must be \.csv"):
        write_log(tmp_path / "log.xlsx", SMALL, BEHAVIORS)
    with pytest.raises(ConfigError, match=r"a \.csv log .* cannot hold nested_id; it can hold"):
        write_log(tmp_path / "log.csv", one, BEHAVIORS)
    with pytest.raises(ConfigError, match="unknown_behavior writes 'unknown'"):
        write_log(tmp_path / "log.csv", changed(SMALL, dirt=DIRT), ("unknown", "purchase"))
    with pytest.raises(ConfigError, match="has 3 values for 2 steps between 3 behaviors"):
        write_log(tmp_path / "log.csv", changed(SMALL, conversion=(0.1, 0.2, 0.3)), BEHAVIORS)
    monkeypatch.setattr(files.Frames, "make", None)
    with pytest.raises(TypeError):
        write_log(tmp_path / "log.csv", SMALL, BEHAVIORS)
    assert list(tmp_path.iterdir()) == []


def test_the_funnel_narrows_by_the_conversion_of_each_step(tmp_path: Path) -> None:
    for conversion in ((0.25,), (0.7,), (0.4, 0.1)):
        rows = table(tmp_path / "log.parquet", changed(SMALL, conversion=conversion, events=40_000))
        sizes = dict(rows.group_by("behavior").len().iter_rows())
        assert sizes["click"] == 40_000
        for step, share in enumerate((conversion * 2)[:2]):
            tried = sizes[BEHAVIORS[step]]
            spread = (tried * share * (1 - share)) ** 0.5  # of a binomial
            assert abs(sizes[BEHAVIORS[step + 1]] - tried * share) < 4 * spread
        pairs = {
            name: set(rows.filter(behavior=name).select("user_id", "item_id").iter_rows())
            for name in BEHAVIORS
        }
        assert pairs["purchase"] <= pairs["cart"] <= pairs["click"]


def test_a_conversion_of_one_keeps_every_event(tmp_path: Path) -> None:
    rows = table(tmp_path / "log.parquet", changed(SMALL, conversion=1))
    assert set(rows["behavior"].value_counts()["count"]) == {6_000}


def test_tails_are_as_long_as_stated(tmp_path: Path) -> None:
    """The shares of the first hundredth, by hand, from the integrals of the power laws.

    Items, 10 of 1000 in each taste: (10.5^0.2 - 0.5^0.2) / (1000.5^0.2 - 0.5^0.2) = 0.235.
    Users: (0.012^(1/3) - 0.002^(1/3)) / (1.002^(1/3) - 0.002^(1/3)) = 0.118.
    """
    clicks = table(tmp_path / "log.parquet", LARGE, ("click",))
    for name, number, expected in (("item_id", 10_000, 0.235), ("user_id", 5_000, 0.118)):
        assert clicks[name].is_between(1, number).all()
        sizes = np.sort(clicks[name].value_counts()["count"].to_numpy())[::-1]
        assert sizes[: number // 100].sum() / sizes.sum() == pytest.approx(expected, rel=0.1)
        assert len(sizes) > 0.85 * number


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
    assert 0.7 < near < 0.9  # five of six events follow another of their session
    assert rows["timestamp"].is_sorted()
    span = rows["timestamp"].max() - rows["timestamp"].min()
    assert 0.9 * SMALL.days * DAY < span < SMALL.days * DAY + 100 * events.STEP_DELAY


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_hours_and_weekdays_have_their_rhythm(tmp_path: Path, strength: float) -> None:
    """Counts are spread as 11 = E[L^2] / E[L] times those of single events, L a session's length.

    The delay of a session's events blurs an hour's share, so a little is allowed for it.
    """
    start = 1_700_000_000  # 2023-11-14, a Tuesday, 22:13:20
    for kind, profile in (("daily", HOURS), ("weekly", WEEKDAYS)):
        rhythms = {"daily_rhythm": 0, "weekly_rhythm": 0, f"{kind}_rhythm": strength}
        rows = table(tmp_path / "log.parquet", changed(LARGE, start=start, **rhythms), ("click",))
        time = pl.from_epoch("timestamp")
        place = time.dt.hour() if kind == "daily" else time.dt.weekday() - 1
        counts = rows.group_by(place.alias("at")).len().sort("at")["len"].to_numpy()
        observed, stated = counts / counts.mean() - 1, np.array(profile) - 1
        deviation = (11 / counts.mean() / (stated @ stated)) ** 0.5
        slope = observed @ stated / (stated @ stated)
        assert abs(slope - strength) < 4 * deviation + 0.03
        chi_square = counts.mean() * (observed**2).sum() / 11 / (len(profile) - 1)
        assert (chi_square < 2.5) if strength == 0 else (chi_square > 5)


def test_drift_changes_what_is_popular_and_who_likes_what(tmp_path: Path) -> None:
    alike, loyal = {}, {}
    for drift in (0.0, 0.8):
        values = {"events": 60_000, "layout": "userbehavior", "conversion": 0.01, **STILL}
        config = changed(SMALL, drift=drift, **values)
        rows = table(tmp_path / "log.parquet", config).with_columns(
            pl.col("category").sub(1).floordiv(50).alias("taste")
        )
        thirds = [rows[:20_000], rows[-20_000:]]
        popular = [np.bincount(third["item_id"], minlength=201) for third in thirds]
        alike[drift] = np.corrcoef(*popular)[0, 1]
        tastes = [np.zeros((301, 8)), np.zeros((301, 8))]
        for counts, third in zip(tastes, thirds, strict=True):
            np.add.at(counts, (third["user_id"], third["taste"]), 1)
        loyal[drift] = np.mean(tastes[0].argmax(1) == tastes[1].argmax(1))
    assert alike[0.0] > 0.9
    assert alike[0.8] < alike[0.0] - 0.2
    assert loyal[0.0] > 0.6
    assert loyal[0.8] < loyal[0.0] - 0.15


@pytest.mark.parametrize("days", [1, 30])
def test_chunks_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """In one day a chunk's window is shorter than the delays; rows wait over several."""
    monkeypatch.setattr(events, "CHUNK_EVENTS", 100)
    config = changed(SMALL, conversion=1, days=days)
    rows = table(tmp_path / "log.parquet", config)
    assert rows["timestamp"].is_sorted()
    assert set(rows["behavior"].value_counts()["count"]) == {6_000}
    write_log(tmp_path / "log.csv", config, BEHAVIORS)
    assert pl.read_csv(tmp_path / "log.csv").rows() == rows.rows()


def test_the_layout_of_userbehavior_is_read_by_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    config = load_config("userbehavior", [f"data.path={path}"])
    synth = changed(SMALL, layout="userbehavior", start=config.data.time_min, days=9)
    number = write_log(path, synth, config.data.behaviors)
    names = ["user", "item", "category", "behavior", "time"]
    raw = pl.read_csv(path, has_header=False, new_columns=names)
    assert set(raw["behavior"]) == {"pv", "fav", "cart", "buy"}
    assert raw.group_by("item").agg(pl.col("category").n_unique())["category"].max() == 1
    assert raw["category"].n_unique() > SMALL.tastes
    late = int((raw["time"] > config.data.time_max).sum())  # of the last sessions
    record = ingest(config, Workspace(tmp_path / "workspace"))
    assert late < 30
    assert (record.counts["in"], record.counts["quarantined"]) == (number, late)


def test_tastes_last_over_time_and_tell_more_than_popularity(tmp_path: Path) -> None:
    """Item-to-item cosine on the early log finds more of the late log than popularity."""
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
        found = recall(personal, own, wanted)
        assert found > 1.4 * recall(np.tile(popular, (users, 1)), own, wanted)


def recall(scores: np.ndarray[Any, Any], seen: pl.DataFrame, late: pl.DataFrame) -> float:
    """Share of a user's late items among the best tenth of items that they have not seen."""
    scores = scores.copy()
    scores[seen["user_id"], seen["item_id"]] = -np.inf
    length = scores.shape[1] // 10
    wanted = late.group_by("user_id").agg("item_id").iter_rows()
    found = [np.isin(items, np.argsort(-scores[user])[:length]).mean() for user, items in wanted]
    return float(np.mean(found))
