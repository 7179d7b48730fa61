import pytest

from bigel.compare.contestants import (
    BIGEL,
    MODELS,
    TIMED,
    TRAINED,
    Contestant,
    choose,
    suited,
    warn_of_shadowed,
)
from bigel.compare.fitting import train_members
from bigel.config import TrainConfig, load_config
from bigel.config.write import to_toml
from bigel.errors import ConfigError
from bigel.rivals.base import World
from tests.worlds import graphs_of, random_world, timed

LOOKED = ("bigel", "mule", "bvae", "ease", "popularity")
OF_ALL_TRAINED = ("bigel", "mule", "bvae")
BY_FIELD = {  # another value, and whose figures hang on it; rivals have most in their sections
    "objective": ("bpr", ("bigel",)),
    "negatives": (7, ("bigel",)),
    "negative_power": (0.3, ("bigel",)),
    "edge_dropout": (0.3, ("bigel",)),
    "users_per_step": (7, ("bigel",)),
    "batch_size": (7, ("bigel",)),
    "behavior_weights": ((2.0,), ("bigel",)),
    "alignment_weight": (0.3, ("bigel",)),
    "alignment_temperature": (0.3, ("bigel",)),
    "learning_rate": (0.3, ("bigel",)),
    "warmup_steps": (7, OF_ALL_TRAINED),
    "max_steps": (7, ("bigel",)),
    "max_minutes": (7.0, OF_ALL_TRAINED),
    "ema": (0.3, OF_ALL_TRAINED),
    "evaluate_every": (7, ("bigel",)),
    "patience": (7, ("bigel",)),
    "checkpoint_every": (7, ()),
    "warm_start": (True, ()),
    "refit": (False, ()),
    "members": (7, OF_ALL_TRAINED),
    "seed": (7, LOOKED),
}


def test_every_trained_rival_and_every_closed_form_with_settings_has_its_section():
    config = load_config("jd")
    sections = set(type(config.rivals).model_fields)
    assert sections == set(MODELS) - {BIGEL, "popularity", "funnel_rule", "conversion_rule"}


def test_a_rivals_own_settings_take_the_place_of_those_of_train():
    config = load_config("jd", ["rivals.lightgcn.learning_rate=0.5", "rivals.lightgcn.max_steps=7"])
    bigel, lightgcn = choose(config, ["bigel", "lightgcn"])
    assert lightgcn.config.train.learning_rate == 0.5
    assert lightgcn.config.train.max_steps == 7
    assert lightgcn.config.train.ema == config.train.ema
    assert bigel.config.train == config.train


def test_variants_change_settings_of_one_contestant_only():
    config = load_config("jd")
    plain, variant = choose(
        config, ["bigel"], ["flat=bigel model.layers=[1, 1, 1] model.feedback=false"]
    )
    assert (variant.label, variant.model) == ("flat", "bigel")
    assert variant.config.model.layers == (1, 1, 1) and not variant.config.model.feedback
    assert plain.config == config


def test_a_variant_of_a_rival_takes_its_own_settings():
    (one,) = choose(load_config("jd"), [], ["deep=crgcn rivals.crgcn.max_steps=9"])
    assert one.settings.max_steps == one.config.train.max_steps == 9


def test_a_seed_changes_training_only():
    (one,) = choose(load_config("jd"), ["mule"])
    assert one.with_seed(5).config.train.seed == 5
    assert one.with_seed(5).settings == one.settings


@pytest.mark.parametrize(
    ("models", "variants", "message"),
    [
        (["lihgtgcn"], [], "no model 'lihgtgcn'; did you mean 'lightgcn'"),
        (["bigel", "bigel"], [], "named twice"),
        (["bigel"], ["bigel=lightgcn"], "named twice"),
        (["mule"], ["mule, calibrated=lightgcn"], "named twice"),
        ([], ["no CGF"], 'write "LABEL=MODEL'),
        ([], ["x=bigel model.fedback=false"], "variant 'x': unknown key model.fedback"),
        ([], ["x=lightgcn train.max_steps=3"], "write rivals.lightgcn.max_steps"),
        ([], [], "nobody to compare"),
    ],
)
def test_wrong_contestants_are_refused(models, variants, message):
    with pytest.raises(ConfigError, match=message):
        choose(load_config("jd"), models, variants)


