import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from bigel import schema
from bigel.compare.contest import contest
from bigel.compare.contestants import MODELS, choose
from bigel.config import load_config
from bigel.config.write import to_toml
from bigel.errors import ConfigError, TrainingError, WorkspaceError
from bigel.pipeline import run_pipeline
from bigel.store import Workspace
from bigel.train import loop
from bigel.train.loop import Trainer
from bigel.tune import SPACES, tune
from bigel.tune.search import run_search
from bigel.tune.space import Between, Each, OneOf, apply, present
from bigel.tune.spaces import SHARED, space_of
from bigel.tune.study import _open_study, _study_key, by_tenths

QUICK = (
    "synth.users=150", "synth.items=60", "synth.events=4000", "model.dim=64", "train.max_steps=6",
    "train.evaluate_every=2", "train.batch_size=128", "train.negatives=16", "run.progress=false",
    "run.threads=1", "rivals.crgcn.max_steps=4", "rivals.crgcn.negatives=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    workspace, config = Workspace(tmp_path_factory.mktemp("tune")), load_config("demo", QUICK)
    records = run_pipeline(config, workspace, "graph").records
    return config, records["split"], records["graph"]


@pytest.fixture
def small_space(monkeypatch):
    """Let searches try what trains in a moment."""
    for model, section in (("bigel", "train"), ("crgcn", "rivals.crgcn")):
        monkeypatch.setitem(SPACES[model], f"{section}.max_steps", Between(4, 8))
        monkeypatch.setitem(SPACES[model], f"{section}.negatives", OneOf((8, 16)))


def run(data, folder, model="bigel", trials=3, minutes=math.inf):
    config, split, graph = data
    return tune(model, trials, split, graph, config, Workspace(folder), minutes)


def test_the_space_of_every_model_names_settings_that_exist():
    assert set(SPACES) == set(MODELS) - {"popularity", "funnel_rule", "conversion_rule"}
    for space in SPACES.values():
        for key, part in space.items():
            part = part.part if isinstance(part, Each) else part
            values = part.values if isinstance(part, OneOf) else (part.low, part.high)
            for value in values:
                text = to_toml(value)
                load_config("jd", [f"{key}={text}"])
            assert not isinstance(part, Between) or part.low < part.high


@pytest.mark.usefixtures("small_space")
@pytest.mark.parametrize("model", ["bigel", "crgcn", "ease"])
def test_a_search_ends_with_a_preset_of_the_best_trial(data, tmp_path, model):
    found = run(data, tmp_path, model)
    assert len(found["trials"]) == 3
    values = [t["value"] for t in found["trials"] if t["state"] == "complete"]
    assert found["best"]["value"] == max(values) > 0
    config = load_config(found["preset"])
    assert present(config, space_of(model, 3)) == found["best"]["settings"]
    assert config.synth.users == 150  # what is not searched stays


@pytest.mark.usefixtures("small_space")
def test_a_trial_is_one_member_and_the_preset_keeps_their_number(data, tmp_path, monkeypatch):
    config, *records = data
    fit, calls = Trainer.fit, []
    monkeypatch.setattr(Trainer, "fit", lambda *args: calls.append(1) or fit(*args))
    found = run((apply(config, {"train.members": 3}), *records), tmp_path, trials=1)
    assert calls == [1]
    assert load_config(found["preset"]).train.members == 3


@pytest.mark.usefixtures("small_space")
def test_the_first_trial_is_the_configuration_as_it_is(data, tmp_path):
    found = run(data, tmp_path, trials=1)
    settings = found["trials"][0]["settings"]
    assert settings == present(data[0], space_of("bigel", 3))
    assert len(settings) == len(space_of("bigel", 3))
    assert apply(data[0], settings).train == data[0].train


@pytest.mark.usefixtures("small_space")
@pytest.mark.parametrize("model", ["bigel", "item_knn"])
def test_a_trial_has_the_figure_that_a_comparison_calls_calibrated(data, tmp_path, model):
    config, split, graph = data
    value = run(data, tmp_path, model, trials=1)["best"]["value"]
    (contestant,) = choose(config, [model])
    ranked = contest(contestant, split, graph, schema.VALID, Workspace(tmp_path))
    figures = pl.read_parquet(ranked.file("figures.parquet"))
    k = config.evaluate.select_cutoff
    by_line = (
        figures.filter(view="published").drop("view").group_by("calibrated", "behavior").mean()
    )
    means = dict(by_line.group_by("calibrated").agg(pl.col(f"ndcg@{k}").mean()).iter_rows())
    assert value == pytest.approx(means[True], abs=1e-6) and abs(value - means[False]) > 1e-3


@pytest.mark.parametrize("preset", ["jd", "taobao"])
@pytest.mark.parametrize("model", sorted(SPACES))
def test_defaults_and_presets_lie_inside_the_space(preset, model):
    config = load_config(preset)
    assert set(present(config, space_of(model, 3))) == set(space_of(model, 3))


def test_a_setting_with_a_value_per_behavior_is_searched_for_each():
    config = load_config("jd")  # temperature = [0.1, 0.2, 0.1]
    space = space_of("bigel", 3)
    keys = [f"model.temperature.{k}" for k in range(3)]
    assert [present(config, space)[key] for key in keys] == [0.1, 0.2, 0.1]
    moved = apply(config, {keys[1]: 0.3, "model.layers.2": 2})
    assert moved.model.temperature == (0.1, 0.3, 0.1) and moved.model.layers == (4, 3, 2)
    spread = apply(load_config("demo"), {"rivals.lightgcn.temperature.2": 0.2})
    assert spread.rivals.lightgcn.temperature == (0.1, 0.1, 0.2)


@pytest.mark.parametrize(("key", "section"), [
    ("train.max_steps", lambda config: config.train),
    ("rivals.bvae.max_steps", lambda config: config.rivals.bvae),
])  # fmt: skip
def test_a_long_trial_has_longer_between_validations(key, section):
    config = load_config("jd")
    every = section(config).evaluate_every
    short, long = (section(apply(config, {key: steps})) for steps in (100, 8_000))
    assert (short.max_steps, short.evaluate_every) == (100, every)
    assert (long.max_steps, long.evaluate_every) == (8_000, 200)


@pytest.mark.parametrize("preset", ["jd", "taobao"])
def test_present_settings_change_nothing(preset):
    config = load_config(preset)
    for model in SPACES:
        same = apply(config, present(config, space_of(model, 3)))
        assert (same.train, same.rivals.bvae) == (config.train, config.rivals.bvae), model


def test_all_models_trained_on_pairs_search_the_same_room():
    of_bigel = {key.partition(".")[2]: part for key, part in SPACES["bigel"].items()}
    pairs = [name for name, space in SPACES.items() if f"rivals.{name}.objective" in space]
    assert len(pairs) == 11
    for name in pairs:
        for key, part in SHARED.items():
            assert SPACES[name][f"rivals.{name}.{key}"] == of_bigel[key] == part


def proposals(found):
    return [trial["settings"] for trial in found["trials"]]


@pytest.mark.usefixtures("small_space")
def test_a_longer_search_goes_on_as_if_it_had_not_stopped(data, tmp_path, monkeypatch):
    two = run(data, tmp_path, trials=2)
    four = run(data, tmp_path, trials=4)
    assert four["trials"][:2] == two["trials"]
    assert proposals(run(data, tmp_path / "other", trials=4)) == proposals(four)
    assert len({str(settings) for settings in proposals(four)}) == 4
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("trained again"))
    assert run(data, tmp_path, trials=4) == four


