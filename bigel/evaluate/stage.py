"""The evaluate stage: metrics of the model, of simple rules beside it, and the report."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from bigel import progress
from bigel.config import Config, EvaluateConfig
from bigel.config.exclusion import not_same, repeated
from bigel.data.interactions import IntArray, Interactions, with_learned
from bigel.evaluate.examples import categories_of, examples, names_of
from bigel.evaluate.headline import headline, newest
from bigel.evaluate.ordered import Ordered
from bigel.evaluate.popularity import popularity
from bigel.evaluate.protocol import (
    Figures,
    Ranked,
    Task,
    make_again_task,
    make_tasks,
    rank_task,
    rank_views,
    summarize,
)
from bigel.evaluate.simple import (
    Rules,
    choose,
    chosen_scores,
    few_users,
    timed_rules,
    untimed_rules,
)
from bigel.evaluate.slices import slices
from bigel.model.memory import load_scores
from bigel.model.scores import ByBehavior, Scores
from bigel.schema import (
    AGAIN_VIEW,
    CATALOGUE_FILE,
    COUNT,
    EMBEDDINGS_FILE,
    HEADLINE,
    HISTORY_FILE,
    HORIZON,
    ITEMS_FILE,
    METRICS_FILE,
    MOMENTS,
    NIGHTS_FILE,
    NOW,
    PUBLISHED,
    REFIT,
    TEST,
    TRAIN,
    USER,
    USERS_FILE,
    VALID,
    VIEWS,
    split_file,
)
from bigel.signals.history import History
from bigel.signals.recent import OrRecent, popular_order, recent_demand
from bigel.signals.signals import Weighed
from bigel.signals.weighing import signal_folds
from bigel.state.moment import has_moments, has_signals, history_at, learned_of, pairs_at, state_at
from bigel.store import MANIFEST, Record, Workspace, write_json
from bigel.store.code import code_of
from bigel.verdict import unjudged

GROUPS = ("few", "medium", "many")
Recent = tuple[list[Ordered], list[float]]  # recent popularity by behavior, its half-lives in days


def evaluate(
    split: Record,
    trained: Record,
    config: Config,
    workspace: Workspace,
    realized: Record | None = None,
    catalogue: Record | None = None,
) -> Record:
    """Rank valid and test for model and simple rules; write metrics, plots and report.

    Each is ranked by the model at its moment, see ``bigel.state.moment``.

    Args:
        split: record of the split stage.
        trained: record of the train stage; ``embeddings.safetensors`` and ``history.json``.
        config: ``evaluate`` and ``recommend.exclude`` change the output.
        workspace: where the stage is stored.
        realized: record of ``measure_realized``: how the lists of the last nights did.
        catalogue: record of ``read_catalogue``: what items of the report's examples are called.

    Returns:
        record with ``metrics.json`` (split → view → behavior → figure, where a "refit" beside
        "test" is test ranked by what was trained on train and valid, both known; the same under
        ``popularity``; where ``recommend.exclude`` is "none" for some behaviors and the log is
        split by time, a view "again" of these; under ``rule`` the newest part ranked by the best
        simple rule of each behavior, and ``chosen``, which that is; ``activity`` → "test" →
        behavior → group; where lists were scored, ``realized`` → behavior → figure of the last
        ones, and under ``rule`` what recent popularity has; ``headline`` and ``slices``, see the
        modules of these names, and under ``headline`` ``exclude``, the policies of lists under
        which nothing is measured here),
        ``report.html``, ``plots/``.
        A figure without users is null.

    Raises:
        TrainingError: if an embedding is not finite.
    """

    nights, made_up = read_nights(realized), config.data.is_synthetic
    exclude = not_same(config.recommend.exclude, config.data.behaviors)
    again = repeated(config.recommend.exclude, config.data.behaviors) if has_moments(split) else []

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        from bigel.evaluate.report import write_report  # matplotlib takes a second to import

        events_U = _train_events(split)
        held_out = {name: Interactions.held_out(split, name) for name in (VALID, TEST)}
        if trained.counts.get(REFIT):
            held_out[REFIT] = held_out[TEST]
        known = {name: pairs_at(split, name) for name in held_out}
        cutoff = config.evaluate.select_cutoff
        progress.at("embedding the model at the moments that are ranked")
        scores = _scores(trained, split, known)
        model, popular, recent = _served_and_popular(scores, split, known, cutoff)
        rules_at = partial(_rules_at, split, known, scores, popular, recent)
        known = {name: with_learned(pairs, trained) for name, pairs in known.items()}
        metrics, lists = measure(model, known, held_out, events_U, config.evaluate)
        of_popular, _ = measure(popular, known, held_out, events_U, config.evaluate)
        on = newest(held_out)
        of_rule, of_rules = measure_rule(rules_at, known, held_out, on, config.evaluate)
        most = config.evaluate.ranked(split.counts["items"])
        tasks = again_tasks(split, again, most)
        for tree, by in ((metrics, model), (of_popular, popular)):
            for name, figures in measure_again(by, tasks, config.evaluate).items():
                tree[name][AGAIN_VIEW] = figures
        found = headline(lists, of_rules, metrics, of_rule, of_popular, cutoff)
        found |= {"exclude": exclude}
        before = history_at(split, TEST) if has_moments(split) else None
        then = known[on], held_out[on]
        metrics |= {HEADLINE: found, "popularity": of_popular, "rule": of_rule}
        table = catalogue.file(CATALOGUE_FILE) if catalogue else None
        categories = categories_of(split.file(ITEMS_FILE), table)
        metrics["slices"] = slices(lists, of_rules, *then, before, cutoff, categories)
        metrics = _none_for_nan(metrics) | _realized(nights)
        write_json(out / METRICS_FILE, metrics)
        progress.at("drawing the report")
        history = json.loads(trained.file(HISTORY_FILE).read_text("utf-8"))
        told = unjudged(metrics[HEADLINE], split, "This model", "the gate judges it next")
        facts = _facts(split, trained) | {"nights": nights, "verdict": told, "synthetic": made_up}
        named = names_of(split.file(USERS_FILE), split.file(ITEMS_FILE), table)
        facts["examples"] = examples(lists, *then, before, named, cutoff)
        write_report(out, metrics, history, facts, config.evaluate)
        return {
            name: {b: figures[f"ndcg@{cutoff}"] for b, figures in metrics[name][PUBLISHED].items()}
            for name in (VALID, TEST)
        }

    return workspace.run_stage(
        "evaluate",
        inputs=[
            *(split.fingerprint, trained.fingerprint),
            *([catalogue.fingerprint] if catalogue else []),
        ],
        settings=config.evaluate.model_dump(exclude={"batch_users"})
        | {"nights": nights, "synthetic": made_up}
        | ({"exclude": exclude} if exclude else {}),
        code=(*code_of(__name__), "evaluate/report.html.j2", "evaluate/verdict.html.j2"),
        build=build,
    )


def read_nights(realized: Record | None) -> list[dict[str, Any]]:
    """Return how the lists of the last nights did, the oldest first."""
    if realized is None:
        return []
    nights: list[dict[str, Any]] = json.loads(realized.file(NIGHTS_FILE).read_text("utf-8"))
    return nights


def _realized(nights: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of the last night as a branch of the metrics; {} without any."""
    if not nights:
        return {}
    return {
        "realized": {
            name: {"users": found["users"], **found["lists"], "rule": found["rule"]}
            for name, found in nights[-1]["behaviors"].items()
        }
    }


