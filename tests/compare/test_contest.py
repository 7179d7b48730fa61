import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from bigel.compare import choose, contest, fitting
from bigel.compare.contest import before_and_after, per_user
from bigel.compare.contestants import CLOSED
from bigel.config import parse_config
from bigel.config.load import apply_override
from bigel.data.interactions import Interactions, joined
from bigel.data.split import split
from bigel.evaluate.popularity import popularity
from bigel.graph import build_graphs
from bigel.model.scores import Shifted
from bigel.rivals.base import World
from bigel.schema import REFITTED
from bigel.store import Record, Workspace
from bigel.train.calibration import calibrate, count_again
from bigel.train.loop import Trainer

USERS, ITEMS, BOUGHT, CLICKED = 80, 30, 6, 4
BASE = (
    'data.behaviors=["click", "buy"]', 'split.method="official"', "split.valid_share=0.3",
    "evaluate.cutoffs=[1, 6]", "evaluate.select_cutoff=6", "run.threads=1", "run.progress=false",
    "train.max_steps=2", "train.members=1", "model.dim=4", "rivals.bpr_mf.max_steps=2",
    "rivals.bpr_mf.dim=4",
)  # fmt: skip


NOTHING = ("model.trend=false", "model.neighbours=false", "model.memory=false")


def config_of(*overrides):
    tree = {}
    for override in (*BASE, *overrides):
        apply_override(tree, override)
    return parse_config(tree)


def log():
    """Each user buys six items, clicks four others, later clicks two of the bought ones.

    Clicks come with a valid split, buys do not: three in ten train buys are drawn for it. The buys
    of test are among the clicks of train.
    """
    draw, rows = np.random.default_rng(0), []
    for user in range(USERS):
        items = draw.permutation(ITEMS)[: BOUGHT + CLICKED].tolist()
        bought, clicked = items[:BOUGHT], items[BOUGHT:]
        rows += [(user, item, "buy", "train") for item in bought]
        rows += [(user, item, "click", "train") for item in clicked]
        rows += [(user, bought[0], "click", "valid"), (user, bought[1], "click", "test")]
        rows += [(user, clicked[0], "buy", "test")]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "behavior", "split"], orient="row")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    frame = log().with_columns(count=pl.lit(1, pl.UInt32))
    frame.write_parquet(folder / "interactions.parquet")
    return Workspace(folder / "workspace"), Record("ingest", "f", str(folder), False, 0.0, {})


def run(place, model, *overrides, on="test"):
    """Return (record of the unit, record of the split)."""
    workspace, ingested = place
    config = config_of(*overrides)
    divided = split(ingested, config, workspace)
    graph = build_graphs(divided, config, workspace)
    (contestant,) = choose(config, [model])
    return contest(contestant, divided, graph, on, workspace), divided


def with_times(divided, folder):
    """Return the split with a first time of each pair: what was drawn for validation is newest."""
    shutil.copytree(divided.path, folder)
    for at, name in enumerate(("train", "valid", "test")):
        frame = pl.read_parquet(folder / f"{name}.parquet")
        first = pl.int_range(pl.len(), dtype=pl.Int64) * 60 + at * 1_000_000
        frame.with_columns(first=first).write_parquet(folder / f"{name}.parquet")
    return replace(divided, path=str(folder), fingerprint="timed")


@pytest.mark.parametrize("on", ["valid", "test"])
@pytest.mark.parametrize("model", ["item_knn", "recent_popularity", "sasrec"])
def test_who_goes_by_times_is_ranked_on_a_log_that_has_them(place, tmp_path, model, on):
    workspace, ingested = place
    config = config_of(
        "rivals.item_knn.half_life=0.001", "rivals.recent_popularity.half_life=0.001",
        "rivals.sasrec.max_steps=2", "rivals.sasrec.dim=4", "model.memory=false",
        "model.trend=false", "model.neighbours=false",
    )  # fmt: skip
    divided = split(ingested, config, workspace)
    timed, graph = with_times(divided, tmp_path / "timed"), build_graphs(divided, config, workspace)
    (contestant,) = choose(config, [model])
    unit = contest(contestant, timed, graph, on, Workspace(tmp_path))
    train, held_out = (Interactions.load(timed, name) for name in ("train", on))
    known = Interactions.known(timed, on)
    assert known.first is not None and known.first.max() >= train.first.max()
    if model != "sasrec":  # fitted again on what is known, its times among them
        fitted = CLOSED[model](World(known, None, 0), contestant.settings)
        expected = per_user(fitted, known, held_out, config)
        assert_frame_equal(figures_of(unit, False), expected)
        stale = per_user(popularity(known), known, held_out, config)
        assert not figures_of(unit, False).equals(stale)
    assert len(figures_of(unit, False)) > 0