@pytest.mark.usefixtures("small_space")
def test_no_trial_begins_once_the_finished_ones_took_so_long(data, tmp_path):
    found = run(data, tmp_path, trials=5, minutes=1e-9)
    assert len(found["trials"]) == 1 and found["trials"][0]["seconds"] > 0
    longer = run(data, tmp_path, trials=5, minutes=1 + found["trials"][0]["seconds"] / 60)
    assert len(longer["trials"]) == 5  # a later, longer search goes on


@pytest.mark.usefixtures("small_space")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_is_run_again_from_its_checkpoint(data, tmp_path, monkeypatch, kind):
    whole = run(data, tmp_path / "whole", trials=3)
    fit, folders = Trainer.fit, []

    def die_in_the_second(trainer, scratch, *rest):
        folders.append(scratch)
        if len(folders) == 2:
            raise kind
        return fit(trainer, scratch, *rest)

    with monkeypatch.context() as patch, pytest.raises(kind):
        patch.setattr(Trainer, "fit", die_in_the_second)
        run(data, tmp_path / "cut", trials=3)
    again = []
    monkeypatch.setattr(Trainer, "fit", lambda t, s, *r: again.append(s) or fit(t, s, *r))
    found = run(data, tmp_path / "cut", trials=3)
    assert proposals(found) == proposals(whole)
    assert again[0] == folders[1]
    assert [trial["number"] for trial in found["trials"]] == [1, 2, 3]
    assert not list(folders[1].parent.glob("trial-*"))


@pytest.mark.usefixtures("small_space")
@pytest.mark.parametrize("step", [2, 4, 6])  # 6 is the last
def test_a_trial_that_goes_on_from_a_checkpoint_ends_with_the_same_value(
    data, tmp_path, monkeypatch, step
):
    config, *records = data
    data = apply(config, {"train.checkpoint_every": 1}), *records
    whole = run(data, tmp_path / "whole", trials=1)
    save, killed = loop.save_checkpoint, []

    def save_and_die(scratch, at, *state):
        save(scratch, at, *state)
        if at == step and not killed:
            killed.append(at)
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "cut", trials=1)
    again = run(data, tmp_path / "cut", trials=1)
    assert killed and again["best"]["value"] == whole["best"]["value"]
    reported = [
        _open_study(Path(found["study"]).parent, "bigel", data[0]).trials[-1].intermediate_values
        for found in (whole, again)
    ]
    assert reported[0] == reported[1] != {}


