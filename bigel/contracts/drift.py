"""Drift: a run's profile beside that of the last accepted run, as tables that a contract judges.

Every measure is a share, a difference of shares, a relative change or a population stability
index, so that one limit serves logs of any size. A log is taken to be whole every time: it grows,
or its window moves on. Volumes are per day where the log has event times.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bigel.config import Config
from bigel.contracts.accepted import GONE, MEASURES_FILE, accepted_at, reference_of
from bigel.contracts.profile import HOURS_FILE, read_profile, span_of
from bigel.schema import BEHAVIOR, ITEM_ID, ITEMS_FILE, USER_ID, USERS_FILE
from bigel.store import Record, Workspace, write_json
from bigel.store.code import code_of

APART = ("bigel.contracts.accepted",)  # make or find inputs
MEASURES = {
    "behaviors": {
        "volume_change": "volume, change",
        "gini_change": "Gini of the items, difference",
        "top_share_change": "top 1 % of items, difference",
    },
    "hours": {"hour_change": "each hour of the day, change"},
    "funnel": {"rate_change": "conversion, change"},
    "totals": {
        "new_user_share": "new users, share",
        "new_item_share": "new items, share",
        "duplicate_change": "repeated rows, difference of shares",
        "behavior_psi": "mix of behaviors, PSI",
    },
    "times": {
        "late_share": "late interactions, share",
        "hour_psi": "hours of the day, PSI",
    },
}  # table to its measures, in words
FEWEST_EXPECTED = 100  # interactions of an hour; below, its change is mostly chance
FIRST = (
    "no run was accepted before this log, so there is nothing beside it; the first accepted one is "
    "what the next is compared with"
)
SAME = (
    "the run accepted on {when} is of this same log, and it was the first with these behaviors, so "
    "there is nothing to compare"
)
NO_TIMES = "the log has no event times"
ONE_BEHAVIOR = "there is one behavior, so no step between two"


log = logging.getLogger(__name__)


def measure_drift(profiled: Record, config: Config, workspace: Workspace) -> Record:
    """Compare a profile with that of the last accepted run.

    The record's folder holds a Parquet file per table of ``MEASURES`` that applies, and
    measures.json. Counts: ``profile`` and ``reference``, the fingerprints of the profiles (None
    where there is no last run), and ``skipped`` (table to the reason why it is not there). What is
    stored does not change when the log is accepted; the reason that is told does.

    Args:
        profiled: record of ``profile_log``.
        config: ``data.behaviors`` orders the funnel, ``tracking.model_name`` names the history.
        workspace: holds the history of accepted runs and their profiles.
    """
    behaviors = config.data.behaviors
    last, why = reference_of(profiled.fingerprint, config, workspace)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        tables: dict[str, pl.DataFrame] = {}
        skipped = dict.fromkeys(MEASURES, why or FIRST)
        if last is not None:
            tables, skipped = compare(Path(profiled.path), Path(last.path), behaviors)
        for name, table in tables.items():
            table.write_parquet(out / f"{name}.parquet")
        write_json(out / MEASURES_FILE, measures_of(tables))
        return {
            "profile": profiled.fingerprint,
            "reference": last and last.fingerprint,
            "skipped": skipped,
        }

    compared = last or profiled
    when = accepted_at(compared.fingerprint, config, workspace)
    alone = SAME.format(when=when) if when and why != GONE else why or FIRST
    log.info("drift: %s", f"beside the run accepted on {when}" if last else alone)
    drifted = workspace.run_stage(
        "drift",
        inputs=[profiled.fingerprint, *([last.fingerprint] if last else [])],
        settings={"behaviors": behaviors, "why": why},
        code=code_of(__name__, apart=APART),
        build=build,
    )
    if last is not None:
        return drifted
    return replace(drifted, counts=drifted.counts | {"skipped": dict.fromkeys(MEASURES, alone)})


def compare(
    new: Path, old: Path, behaviors: Sequence[str]
) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """Return the tables of two profiles' differences, and the tables that do not apply with why.

    Args:
        new: folder of this run's profile.
        old: folder of the last accepted run's profile.
        behaviors: the cascade in order.
    """
    here, there = read_profile(new), read_profile(old)
    tables = {
        "behaviors": _behaviors(here, there, behaviors),
        "totals": _totals(new, old, behaviors),
    }
    skipped: dict[str, str] = {}
    if len(behaviors) > 1:
        tables["funnel"] = _funnel(here, there, behaviors)
    else:
        skipped["funnel"] = ONE_BEHAVIOR
    if "days" in here and "days" in there:
        hours, before = (pl.read_parquet(folder / HOURS_FILE) for folder in (new, old))
        tables["hours"] = _hours(hours, before, here["days"] / there["days"], behaviors)
        tables["times"] = _times(hours, before)
    else:
        why = NO_TIMES if "days" not in here else "the last accepted run had no event times"
        skipped |= {"hours": why, "times": why}
    return {name: tables[name] for name in MEASURES if name in tables}, skipped


def measures_of(tables: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Return each measure as ``table, measure, about, low, high``.

    ``about`` is the behavior or the step, "" for the whole log; ``low`` and ``high`` are the
    extremes over its rows (hours), else the same; None where it cannot be told.
    """
    found = []
    for name, table in tables.items():
        text = table.columns[0] if table.schema[table.columns[0]] == pl.String else None
        parts = table.partition_by(text, maintain_order=True) if text else [table]
        for part in parts:
            about = str(part[text][0]) if text else ""
            for measure in MEASURES[name]:
                low, high = part[measure].min(), part[measure].max()
                found.append(
                    {"table": name, "measure": measure, "about": about, "low": low, "high": high}
                )
    return found