def figures_of(unit, calibrated):
    frame = pl.read_parquet(unit.file("figures.parquet"))
    return frame.filter(pl.col("calibrated") == calibrated).drop("calibrated")


@pytest.mark.parametrize("on", ["valid", "test"])
def test_pairs_that_we_drew_ourselves_are_known_on_test_and_those_that_came_are_not(place, on):
    unit, divided = run(place, "popularity", "model.trend=false", on=on)
    train, valid, held_out = (Interactions.load(divided, name) for name in ("train", "valid", on))
    assert len(train.of(1)[0]) == USERS * BOUGHT * 7 // 10 and len(valid.of(1)[0]) == 144
    drawn = {(u, i) for u, i in zip(*valid.of(1), strict=True)} if on == "test" else set()
    known = Interactions.known(divided, on)
    assert set(zip(*known.of(0), strict=True)) == set(zip(*train.of(0), strict=True))
    assert set(zip(*known.of(1), strict=True)) == {*zip(*train.of(1), strict=True), *drawn}

    config, ranking = config_of("model.trend=false"), popularity(known)
    assert_frame_equal(figures_of(unit, False), per_user(ranking, known, held_out, config))
    found = calibrate(popularity(train), train, valid, config.model, config.evaluate, 0)
    assert "click" in unit.counts["memory"]

    def remembering(evidence):
        fit = found.cross_fitted if on == "valid" else found.applied
        return fit(ranking, evidence)

    expected = per_user(remembering(known), known, held_out, config)
    assert_frame_equal(figures_of(unit, True), expected)
    if on == "test":  # the mask, the fit and the evidence each change the figures
        for other in (
            per_user(remembering(known), train, held_out, config),
            per_user(remembering(train), known, held_out, config),
        ):
            assert not figures_of(unit, True).equals(other)
        assert not figures_of(unit, False).equals(
            per_user(popularity(train), known, held_out, config)
        )


def test_a_rule_sees_on_test_all_buys_that_lead_to_a_click(place):
    """Six bought items come first, the next click is one of them; on train alone it may lack."""
    for on, expected in (("test", 1.0), ("valid", 0.7)):
        unit, _ = run(place, "funnel_rule", on=on)
        click = figures_of(unit, False).filter(view="published", behavior="click")
        assert len(click) == USERS
        assert click["hr@6"].mean() == pytest.approx(expected, abs=0.1 if on == "valid" else 0)


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("ease", "rivals.ease.penalty=77.0"),
        ("bpr_mf", "rivals.bpr_mf.dim=5"),
        ("bpr_mf", "train.ema=0.5"),
        ("bigel", "train.ema=0.5"),
        ("bigel", "train.alignment_weight=0.1"),
        ("bigel", "train.batch_size=64"),
        ("bpr_mf", "rivals.bpr_mf.batch_size=64"),
        ("bpr_mf", "train.members=2"),
        ("ease", "train.seed=1"),
        ("bpr_mf", "rivals.bpr_mf.max_steps=3"),
        ("bigel", "model.dim=5"),
        ("ease", "model.memory_penalty=2.0"),
        ("bigel", "model.memory_penalty=2.0"),
        ("ease", "model.trend_prior=2.0"),
        ("bpr_mf", "model.trend=false"),
        ("ease", "model.memory=false"),
        ("ease", "evaluate.cutoffs=[1, 6, 7]"),
        ("ease", "evaluate.select_cutoff=1"),
        ("ease", "split.seed=9"),
        ("ease", "split.valid_share=0.2"),
    ],
)
def test_a_unit_runs_again_when_what_it_hangs_on_changes(place, model, change):
    run(place, model)
    assert run(place, model)[0].reused
    assert not run(place, model, change)[0].reused
    assert run(place, model, change)[0].reused