def measure(
    scores: Mapping[str, Scores],
    known: Mapping[str, Interactions],
    held_out: Mapping[str, Interactions],
    events_U: IntArray,
    settings: EvaluateConfig,
) -> tuple[dict[str, Any], dict[str, Ranked]]:
    """Return valid and test figures of both views, and test figures by user activity; and lists.

    The lists are those of the newest held-out days, published view, by behavior.

    Args:
        scores: a trained model, as it ranks "valid", "test" and, where it was refitted, "refit".
        known: what users are known to have by then; see ``pairs_at``.
        held_out: the interactions that are ranked.
        events_U: number of train events of each user over all behaviors.
        settings: cutoffs, activity bounds and batch size.
    """
    tree: dict[str, Any] = {"activity": {TEST: {}}}
    tree |= {name: {view: {} for view in VIEWS} for name in held_out}
    lists: dict[str, Ranked] = {}
    width, batch = max(settings.cutoffs), settings.batch_users
    parts = [(name, *one) for name in held_out for one in enumerate(known[name].behaviors)]
    for done, (name, behavior, title) in enumerate(parts):
        progress.at(f"ranking {name}, {title}", done / len(parts))
        found = rank_views(
            scores[name], known[name], held_out[name], behavior, width, batch,
            settings.ranked(known[name].n_items),
        )  # fmt: skip
        for view, ranked in found.items():
            tree[name][view][title] = summarize(ranked, settings.cutoffs)
        if name == newest(held_out):
            lists[title] = found[PUBLISHED].first(settings.select_cutoff)
        if name == TEST:
            tree["activity"][TEST][title] = by_activity(found[PUBLISHED], events_U, settings)
    return tree, lists


