"""The realized stage: the last lists before tonight, scored on what the log has brought since."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.realized.published import (
    LEAST_BETWEEN,
    SHOWN,
    Published,
    keep_night,
    nights_before,
    published,
)
from bigel.realized.scoring import (
    KEY,
    LIST,
    PAIR,
    Since,
    end_of,
    figures_of,
    mean_and_error,
    new_pairs,
    places,
    read_log,
    score,
    since,
)
from bigel.schema import (
    BEHAVIOR,
    FIRST,
    INTERACTIONS_FILE,
    NIGHT_FILE,
    NIGHTS_FILE,
    RANK,
    RECOMMENDATIONS_FILE,
    RULE_FILE,
    USER_ID,
)
from bigel.store import Record, Workspace, write_json
from bigel.store.code import code_of

TABLE = "behaviors"
CHANCE = 2.0  # standard errors of a difference that chance explains
NO_TIMES = "the log has no event times"
NO_LISTS = (
    "no lists are kept that were published for an earlier end of the log; the next run scores "
    "tonight's"
)
GONE = "the lists published last are not stored any more"
BEFORE = "the log begins after the lists were made, so nobody can tell what was new to whom"
COLUMNS = {
    BEHAVIOR: pl.String,
    "users": pl.Int64,
    "newcomers": pl.Int64,
    "ndcg": pl.Float64,
    "rule_ndcg": pl.Float64,
    "behind": pl.Float64,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """Lists to score.

    Args:
        note: when they were published, and how they were asked for.
        lists: record with ``recommendations.parquet``.
        rule: record with ``rule.parquet``: what was popular when they were published.
        until: Unix seconds: the log's end, or when the next night's lists were made.
    """

    note: Published
    lists: Record
    rule: Record
    until: int


def measure_realized(ingested: Record, config: Config, workspace: Workspace) -> Record:
    """Score the last night's lists on what the log has brought since, and the rule beside them.

    That are the last ones that were out for ``LEAST_BETWEEN``; where none were, the last ones.

    Args:
        ingested: record of the ingest stage, of a log that has grown since.
        config: ``data.behaviors``, ``evaluate.select_cutoff`` and ``tracking.model_name``.
        workspace: holds the notes of what was published, and the nights scored so far.

    Returns:
        record with ``night.json`` (see ``measure``; {} where nothing is scored), ``nights.json``
        (the last nights, this one included, oldest first) and ``behaviors.parquet`` (a row per
        behavior: what the contract judges). Counts: ``lists``, the name of the night or None;
        ``nights``, their number; ``skipped``, table to the reason why it is not there.
    """
    behaviors, cutoff = config.data.behaviors, config.evaluate.select_cutoff
    end = end_of(ingested.file(INTERACTIONS_FILE))
    served, why = _last(ingested, end, config, workspace)
    name, moment = (served.note.name, served.note.moment) if served else (None, end or 0)
    before = nights_before(moment, config, workspace)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        night = measure(ingested, served, behaviors, cutoff) if served else {}
        if night:
            _table(night).write_parquet(out / f"{TABLE}.parquet")
        nights = [*before, *([night] if night else [])][-SHOWN:]
        write_json(out / NIGHT_FILE, night)
        write_json(out / NIGHTS_FILE, nights)
        return {"lists": name, "nights": len(nights), "skipped": {TABLE: why} if why else {}}

    log.info("realized: %s", f"lists {name}" if served else why)
    of_lists = [served.lists.fingerprint, served.rule.fingerprint] if served else []
    record = workspace.run_stage(
        "realized",
        inputs=[ingested.fingerprint, *of_lists],
        settings={
            **{"behaviors": behaviors, "cutoff": cutoff, "before": before},
            **{"lists": name, "why": why},
        },
        code=code_of(__name__),
        build=build,
    )
    if served:
        keep_night(read_night(record), config, workspace)
    return record


def measure(
    ingested: Record, served: Served, behaviors: Sequence[str], cutoff: int
) -> dict[str, Any]:
    """Score lists and rule on the same new pairs of the same users.

    Args:
        ingested: record of the log as it is now.
        served: the lists, and the rule beside them.
        behaviors: the cascade; of these, those that the lists hold are scored.
        cutoff: list length of the figures, beside the whole length.

    Returns:
        ``name``, ``moment`` and ``until`` (the pairs are new from the first and before the second,
        Unix seconds), ``model`` (URI), ``cutoff`` (no longer than the lists), ``half_lives`` of the
        rule, and ``behaviors``: name to ``users`` (known to the lists, with a new pair: the
        denominator), ``newcomers`` (users with a new pair that the lists do not know), ``pairs``
        (of the known), ``lists`` and ``rule`` (``ndcg@k``, ``ndcg_se@k``, ``hr@k``), ``difference``
        (of the NDCG at the cutoff, lists less rule) and ``difference_se``. A figure without users
        is None.
    """
    place, note = ingested.file(INTERACTIONS_FILE), served.note
    rows, until = read_log(place), served.until
    assert rows is not None
    rows, lists, popular = _with_same_ids(
        rows,
        pl.scan_parquet(served.lists.file(RECOMMENDATIONS_FILE)),
        pl.scan_parquet(served.rule.file(RULE_FILE)),
    )
    cutoffs = sorted({min(cutoff, note.k), note.k})
    listed = [name for name in behaviors if name in served.lists.counts["behaviors"]]
    new = new_pairs(rows.filter(pl.col(BEHAVIOR).is_in(listed)), note.moment, until)
    users = new.lazy().select(USER_ID).unique()
    mine = lists.join(users, on=USER_ID, how="semi").select(*KEY, RANK).collect()
    known = new.join(mine, on=USER_ID, how="semi")
    asked = since(rows, known, note.moment, note.exclude)
    scored = _beside(asked, mine.lazy(), popular, cutoffs)
    newcomers = new.join(mine, on=USER_ID, how="anti").unique(LIST)
    came = dict(newcomers.group_by(BEHAVIOR).len().iter_rows())
    return {
        "name": note.name,
        "moment": note.moment,
        "until": until,
        "model": note.model,
        "cutoff": cutoffs[0],
        "half_lives": served.rule.counts["half_lives"],
        "behaviors": {
            name: _figures(scored.filter(pl.col(BEHAVIOR) == name), came.get(name, 0), cutoffs)
            for name in listed
        },
    }


def behind(figures: dict[str, Any], cutoff: int) -> float | None:
    """Return the share of the rule's NDCG that lists lack, beyond what chance explains.

    >>> rule = {"ndcg@5": 0.2}
    >>> behind({"rule": rule, "difference": -0.1, "difference_se": 0.02}, 5)
    0.3
    >>> behind({"rule": rule, "difference": -0.1, "difference_se": 0.06}, 5)
    0.0
    """
    popular, error = figures["rule"][f"ndcg@{cutoff}"], figures["difference_se"]
    if error is None:
        return None
    lacking = max(0.0, -figures["difference"] - CHANCE * error)
    return round(lacking / popular, 9) if popular else 0.0


def read_night(record: Record) -> dict[str, Any]:
    """Return how the last lists did, as of ``measure``; {} where none were scored."""
    night: dict[str, Any] = json.loads(record.file(NIGHT_FILE).read_text("utf-8"))
    return night


def _last(
    ingested: Record, end: int | None, config: Config, workspace: Workspace
) -> tuple[Served | None, str | None]:
    """Return the lists to score, or why there are none."""
    rows = read_log(ingested.file(INTERACTIONS_FILE))
    if rows is None or end is None:
        return None, NO_TIMES
    earlier = [note for note in published(config, workspace) if note.moment < end]
    if not earlier:
        return None, NO_LISTS
    settled = [note for note in earlier if note.moment <= end - LEAST_BETWEEN]
    note = (settled or earlier)[-1]
    until = min([end, *(one.moment for one in earlier if one.moment > note.moment)])
    if rows.select(pl.col(FIRST).min()).collect(engine="streaming").item() >= note.moment:
        return None, BEFORE
    lists = workspace.stored("recommend", note.lists)
    rule = workspace.stored("rule", note.rule)
    return (Served(note, lists, rule, until), None) if lists and rule else (None, GONE)


def _with_same_ids(*frames: pl.LazyFrame) -> list[pl.LazyFrame]:
    """Return the frames with ids that can be compared: as text where their types differ."""
    kinds = [frame.collect_schema() for frame in frames]
    text = [
        column for column in PAIR if len({kind[column] for kind in kinds if column in kind}) > 1
    ]
    return [
        frame.with_columns(pl.col(name).cast(pl.String) for name in text if name in kind)
        for frame, kind in zip(frames, kinds, strict=True)
    ]


def _beside(
    asked: Since, served: pl.LazyFrame, popular: pl.LazyFrame, cutoffs: Sequence[int]
) -> pl.DataFrame:
    """Return the figures of each list, and beside them, as ``*_rule``, those of the rule."""
    ours, theirs = (
        score(places(ranked, asked), asked.targets, cutoffs) for ranked in (served, popular)
    )
    return ours.join(theirs.drop("pairs"), on=LIST, suffix="_rule")


def _figures(scored: pl.DataFrame, newcomers: int, cutoffs: Sequence[int]) -> dict[str, Any]:
    """Return what ``measure`` tells of one behavior."""
    of_rule = {name: name.removesuffix("_rule") for name in scored.columns if "_rule" in name}
    k = cutoffs[0]
    difference, error = mean_and_error(scored[f"ndcg@{k}"] - scored[f"ndcg@{k}_rule"])
    return {
        "users": scored.height,
        "newcomers": newcomers,
        "pairs": int(scored["pairs"].sum()),
        "lists": figures_of(scored, cutoffs),
        "rule": figures_of(scored.select(*of_rule).rename(of_rule), cutoffs),
        "difference": difference,
        "difference_se": error,
    }


def _table(night: dict[str, Any]) -> pl.DataFrame:
    """Return a row per behavior: what the contract judges."""
    k = night["cutoff"]
    rows = [
        {
            BEHAVIOR: name,
            "users": found["users"],
            "newcomers": found["newcomers"],
            "ndcg": found["lists"][f"ndcg@{k}"],
            "rule_ndcg": found["rule"][f"ndcg@{k}"],
            "behind": behind(found, k),
        }
        for name, found in night["behaviors"].items()
    ]
    return pl.DataFrame(rows, schema=COLUMNS)
