"""Tables of free embeddings, BiGEL's and its rivals'."""

import torch
from torch import Generator, nn

INITIAL_STD = 0.1


def normal_table(*shape: int, generator: Generator) -> nn.Parameter:
    """Return a table whose entries are drawn from a normal distribution around zero."""
    return nn.Parameter(torch.randn(shape, generator=generator) * INITIAL_STD)
