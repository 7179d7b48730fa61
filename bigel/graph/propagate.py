"""Messages along a bipartite graph: P_L(Â, X), the mean over l = 0…L of Â^l X.

Â consists of two blocks, R (users by items) and Rᵀ: users hear items, items hear users. So a
path's side alternates from layer to layer, and half of the work drops out wherever users start
from zero, or only the items' result is asked for. Â is symmetric, hence so is P_L: its
backward pass is P_L of the gradient.

Where users are divided among ranks (``bigel.graph.ranks``), what items hear is added up: forward as
soon as they have heard it. A gradient of items is each rank's part, and is added up before users
hear it.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_scatter import segment_csr

from bigel.graph.build import Graph

Side = Literal["users", "items"]
Backend = Literal["sparse", "scatter"]

# CPU: measured by benchmarks/step.py. CUDA: not measured, cuSPARSE expected to be the faster.
DEFAULT_BACKEND: dict[str, Backend] = {"cpu": "sparse", "cuda": "sparse"}


class Nodes(NamedTuple):
    """One tensor for the users and one for the items."""

    users: Tensor
    items: Tensor


def propagate(
    graph: Graph,
    layers: int,
    items_ID: Tensor,
    users_UD: Tensor | None = None,
    backend: Backend | None = None,
) -> Nodes:
    """Return P_L(Â, [users; items]).

    Where the users are a sample, items hear each of them in place of as many as her weight says.

    Args:
        graph: Â, with U users and I items.
        layers: L.
        items_ID: (I, D) item rows of X.
        users_UD: (U, D) user rows of X; None stands for zeros.
        backend: "sparse" or "scatter"; by default the faster on the device.

    Source: LightGCN (SIGIR 2020), equations 3 and 4, with equal layer weights.
    """
    backend = backend or DEFAULT_BACKEND[items_ID.device.type]
    apply: Callable[..., tuple[Tensor, Tensor]] = _PowerMean.apply
    if graph.weight is None:
        return Nodes(*apply(items_ID, users_UD, graph, layers, backend))
    root_U1 = graph.weight.sqrt().unsqueeze(1)
    given = None if users_UD is None else users_UD * root_U1
    found = Nodes(*apply(items_ID, given, graph, layers, backend))
    return Nodes(found.users / root_U1, found.items)


class _PowerMean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, items: Tensor, users: Tensor | None, graph: Graph, layers: int, backend: Backend
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.backend = graph, layers, backend
        if users is None:
            return _spread_items(graph, layers, items, backend)
        x = Nodes(users, items)
        return (
            _collect(graph, layers, x, "users", backend),
            _collect(graph, layers, x, "items", backend),
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x = Nodes(*grads)
        items = _collect(ctx.graph, ctx.layers, x, "items", ctx.backend, in_parts=True)
        users = None
        if ctx.needs_input_grad[1]:
            users = _collect(ctx.graph, ctx.layers, x, "users", ctx.backend, in_parts=True)
        return items, users, None, None, None


def _spread_items(
    graph: Graph, layers: int, items: Tensor, backend: Backend
) -> tuple[Tensor, Tensor]:
    """Return P_L(Â, [0; items]) by L half products, forward: x, Rx, RᵀRx, …"""
    message = items / (layers + 1)
    sums = Nodes(items.new_zeros(graph.n_users, items.shape[1]), message)
    for layer in range(layers):
        side: Side = "items" if layer % 2 else "users"
        message = _PRODUCTS[backend](graph.half(side), message, None, 1.0)
        if side == "items":
            graph.ranks.add_(message)
        getattr(sums, side).add_(message)
    return sums


def _collect(
    graph: Graph, layers: int, x: Nodes, to: Side, backend: Backend, in_parts: bool = False
) -> Tensor:
    """Return one side of P_L(Â, x) by L half products: (x + Â(x + Â(x + …))) / (L + 1).

    In parts: the items of x, and those of the result, are parts that ranks would have to add up.
    """
    other: Side = "items" if to == "users" else "users"
    side, ranks, product = other if layers % 2 else to, graph.ranks, _PRODUCTS[backend]
    result: Tensor = getattr(x, side)
    for layer in reversed(range(layers)):
        side = other if layer % 2 else to
        scale = 1.0 if layer else 1 / (layers + 1)
        if side == "users" and in_parts:
            result = ranks.added(result)
        if side == "items" and not in_parts and ranks.count > 1:
            heard = ranks.add_(product(graph.half(side), result, None, scale))
            result = heard.add_(x.items, alpha=scale)
        else:
            result = product(graph.half(side), result, getattr(x, side), scale)
    return result if layers else result.clone()


def _sparse_product(half: Tensor, x: Tensor, plus: Tensor | None, scale: float) -> Tensor:
    """Return scale · (plus + half x); 0 · empty instead of no ``plus`` saves two passes."""
    if plus is not None:
        return torch.addmm(plus, half, x, beta=scale, alpha=scale)
    out = x.new_empty(half.shape[0], x.shape[1])
    return torch.addmm(out, half, x, beta=0, alpha=scale, out=out)


def _scatter_product(half: Tensor, x: Tensor, plus: Tensor | None, scale: float) -> Tensor:
    """Return the same by gathering the neighbours' rows and summing them by segment."""
    messages = x.index_select(0, half.col_indices()) * half.values().unsqueeze(1)
    out: Tensor = segment_csr(messages, half.crow_indices().long(), reduce="sum")
    return (out if plus is None else out + plus) * scale


_PRODUCTS = {"sparse": _sparse_product, "scatter": _scatter_product}