def test_a_trial_is_judged_at_tenths_of_its_own_way():
    steps = [
        {"step": step, "mean": mean} for step, mean in ((3, 0.1), (6, 0.3), (7, None), (30, 0.2))
    ]
    assert by_tenths(steps, 30) == {1: 0.1, 2: 0.3, 10: 0.3}


def test_a_search_of_bigel_moves_no_search_of_a_rival(data, tmp_path):
    config, *records = data
    moved = {"train.learning_rate": 0.01, "model.dim": 128, "train.alignment_weight": 0.1}
    other = apply(config, moved)
    for model, is_same in (("crgcn", True), ("bvae", True), ("ease", True), ("bigel", False)):
        before, after = (_study_key(model, *records, one) for one in (config, other))
        assert (before == after) == is_same, model
    other = apply(config, {"evaluate.batch_users": 64, "evaluate.activity": (1, 2)})
    assert _study_key("bigel", *records, other) == _study_key("bigel", *records, config)
    for change in ({"rivals.crgcn.l2": 0.1}, {"train.ema": 0.5}, {"evaluate.select_cutoff": 10}):
        assert _study_key("crgcn", *records, apply(config, change)) != _study_key(
            "crgcn", *records, config
        )


@pytest.mark.usefixtures("small_space")
def test_a_failed_trial_is_recorded_and_the_search_goes_on(data, tmp_path, monkeypatch):
    fit, calls = Trainer.fit, []

    def fail_in_the_second(trainer, *args):
        calls.append(1)
        if len(calls) == 2:
            raise TrainingError("the loss is not finite")
        return fit(trainer, *args)

    monkeypatch.setattr(Trainer, "fit", fail_in_the_second)
    found = run(data, tmp_path, trials=3)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "fail", "complete"]
    assert found["trials"][found["best"]["number"] - 1]["value"] == found["best"]["value"]


@pytest.mark.usefixtures("small_space")
def test_a_search_in_which_all_fails_gives_up(data, tmp_path, monkeypatch):
    def fail(*_):
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(Trainer, "fit", fail)
    with pytest.raises(TrainingError, match="5 trials in a row failed; the last: the loss"):
        run(data, tmp_path, trials=9)


@pytest.mark.usefixtures("small_space")
def test_a_search_without_a_trained_trial_says_why(data, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="bigel")
    config, *records = data
    data = apply(config, {"train.behavior_weights": (3e38,)}), *records
    for _ in range(2):  # also where nothing is left to train
        with pytest.raises(TrainingError, match=r"no trial of 1 could be trained; the last: the "
                           r"loss is not finite .* or allow more trials"):  # fmt: skip
            run(data, tmp_path, trials=1)
    assert "trial 1 of 1: fail; best none yet" in caplog.text


@pytest.mark.usefixtures("small_space")
def test_two_processes_do_not_work_on_one_search(data, tmp_path, monkeypatch):
    fit = Trainer.fit

    def enter(trainer, *args):
        with pytest.raises(WorkspaceError, match="another process works on the search"):
            run(data, tmp_path, trials=1)
        return fit(trainer, *args)

    monkeypatch.setattr(Trainer, "fit", enter)
    assert len(run(data, tmp_path, trials=1)["trials"]) == 1


def test_without_validation_items_there_is_nothing_to_compare(data, tmp_path):
    config, split, graph = data
    folder = tmp_path / "split"
    shutil.copytree(split.path, folder)
    path = folder / "valid.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(ConfigError, match="no user has a validation item"):
        tune("ease", 1, replace(split, path=str(folder)), graph, config, Workspace(tmp_path))


def test_a_wrong_name_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'bigel'"):
        run_search("bigle", 3, load_config("demo"), Workspace(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_progress_is_told(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="bigel"):
        run(data, tmp_path, "ease", trials=2)
    assert [f"trial {number} of 2" in caplog.text for number in (1, 2)] == [True, True]


@pytest.mark.parametrize(
    ("model", "trials", "minutes", "message"),
    [
        ("bigle", 3, 1, "did you mean 'bigel'"), ("popularity", 3, 1, "nothing to tune"),
        ("bigel", 0, 1, "--trials 0: at least 1"), ("bigel", 3, 0, "--minutes 0: more than 0"),
        ("bigel", 3, math.nan, "--minutes nan: more than 0"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(data, tmp_path, model, trials, minutes, message):
    with pytest.raises(ConfigError, match=message):
        run(data, tmp_path, model, trials, minutes)


def test_the_result_is_json(data, tmp_path):
    found = run(data, tmp_path, "ease", trials=1)
    assert json.loads(json.dumps(found)) == found


def test_the_best_settings_are_handed_on_after_each_trial(data, tmp_path, monkeypatch):
    kept = []

    def keep(preset):
        kept.append((len(told), preset.read_text()))

    told = []
    monkeypatch.setattr("bigel.tune.study._report", lambda *_: told.append(1))
    config, split, graph = data
    found = tune("ease", 3, split, graph, config, Workspace(tmp_path), on_best=keep)
    assert [trials for trials, _ in kept] == [1, 2, 3, 3]
    assert kept[-1][1] == Path(found["preset"]).read_text()