def psi(new: Sequence[float], old: Sequence[float]) -> float:
    """Return the population stability index of two counts of the same classes.

    Half an event is added to each class, so that an empty one gives a finite figure.

    >>> psi([10, 30], [10, 30]), round(psi([100, 300], [300, 100]), 3)
    (0.0, 1.093)
    """
    p, q = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (new, old))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def _behaviors(
    here: dict[str, Any], there: dict[str, Any], behaviors: Sequence[str]
) -> pl.DataFrame:
    """Return a row per behavior: volume (per day with event times) and popularity, now and then."""
    timed = "days" in here and "days" in there
    rows = []
    for name in behaviors:
        new, old = here["behaviors"][name], there["behaviors"][name]
        volume, last_volume = (
            figures["events"] / (profile["days"] if timed else 1)
            for figures, profile in ((new, here), (old, there))
        )
        row = {BEHAVIOR: name, "volume": volume, "last_volume": last_volume}
        one = 1 / (there["days"] if timed else 1)
        row["volume_change"] = _change(volume, last_volume, one)
        for key in ("gini", "top_share"):
            known = new["pairs"] and old["pairs"]
            row |= {key: new[key], f"last_{key}": old[key]}
            row[f"{key}_change"] = new[key] - old[key] if known else None
        rows.append(row)
    kinds = {name: pl.Float64 for name in rows[0] if name != BEHAVIOR}
    return pl.DataFrame(rows, schema={BEHAVIOR: pl.String, **kinds})


def _funnel(here: dict[str, Any], there: dict[str, Any], behaviors: Sequence[str]) -> pl.DataFrame:
    """Return a row per step of the cascade: interactions of the later for one of the earlier."""
    rows = []
    for earlier, later in pairwise(behaviors):
        rate, last_rate = (_rate(profile["behaviors"], earlier, later) for profile in (here, there))
        change = None
        if rate is not None and last_rate is not None:
            change = _change(rate, last_rate, 1 / there["behaviors"][earlier]["pairs"])
        rows.append((f"{earlier} to {later}", rate, last_rate, change))
    names = ("step", "rate", "last_rate", "rate_change")
    kinds = (pl.String, pl.Float64, pl.Float64, pl.Float64)
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")