def test_a_seed_is_checked_like_any_setting():
    (one,) = choose(load_config("jd"), ["mule"])
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        one.with_seed(-1)


def test_every_contestant_is_shown_before_and_after_calibration_unless_that_is_off():
    models, variant = (
        ["bigel", "mule"],
        "bare=bigel model.memory=false model.trend=false model.neighbours=false",
    )
    halves = ["a=bigel model.memory=false", "b=mule model.trend=false"]
    for half in choose(load_config("demo"), [], halves):
        assert half.labels == {False: half.label, True: f"{half.label}, calibrated"}
    bigel, mule, without = choose(load_config("jd"), models, [variant])
    assert bigel.labels == {False: "bigel", True: "bigel, calibrated"}
    assert mule.labels == {False: "mule", True: "mule, calibrated"}
    assert without.labels == {False: "bare"}


def test_who_needs_times_is_left_out_or_refused_where_a_log_has_none(caplog):
    everyone = choose(load_config("demo"), MODELS)
    assert suited(everyone, timed=True, followed=True, named=True) == everyone
    found = suited(everyone, timed=False, followed=True, named=False)
    assert {one.model for one in everyone} - {one.model for one in found} == TIMED
    assert "recent_popularity" in caplog.text and "this log has none" in caplog.text
    with pytest.raises(ConfigError, match=r"recent_popularity.* has none; leave them out of"):
        suited(choose(load_config("demo"), ["bigel", "recent_popularity"]), False, True, True)
    assert suited(choose(load_config("demo"), ["bigel"]), False, True, True)


def test_who_learns_what_comes_next_is_left_out_where_nothing_does(caplog):
    everyone = choose(load_config("demo"), MODELS)
    found = suited(everyone, timed=True, followed=False, named=False)
    assert {one.model for one in everyone} - {one.model for one in found} == {"sasrec"}
    assert "left out: sasrec: they learn a user's next event" in caplog.text
    with pytest.raises(ConfigError, match=r"no user of train has two; leave them out of --models$"):
        suited(choose(load_config("demo"), ["sasrec"]), True, False, True)


@pytest.mark.parametrize("field", TrainConfig.model_fields)
def test_each_field_of_train_is_read_by_those_whose_figures_hang_on_it(field):
    value, readers = BY_FIELD[field]
    before, after = (
        choose(load_config("demo", overrides), LOOKED)
        for overrides in ([], [f"train.{field}={to_toml(value)}"])
    )
    changed = [
        new.model for old, new in zip(before, after, strict=True) if old.of_train != new.of_train
    ]
    assert tuple(changed) == readers


@pytest.mark.parametrize("model", TRAINED)
def test_a_rival_reads_nothing_of_train_that_is_not_in_its_key(model, tmp_path):
    read = set()

    class Watched(TrainConfig):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    quick = [f"rivals.{model}.max_steps=2", "run.progress=false", "train.checkpoint_every=1"]
    (one,) = choose(load_config("demo", quick), [model])
    watched = Watched(**one.config.train.model_dump())
    one = Contestant(one.label, model, one.config.model_copy(update={"train": watched}))
    train = timed(random_world(0))
    world = World(train, graphs_of(train), 0)
    read.clear()
    train_members(one, world, train, tmp_path)
    fields = read & set(TrainConfig.model_fields)
    assert {"ema", "max_steps", "seed"} <= fields
    in_key = {*one.of_train, *type(one.settings).model_fields}
    assert fields - in_key == {"checkpoint_every"}


def test_overrides_that_do_not_reach_a_rival_are_named_once_with_what_does(caplog):
    config, models = load_config("demo"), ["bigel", "mule", "ease", "bvae", "mule", "popularity"]
    warn_of_shadowed(models, ["train.patience=3", "train.ema=0.5", "model.dim=8"], config)
    assert caplog.messages == [
        "train.patience does not reach mule, bvae: a rival has its own, rivals.NAME.patience"
    ]
    caplog.clear()
    warn_of_shadowed(models, ["train.negatives = 8", "rivals.mule.negatives=8"], config)
    warn_of_shadowed(["bigel", "ease", "bigle"], ["train.patience=3", "train.seed=3"], config)
    assert caplog.messages == []