def again_tasks(
    split: Record, behaviors: Sequence[str], most: int
) -> dict[str, dict[str, tuple[int, Task]]]:
    """Return place and task of behaviors under the view "again", by split and name; {} of none.

    Args:
        split: record of a split by time.
        behaviors: names of those that are measured so.
        most: users of each, evenly spaced.
    """
    if not behaviors:
        return {}
    history, moments = History.load(split), split.counts[MOMENTS]
    horizon = split.counts.get(HORIZON) or history.until
    places = {title: history.behaviors.index(title) for title in behaviors}
    tasks = {}
    for name, end in ((VALID, moments[TEST]), (TEST, moments[NOW])):
        done = history.done_between(moments[name], min(end, moments[name] + horizon))
        tasks[name] = {
            title: (at, make_again_task(done, at).only(most)) for title, at in places.items()
        }
    return tasks


def measure_again(
    scores: Mapping[str, Scores],
    tasks: Mapping[str, Mapping[str, tuple[int, Task]]],
    settings: EvaluateConfig,
) -> dict[str, dict[str, Figures]]:
    """Return figures of the view "again", by split and behavior.

    Args:
        scores: as of ``measure``.
        tasks: of ``again_tasks``.
        settings: cutoffs and batch size.
    """
    width, batch = max(settings.cutoffs), settings.batch_users
    return {
        name: {
            title: summarize(rank_task(scores[name], at, task, width, batch), settings.cutoffs)
            for title, (at, task) in of_split.items()
        }
        for name, of_split in tasks.items()
    }


def by_activity(ranked: Ranked, events_U: IntArray, settings: EvaluateConfig) -> dict[str, Figures]:
    """Return the figures of users with few, medium and many train events (bounds included)."""
    group = np.searchsorted(np.array(settings.activity), events_U[ranked.users.numpy()])
    return {
        title: summarize(ranked.only(torch.from_numpy(group == at)), settings.cutoffs)
        for at, title in enumerate(GROUPS)
    }


def _scores(trained: Record, split: Record, known: Mapping[str, Interactions]) -> dict[str, Scores]:
    """Return the model as it ranks valid and test.

    On valid it has nothing that has counted validation pairs: no trend, and each user's signals
    are weighed as was fitted without her. A log that came split is ranked by train's graph.
    """
    on_gpu = trained.counts.get("device") == "cuda" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if has_signals(trained):
        learned = learned_of(trained)
        fold_of = signal_folds(split.counts["users"], trained.counts["seed"])
        return {
            VALID: state_at(learned, split, VALID, device).scores(fold_of),
            TEST: state_at(learned, split, TEST, device).scores(),
        }
    file = trained.file(EMBEDDINGS_FILE)
    scores = {
        name: load_scores(file, pairs, device.type, with_trend=name != VALID)
        for name, pairs in known.items()
        if name != REFIT
    }
    if REFIT in known:
        scores[REFIT] = state_at(learned_of(trained), split, REFIT, device).scores()
    return scores