def _totals(new: Path, old: Path, behaviors: Sequence[str]) -> pl.DataFrame:
    here, there = read_profile(new), read_profile(old)
    rates = [profile["merged"] / max(profile["rows"], 1) for profile in (here, there)]
    counts = [
        [profile["behaviors"][name]["events"] for name in behaviors] for profile in (here, there)
    ]
    return pl.DataFrame(
        {
            "new_user_share": [_new_share(new / USERS_FILE, old / USERS_FILE, USER_ID)],
            "new_item_share": [_new_share(new / ITEMS_FILE, old / ITEMS_FILE, ITEM_ID)],
            "duplicate_rate": [rates[0]],
            "last_duplicate_rate": [rates[1]],
            "duplicate_change": [rates[0] - rates[1]],
            "behavior_psi": [psi(*counts)],
        }
    )


def _new_share(new: Path, old: Path, column: str) -> float:
    """Return the share of ids that the last run did not have; ids compare as text."""
    ids, known = (
        pl.scan_parquet(path).select(pl.col(column).cast(pl.String)) for path in (new, old)
    )
    fresh = ids.join(known, on=column, how="anti").select(pl.len()).collect(engine="streaming")
    total = int(ids.select(pl.len()).collect().item())
    return int(fresh.item()) / max(total, 1)


def _hours(
    hours: pl.DataFrame, before: pl.DataFrame, longer: float, behaviors: Sequence[str]
) -> pl.DataFrame:
    """Return a row per behavior and hour of the day (UTC), expected from the last run.

    Args:
        hours: of this run, as ``profile.hourly``.
        before: of the last accepted run.
        longer: days of this log for one day of the last.
        behaviors: the cascade.
    """
    clock = pl.DataFrame({BEHAVIOR: list(behaviors)}).join(
        pl.DataFrame({"hour": range(24)}, schema={"hour": pl.Int64}), how="cross"
    )
    for name, frame in (("found", hours), ("before", before)):
        counted = frame.group_by(BEHAVIOR, pl.col("hour") % 24).agg(
            pl.col("pairs").sum().alias(name)
        )
        clock = clock.join(counted, on=[BEHAVIOR, "hour"], how="left", maintain_order="left")
    clock = clock.with_columns(pl.col("found", "before").fill_null(0))
    expected = pl.col("before") * longer
    change = pl.when(expected >= FEWEST_EXPECTED).then(pl.col("found") / expected - 1)
    return clock.select(
        BEHAVIOR, "hour", "found", expected.alias("expected"), change.alias("hour_change")
    )


def _times(hours: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Return one row: ``late_share`` and the index of the hours of the day.

    Late are interactions in hours that were over when the last accepted log ended (without its
    strays), beyond those that it had there. A repeated interaction moves to its last hour, so some
    are missed.
    """
    span = span_of(before)
    end = 0 if span is None else span[1]
    then = before.group_by("hour").agg(pl.col("pairs").sum().alias("before"))
    both = hours.group_by("hour").agg(pl.col("pairs").sum()).join(then, on="hour", how="left")
    more = (pl.col("pairs") - pl.col("before").fill_null(0)).clip(0)
    late = both.filter(pl.col("hour") < end).select(more.sum()).item()
    clocks = [np.zeros(24), np.zeros(24)]
    for clock, frame in zip(clocks, (hours, before), strict=True):
        np.add.at(clock, frame["hour"].to_numpy() % 24, frame["pairs"].to_numpy())
    return pl.DataFrame(
        {
            "late_share": [late / max(hours["pairs"].sum(), 1)],
            "hour_psi": [psi(clocks[0].tolist(), clocks[1].tolist())],
        }
    )


def _rate(figures: dict[str, Any], earlier: str, later: str) -> float | None:
    pairs: int = figures[earlier]["pairs"]
    return figures[later]["pairs"] / pairs if pairs else None


def _change(new: float, old: float, one: float) -> float | None:
    """Return the relative change; of something out of nothing, as if there had been one row.

    Args:
        new: volume or rate of this run.
        old: of the last accepted run.
        one: what a single row would have made of the old one.
    """
    if not old:
        return max(new / one - 1, 0.0) if new else None
    return new / old - 1
