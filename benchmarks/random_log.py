"""A random log and its graphs, both made on the device that a step is measured on."""

import torch
from torch import Tensor

from bigel.data.interactions import Interactions
from bigel.graph import Graph, Graphs
from bigel.graph.build import weighted


def random_log(
    sizes: list[int], n_users: int, n_items: int, names: tuple[str, ...], device: torch.device
) -> Interactions:
    """Return a log of so many pairs per behavior; some items have many users, most have few.

    The same call gives the same log on the same kind of device.
    """
    generator = torch.Generator(device).manual_seed(0)
    keys = [random_keys(size, n_users, n_items, generator) for size in sizes]
    behaviors = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    users, items = (
        torch.cat(side).cpu().numpy()
        for side in ([key // n_items for key in keys], [key % n_items for key in keys])
    )
    return Interactions(users, items, behaviors.numpy(), n_users, n_items, names)


def random_keys(size: int, n_users: int, n_items: int, generator: torch.Generator) -> Tensor:
    """Return ``user * n_items + item`` of so many different pairs, ascending, int64.

    Draws as many as are missing until none is.
    """
    device = generator.device
    keys = torch.empty(0, dtype=torch.int64, device=device)
    while missing := size - len(keys):
        left = torch.rand(missing, generator=generator, device=device, dtype=torch.float64)
        items = ((1 / (1 - left) - 1) * n_items / 100).long() % n_items  # a Lomax distribution
        users = torch.randint(n_users, (missing,), generator=generator, device=device)
        keys = torch.unique(torch.cat([keys, users * n_items + items]))
    return keys


def graphs_on(device: torch.device, log: Interactions) -> Graphs:
    """Return what ``build_all`` does, made on a device."""
    cascade = [_keys_of(log, behavior).to(device) for behavior in range(len(log.behaviors))]
    size = log.n_users, log.n_items
    union = _graph_of(torch.unique(torch.cat(cascade)), *size)
    return Graphs(log.behaviors, tuple(_graph_of(keys.unique(), *size) for keys in cascade), union)


def _keys_of(log: Interactions, behavior: int) -> Tensor:
    users, items = map(torch.from_numpy, log.of(behavior))
    return users * log.n_items + items


def _graph_of(keys: Tensor, n_users: int, n_items: int) -> Graph:
    user, item = keys // n_items, keys % n_items
    back = torch.sort(item * n_users + user).values % n_users
    degrees = [user.bincount(minlength=n_users), item.bincount(minlength=n_items)]
    col = torch.cat([item + n_users, back]).int()
    return weighted(col, torch.cat(degrees), n_users, n_items)
