"""Where chance comes from: a seeded generator for each purpose."""

import hashlib

import torch
from torch import Generator


def make_generator(seed: int, purpose: str) -> Generator:
    """Return a generator of its own for each purpose, so that no draw shifts another.

    >>> a, b = make_generator(0, "weights"), make_generator(0, "negatives")
    >>> a.initial_seed() == b.initial_seed()
    False
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
