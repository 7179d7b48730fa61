"""All signals at one moment, as columns to be weighed and as the scores that weights make of them.

.. math:: s_k(u, i) = w_k · x_k(u, i), \\qquad
    x_k = (c_k, \\; b_k, \\; demand, \\; age, \\; neighbours, \\; lately, \\; touches)

c_k is the graph's score with its bias b_k. Items that nobody had before T are no candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bigel.data.pairs import Pairs, keys_of, look_up
from bigel.model.scores import Derived, EmbeddingScores, fill_products
from bigel.signals import lately, search
from bigel.signals import neighbours as near
from bigel.signals.demand import demand_columns, demand_names
from bigel.signals.history import History, Latest
from bigel.signals.lately import late_names, late_vectors
from bigel.signals.neighbours import Neighbours, Reached, in_threads, neighbour_names
from bigel.signals.search import Floats, Ints, Shelf, merged
from bigel.signals.touches import WIDTH, Touches, touch_names

GRAPH = 2  # columns of the graph: its score, and the bias in it
TOGETHER = 64  # users whose lists are searched for together: what is near their items is some MB
PARTS = ("graph", "demand", "age", "neighbours", "lately", "touches")


@dataclass(frozen=True, eq=False)
class Signals:
    """What is known at the moment ``until``.

    Args:
        graph: embeddings of the graph of all pairs before it.
        demand: (K, I, 2 H + 1), see ``demand_columns``.
        candidates: bool, (I,): items that somebody had before it.
        neighbours: item to items.
        touched: each user's items by latest time, under any behavior.
        under: what each has under each behavior.
        under_any: what each has under any.
        until: T, Unix seconds.
        behaviors: names of the cascade.
    """

    graph: EmbeddingScores
    demand: Tensor
    candidates: Tensor
    neighbours: Neighbours
    touched: Latest
    under: Sequence[Touches]
    under_any: Touches
    until: int
    behaviors: tuple[str, ...]

    @classmethod
    def of(cls, history: History, graph: EmbeddingScores) -> "Signals":
        """Collect what a history says at its end."""
        touched = history.latest()
        under = [Touches.of(history, k) for k in range(len(history.behaviors))]
        return cls(
            graph, demand_columns(history), torch.from_numpy(history.known_items()),
            Neighbours.at_end(touched), touched, under, Touches.together(under, touched),
            history.until, history.behaviors,
        )  # fmt: skip

    @torch.no_grad()
    def columns(
        self, behavior: int, users: Tensor, rows: Tensor, items: Tensor, reached: Reached
    ) -> Tensor:
        """Return x_k of n pairs, float32 on the CPU, (n, C).

        Args:
            behavior: k.
            users: (B,) users.
            rows: (n,) place of each pair's user among them.
            items: (n,) its item.
            reached: what ``reached`` returns for the users.
        """
        graph = self.graph
        vectors_n1D = graph.item_emb[behavior][items].float()[:, None]
        user_B1D = graph.user_emb[behavior][users].float()[:, None]
        sides_BHD = torch.cat([user_B1D, self.late(behavior, users)], dim=1)
        products = (sides_BHD[rows] * vectors_n1D).sum(-1)
        bias = graph.item_bias[behavior][items].float()
        of_touches = [touches.at(users, rows, items) for touches in self.touches(behavior)]
        return torch.cat(
            [
                torch.stack([products[:, 0] + bias, bias], dim=1),
                self.demand[behavior][items],
                reached.at(rows, items),
                products[:, 1:],
                *of_touches,
            ],
            dim=1,
        )

    def touches(self, behavior: int) -> list[Touches]:
        """Return what users have under each behavior, in the place of the given one under any."""
        return [*self.under[:behavior], self.under_any, *self.under[behavior + 1 :]]

    def late(self, behavior: int, users: Tensor) -> Tensor:
        """Return the vectors of what B users did lately, (B, H, D)."""
        return late_vectors(self.graph, behavior, self.touched, self.until, users)

    def vectors(self, parts: "Parts", behavior: int, users: Tensor) -> Tensor:
        """Return the vectors of B users by the weights of the graph and of what was lately, (B, D).

        Their products with the items' vectors are all that these parts add.
        """
        vectors = self.graph.user_emb[behavior][users] * parts.graph[0]
        if bool(parts.lately.any()):
            late_BHD = self.late(behavior, users)
            for at, weight in enumerate(parts.lately.tolist()):
                vectors = vectors + weight * late_BHD[:, at]
        return vectors

    def reached(self, users: Tensor) -> Reached:
        """Return the columns of neighbours of B users."""
        return self.neighbours.column(self.touched, self.until, users)

    def added(self, parts: "Parts", behavior: int, users: Tensor) -> tuple[Ints, Floats]:
        """Return what B users' own history adds, by place of the user · I + item, ascending."""
        keys, values = np.zeros(0, np.int64), np.zeros(0, np.float32)
        if bool(parts.neighbours.any()):
            found = self.neighbours.worth(self.touched, self.until, users, parts.neighbours)
            keys, values = found.keys.numpy(), found.values[:, 0].numpy()
        rows, items, worth = self.of_touches(parts, behavior, users)
        more = keys_of((rows, items), self.graph.n_items).numpy()
        return merged(keys, values, more, worth.numpy())

    def of_touches(
        self, parts: "Parts", behavior: int, users: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what B users touched, place of the user and item, and what that is worth."""
        rows, items = self.under_any.pairs.take(users)
        keys, worth = keys_of((rows, items), self.graph.n_items), torch.zeros(len(rows))
        for touches, weight_W in zip(self.touches(behavior), parts.touches, strict=True):
            if bool(weight_W.any()):
                row, item, columns = touches.take(users)
                place, _ = look_up(keys, keys_of((row, item), self.graph.n_items))
                worth[place] += (columns * weight_W).sum(1)
        return rows, items, worth

    def offset(self, parts: "Parts", behavior: int) -> Tensor:
        """Return what is added to every user's score of an item, (I,); -inf: no candidate."""
        bias_I = self.graph.item_bias[behavior].float().cpu() * parts.graph[1]
        offset_I = bias_I + (self.demand[behavior] * parts.demand).sum(1)
        return offset_I.masked_fill(~self.candidates, -torch.inf)


@dataclass(frozen=True, eq=False)
class Weighed(Derived):
    """The scores that weights make of signals; itself ``Scores``.

    Args:
        signals: at the moment of the lists.
        weights: (G, K, C): groups of users may differ in them.
        group_of: (U,) group of each user, 0…G-1, on the CPU; None: all are of the last one.
    """

    signals: Signals
    weights: Tensor
    group_of: Tensor | None = None

    @property
    def base(self) -> EmbeddingScores:  # type: ignore[override]
        """The graph's scores."""
        return self.signals.graph

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        if self.group_of is None:
            self._fill(self.weights[-1, behavior], behavior, users, out_BI)
            return
        group_B = self.group_of[users]
        for group in torch.unique(group_B).tolist():
            some = torch.nonzero(group_B == group).flatten()
            part_bI = torch.empty(len(some), out_BI.shape[1], device=out_BI.device)
            self._fill(self.weights[group, behavior], behavior, users[some], part_bI)
            out_BI[some.to(out_BI.device)] = part_bI

    @property
    def many(self) -> int:
        """Number of items from which on lists are searched for; see ``Lister``."""
        return search.MANY

    @torch.no_grad()
    def best(self, behavior: int, users: Tensor, masks: Sequence[Pairs], k: int) -> list[Tensor]:
        """Return what ``rank_under`` makes of ``fill``, without scoring every item."""
        lists = [torch.full((len(users), k), -1) for _ in masks]
        group_B = torch.full((len(users),), -1) if self.group_of is None else self.group_of[users]
        for group in torch.unique(group_B).tolist():
            listed = partial(self._search, group, self._shelf(group, behavior), behavior, masks, k)
            blocks = torch.split(torch.nonzero(group_B == group).flatten(), TOGETHER)
            found = in_threads(listed, [users[rows] for rows in blocks])
            for rows, of_block in zip(blocks, found, strict=True):
                for of_mask, of_rows in zip(lists, of_block, strict=True):
                    of_mask[rows] = of_rows
        return lists

    def _search(
        self, group: int, shelf: Shelf, behavior: int, masks: Sequence[Pairs], k: int, users: Tensor
    ) -> list[Tensor]:
        signals = self.signals
        parts = split_columns(self.weights[group, behavior], len(signals.behaviors))
        vectors = signals.vectors(parts, behavior, users).numpy()
        keys, added = signals.added(parts, behavior, users)
        row, near = np.divmod(keys, self.n_items)
        ends = np.searchsorted(row, np.arange(len(users) + 1))
        own = [(near[start:stop], added[start:stop]) for start, stop in pairwise(ends)]
        lists = torch.full((len(masks), len(users), k), -1)
        for of_mask, mask in zip(lists, masks, strict=True):
            hidden = [mask.col[mask.crow[user] : mask.crow[user + 1]].numpy() for user in users]
            for at, (items, _) in enumerate(shelf.best(vectors, own, hidden, k)):
                of_mask[at, : len(items)] = torch.from_numpy(items)
        return list(lists)

    def _shelf(self, group: int, behavior: int) -> Shelf:
        """Return the items as the weights of a group put them; those of one behavior are kept."""
        kept = self._shelves
        if kept.keys() and next(iter(kept))[1] != behavior:
            kept.clear()
        if (group, behavior) not in kept:
            graph, weights_C = self.signals.graph, self.weights[group, behavior]
            parts = split_columns(weights_C, len(self.signals.behaviors))
            bias_I = graph.item_bias[behavior].float() * parts.graph[0]
            offset_I = self.signals.offset(parts, behavior) + bias_I
            vectors = graph.item_emb[behavior].float().numpy()
            kept[group, behavior] = Shelf.of(vectors, offset_I.numpy())
        return kept[group, behavior]

    @cached_property
    def _shelves(self) -> dict[tuple[int, int], Shelf]:
        return {}

    def _fill(self, weights_C: Tensor, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        signals, parts = self.signals, split_columns(weights_C, len(self.signals.behaviors))
        items_ID, bias_I = signals.graph.item_emb[behavior], signals.graph.item_bias[behavior]
        vectors = signals.vectors(parts, behavior, users)
        fill_products(vectors, items_ID, bias_I * parts.graph[0], out_BI)
        out_BI += signals.offset(parts, behavior).to(out_BI.device)
        if bool(parts.neighbours.any()):
            signals.reached(users).add_to(out_BI, parts.neighbours)
        rows, items, worth = (
            part.to(out_BI.device) for part in signals.of_touches(parts, behavior, users)
        )
        out_BI[rows, items] += worth


@dataclass(frozen=True, eq=False)
class Parts:
    """Weights of one behavior by part.

    Args:
        graph: (2,) of the score, and of the bias beside.
        demand: (2 H + 1,) of demand and age.
        neighbours: (H',).
        lately: (H'',).
        touches: (K, WIDTH).
    """

    graph: Tensor
    demand: Tensor
    neighbours: Tensor
    lately: Tensor
    touches: Tensor


def split_columns(weights_C: Tensor, n_behaviors: int) -> Parts:
    """Part weights, (C,)."""
    sizes = [
        *(GRAPH, len(demand_names("")), len(near.HALF_LIVES), len(lately.HALF_LIVES)),
        n_behaviors * WIDTH,
    ]
    graph, demand, neighbours, late, of_touches = torch.split(weights_C, sizes)
    return Parts(graph, demand, neighbours, late, of_touches.reshape(n_behaviors, WIDTH))


def column_names(behaviors: Sequence[str], behavior: str) -> list[str]:
    """Return what the C columns are called for one behavior."""
    others = ["any" if other == behavior else other for other in behaviors]
    of_touches = [name for other in others for name in touch_names(other)]
    dense = ["graph", "graph's bias", *demand_names(behavior)]
    return [*dense, *neighbour_names(), *late_names(), *of_touches]


def part_of_columns(n_behaviors: int) -> list[str]:
    """Return which of ``PARTS`` each column is of, (C,)."""
    n_demand = len(demand_names("")) - 1
    sparse = (len(near.HALF_LIVES), len(lately.HALF_LIVES), n_behaviors * WIDTH)
    counts = (GRAPH, n_demand, 1, *sparse)
    return list(np.repeat(PARTS, counts))
