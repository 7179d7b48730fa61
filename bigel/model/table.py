"""Tables of free embeddings, BiGEL's and its rivals'."""

import copy
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

INITIAL_STD = 0.1


def normal_table(*shape: int, generator: Generator) -> nn.Parameter:
    """Return a table whose entries are drawn from a normal distribution around zero."""
    return nn.Parameter(torch.randn(shape, generator=generator) * INITIAL_STD)


def some_rows(module: Module, axes: dict[str, int], rows: Tensor) -> Module:
    """Return a module whose parameters are those of another, some of them at chosen rows only.

    What it computes carries gradients to the other's parameters.

    Args:
        module: the other, which stays as it is.
        axes: of each parameter that is cut, the axis of its rows.
        rows: int64, which ones.
    """
    part = copy.copy(module)
    whole = dict(module._parameters)
    cut = {name: whole.pop(name) for name in axes}
    part.__dict__["_parameters"] = whole
    for name, table in cut.items():
        assert table is not None
        part.__dict__[name] = table.index_select(axes[name], rows)
    return part
