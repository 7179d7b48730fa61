"""A rank of the tests: ``python -m tests.train.together RANK COUNT FOLDER`` trains every case."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributed import FileStore

from bigel.config import load_config
from bigel.graph import Graphs, propagate
from bigel.graph.ranks import ALONE, Ranks
from bigel.graph.sample import divided
from bigel.train.bigel import bigel_learner
from bigel.train.loop import Trainer
from bigel.train.ranks import added_up, over_loopback
from tests.worlds import graphs_of, interactions_of, random_pairs, small_graph

CPU = torch.device("cpu")
N_USERS, N_ITEMS = 23, 40
QUICK = (
    "model.dim=8",
    "train.batch_size=32",
    "train.negatives=16",
    "train.warmup_steps=0",
    "train.max_steps=6",
    "train.evaluate_every=3",
    "run.progress=false",
)
SAMPLED = ("train.users_per_step=5", "train.batch_size=4")
CASES = {
    "plain": (),
    "layers": ("model.layers=[1, 2, 4]", "model.global_layers=2", "model.order=[2, 0, 1]"),
    "views": ("model.view=true", "model.own_view=true", "model.own_view_weight=[0, 1, 2]"),
    "bare": ("model.cascade=false", "model.feedback=false", "model.context=false"),
    "no alignment": ("model.alignment=false", "model.layers=[0]"),
    "bpr": ("train.objective='bpr'", "train.behavior_weights=[1, 0, 3]"),
    "popular": ("train.negative_power=0.7",),
    "dropout": ("train.edge_dropout=0.4", "model.view=true"),
    "sampled": (*SAMPLED, "model.own_view=true"),
    "both": (*SAMPLED, "train.edge_dropout=0.3", "train.batch_size=2", "train.negatives=2"),
    "one pair": ("train.batch_size=1", "model.own_view=true"),
}


def world_of(case):
    """Train and validation of three behaviors; where there are views the second has no pairs."""
    by_behavior = [random_pairs(k, N_USERS, N_ITEMS, 90 // (k + 1)) for k in range(3)]
    if case == "views":
        by_behavior[1] = []
    held_out = [random_pairs(10 + k, N_USERS, N_ITEMS, 20) for k in range(3)]
    return tuple(interactions_of(pairs, N_USERS, N_ITEMS) for pairs in (by_behavior, held_out))


def trainer_of(case, ranks=ALONE):
    train, valid = world_of(case)
    config = load_config("", ["data.behaviors=['a', 'b', 'c']", *QUICK, *CASES[case]])
    learner = bigel_learner(train, graphs_of(train), config, CPU, 0, ranks)
    return Trainer(learner, train, valid, config, CPU)


def first_gradients(case, ranks=ALONE):
    """Return the gradients of the first step."""
    trainer = trainer_of(case, ranks)
    trainer._take_step()
    grads = {name: weight.grad for name, weight in trainer.model.named_parameters()}
    return {f"grad {name}": grad for name, grad in grads.items() if grad is not None}


def results_of(case, folder, ranks=ALONE):
    """Return the history, and all weights with the gradients of the first step."""
    trainer = trainer_of(case, ranks)
    trainer.fit(folder)
    weights = {**trainer.model.state_dict(), **first_gradients(case, ranks)}
    return trainer.history, weights


def spread_by_hand(ranks):
    """Return what three layers make of the small graph, user 0 on rank 0 and user 1 on rank 1."""
    graph = small_graph()
    ranks = replace(ranks, users=range(ranks.rank, ranks.rank + 1))
    own = divided(Graphs(("b0",), (graph,), graph), ranks).union
    items = torch.tensor([[1.0], [2.0], [5.0]], requires_grad=True)
    users = torch.tensor([[0.0], [4.0]])[[ranks.rank]].requires_grad_()
    found = propagate(own, 2, items, users)
    loss = found.users.sum() + (found.items.sum() if ranks.rank == 0 else 0)
    loss.backward()
    return {
        "users": found.users.detach(), "items": found.items.detach(),
        "of items": items.grad, "of users": users.grad,
    }  # fmt: skip


def main(rank, count, folder):
    torch.set_num_threads(1)
    ranks, store = Ranks(rank, count, count), FileStore(str(folder / "store"), count)
    with over_loopback(), added_up(store, 1, ranks, "cpu"):
        if count == 2:
            save_file(spread_by_hand(ranks), folder / f"by-hand-{rank}.safetensors")
        for case in CASES:
            history, weights = results_of(case, folder / case, ranks)
            save_file(weights, folder / f"{case}-{rank}.safetensors")
            (folder / f"{case}-{rank}.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
