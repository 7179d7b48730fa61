"""MuLE: from the union of all behaviors to each behavior, then to its pairs with and without
the target.

.. math::
    G = S_L(Â_g, E), \\qquad H_k = S_L(Â_k, G), \\qquad
    S_L(Â, X) = X + \\sum_{l=1}^{L} \\frac{X^{(l)}}{l}, \\quad X^{(l)} = n(Â X^{(l-1)})

For each auxiliary behavior k < K, its pairs that are also pairs of the target ("both") and the
others ("only"), where attention guided by the target is to tell signal from noise:

.. math::
    H_k^{both} = S_L(Â_k^{both}, H_k), \\qquad
    H_k^{only} = S_{L'}(α_k, H_k), \\quad
    α_{k,vw}^{(l)} = \\operatorname{softmax}_{w ∈ N(v)} ⟨h_v^K, x_w^{(l-1)}⟩

.. math:: Z = \\sum_f \\operatorname{softmax}_f(⟨a, h^f⟩) \\, h^f, \\quad f = k \\, both, k \\, only

Z scores the target. The paper trains Z alone; here each auxiliary behavior is also scored by its
own H_k, and the losses of all behaviors are summed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn

from bigel.config import MuleConfig, TrainConfig
from bigel.generators import make_generator
from bigel.graph import Graph, Nodes, build_graph
from bigel.rivals.base import Embedded, World, sides
from bigel.rivals.graphs import FreeEmbeddings, multi_task, product, send, spread
from bigel.train.learner import Learner


def part_by_target(world: World) -> tuple[Graph, ...]:
    """Return the parted pairs: (both, only) of the first auxiliary behavior, then of the next, …

    Args:
        world: training data; a pair of its target is "both" under another behavior.
    """
    train = world.train
    frame, pairs = train.frame(), train.users * train.n_items + train.items
    *auxiliaries, target = [train.behavior_index == k for k in range(len(train.behaviors))]
    also = np.isin(pairs, pairs[target])

    def build(part: npt.NDArray[np.bool_]) -> Graph:
        graph = build_graph(frame.filter(pl.Series(part)), train.n_users, train.n_items)
        return graph.to(world.device, world.graphs.union.value.dtype)

    return tuple(build(of_k & part) for of_k in auxiliaries for part in (also, ~also))


class Mule(FreeEmbeddings):
    """The three grains; beside E it has one vector a, (D,).

    Args:
        world: training data.
        settings: shape.

    Source: CIKM 2024 and its authors' code. There the logit of f is linear in [query; h^f]. The
    query's part is the same for all f and drops out of the softmax, and with it the stage that
    makes the query from the H_k; so neither stands here. In the code a message's weight is
    normalized over its sender's neighbours, and the sender's row asks; here it is normalized over
    the receiver's, and the receiver asks, as attention does.
    """

    def __init__(self, world: World, settings: MuleConfig) -> None:
        super().__init__(world, settings.dim)
        self.layers, self.attention_layers = settings.layers, settings.attention_layers
        bound = (6 / (2 * settings.dim + 1)) ** 0.5
        generator = make_generator(world.seed, "attention")
        self.attention = nn.Parameter(
            torch.empty(settings.dim).uniform_(-bound, bound, generator=generator)
        )

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings.

        Args:
            world: with ``graphs.more`` as of ``part_by_target``.
        """
        whole = spread(partial(send, world.graphs.union), self.layers, self.free())
        *auxiliaries, target = [
            spread(partial(send, graph), self.layers, whole) for graph in world.graphs.cascade
        ]
        found = []
        parts = world.graphs.more
        for own, both, only in zip(auxiliaries, parts[::2], parts[1::2], strict=True):
            found.append(spread(partial(send, both), self.layers, own))
            found.append(spread(partial(attend, only, target), self.attention_layers, own))
        return sides([*auxiliaries, self._gather(found) if found else target])

    def _gather(self, found: list[Nodes]) -> Nodes:
        users, items = (torch.stack(list(side)) for side in sides(found))
        return Nodes(self._mean(users), self._mean(items))

    def _mean(self, x_FND: Tensor) -> Tensor:
        share_FN = (x_FND @ self.attention).softmax(0)
        return torch.einsum("fn,fnd->nd", share_FN, x_FND)


