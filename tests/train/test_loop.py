import logging
import signal
import sys
from dataclasses import replace

import pytest
import torch

from bigel.config import TrainConfig, load_config, tree
from bigel.errors import TrainingError
from bigel.evaluate import evaluate_split
from bigel.train import loop
from bigel.train.bigel import bigel_learner, parts_of_steps, senders_of
from bigel.train.loop import Trainer, choose_device, learning_rate, use_threads
from bigel.train.sampler import Sampler
from tests.worlds import checkerboard, graphs_of, interactions_of, random_world

QUICK = (
    "model.dim=8",
    "model.layers=[2]",
    "model.global_layers=2",
    "train.batch_size=64",
    "train.negatives=8",
    "train.learning_rate=0.03",
    "train.warmup_steps=3",
    "train.max_steps=12",
    "train.evaluate_every=4",
    "train.checkpoint_every=3",
    "run.progress=false",
)


def make_trainer(train, valid, config, device="cpu"):
    learner = bigel_learner(
        train, graphs_of(train), config, torch.device(device), config.train.seed
    )
    return Trainer(learner, train, valid, config, torch.device(device))


def trainer_of(*overrides, world=None):
    train, valid = world or checkerboard(12, behaviors=3)
    config = load_config("", [*QUICK, *overrides])
    return make_trainer(train, valid, config)


def weights_of(trainer):
    return {**trainer.best, **{f"now {k}": v for k, v in trainer.model.state_dict().items()}}


def facts_of(trainer):
    """Return the history without its times."""
    steps = [{**step, "seconds": 0} for step in trainer.history["steps"]]
    return {**trainer.history, "steps": steps}


def assert_same(one, other):
    assert facts_of(one) == facts_of(other)
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, weights_of(other)[name]), name