def _served_and_popular(
    scores: Mapping[str, Scores], split: Record, known: Mapping[str, Interactions], cutoff: int
) -> tuple[Mapping[str, Scores], dict[str, Scores], dict[str, Recent]]:
    """Return the model as it is served, and popularity, on valid and test; and how it is recent.

    Where there are times, it is recent popularity at each moment, and serving gives it to users
    without an event; else it is popularity in train, for "refit" in train and valid.
    """
    if not has_moments(split):
        by_train: dict[str, Scores] = dict.fromkeys(scores, popularity(known[VALID]))
        if REFIT in known:
            by_train[REFIT] = popularity(known[REFIT])
        return scores, by_train, {}
    served: dict[str, Scores] = {}
    popular: dict[str, Scores] = {}
    recent: dict[str, Recent] = {}
    for name, found in scores.items():
        history = history_at(split, name)
        demand_KI, half_lives = recent_demand(history, cutoff)
        served[name] = OrRecent.of(found, history, demand_KI)
        orders = [torch.from_numpy(popular_order(wanted)) for wanted in demand_KI]
        recent[name] = [Ordered(order, history.n_items) for order in orders], half_lives
        popular[name] = ByBehavior(recent[name][0])
    return served, popular, recent


def _rules_at(
    split: Record, known: Mapping[str, Interactions], scores: Mapping[str, Scores],
    popular: Mapping[str, Scores], recent: Mapping[str, Recent], name: str,
) -> Rules:  # fmt: skip
    """Return the simple rules as they rank a part."""
    if has_moments(split):
        model = scores[name]
        signals = model.signals if isinstance(model, Weighed) else None
        return timed_rules(history_at(split, name), *recent[name], signals)
    return untimed_rules(known[name], popular[name])


def measure_rule(
    rules_at: Callable[[str], Rules], known: Mapping[str, Interactions],
    held_out: Mapping[str, Interactions], on: str, settings: EvaluateConfig,
) -> tuple[dict[str, Any], dict[str, Ranked]]:  # fmt: skip
    """Return figures of the best simple rules on the newest held-out days, and their lists.

    Args:
        rules_at: gives the rules as they rank a part.
        known: as of ``measure``.
        held_out: likewise.
        on: the part that is the newest held-out days.
        settings: cutoffs and batch size.
    """
    progress.at("choosing the best simple rule")
    behaviors, batch = known[on].behaviors, few_users(settings.batch_users, known[on].n_items)
    tasks = make_tasks(known[VALID], held_out[VALID], PUBLISHED)
    chosen = choose(rules_at(VALID), tasks, settings.select_cutoff, batch)
    scores = chosen_scores(rules_at(on), chosen)
    none = np.zeros(known[on].n_users, np.int64)
    small = settings.model_copy(update={"batch_users": batch})
    tree, lists = measure({on: scores}, {on: known[on]}, {on: held_out[on]}, none, small)
    named = dict(zip(behaviors, (one.to_dict() for one in chosen), strict=True))
    return {"chosen": named, on: tree[on]}, lists


def _train_events(split: Record) -> IntArray:
    train = pl.read_parquet(split.file(split_file(TRAIN)), columns=[USER, COUNT])
    events = np.zeros(split.counts["users"], dtype=np.int64)
    np.add.at(events, train[USER].to_numpy(), train[COUNT].to_numpy())
    return events


def _facts(split: Record, trained: Record) -> dict[str, Any]:
    """Collect what the report tells beside figures; all of it follows from the fingerprints."""
    manifest = trained.file(MANIFEST)
    settings = json.loads(manifest.read_text("utf-8"))["settings"] if manifest.exists() else {}
    return {
        "data": split.counts,
        "data_fingerprint": split.fingerprint,
        "model": trained.counts,
        "model_fingerprint": trained.fingerprint,
        "settings": settings,
    }


def _none_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _none_for_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