def attend(graph: Graph, target: Nodes, x: Nodes) -> Nodes:
    """Return for each node v the mean of its neighbours' rows by α_vw; zeros without neighbours.

    Only the edges' scalars are kept, never a row per edge.

    Args:
        graph: tells the neighbours; its weights do not count.
        target: rows that ask.
        x: rows that answer.
    """
    if graph.n_edges == 0:
        return Nodes(torch.zeros_like(x.users), torch.zeros_like(x.items))
    apply: Callable[..., tuple[Tensor, Tensor]] = _Attend.apply
    return Nodes(*apply(*target, *x, graph))


class _Attend(torch.autograd.Function):
    """With s = ⟨t_v, x_w⟩ and y = αx: dα = ⟨g_v, x_w⟩, ds = α (dα − Σ_w α dα), dt = ds x,
    dx = αᵀg + dsᵀt.
    """

    @staticmethod
    def forward(
        ctx: Any, t_users: Tensor, t_items: Tensor, users: Tensor, items: Tensor, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        target, x = Nodes(t_users, t_items), Nodes(users, items)
        alpha = _softmax(graph, _dots(graph, target, x))
        ctx.graph = graph
        ctx.save_for_backward(alpha, *target, *x)
        return product(_weighted(graph, alpha), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        graph, back = ctx.graph, ctx.graph.turned
        alpha, *rows = ctx.saved_tensors
        target, x, grad = Nodes(*rows[:2]), Nodes(*rows[2:]), Nodes(*grads)
        by_alpha = _dots(graph, grad, x)
        receiver = _receivers(graph)
        mean = torch.zeros_like(graph.degree, dtype=alpha.dtype)
        mean = mean.index_add(0, receiver, alpha * by_alpha)
        by_logit = alpha * (by_alpha - mean[receiver])
        by_target = product(_weighted(graph, by_logit), x)
        through = product(_weighted(graph, alpha[back]), grad)
        around = product(_weighted(graph, by_logit[back]), target)
        by_x = (through.users + around.users, through.items + around.items)
        return *by_target, *by_x, None


def _weighted(graph: Graph, value: Tensor) -> Graph:
    return Graph(graph.n_users, graph.n_items, graph.crow, graph.col, value)


def _receivers(graph: Graph) -> Tensor:
    nodes = torch.arange(len(graph.degree), device=graph.col.device)
    return torch.repeat_interleave(nodes, graph.degree)


def _dots(graph: Graph, left: Nodes, right: Nodes) -> Tensor:
    """Return ⟨left_v, right_w⟩ at each edge, v its receiver, (2 E,)."""
    to_users = torch.sparse.sampled_addmm(graph.half("users"), left.users, right.items.T, beta=0)
    to_items = torch.sparse.sampled_addmm(graph.half("items"), left.items, right.users.T, beta=0)
    return torch.cat([to_users.values(), to_items.values()])


def _softmax(graph: Graph, logits: Tensor) -> Tensor:
    receiver = _receivers(graph)
    empty = logits.new_zeros(len(graph.degree))
    largest = empty.scatter_reduce(0, receiver, logits, "amax", include_self=False)
    raised = (logits - largest[receiver]).exp()
    return raised / empty.index_add(0, receiver, raised)[receiver]


def learner(world: World, settings: MuleConfig, train: TrainConfig) -> Learner:
    """Return MuLE, ready to train."""
    parted = replace(world, graphs=replace(world.graphs, more=part_by_target(world)))
    model = Mule(world, settings).to(world.device)
    return multi_task(model, lambda model, world: model(world), parted, settings, train)
