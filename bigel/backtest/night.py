"""One night of a back-test: the lists that rules and the model of that night would have made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from bigel.backtest.cut import load_history
from bigel.backtest.rehearsal import REHEARSAL_FILE, choose_half_lives
from bigel.backtest.tally import KNOWN, NEW, Tally
from bigel.config import Config
from bigel.signals.recent import OrRecent, recent_demand
from bigel.signals.rules import CANDIDATES, POPULAR, Evening
from bigel.state.moment import learned_of, state_at
from bigel.store import Record, Workspace
from bigel.store.code import code_of

BIGEL = "bigel"
STAGE = "backtest_night"


def score_rules(
    split: Record, rehearsals: Sequence[Record], night: int, config: Config, workspace: Workspace
) -> Record:
    """Make and count the lists of every rule of one night; new users get recent popularity alone.

    Args:
        split: record of a split by time, of the whole log.
        rehearsals: records of ``rehearse`` for the nights before, which choose the half-lives.
        night: T, Unix seconds.
        config: ``evaluate.cutoffs``.
        workspace: where the stage is stored.

    Returns:
        record with the files of ``Tally.write``; counts: "half_lives" by behavior and rule.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        history = load_history(split)
        chosen = choose_half_lives(
            [pl.read_parquet(one.file(REHEARSAL_FILE)) for one in rehearsals]
        )
        tally = _tally(split, night, config)
        evening = Evening.of(history.at(night))
        for behavior, name in enumerate(history.behaviors):
            for rule in CANDIDATES:
                scores = evening.scores(rule, behavior, chosen[name, rule])
                for group in (KNOWN, NEW) if rule == POPULAR else (KNOWN,):
                    tally.count(rule, behavior, scores, group)
        tally.write(out)
        half_lives: dict[str, dict[str, list[str]]] = {}
        for (name, rule), found in sorted(chosen.items()):
            half_lives.setdefault(name, {})[rule] = [f"{days:g}" for days in found]
        return {"night": night, "half_lives": half_lives}

    return workspace.run_stage(
        STAGE,
        inputs=[split.fingerprint, *(one.fingerprint for one in rehearsals)],
        settings=_settings(night, config) | {"contestant": "rules"},
        code=code_of(__name__),
        build=build,
        quiet=True,
    )


def score_bigel(
    split: Record, trained: Record, night: int, config: Config, workspace: Workspace
) -> Record:
    """Make and count the lists of the model that would have served on one night.

    Users without an event before get what serving gives them: what is popular lately.

    Args:
        split: record of a split by time, of the whole log.
        trained: record of a training on a split that ends on that night or before.
        night: T, Unix seconds.
        config: ``evaluate``.
        workspace: where the stage is stored.

    Returns:
        record with the files of ``Tally.write``.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        on_gpu = trained.counts["device"] == "cuda" and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        model = state_at(learned_of(trained), split, night, device).scores()
        known = load_history(split).at(night)
        demand_KI, _ = recent_demand(known, config.evaluate.select_cutoff)
        scores = OrRecent.of(model, known, demand_KI)
        tally = _tally(split, night, config)
        for behavior in range(len(known.behaviors)):
            for group in (KNOWN, NEW):
                tally.count(BIGEL, behavior, scores, group)
        tally.write(out)
        return {"night": night}

    return workspace.run_stage(
        STAGE,
        inputs=[split.fingerprint, trained.fingerprint],
        settings=_settings(night, config) | {"select_cutoff": config.evaluate.select_cutoff},
        code=code_of(__name__),
        build=build,
    )


def _tally(split: Record, night: int, config: Config) -> Tally:
    settings = config.evaluate
    return Tally.of(load_history(split), split, night, settings.cutoffs, settings.batch_users)


def _settings(night: int, config: Config) -> dict[str, Any]:
    return {"night": night, "cutoffs": config.evaluate.cutoffs}
