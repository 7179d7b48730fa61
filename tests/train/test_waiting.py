"""Between its first message and its last update a step asks the host for nothing.

On a GPU the host waits wherever a number of the device decides a shape or a branch, and wherever a
tensor is made on the host and copied. Torch names each operation that runs, on the CPU too, so
those that would wait can be counted here. That they are all of them only a GPU could show.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bigel.config import load_config
from bigel.train.bigel import bigel_learner, parts_of_steps, senders_of
from bigel.train.loop import Trainer
from bigel.train.objective import step_loss
from tests.worlds import checkerboard, graphs_of

WAITING = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "lift_fresh",
    "masked_select", "nonzero", "repeat_interleave", "unique_consecutive", "unique_dim",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_"}  # wait where they are given a mask


class Waits(TorchDispatchMode):
    """Collects the names of operations for which a GPU's host would wait."""

    def __init__(self):
        super().__init__()
        self.names, self.found = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.names.add(name)
        masks = [i for i in args[1] if i is not None] if name in INDEXING else []
        if name in WAITING or any(i.dtype in (torch.bool, torch.uint8) for i in masks):
            self.found.append(name)
        return func(*args, **kwargs or {})


def test_what_would_wait_is_seen():
    x = torch.arange(3.0)
    for call in (
        lambda: x.sum().item(), lambda: x[x > 1], lambda: x.nonzero(), lambda: torch.tensor([1.0]),
        lambda: torch.repeat_interleave(x.long()), lambda: x.long().bincount(),
    ):  # fmt: skip
        with Waits() as seen:
            call()
        assert seen.found
    with Waits() as seen:
        x[torch.ones(2, dtype=torch.int64)] * 2
    assert seen.found == []


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
@pytest.mark.parametrize("senders", [0, 5])
def test_no_operation_of_a_step_waits(objective, senders):
    world, valid = checkerboard(12, behaviors=3)
    more = ["model.view=true", "model.own_view=true", "train.negative_power=0.5"]
    config = load_config(
        "",
        [f"train.users_per_step={senders}", f"train.objective='{objective}'",
         "train.batch_size=4", "train.edge_dropout=0.2", "model.dim=8", *more],
    )  # fmt: skip
    device, graphs = torch.device("cpu"), graphs_of(world)
    trainer = Trainer(bigel_learner(world, graphs, config, device, 0), world, valid, config, device)
    trainer._take_step()  # Adam makes its moments in the first
    batch = trainer.batches.draw()
    assert (batch.sample is None) == (senders_of(config, 12) == 0)
    assert len(batch.same) == 3 and len(batch.firsts) == 2  # found before, as ``to`` does
    given = parts_of_steps(graphs, 0.2, sampled=senders > 0)(trainer.model, batch)
    with Waits() as seen:
        trainer.optimizer.zero_grad()
        step_loss(*given, config.train).total.backward()
        trainer.optimizer.step()
        trainer._update_average()
    assert seen.found == []
    assert {"addmm", "index_select", "_fused_adam_", "lerp_"} <= seen.names
