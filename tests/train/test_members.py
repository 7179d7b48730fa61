import pytest
import torch

from bigel.model.scores import EmbeddingScores
from bigel.train.bigel import bigel_learner
from bigel.train.loop import Trainer, validate
from bigel.train.members import SEED_STEP, Fitted, average, trained_members
from tests.train.test_loop import QUICK, Killed, load_config
from tests.worlds import checkerboard, graphs_of

WORLD = checkerboard(12, behaviors=2)
CPU = torch.device("cpu")


def config_of(*overrides):
    return load_config("", [*QUICK, 'data.behaviors=["click", "buy"]', *overrides])


def make(config, seeds=None):
    graphs = graphs_of(WORLD[0])

    def learner(seed):
        if seeds is not None:
            seeds.append(seed)
        return bigel_learner(WORLD[0], graphs, config, CPU, seed)

    return learner


def fit(folder, config, seeds=None):
    return Fitted.of(trained_members(make(config, seeds), *WORLD, config, CPU, folder))


def filled(scores, behavior=1):
    out = torch.empty(12, 12)
    scores.fill(behavior, torch.arange(12), out)
    return out


def test_the_average_of_embeddings_scores_like_the_mean_of_scores():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    parts = [EmbeddingScores(draw(2, 12, d), draw(2, 12, d), draw(2, 12)) for d in (3, 5, 2)]
    expected = torch.stack([filled(part) for part in parts]).mean(0)
    torch.testing.assert_close(filled(average(parts)), expected)


def test_members_train_from_their_own_seeds_and_are_averaged(tmp_path):
    config, seeds = config_of("train.members=3", "train.seed=7"), []
    fitted = fit(tmp_path, config, seeds)
    assert seeds == [7, 7 + SEED_STEP, 7 + 2 * SEED_STEP]
    alone = []
    for at, seed in enumerate(seeds):
        trainer = Trainer(make(config)(seed), *WORLD, config, CPU)
        trainer.fit(tmp_path / f"alone-{seed}")
        alone.append(filled(trainer.scores()))
        for name, tensor in trainer.best.items():
            assert torch.equal(fitted.weights[f"{at}.{name}"], tensor)
    torch.testing.assert_close(filled(fitted.scores), torch.stack(alone).mean(0))
    assert fitted.history["valid"] == validate(fitted.scores, *WORLD, config)
    assert [set(m) for m in fitted.history["members"]] == [{"best_step", "stopped", "valid"}] * 3


def test_one_member_is_the_model_itself(tmp_path):
    config = config_of()
    fitted = fit(tmp_path / "members", config)
    trainer = Trainer(make(config)(0), *WORLD, config, CPU)
    trainer.fit(tmp_path / "alone")
    assert torch.equal(filled(fitted.scores), filled(trainer.scores()))
    assert set(fitted.weights) == set(trainer.best)
    best = max(v["mean"] for v in fitted.history["validations"])
    assert fitted.history["valid"]["mean"] == best


@pytest.mark.parametrize("died_in", [0, 1])
def test_a_killed_run_goes_on_in_the_member_where_it_was(tmp_path, monkeypatch, died_in):
    config = config_of("train.members=2")
    whole = fit(tmp_path / "whole", config)
    take, steps = Trainer._take_step, []

    def die(trainer):
        steps.append(trainer.step)
        if len(steps) == died_in * config.train.max_steps + 8:
            raise Killed
        return take(trainer)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_take_step", die)
        fit(tmp_path / "killed", config)
    resumed = fit(tmp_path / "killed", config)
    for name, tensor in whole.weights.items():
        assert torch.equal(resumed.weights[name], tensor)