@pytest.mark.parametrize(
    "ablation",
    [
        (),
        ("model.cascade=false",),
        ("model.feedback=false",),
        ("model.context=false", "model.alignment=false"),
        ("model.user_vectors=true",),
        ("model.view=true", "train.edge_dropout=0.2"),
        ("model.view=true", "model.own_view=true"),
        ("train.objective='bpr'",),
        ("train.users_per_step=3", "train.batch_size=6", "model.view=true", "model.own_view=true"),
    ],
)
def test_the_checkerboard_is_learned(tmp_path, ablation):
    world = checkerboard(20, behaviors=3)
    trainer = trainer_of("train.max_steps=20", "train.evaluate_every=10", *ablation, world=world)
    trainer.fit(tmp_path)
    figures = evaluate_split(trainer.scores(), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_untrained_weights_do_not_know_the_checkerboard():
    world = checkerboard(20, behaviors=3)
    trainer = trainer_of("model.layers=[0]", "model.global_layers=0", world=world)
    figures = evaluate_split(trainer.scores(), *world, "published", (1,))
    assert all(figures[k]["hr@1"] < 0.5 for k in range(3))


def test_as_many_users_as_there_are_send_as_if_there_were_no_limit(tmp_path):
    limited, unlimited = trainer_of("train.users_per_step=12"), trainer_of("train.users_per_step=0")
    drawn = trainer_of("train.users_per_step=11", "train.batch_size=2")
    for number, trainer in enumerate((limited, unlimited, drawn)):
        trainer.fit(tmp_path / str(number))
    assert_same(limited, unlimited)
    assert limited.batches.draw().sample is None
    assert drawn.batches.draw().sample is not None
    free = trainer_of("train.users_per_step=3", "model.user_vectors=true")
    assert free.batches.draw().sample is None


def test_a_steps_graphs_hold_what_its_batch_keeps_of_its_sample():
    world, _ = checkerboard(12, behaviors=3)
    config = load_config("", ["train.users_per_step=5", "train.batch_size=2"])
    sampler = Sampler(world, 2, 8, 0, dropout=0.4, senders=senders_of(config, 12))
    batch = sampler.draw()
    model = bigel_learner(world, graphs_of(world), config, torch.device("cpu"), 0).model
    _, found, _ = parts_of_steps(graphs_of(world), 0.4, sampled=True)(model, batch)
    assert found.n_users == len(batch.sample.users) < 12
    assert found.union.n_edges == int(batch.kept.sum()) < len(batch.kept)


def test_a_few_pairs_can_be_fitted_to_the_last(tmp_path):
    """Without messages there are only free vectors, which start at random."""
    world = interactions_of([[(u, u) for u in range(8)]] * 2, 8, 8)
    trainer = trainer_of(
        "model.user_vectors=true",
        "model.layers=[0]",
        "model.global_layers=0",
        "model.alignment=false",
        "train.max_steps=40",
        "train.learning_rate=0.1",
        world=(world, world),
    )
    trainer.fit(tmp_path)
    losses = [step["loss"] for step in trainer.history["steps"]]
    assert losses[0] > 2
    assert losses[-1] < 0.05


def test_each_step_tells_its_loss_and_the_parts_of_it(tmp_path):
    world = interactions_of([[(u, u) for u in range(8)], [], [(0, 1), (1, 0)]], 8, 8)
    trainer = trainer_of("train.behavior_weights=[1, 1, 3]", world=(world, world))
    trainer.fit(tmp_path)
    weight = trainer.config.train.alignment_weight
    for step in trainer.history["steps"]:
        first, second, third = step["losses"].values()
        assert second is None
        total = first + 3 * third + weight * step["alignment"]
        assert step["loss"] == pytest.approx(total, rel=1e-5)


def test_the_same_seed_gives_the_same_bits(tmp_path):
    runs = [trainer_of(), trainer_of(), trainer_of("train.seed=1")]
    for number, trainer in enumerate(runs):
        trainer.fit(tmp_path / str(number))
    assert_same(*runs[:2])
    assert facts_of(runs[0]) != facts_of(runs[2])


class Killed(Exception):  # noqa: N818
    pass


def fit_until(trainer, folder, step):
    original = trainer.learner.loss

    def maybe_die(*args):
        if trainer.step == step:
            raise Killed
        return original(*args)

    trainer.learner = replace(trainer.learner, loss=maybe_die)
    with pytest.raises(Killed):
        trainer.fit(folder)


@pytest.mark.parametrize("sampled", [(), ("train.users_per_step=5", "train.batch_size=4")])
@pytest.mark.parametrize("step", [0, 1, 3, 5, 8, 11])
def test_a_killed_run_goes_on_as_if_it_never_was(tmp_path, monkeypatch, step, sampled):
    settings = "train.edge_dropout=0.4", *sampled
    undisturbed = trainer_of(*settings)
    undisturbed.fit(tmp_path / "undisturbed")
    fit_until(trainer_of(*settings), tmp_path / "killed", step)
    resumed, started = trainer_of(*settings), []
    original = resumed.learner.loss
    watched = lambda *a: started.append(resumed.step) or original(*a)  # noqa: E731
    resumed.learner = replace(resumed.learner, loss=watched)
    resumed.fit(tmp_path / "killed")
    assert started[0] == step // 3 * 3  # the newest checkpoint, not the start
    assert_same(resumed, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_request_to_end_waits_for_a_checkpoint_of_the_step(tmp_path, caplog, number):
    undisturbed = trainer_of()
    undisturbed.fit(tmp_path / "undisturbed")
    trainer = trainer_of()
    original = trainer.learner.loss

    def ask_to_end(*args):
        if trainer.step == 7:
            signal.raise_signal(number)
        return original(*args)

    trainer.learner = replace(trainer.learner, loss=ask_to_end)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
            trainer.fit(tmp_path / "ended")
    finally:
        assert signal.signal(number, before) is signal.default_int_handler
    assert "the checkpoint of step 8 is kept" in caplog.text  # 3 and 6 are the regular ones
    resumed = trainer_of()
    with caplog.at_level(logging.INFO):
        resumed.fit(tmp_path / "ended")
    assert "goes on from the checkpoint of step 8" in caplog.text
    assert_same(resumed, undisturbed)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch, caplog):
    undisturbed = trainer_of()
    undisturbed.fit(tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    fit_until(trainer_of(), folder, 8)
    (folder / "step-000000006.safetensors").write_bytes(b"damaged")
    resumed = trainer_of()
    with caplog.at_level(logging.INFO):
        resumed.fit(folder)
    assert "step-000000006.json is damaged" in caplog.text
    assert "goes on from the checkpoint of step 3" in caplog.text
    assert_same(resumed, undisturbed)


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path):
    trainer = trainer_of("train.learning_rate=1e38", "train.warmup_steps=0")
    with pytest.raises(TrainingError, match=r"not finite at step 2.*learning_rate"):
        trainer.fit(tmp_path)


def scripted(trainer, means, monkeypatch):
    """Let the validations have given means."""
    script = iter(means)

    def figures(*args):
        value = next(script)
        return {k: {"ndcg@5": value} for k in range(3)}

    monkeypatch.setattr(loop, "evaluate_tasks", figures)


def test_training_ends_at_the_validation_after_its_minutes(tmp_path, monkeypatch):
    """By a clock that counts six seconds a step: 18 after the third, and a limit of 15."""
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    trainer = trainer_of("train.max_minutes=0.25")
    trainer.fit(tmp_path)
    assert trainer.history["stopped"] == "max_minutes" and trainer.step == 4
    assert [found["step"] for found in trainer.history["validations"]] == [4]


def test_a_step_that_is_given_is_reached_whatever_the_minutes(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    trainer = trainer_of("train.max_minutes=0.01")
    again = Trainer(
        trainer.learner, trainer.train, trainer.valid, trainer.config, trainer.device, 8
    )
    again.fit(tmp_path)
    assert again.step == 8 and again.history["stopped"] == "max_steps"


def test_training_stops_when_patience_ends_and_keeps_the_best_weights(tmp_path, monkeypatch):
    overrides = ("train.max_steps=100", "train.evaluate_every=2", "train.patience=3")
    trainer = trainer_of(*overrides)
    scripted(trainer, [0.1, 0.3, 0.3, 0.2, 0.25, 0.9], monkeypatch)
    seen = {}

    def remember(found):
        seen[found["step"]] = {k: v.clone() for k, v in trainer.average.state_dict().items()}

    trainer.fit(tmp_path, remember)
    assert trainer.history["stopped"] == "patience"
    assert trainer.history["best_step"] == 4
    assert trainer.step == 10
    assert list(seen) == [2, 4, 6, 8, 10]
    assert all(torch.equal(trainer.best[name], seen[4][name]) for name in trainer.best)
    assert not torch.equal(trainer.best["items"], seen[10]["items"])


def test_the_last_step_is_validated_too(tmp_path):
    trainer = trainer_of("train.max_steps=5", "train.evaluate_every=3")
    trainer.fit(tmp_path)
    assert [found["step"] for found in trainer.history["validations"]] == [3, 5]
    assert trainer.history["stopped"] == "max_steps"


def test_behaviors_without_validation_pairs_do_not_count(tmp_path):
    train, _ = checkerboard(6, behaviors=2)
    some = trainer_of(world=(train, interactions_of([[(0, 0)], []], 6, 6)))
    some.fit(tmp_path / "some")
    found = some.history["validations"][0]
    assert found["ndcg"]["b1"] is None
    assert found["mean"] == found["ndcg"]["b0"]
    none = trainer_of(world=(train, interactions_of([[], []], 6, 6)))
    none.fit(tmp_path / "none")
    assert none.history["best_step"] == 12  # nothing to select by: the last weights
    assert none.history["stopped"] == "max_steps"


def test_averaged_weights_follow_the_weights(tmp_path):
    plain = trainer_of("train.ema=0")
    plain.fit(tmp_path / "plain")
    assert torch.equal(plain.average.items, plain.model.items)
    slow = trainer_of("train.ema=0.99")
    slow.fit(tmp_path / "slow")
    start = trainer_of().model.items
    moved = (slow.average.items - start).norm(), (slow.model.items - start).norm()
    assert 0 < moved[0] < moved[1]


def test_learning_rate_warms_up_and_decays():
    config = TrainConfig(learning_rate=0.5, warmup_steps=10, max_steps=100)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == max(rates[8:11]) <= 0.5
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert learning_rate(0, TrainConfig(learning_rate=0.5, warmup_steps=0)) == 0.5


def test_the_rate_reaches_adam(tmp_path):
    still = trainer_of("train.learning_rate=1e-30")
    before = still.model.items.detach().clone()
    still.fit(tmp_path)
    assert torch.equal(still.model.items, before)


def test_threads_are_set_inside_and_restored():
    before = torch.get_num_threads()
    with use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_device():
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(TrainingError, match=r'run\.device = "cpu"'):
            choose_device("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu(tmp_path):
    losses = []
    for device in ("cpu", "cuda"):
        train, valid = random_world(0), random_world(1)
        config = load_config("", [*QUICK])
        trainer = make_trainer(train, valid, config, device)
        trainer.fit(tmp_path / device)
        losses.append([step["loss"] for step in trainer.history["steps"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [("true", True, True), ("true", False, False), ("false", True, False)],
)
def test_the_progress_bar_is_for_terminals(
    tmp_path, capsys, monkeypatch, progress, terminal, shown
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    trainer_of(f"run.progress={progress}").fit(tmp_path)
    assert ("12/12" in capsys.readouterr().err) == shown


def test_each_step_says_how_far_it_is_and_by_what_metric(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(loop.progress, "at", lambda text, share: said.append((text, share)))
    clock = iter(range(0, 10_000, 6))  # it is asked at the start and at the end of a step
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    trainer = trainer_of("train.max_steps=6", "train.evaluate_every=2")
    trainer.fit(tmp_path / "steps")
    assert [share for _, share in said] == [step / 6 for step in range(1, 7)]
    first, last = said[0][0], said[-1][0]
    assert first.startswith("step 1 of 6, loss ") and "NDCG" not in first
    mean = trainer.history["validations"][1]["mean"]
    assert f"mean valid NDCG@5 {mean:.4f}, best " in last  # of the one before this step
    said.clear()
    trainer_of("train.max_steps=60", "train.evaluate_every=2", "train.max_minutes=0.4").fit(
        tmp_path / "minutes"
    )
    assert [share for _, share in said] == [0.25, 0.5, 0.75, 1.0]  # of 24 seconds, 6 a step


def test_the_trainer_shows_either_a_bar_or_lines(tmp_path, monkeypatch):
    hushed = []
    inside = loop.progress.hushed
    monkeypatch.setattr(
        loop.progress, "hushed", lambda shown: hushed.append(shown) or inside(shown)
    )
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_one=terminal: is_one)
        trainer_of("run.progress=true").fit(tmp_path / str(terminal))
    assert hushed == [True, False]


def test_so_many_users_select_the_weights():
    world = checkerboard(240, behaviors=1)
    assert [len(task.users) for task in trainer_of(world=world).tasks] == [240]
    some = trainer_of("evaluate.select_users=100", world=world)
    assert [len(task.users) for task in some.tasks] == [100]


def test_fewer_users_select_among_very_many_items(monkeypatch):
    world = checkerboard(240, behaviors=1)
    monkeypatch.setattr(tree, "SELECT_SCORES", 60 * world[0].n_items)
    monkeypatch.setattr(tree, "FEWEST_SELECTORS", 30)
    assert [len(task.users) for task in trainer_of(world=world).tasks] == [60]
    monkeypatch.setattr(tree, "FEWEST_SELECTORS", 70)
    assert [len(task.users) for task in trainer_of(world=world).tasks] == [70]