def test_another_split_ranked_is_another_unit(place):
    units = [run(place, "ease", on=on)[0].fingerprint for on in ("valid", "test")]
    assert units[0] != units[1]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("ease", "run.retries=5"),
        ("ease", "rivals.bpr_mf.dim=9"),
        ("ease", "recommend.k=7"),
        *((model, "train.alignment_weight=0.1") for model in ("popularity", "ease", "bpr_mf")),
        *((model, "train.batch_size=64") for model in ("popularity", "ease", "bpr_mf")),
        ("ease", "train.ema=0.5"),
        ("bigel", "train.checkpoint_every=3"),
        ("bpr_mf", "train.checkpoint_every=3"),
    ],
)
def test_a_unit_is_reused_when_what_changed_is_no_part_of_it(place, model, change):
    run(place, model)
    assert run(place, model, change)[0].reused


def stages_of(place, stage):
    return {entry.name for entry in place[0].artifacts.glob(f"stages/{stage}/*")}


@pytest.mark.parametrize("model", ["bpr_mf", "bigel"])
@pytest.mark.parametrize(
    "again",
    [
        {"on": "valid"},
        {"changes": ("evaluate.cutoffs=[1, 3, 6]",)},
        {"changes": ("model.trend_prior=9.0",)},
        {"changes": ("model.memory=false",)},
    ],
)
def test_a_model_is_trained_once_for_both_splits_and_all_calibrations(place, model, again):
    run(place, model)
    before = stages_of(place, "contestant")
    unit, _ = run(place, model, *again.get("changes", ()), on=again.get("on", "test"))
    assert stages_of(place, "contestant") == before != set()
    assert unit.counts["best_step"] > 0 and "seconds_per_step" in unit.counts


def test_a_model_is_trained_again_where_another_cutoff_selects_its_weights(place):
    run(place, "bpr_mf")
    before = stages_of(place, "contestant")
    run(place, "bpr_mf", "evaluate.cutoffs=[1, 6, 9]", "evaluate.select_cutoff=9")
    assert len(stages_of(place, "contestant") - before) == 1


def test_without_trend_neighbours_and_memory_there_is_no_calibrated_ranking(place):
    for model in ("ease", "bpr_mf"):
        unit, _ = run(place, model, *NOTHING)
        bare, _ = run(place, model)
        assert len(figures_of(unit, True)) == 0
        assert_frame_equal(figures_of(unit, False), figures_of(bare, False))
        assert "trend" not in unit.counts and "memory" not in unit.counts


def test_a_closed_form_counts_validation_once(place, monkeypatch):
    """Refitted with validation pairs, or with a trend that has counted them; not both."""
    _, divided = run(place, "popularity")
    logs = {name: Interactions.load(divided, name) for name in ("train", "valid", "test")}
    known = Interactions.known(divided, "test")
    config = config_of("model.memory=false", "model.neighbours=false")
    scores, refitted = popularity(logs["train"]), popularity(known)
    found = calibrate(scores, logs["train"], logs["valid"], config.model, config.evaluate, 0)
    trend = torch.zeros_like(found.trend)
    trend[:, 1, :5] = 0.5
    facts = {"trend": {"click": {"on": False}, "buy": {"on": True}}}
    forced = replace(found, trend=trend, facts=facts)
    monkeypatch.setitem(before_and_after.__globals__, "calibrate", lambda *args: forced)
    figures, _ = before_and_after(scores, logs, known, "test", config, refitted)
    after = figures.filter(calibrated=True).drop("calibrated")
    for behavior, expected in (("click", refitted), ("buy", Shifted(scores, trend))):
        alone = per_user(expected, known, logs["test"], config).filter(behavior=behavior)
        assert_frame_equal(after.filter(behavior=behavior), alone)
    twice = per_user(Shifted(refitted, trend), known, logs["test"], config)
    assert not after.equals(twice)
    figures, _ = before_and_after(scores, logs, known, "test", config, refitted, with_trend=True)
    again = count_again(
        forced, refitted, logs["train"], logs["valid"], config.model, config.evaluate
    ).trend[-1:]
    assert again[0, 1].any() and not again[0, 0].any()
    expected = per_user(Shifted(refitted, again), known, logs["test"], config)
    assert_frame_equal(figures.filter(calibrated=True).drop("calibrated"), expected)


