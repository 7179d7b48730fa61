import json
import logging

import pytest

from bigel.compare.contestants import MODELS
from bigel.config import load_config
from bigel.errors import ConfigError
from bigel.pipeline import run_pipeline
from bigel.train.loop import Trainer
from bigel.tune import SPACES, tune
from bigel.tune.space import Between, OneOf
from bigel.workspace import Workspace

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


def run(data, folder, model="bigel", trials=3):
    config, split, graph = data
    return tune(model, trials, split, graph, config, Workspace(folder))


def test_the_space_of_every_model_names_settings_that_exist():
    assert set(SPACES) == set(MODELS) - {"popularity", "funnel_rule"}
    for space in SPACES.values():
        for key, part in space.items():
            values = part.values if isinstance(part, OneOf) else (part.low, part.high)
            for value in values:
                text = f'"{value}"' if isinstance(value, str) else value
                load_config("jd", [f"{key}={text}"])
            assert not isinstance(part, Between) or part.low < part.high


@pytest.mark.parametrize("model", ["bigel", "crgcn", "ease"])
def test_a_search_ends_with_a_preset_of_the_best_trial(data, tmp_path, model):
    found = run(data, tmp_path, model)
    assert len(found["trials"]) == 3
    values = [t["value"] for t in found["trials"] if t["state"] == "complete"]
    assert found["best"]["value"] == max(values) > 0
    config = load_config(found["preset"])
    for key, value in found["best"]["settings"].items():
        section, *path, last = key.split(".")
        node = getattr(config, section)
        for part in path:
            node = getattr(node, part)
        assert getattr(node, last) == ((value,) if last in ("layers", "temperature")
                                       and section == "model" else value)  # fmt: skip
    assert config.synth.users == 150  # what is not searched stays


def test_the_first_trial_is_the_configuration_as_it_is(data, tmp_path):
    found = run(data, tmp_path, trials=1)
    settings = found["trials"][0]["settings"]
    config = data[0]
    assert settings["train.learning_rate"] == config.train.learning_rate
    assert settings["model.layers"] == config.model.layers[0]


def test_a_longer_search_goes_on_and_a_finished_one_does_nothing(data, tmp_path, monkeypatch):
    two, four = run(data, tmp_path, trials=2), run(data, tmp_path, trials=4)
    assert four["trials"][:2] == two["trials"]
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("trained again"))
    assert run(data, tmp_path, trials=4) == four


def test_a_killed_trial_is_run_again_with_its_settings(data, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    fit, calls = Trainer.fit, []

    def die_in_the_second(trainer, *args):
        calls.append(trainer.config)
        if len(calls) == 2:
            raise Killed
        return fit(trainer, *args)

    monkeypatch.setattr(Trainer, "fit", die_in_the_second)
    # A kill leaves no time to tell Optuna anything.
    monkeypatch.setattr("optuna.study._optimize._tell_with_warning", _tell_unless_killed(calls))
    with pytest.raises(Killed):
        run(data, tmp_path, trials=3)
    monkeypatch.undo()
    found = run(data, tmp_path, trials=3)
    assert len(found["trials"]) == 3
    again = found["trials"][1]["settings"]
    assert again["train.learning_rate"] == calls[1].train.learning_rate


def _tell_unless_killed(calls):
    from optuna.study import _optimize

    original = _optimize._tell_with_warning
    return lambda *a, **k: None if len(calls) == 2 else original(*a, **k)


def test_progress_is_told(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="bigel"):
        run(data, tmp_path, "ease", trials=2)
    assert "trial 2 of 2" in caplog.text


@pytest.mark.parametrize(
    ("model", "trials", "message"),
    [("bigle", 3, "did you mean 'bigel'"), ("popularity", 3, "nothing to tune"), ("bigel", 0, "1")],
)
def test_wrong_requests_are_refused(data, tmp_path, model, trials, message):
    with pytest.raises(ConfigError, match=message):
        run(data, tmp_path, model, trials)


def test_the_result_is_json(data, tmp_path):
    found = run(data, tmp_path, "ease", trials=1)
    assert json.loads(json.dumps(found)) == found
