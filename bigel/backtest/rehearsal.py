"""Rehearsals: how every rule at every half-life would have done on a night.

A night's rules take the half-lives that did best on the rehearsals of the nights before it, so
nothing of the night itself, and nothing later, chooses them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.backtest.cut import SHOWN, After, after, load_history
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import rank_task
from bigel.schema import BEHAVIOR, DAY
from bigel.signals.rules import CANDIDATES, Evening, HalfLives
from bigel.store import Record, Workspace
from bigel.store.code import code_of

NIGHTS = 14  # before a night, by which its half-lives are chosen, at most
USERS = 500  # of a night and behavior, by whom they are chosen, at most
VALUES = 16_000_000  # float32 values of these users by items: 64 MB
REHEARSAL_FILE = "rehearsal.parquet"


def rehearse(split: Record, night: int, workspace: Workspace) -> Record:
    """Try every rule at every half-life on one night.

    Args:
        split: record of a split by time, of the whole log.
        night: T, Unix seconds.
        workspace: where the stage is stored.

    Returns:
        record with ``rehearsal.parquet``: behavior, rule, place of the half-lives in
        ``CANDIDATES``, users, and the sum of their NDCG.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        history = load_history(split)
        evening, asked = Evening.of(history.at(night)), after(history, night)
        rows = [
            (name, *row)
            for behavior, name in enumerate(history.behaviors)
            for row in _tried(evening, asked[behavior], behavior)
        ]
        names = {BEHAVIOR: pl.String, "rule": pl.String, "place": pl.Int64, "users": pl.Int64}
        frame = pl.DataFrame(rows, names | {"ndcg": pl.Float64}, orient="row")
        frame.write_parquet(out / REHEARSAL_FILE)
        return {"night": night}

    return workspace.run_stage(
        "backtest_rehearsal",
        inputs=[split.fingerprint],
        settings={"night": night},
        code=code_of(__name__),
        build=build,
        quiet=True,
    )


def _tried(evening: Evening, asked: After, behavior: int) -> list[tuple[str, int, int, float]]:
    """Return rule, place, users and summed NDCG of each candidate."""
    most = min(USERS, max(1, VALUES // evening.history.n_items))
    task = asked.known.only(most)
    found = []
    for rule, candidates in CANDIDATES.items():
        for place, half_lives in enumerate(candidates):
            scores = evening.scores(rule, behavior, half_lives)
            ranked = rank_task(scores, behavior, task, SHOWN, most)
            ndcg = ndcg_at(ranked.hits, ranked.relevant, SHOWN)
            found.append((rule, place, len(task.users), float(ndcg.sum())))
    return found


def rehearsed_before(night: int, first: int) -> list[int]:
    """Return the nights whose rehearsals a night may look at.

    Args:
        night: T, Unix seconds; the last rehearsal's day ends there.
        first: time of the log's first event.

    >>> [one // DAY for one in rehearsed_before(10 * DAY, 7 * DAY + 1)]
    [8, 9]
    """
    nights = (night - j * DAY for j in range(NIGHTS, 0, -1))
    return [one for one in nights if one > first]


def choose_half_lives(rehearsals: Sequence[pl.DataFrame]) -> dict[tuple[str, str], HalfLives]:
    """Return by behavior and rule the half-lives with the highest mean NDCG over user-nights.

    Of equals the last candidate, which forgets least.

    Args:
        rehearsals: as ``rehearse`` writes them, one or more.
    """
    grouped = pl.concat(rehearsals).group_by(BEHAVIOR, "rule", "place", maintain_order=True)
    ordered = grouped.agg(pl.col("ndcg").sum()).sort("ndcg", "place")
    best = ordered.group_by(BEHAVIOR, "rule", maintain_order=True).last()
    return {
        (behavior, rule): CANDIDATES[rule][place]
        for behavior, rule, place in best.select(BEHAVIOR, "rule", "place").iter_rows()
    }