def refit(place, model, *overrides):
    workspace, ingested = place
    config = config_of(*overrides)
    divided = split(ingested, config, workspace)
    graph = build_graphs(divided, config, workspace)
    (contestant,) = choose(config, [model])
    return contest(replace(contestant, refitted=True), divided, graph, "test", workspace), divided


def test_a_closed_form_that_is_refitted_saw_all_of_valid_and_lists_none_of_it(place):
    unit, divided = refit(place, "popularity", *NOTHING)
    logs = [Interactions.load(divided, name) for name in ("train", "valid", "test")]
    known, config = joined(*logs[:2]), config_of()
    assert len(known) == len(logs[0]) + len(logs[1]) > len(Interactions.known(divided, "test"))
    names = pl.col("view").replace_strict(REFITTED)
    expected = per_user(popularity(known), known, logs[2], config).with_columns(names)
    assert_frame_equal(figures_of(unit, False), expected)
    for base, mask in ((popularity(logs[0]), known), (popularity(known), logs[0])):
        other = per_user(base, mask, logs[2], config).with_columns(names)
        assert not figures_of(unit, False).equals(other)


def test_what_is_refitted_is_calibrated_by_scores_that_have_not_seen_validation(place):
    unit, divided = refit(place, "popularity", "model.trend_prior=0.1")
    logs = [Interactions.load(divided, name) for name in ("train", "valid", "test")]
    known, config = joined(*logs[:2]), config_of("model.trend_prior=0.1")
    found = calibrate(popularity(logs[0]), *logs[:2], config.model, config.evaluate, 0)
    again = count_again(found, popularity(known), *logs[:2], config.model, config.evaluate)
    ranked = again.applied(popularity(known), known)
    names = pl.col("view").replace_strict(REFITTED)
    expected = per_user(ranked, known, logs[2], config).with_columns(names)
    assert_frame_equal(figures_of(unit, True), expected)


@pytest.mark.parametrize("model", ["bpr_mf", "bigel"])
def test_what_is_trained_is_refitted_for_as_many_steps_as_validation_chose(
    place, model, monkeypatch
):
    steps = ("train.max_steps=6", "train.evaluate_every=2", "train.members=2")
    steps += ("rivals.bpr_mf.max_steps=6", "rivals.bpr_mf.evaluate_every=2")
    run(place, model, *steps)
    before, ends, seen = stages_of(place, "contestant"), [], []
    fit = Trainer.fit

    def watch(trainer, *args):
        fit(trainer, *args)
        ends.append((trainer.step, trainer.history["best_step"]))
        seen.append((trainer.train, trainer.valid))

    monkeypatch.setattr(Trainer, "fit", watch)
    unit, divided = refit(place, model, *steps)
    assert stages_of(place, "contestant") == before  # not trained anew on train alone
    members = best_steps(place, divided, model, steps)
    assert ends == [(step, step) for step in members]
    known = Interactions.before_test(divided)
    for train, valid in seen:
        assert np.array_equal(np.sort(train.keys), np.sort(known.keys)) and len(valid) == 0
    assert set(figures_of(unit, False)["view"]) <= set(REFITTED.values())
    assert refit(place, model, *steps)[0].reused


def best_steps(place, divided, model, steps):
    config = config_of(*steps)
    (contestant,) = choose(config, [model])
    graph = build_graphs(divided, config, place[0])
    trained = fitting.fit(contestant, divided, graph, place[0])
    history = json.loads(trained.file("history.json").read_text("utf-8"))
    return [member["best_step"] for member in history["members"]]


def test_a_refit_changes_no_other_unit(place):
    run(place, "ease")
    before = stages_of(place, "contest")
    unit, _ = refit(place, "ease")
    assert stages_of(place, "contest") == before | {unit.fingerprint}
    assert run(place, "ease")[0].reused
