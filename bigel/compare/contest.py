"""One unit of a comparison: a contestant, trained with one seed, ranked on one split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.compare.contestants import CLOSED, Contestant
from bigel.compare.fitting import code_of_model, fit, is_trained, ranked, refit
from bigel.config import CALIBRATION, Config
from bigel.data.interactions import Interactions
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import rank_views
from bigel.model.scores import ByBehavior, Scores
from bigel.rivals.base import World
from bigel.store import Record, Workspace
from bigel.train.calibration import calibrate, count_again
from bigel.train.loop import choose_device, use_threads

FIGURES_FILE = "figures.parquet"
COMPARED = ("ndcg", "hr")


def contest(
    contestant: Contestant, split: Record, graph: Record, on: str, workspace: Workspace
) -> Record:
    """Train a contestant with the seed of its configuration and rank a split's users.

    They are ranked before and after it is calibrated (trend, neighbours and funnel memory, all
    fitted on validation), whatever the model: so a table can tell what the model brings and what
    the calibration brings. On valid each user has the one that was fitted without the user.

    Rules and closed forms need no validation for their weights. On test they are fitted again on
    what users are then known to have: train and the validation pairs that were drawn from it; but
    not where they keep a trend, which has counted these pairs already. Trained models cannot be,
    for those pairs stop their training.

    A contestant that is to be refitted is fitted again on train and all of validation, whoever
    split them, and all of that is known: masked, and evidence of the memory. What is trained is
    trained as many steps as validation chose (``refit``). A trend counts the validation pairs by
    what the refitted scores expect of them. All models are calibrated by scores that have not seen
    validation.

    Args:
        contestant: model and settings.
        split: record of the split stage.
        graph: record of the graph stage.
        on: "valid" or "test".
        workspace: where the result is stored; checkpoints of a killed training are used.

    Returns:
        record with ``figures.parquet``: calibrated, view (of ``REFITTED`` if it is refitted),
        behavior, user, and NDCG and HR at each cutoff, a row per ranked user; counts: those of the
        training, trend, neighbours and memory (behaviors that keep one).
    """
    config, again = contestant.config, contestant.refitted
    trained = fit(contestant, split, graph, workspace) if is_trained(contestant) else None
    latest = refit(contestant, split, trained, workspace) if again and trained else None

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        logs = {schema.TRAIN: Interactions.load(split, schema.TRAIN)}
        logs |= {name: Interactions.held_out(split, name) for name in (schema.VALID, on)}
        with use_threads(config.run.threads):
            weight = config.data.weight
            known = (
                Interactions.before_test(split, weight)
                if again
                else Interactions.known(split, on, weight)
            )
            refitted: Scores | None = None
            if trained is not None:
                scores = ranked(contestant, trained, logs[schema.TRAIN])
                refitted = ranked(contestant, latest or trained, known)
            else:
                closed, world = CLOSED[contestant.model], World.load(split, graph, config)
                scores = closed(world, contestant.settings)
                if len(known) > len(world.train):
                    refitted = closed(World.of(known, config), contestant.settings)
            figures, kept = before_and_after(scores, logs, known, on, config, refitted, again)
        if again:
            figures = figures.with_columns(pl.col("view").replace_strict(schema.REFITTED))
        figures.write_parquet(out / FIGURES_FILE)
        return ({} if trained is None else dict(trained.counts)) | kept

    used = latest or trained
    return workspace.run_stage(
        "contest",
        inputs=[split.fingerprint, graph.fingerprint, used.fingerprint if used else ""],
        settings=_key(contestant, on),
        code=code_of_model(contestant.model, __name__),
        build=build,
    )


def _key(contestant: Contestant, on: str) -> dict[str, Any]:
    """Return what figures hang on beside the inputs, of which a training is one."""
    config = contestant.config
    key: dict[str, Any] = {
        "on": on, "cutoffs": config.evaluate.cutoffs, "seed": config.train.seed,
        "device": choose_device(config.run.device).type,
        **config.evaluate.selection, "most_users": config.evaluate.most_users,
        "calibration": config.model.model_dump(include=CALIBRATION),
    }  # fmt: skip
    if contestant.refitted:
        key["refitted"] = True
    if not is_trained(contestant):
        key["model"] = contestant.model
        key["settings"] = contestant.of_model
    return key


def before_and_after(
    scores: Scores,
    logs: Mapping[str, Interactions],
    known: Interactions,
    on: str,
    config: Config,
    refitted: Scores | None = None,
    with_trend: bool = False,
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """Rank a split before and after calibration; see ``contest``.

    Args:
        scores: of the model alone; it is calibrated by these.
        logs: train, valid and the split that is ranked.
        known: what users are known to have when it is ranked.
        on: the split that is ranked.
        config: cutoffs, and how to calibrate.
        refitted: scores that rank in place of these, fitted on all that is known, but for the
            behaviors that keep a trend.
        with_trend: whether they rank in place of these for those behaviors, too.

    Returns:
        figures, and by "trend", "neighbours" and "memory" the behaviors that keep it.
    """
    found = calibrate(
        scores, logs[schema.TRAIN], logs[schema.VALID], config.model, config.evaluate,
        config.train.seed,
    )  # fmt: skip
    kept = found.kept()
    ranking = scores if refitted is None else refitted
    if on == schema.VALID:
        after = found.cross_fitted(scores, known)
    else:
        aside = () if with_trend else kept.get("trend", [])
        if with_trend:
            found = count_again(
                found, ranking, logs[schema.TRAIN], logs[schema.VALID], config.model,
                config.evaluate,
            )  # fmt: skip
        of_each = [scores if name in aside else ranking for name in known.behaviors]
        after = found.applied(ByBehavior(of_each), known)
    frames = [
        per_user(one, known, logs[on], config).select(
            pl.lit(at == 1).alias(schema.CALIBRATED), pl.all()
        )
        for at, one in enumerate((ranking, after) if found.facts else (ranking,))
    ]
    return pl.concat(frames), kept


def per_user(
    scores: Scores, known: Interactions, held_out: Interactions, config: Config
) -> pl.DataFrame:
    """Return a row per view, behavior and ranked user, with each figure at each cutoff."""
    cutoffs, batch = config.evaluate.cutoffs, config.evaluate.batch_users
    frames: dict[str, list[pl.DataFrame]] = {view: [] for view in schema.VIEWS}
    for behavior, name in enumerate(known.behaviors):
        most = config.evaluate.ranked(known.n_items)
        found = rank_views(scores, known, held_out, behavior, max(cutoffs), batch, most)
        for view, lists in found.items():
            columns = {
                f"{metric}@{k}": METRICS[metric](lists.hits, lists.relevant, k).numpy()
                for metric in COMPARED
                for k in cutoffs
            }
            frame = pl.DataFrame({schema.USER: lists.users.numpy(), **columns})
            labels = [pl.lit(view).alias("view"), pl.lit(name).alias(schema.BEHAVIOR)]
            frames[view].append(frame.select(*labels, pl.all()))
    return pl.concat([frame for of_view in frames.values() for frame in of_view])
