"""What is trained once more, on train and validation, and what is ranked by it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from bigel.config import load_config
from bigel.data.interactions import Interactions, joined
from bigel.errors import ConfigError
from bigel.graph import build_all
from bigel.model import BiGEL
from bigel.schema import NOW, REFIT, TEST, TRAIN, VALID
from bigel.state.moment import CALIBRATIONS, learned_of, pairs_at, read_moment, state_at
from bigel.train import bigel
from bigel.train.bigel import bigel_learner
from tests.train.test_loop import Killed
from tests.train.test_train_stage import OVERRIDES, run, split_in

AGAIN = "train.refit=true"


@pytest.fixture
def split(tmp_path):
    return split_in(tmp_path / "split")


def by_hand(split, steps):
    """Train on train and validation for some steps; return the averaged weights."""
    config = load_config("", OVERRIDES)
    known = joined(Interactions.load(split, TRAIN), Interactions.load(split, VALID))
    graphs = build_all(known.frame(), known.behaviors, known.n_users, known.n_items)
    learner = bigel_learner(known, graphs, config, torch.device("cpu"), config.train.seed)
    trainer = bigel_trainer(learner, known, config)
    for _ in range(steps):
        trainer._take_step()
    return trainer.average.state_dict()


def bigel_trainer(learner, known, config):
    from bigel.train.loop import Trainer

    return Trainer(learner, known, known, config, torch.device("cpu"))


def test_it_is_a_training_on_train_and_validation_of_as_many_steps_as_were_best(split, tmp_path):
    record = run(split, tmp_path, AGAIN)
    assert record.counts["refit"] is True
    weights = load_file(record.file("weights.safetensors"))
    expected = by_hand(split, record.counts["best_step"])
    for name, tensor in expected.items():
        assert torch.equal(weights[f"again.{name}"], tensor), name
        assert not torch.equal(weights[name], tensor) or name.endswith("bias"), name


def test_without_it_all_else_is_the_same_to_the_bit(split, tmp_path):
    plain, again = run(split, tmp_path), run(split, tmp_path, AGAIN)
    assert "refit" not in plain.counts
    files = [load_file(record.file("weights.safetensors")) for record in (plain, again)]
    assert {name for name in files[1] if not name.startswith("again.")} == set(files[0])
    assert all(torch.equal(files[1][name], tensor) for name, tensor in files[0].items())
    names = ("embeddings.safetensors",)
    assert all(plain.file(n).read_bytes() == again.file(n).read_bytes() for n in names)
    steps = [
        json.loads(one.file("history.json").read_text())["best_step"] for one in (plain, again)
    ]
    assert steps[0] == steps[1]


def test_a_training_killed_while_it_trains_once_more_ends_with_the_same_files(
    split, tmp_path, monkeypatch
):
    whole = run(split, tmp_path / "whole", AGAIN)
    original, taken = bigel.step_loss, []

    def die_in_the_second_training(*args):
        taken.append(len(taken))
        if len(taken) == 14:
            raise Killed
        return original(*args)

    monkeypatch.setattr(bigel, "step_loss", die_in_the_second_training)
    with pytest.raises(Killed):
        run(split, tmp_path / "killed", AGAIN)
    resumed = run(split, tmp_path / "killed", AGAIN)
    assert resumed.file("weights.safetensors").read_bytes() == (
        whole.file("weights.safetensors").read_bytes()
    )


def test_what_a_moment_is_ranked_by(split, tmp_path):
    learned = learned_of(run(split, tmp_path, AGAIN))
    model = BiGEL(learned.settings, 12, 12, 2, torch.Generator())
    plain = {n: t for n, t in learned.tensors.items() if n in model.state_dict()}
    again = {n: learned.tensors[f"again.{n}"] for n in plain}
    log = {name: Interactions.load(split, name) for name in (TRAIN, VALID, TEST)}
    known = joined(log[TRAIN], log[VALID])
    for moment, weights, passed in (
        (VALID, plain, log[TRAIN]), (TEST, plain, log[TRAIN]), (REFIT, again, known),
        (NOW, again, joined(known, log[TEST])),
    ):  # fmt: skip
        model.load_state_dict(weights)
        graphs = build_all(passed.frame(), passed.behaviors, 12, 12)
        expected = model.final_embeddings(graphs)
        found = state_at(learned, split, moment).graph
        torch.testing.assert_close(found.user_emb, expected["user_emb"])
        torch.testing.assert_close(found.item_emb, expected["item_emb"])
    assert sorted(pairs_at(split, REFIT).keys) == sorted(known.keys)
    assert read_moment("refit") == REFIT
    assert not any(name.startswith("again.") for name in CALIBRATIONS)


def test_other_numbers_of_users_and_items_move_what_was_found_once_more_too(split, tmp_path):
    learned = learned_of(run(split, tmp_path, AGAIN))
    order = torch.arange(11, -1, -1)
    moved = learned.placed(order.numpy(), order.numpy())
    assert torch.equal(moved.tensors["again.items"], learned.tensors["again.items"][order])
    assert torch.equal(
        moved.tensors["again.item_bias"], learned.tensors["again.item_bias"][:, order]
    )


def test_a_log_with_times_has_no_such_moment(split):
    split.counts["moments"] = {VALID: 1, TEST: 2, NOW: 3}
    with pytest.raises(ConfigError, match="not trained again"):
        pairs_at(split, REFIT)
