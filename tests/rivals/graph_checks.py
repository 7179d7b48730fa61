"""What every rival on graphs must do, and naive twins of the layers that several of them share."""

import numpy as np
import torch
from torch import Tensor

from bigel.config import TrainConfig, load_config
from bigel.evaluate import evaluate_split
from bigel.rivals.base import World
from bigel.train.loop import Trainer, use_threads
from bigel.train.sampler import Batch
from tests.worlds import checkerboard, graphs_of, naive_unit_rows, random_world, relabel

USERS, ITEMS, BEHAVIORS = 7, 9, 3
SMALL_TRAIN = TrainConfig(batch_size=24, negatives=8)


def world_of(train, seed=0, dtype=torch.float64):
    return World(train, graphs_of(train).to("cpu", dtype), seed)


WORLD = world_of(random_world(0))


def make(module, settings, world=WORLD):
    """Return a learner whose model has float64 weights, none of them at a special value."""
    learner = module.learner(world, settings, SMALL_TRAIN)
    learner.model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return learner


def set_free(model, users, items):
    with torch.no_grad():
        model.users.copy_(torch.tensor(users))
        model.items.copy_(torch.tensor(items))


def start_of(model):
    return torch.cat([model.users, model.items])


def naive_spread(layer, layers: int, x: Tensor) -> Tensor:
    """Compute X + Σ_l X^(l) / l as written."""
    total = x
    for number in range(1, layers + 1):
        x = naive_unit_rows(layer(x))
        total = total + x / number
    return total


def embeddings_of(learner):
    """Return what scores each behavior, before normalization and temperature: (K, N, D)."""
    emb = learner.scores(learner.model)
    return torch.cat([emb.user_emb, emb.item_emb], dim=1)


def check_gradients_reach_every_weight(module, settings):
    learner = make(module, settings)
    learner.loss(learner.model, learner.batches.draw()).total.backward()
    isolated = {"users": USERS - 1, "items": ITEMS - 1}
    for name, weight in learner.model.named_parameters():
        reached = weight.grad.flatten(1).any(1) if weight.ndim > 1 else weight.grad != 0
        assert reached[: isolated.get(name)].all(), name


def check_relabelling(module, settings):
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(USERS), rng.permutation(ITEMS)
    here = make(module, settings)
    there = make(module, settings, world_of(relabel(WORLD.train, new_user, new_item)))
    with torch.no_grad():
        there.model.users[new_user] = here.model.users
        there.model.items[new_item] = here.model.items
    new_node = np.concatenate([new_user, USERS + new_item])
    torch.testing.assert_close(embeddings_of(there)[:, new_node], embeddings_of(here))


def check_dropped_pairs_send_nothing(module, settings):
    """With all pairs dropped, only the rows of the batch's own users and items have a gradient."""
    learner = make(module, settings.model_copy(update={"edge_dropout": 0.5}))
    ones = [torch.tensor([0])] * BEHAVIORS
    n_pairs = WORLD.graphs.union.n_edges
    own = {"users": 1, "items": 2}  # the batch's rows come first
    for kept, is_alone in ((torch.zeros(n_pairs), True), (torch.ones(n_pairs), False)):
        batch = Batch(ones, ones, torch.ones(BEHAVIORS, 1, dtype=torch.int64), None, kept.bool())
        learner.model.zero_grad()
        learner.loss(learner.model, batch).total.backward()
        others = [
            weight.grad[own[side]:].any()
            for name, weight in learner.model.named_parameters()
            if (side := name.partition(".")[0]) in own
        ]  # fmt: skip
        assert others and (not any(others)) == is_alone


def trainer_of(module, name, world, *overrides, seed=0, steps=20):
    quick = {"dim": 8, "learning_rate": 0.03, "negatives": 8, "max_steps": steps}
    fields = [f"rivals.{name}.{key}={value}" for key, value in quick.items()]
    fixed = ["train.batch_size=64", "train.warmup_steps=3", "train.evaluate_every=10"]
    config = load_config("", [*fields, *fixed, "run.progress=false", *overrides])
    settings = getattr(config.rivals, name)
    shared = {key: quick[key] for key in ("learning_rate", "negatives", "max_steps")}
    config = config.model_copy(update={"train": config.train.model_copy(update=shared)})
    train, valid = world
    learner = module.learner(world_of(train, seed, torch.float32), settings, config.train)
    return Trainer(learner, train, valid, config, torch.device("cpu"))


def check_checkerboard(module, name, folder, *overrides):
    world = checkerboard(20, behaviors=3)
    trainer = trainer_of(module, name, world, *overrides)
    with use_threads(1):
        trainer.fit(folder)
    figures = evaluate_split(trainer.scores(), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def check_seeds(module, name, folder):
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        world = random_world(0), random_world(1)
        trainer = trainer_of(module, name, world, seed=seed, steps=4)
        with use_threads(1):
            trainer.fit(folder / str(number))
        runs.append(trainer.scores().tensors())
    for tensor, key in ((runs[1][key], key) for key in runs[0]):
        assert torch.equal(runs[0][key], tensor), key
    assert not torch.allclose(runs[0]["user_emb"], runs[2]["user_emb"])
