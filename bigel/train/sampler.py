"""Batches: a shuffled pass over each behavior's pairs, and shared negatives."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from bigel.data.distinct import once_each
from bigel.data.interactions import Interactions
from bigel.generators import make_generator
from bigel.graph.ranks import Ranks
from bigel.graph.sample import Sample
from bigel.model.alignment import first_of_each
from bigel.train.ranking_loss import Places, where_equal


@dataclass(frozen=True, eq=False)
class Whole:
    """What a rank's part of a batch must know of the whole one.

    Args:
        ranks: who has the other parts.
        pairs: B_k of each behavior.
        same: per behavior, how many (b, s) do not count.
        places: of the users, then the items, that ``firsts`` of the part names, the places in
            those of the whole.
        distinct: how many users, then items, those of the whole are.
    """

    ranks: Ranks
    pairs: list[int]
    same: list[int]
    places: list[Tensor]
    distinct: list[int]


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step trains on.

    Args:
        users: per behavior, (B_k,) users of positive pairs; empty where a behavior has none.
        items: per behavior, (B_k,) their items.
        negatives: (K, S) items drawn for each behavior, shared by its whole batch.
        log_ratio: (K, S) log(I · q), where q is the chance with which a negative is drawn; None
            where all items are alike. Taken from the scores of a sampled softmax, it makes its
            sum the same on average as with uniform negatives.
        kept: (E,) whether each pair of the union graph (of the sample's users) carries messages;
            None: all do.
        sample: users whose messages pass, those of the batch among them, and then ``users`` are
            places in it; None: all users.
        whole: where all this is of the users of one rank, what it is a part of.
    """

    users: list[Tensor]
    items: list[Tensor]
    negatives: Tensor
    log_ratio: Tensor | None = None
    kept: Tensor | None = None
    sample: Sample | None = None
    whole: Whole | None = None

    @cached_property
    def same(self) -> list[Places]:
        """Per behavior, (b, s) where a negative is the row's own item."""
        return [where_equal(*both) for both in zip(self.items, self.negatives, strict=True)]

    @cached_property
    def firsts(self) -> list[Tensor]:
        """Places at which each user, and each item, of the target's pairs stands first."""
        return [first_of_each(self.users[-1]), first_of_each(self.items[-1])]

    def pairs(self, k: int) -> int:
        """Return B_k, of all ranks."""
        return len(self.users[k]) if self.whole is None else self.whole.pairs[k]

    def terms(self, k: int, objective: str) -> int | None:
        """Return of how many terms L_k is the mean; None where they are all here."""
        if self.whole is None:
            return None
        pairs, same = self.whole.pairs[k], self.whole.same[k]
        return pairs if objective == "softmax" else pairs * self.negatives.shape[1] - same

    def among_all(self, side: int, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the rows of all ranks, and which are the given ones; None: they are the same.

        Args:
            side: 0: users, 1: items.
            rows: of those that ``firsts`` names.
        """
        if self.whole is None:
            return rows, None
        own = self.whole.places[side]
        spread = rows.new_zeros(self.whole.distinct[side], rows.shape[1]).index_copy(0, own, rows)
        return self.whole.ranks.added(spread), own

    def part_of(self, ranks: Ranks, before: Tensor) -> "Batch":
        """Return what is of the users of a rank, who are called by their places among them.

        Args:
            ranks: whose users.
            before: (U + 1,) pairs in the union graph of the users before each, then of all.
        """
        assert ranks.users is not None
        first, last = ranks.users.start, ranks.users.stop
        sample = self.sample
        if sample is not None:
            counts = before.diff()[sample.users]
            before = functional.pad(counts.cumsum(0), (1, 0))
            start, end = torch.searchsorted(sample.users, torch.tensor([first, last])).tolist()
            sample = Sample(sample.users[start:end] - first, sample.weight[start:end])
            first, last = start, end
        own = [(users >= first) & (users < last) for users in self.users]
        kept = None if self.kept is None else self.kept[before[first] : before[last]]
        number = own[-1].cumsum(0) - 1
        places = [own[-1][firsts].nonzero()[:, 0] for firsts in self.firsts]
        whole = Whole(
            ranks,
            [len(users) for users in self.users],
            [len(rows) for rows, _ in self.same],
            places,
            [len(firsts) for firsts in self.firsts],
        )
        part = Batch(
            [users[of_rank] - first for users, of_rank in zip(self.users, own, strict=True)],
            [items[of_rank] for items, of_rank in zip(self.items, own, strict=True)],
            self.negatives, self.log_ratio, kept, sample, whole,
        )  # fmt: skip
        once = [number[firsts[mine]] for firsts, mine in zip(self.firsts, places, strict=True)]
        return part._with(part.same, once)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, with those places, whose number no kernel must wait for."""
        if device == self.negatives.device:
            return self
        users, items = ([t.to(device) for t in side] for side in (self.users, self.items))
        log_ratio, kept = (
            None if tensor is None else tensor.to(device) for tensor in (self.log_ratio, self.kept)
        )
        sample = None if self.sample is None else self.sample.to(device)
        whole = self.whole
        if whole is not None:
            whole = replace(whole, places=[places.to(device) for places in whole.places])
        moved = Batch(users, items, self.negatives.to(device), log_ratio, kept, sample, whole)
        same = [(rows.to(device), places.to(device)) for rows, places in self.same]
        return moved._with(same, [places.to(device) for places in self.firsts])

    def in_numbers_of(self, items: Tensor) -> "Batch":
        """Return the batch with each item called by its place among some, which are ascending."""
        of_pairs = [torch.searchsorted(items, of_behavior) for of_behavior in self.items]
        negatives = torch.searchsorted(items, self.negatives)
        return replace(self, items=of_pairs, negatives=negatives)._with(self.same, self.firsts)

    def _with(self, same: list[Places], firsts: list[Tensor]) -> "Batch":
        """Return the batch, which then need not find these places."""
        vars(self).update(same=same, firsts=firsts)
        return self


class Pass:
    """An endless sequence of places 0…n-1 in which every pass holds each place once.

    Args:
        n: number of places.
        generator: source of the shuffles; used by nobody else.
    """

    def __init__(self, n: int, generator: Generator) -> None:
        self._n, self._generator = n, generator
        self._position = 0
        self._shuffle()

    def take(self, size: int) -> Tensor:
        """Return the next ``size`` places, int64; all n where n is smaller."""
        size = min(size, self._n)
        chosen = self._order[self._position : self._position + size]
        self._position += len(chosen)
        missing = size - len(chosen)
        if not missing:
            return chosen
        self._shuffle()
        self._position = missing
        return torch.cat([chosen, self._order[:missing]])

    def state(self) -> tuple[Tensor, int]:
        """Return the generator's state before this pass was shuffled, and the position."""
        return self._before, self._position

    def restore(self, before: Tensor, position: int) -> None:
        """Go on from what ``state`` returned."""
        self._generator.set_state(before)
        self._shuffle()
        self._position = position

    def _shuffle(self) -> None:
        self._before = self._generator.get_state()
        self._order = torch.randperm(self._n, generator=self._generator)
        self._position = 0


class Negatives:
    """Draws the items that a batch's pairs are held against.

    Args:
        train: training interactions.
        count: S, per behavior.
        generator: source of the draws; used by nobody else.
        power: items are drawn by (1 + the item's train users under the behavior) ^ power.

    Source of the correction: Bengio and Senécal, 2003 (importance sampling of a softmax).
    """

    def __init__(
        self, train: Interactions, count: int, generator: Generator, power: float = 0.0
    ) -> None:
        self.generator = generator
        self._shape = (len(train.behaviors), count)
        self._n_items = train.n_items
        self._chance: Tensor | None = None
        if power:
            items_K = [torch.from_numpy(train.of(k)[1]) for k in range(len(train.behaviors))]
            counts = [torch.bincount(items, minlength=train.n_items) for items in items_K]
            weights = (1.0 + torch.stack(counts).double()) ** power
            self._chance = weights / weights.sum(1, keepdim=True)

    def draw(self) -> tuple[Tensor, Tensor | None]:
        """Return ``negatives`` and ``log_ratio`` of a ``Batch``."""
        if self._chance is None:
            return torch.randint(self._n_items, self._shape, generator=self.generator), None
        negatives = torch.multinomial(
            self._chance, self._shape[1], replacement=True, generator=self.generator
        )
        return negatives, torch.log(self._n_items * self._chance.gather(1, negatives)).float()


class Sampler:
    """Draws batches from the training pairs.

    Args:
        train: training interactions.
        batch_size: positive pairs per behavior and step.
        negatives: S.
        seed: of its generators: one per behavior for the order, one for the negatives, one for
            the edges, one for the users.
        power: of ``Negatives``.
        dropout: share of the distinct user–item pairs that carry no messages.
        senders: users drawn for each step's messages, beside those of its batch; 0: all users
            send.
    """

    def __init__(
        self, train: Interactions, batch_size: int, negatives: int, seed: int,
        power: float = 0.0, dropout: float = 0.0, senders: int = 0,
    ) -> None:  # fmt: skip
        self._batch_size = batch_size
        self._pairs = [
            (torch.from_numpy(users), torch.from_numpy(items))
            for users, items in map(train.of, range(len(train.behaviors)))
        ]
        self._passes = [
            Pass(len(users), make_generator(seed, f"order {k}"))
            for k, (users, _) in enumerate(self._pairs)
        ]
        self._negatives = Negatives(train, negatives, make_generator(seed, "negatives"), power)
        self._dropout, self._edges = dropout, make_generator(seed, "edges")
        self._n_users, self._senders = train.n_users, senders
        if senders:
            self._passes.append(Pass(train.n_users, make_generator(seed, "users")))
        self._pairs_of_user = torch.zeros(train.n_users, dtype=torch.int64)
        if dropout:
            pairs = once_each(train.users * train.n_items + train.items)
            counts = np.bincount(pairs // train.n_items, minlength=train.n_users)
            self._pairs_of_user = torch.from_numpy(counts)

    def draw(self) -> Batch:
        """Return the next batch."""
        places = [one.take(self._batch_size) for one in self._passes[: len(self._pairs)]]
        users = [users[at] for (users, _), at in zip(self._pairs, places, strict=True)]
        items = [items[at] for (_, items), at in zip(self._pairs, places, strict=True)]
        sample = self._draw_sample(torch.cat(users)) if self._senders else None
        if sample is not None:
            users = [torch.searchsorted(sample.users, of_behavior) for of_behavior in users]
        return Batch(users, items, *self._negatives.draw(), self._draw_kept(sample), sample)

    def _draw_sample(self, own: Tensor) -> Sample:
        """Return the batch's users, each for herself, and others, each for U / senders.

        Who is drawn twice, where one pass ends and the next begins, stands for twice as many.
        """
        drawn, times = torch.unique(self._passes[-1].take(self._senders), return_counts=True)
        own = torch.unique(own)
        others = ~torch.isin(drawn, own)
        stands_for = times[others] * (self._n_users / min(self._senders, self._n_users))
        users, order = torch.cat([own, drawn[others]]).sort()
        return Sample(users, torch.cat([torch.ones(len(own)), stands_for.float()])[order])

    def _draw_kept(self, sample: Sample | None) -> Tensor | None:
        if not self._dropout:
            return None
        counts = self._pairs_of_user if sample is None else self._pairs_of_user[sample.users]
        return torch.rand(int(counts.sum()), generator=self._edges) >= self._dropout

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return the generators' states by name, and the position in each pass."""
        states = [one.state() for one in self._passes]
        tensors = {f"order.{k}": before for k, (before, _) in enumerate(states)}
        negatives = self._negatives.generator.get_state()
        tensors |= {"negatives": negatives, "edges": self._edges.get_state()}
        return tensors, [position for _, position in states]

    def restore(self, tensors: dict[str, Tensor], positions: list[int]) -> None:
        """Go on from what ``state`` returned."""
        for k, (one, position) in enumerate(zip(self._passes, positions, strict=True)):
            one.restore(tensors[f"order.{k}"], position)
        self._negatives.generator.set_state(tensors["negatives"])
        self._edges.set_state(tensors["edges"])


@dataclass(frozen=True, eq=False)
class Parts:
    """Of each batch of a sampler, which every rank draws alike, what is of a rank's users.

    Args:
        sampler: of all users.
        ranks: whose users.
        before: as of ``Batch.part_of``.
    """

    sampler: Sampler
    ranks: Ranks
    before: Tensor

    def draw(self) -> Batch:
        """Return the rank's part of the next batch."""
        return self.sampler.draw().part_of(self.ranks, self.before)

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return the sampler's state."""
        return self.sampler.state()

    def restore(self, tensors: dict[str, Tensor], positions: list[int]) -> None:
        """Go on from what ``state`` returned."""
        self.sampler.restore(tensors, positions)
