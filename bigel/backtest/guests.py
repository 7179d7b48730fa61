"""Rivals of ``bigel compare`` in a back-test.

What is trained ranks by what it knew when it was trained. Rules and closed forms are fitted on all
that was known on the night.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bigel.backtest.cut import load_history
from bigel.backtest.tally import Tally
from bigel.compare.contestants import CLOSED, Contestant
from bigel.compare.fitting import code_of_model, fit, is_trained, ranked
from bigel.data.interactions import Interactions
from bigel.model.scores import Scores
from bigel.rivals.base import World
from bigel.schema import NOW
from bigel.state.moment import history_at
from bigel.store import Record, Workspace
from bigel.train.loop import choose_device, use_threads


def score_guest(
    contestant: Contestant, split: Record, cut: Record, graph: Record, night: int,
    workspace: Workspace,
) -> Record:  # fmt: skip
    """Fit a rival, and make and count its lists of one night.

    Args:
        contestant: a rival with its settings.
        split: record of a split by time, of the whole log.
        cut: record of the split that ends where the rival is fitted; of a rule or a closed form
            that is the night.
        graph: its graphs.
        night: T, Unix seconds.
        workspace: where the stage is stored.

    Returns:
        record with the files of ``Tally.write``.
    """
    config = contestant.config
    trained = fit(contestant, cut, graph, workspace) if is_trained(contestant) else None

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with use_threads(config.run.threads):
            history, settings = load_history(split), config.evaluate
            scores = _fitted(contestant, trained, cut)
            tally = Tally.of(history, split, night, settings.cutoffs, settings.batch_users)
            for behavior in range(len(history.behaviors)):
                tally.count(contestant.label, behavior, scores)
            tally.write(out)
        return {"night": night}

    made_of = [trained] if trained is not None else [cut, graph]
    return workspace.run_stage(
        "backtest_guest",
        inputs=[split.fingerprint, *(record.fingerprint for record in made_of)],
        settings={
            "night": night,
            "cutoffs": config.evaluate.cutoffs,
            "model": contestant.model,
            "settings": contestant.of_model,
            "device": choose_device(config.run.device).type,
        },
        code=code_of_model(contestant.model, __name__),
        build=build,
    )


def _fitted(contestant: Contestant, trained: Record | None, cut: Record) -> Scores:
    known = known_to(cut, contestant.config.data.weight)
    if trained is not None:
        return ranked(contestant, trained, known)
    return CLOSED[contestant.model](World.of(known, contestant.config), contestant.settings)


def known_to(cut: Record, weight: str) -> Interactions:
    """Return what stands at the end of a log that was cut, with first times.

    Args:
        cut: record of its split by time.
        weight: ``data.weight``: pairs weigh by all their events up to there.
    """
    history = history_at(cut, NOW)
    return replace(history.weighed(weight), first=history.first_times())
