"""MEMBER: one expert for items that a user touched under another behavior, one for all others.

.. math:: s_k(u, i) = ⟨z_u^{k,e}, z_i^{k,e}⟩ / τ_k + b^e_{k,i}, \\qquad
    z^{k,e} = [n(P_L(Â_g, E^e)) ; n(P_L(Â_k, F^e))] / \\sqrt 2,

e = visited where (u, i) stands in train under a behavior other than k, else unvisited: a hard
switch. Each expert has embeddings of its own, E for the graph of all behaviors and F for each
behavior's. Both are trained through the switch at once: a pair that was visited moves no vector of
the unvisited expert, and the other way round.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigel.config import MemberConfig, TrainConfig
from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.generators import make_generator
from bigel.graph import Graph, Nodes, propagate
from bigel.graph.dropout import thinning
from bigel.model.memory import Evidence
from bigel.model.scores import Derived, EmbeddingScores, Scores
from bigel.model.table import normal_table
from bigel.rivals.base import Embedded, World, scored
from bigel.train.learner import Learner
from bigel.train.ranking_loss import Loss, where_equal
from bigel.train.sampler import Batch, Sampler

EXPERTS = 2  # unvisited, visited


class Member(nn.Module):
    """E and F of each expert, (experts, U + I, D) each, and b (experts · K, I).

    Args:
        world: training data.
        settings: shape.

    Source: CIKM 2025 (arXiv 2508.19507), by its abstract and a public review. Not as there: it
    ranks every behavior, not the target alone, so F is read on the graph of the behavior that is
    ranked and not averaged over behaviors; the loss is that of all rivals here, and the
    self-supervised terms of its experts, of which no source at hand has the form, are missing.
    """

    def __init__(self, world: World, settings: MemberConfig) -> None:
        super().__init__()
        train, generator = world.train, make_generator(world.seed, "weights")
        shape = (EXPERTS, train.n_users + train.n_items, settings.dim)
        self.of_all = normal_table(*shape, generator=generator)
        self.of_one = normal_table(*shape, generator=generator)
        rows = EXPERTS * len(train.behaviors)
        self.bias = nn.Parameter(torch.zeros(rows, train.n_items), settings.item_bias)
        self.layers, self.settings, self.n_users = settings.layers, settings, train.n_users

    def forward(self, world: World) -> Embedded:
        """Return users (U, 2D) and items (I, 2D) of each expert and behavior, expert by expert."""
        users, items = [], []
        for of_all, of_one in zip(self.of_all, self.of_one, strict=True):
            whole = self._read(world.graphs.union, of_all)
            for graph in world.graphs.cascade:
                own = self._read(graph, of_one)
                users.append(torch.cat([whole.users, own.users], 1))
                items.append(torch.cat([whole.items, own.items], 1))
        return users, items

    def _read(self, graph: Graph, table_ND: Tensor) -> Nodes:
        """Return half of z."""
        users, items = table_ND.tensor_split([self.n_users])
        found = propagate(graph, self.layers, items, users)
        return Nodes(*(scored(side, self.settings) / 2**0.5 for side in found))

    def squares(self, batch: Batch, k: int) -> Tensor:
        """Return the sum of squares of the free rows of a behavior's batch, per pair."""
        items = self.n_users + torch.cat([batch.items[k], batch.negatives[k]])
        rows = torch.cat([batch.users[k], items])
        squares = self.of_all[:, rows].square().sum() + self.of_one[:, rows].square().sum()
        return squares / len(batch.users[k])


@dataclass(frozen=True, eq=False)
class Switched(Derived):
    """The unvisited expert's scores, those of visited pairs overwritten by the visited one's.

    Args:
        base: of both experts, as 2K behaviors: the unvisited expert's, then the visited one's.
        evidence: what users are known to have.
    """

    base: EmbeddingScores
    evidence: Evidence

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        rows, items, _ = (part.to(self.device) for part in self.evidence.touched(behavior, users))
        visited = len(self.evidence.pairs) + behavior
        user_nD = self.base.user_emb[visited][users.to(self.device)[rows]].float()
        products = (user_nD * self.base.item_emb[visited][items].float()).sum(1)
        out_BI[rows, items] = products + self.base.item_bias[visited][items].float()


def switched(scores: EmbeddingScores, known: Interactions) -> Scores:
    """Return what ranks: the experts' embeddings, switched by what is known."""
    return Switched(scores, Evidence.of(known))


@dataclass(frozen=True, eq=False)
class Switch:
    """Which pairs are visited, per behavior: those of its users under any other one."""

    touched: list[Pairs]

    @classmethod
    def of(cls, train: Interactions) -> "Switch":
        """Collect them."""
        shape = (train.n_users, train.n_items)
        others = [train.only(train.behavior_index != k) for k in range(len(train.behaviors))]
        return cls([Pairs.of(log.users, log.items, *shape) for log in others])

    def places(self, behavior: int, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return which positive pairs are visited, (B,), and where negatives are, (b, s)."""
        pairs, users = self.touched[behavior], batch.users[behavior].cpu()
        items, device = batch.items[behavior].cpu(), batch.negatives.device
        is_visited_B = pairs.hits(users, items[:, None])[:, 0]
        rows, own = pairs.take(users)
        found, at = where_equal(own, batch.negatives[behavior].cpu())
        return is_visited_B.to(device), (rows[found].to(device), at.to(device))


def member_loss(
    model: Member, world: World, batch: Batch, switch: Switch, settings: MemberConfig
) -> Loss:
    """Return Σ_k L_k of the switched scores, plus the L2 penalty of the batch's free rows.

    Args:
        model: both experts.
        world: with the graphs that messages pass over.
        batch: positive pairs and shared negatives.
        switch: which pairs are visited.
        settings: objective, temperatures, L2.
    """
    (users, items), bias = model(world), model.bias
    n_behaviors = len(batch.users)
    temperatures = settings.temperatures_of(n_behaviors)
    losses: list[Tensor | None] = []
    penalty = bias.new_zeros(())
    for k in range(n_behaviors):
        if len(batch.users[k]) == 0:
            losses.append(None)
            continue
        visited = n_behaviors + k
        negative = batch.negatives[k]
        is_visited_B, (rows, places) = switch.places(k, batch)
        user, other_user = (
            users[e].index_select(0, batch.users[k]) / temperatures[k] for e in (k, visited)
        )
        positive_B = torch.where(
            is_visited_B,
            _products(other_user, items[visited], bias[visited], batch.items[k]),
            _products(user, items[k], bias[k], batch.items[k]),
        )
        negative_BS = torch.addmm(bias[k][negative], user, items[k].index_select(0, negative).T)
        also = _products(other_user[rows], items[visited], bias[visited], negative[places])
        negative_BS = negative_BS.index_put((rows, places), also)
        if batch.log_ratio is not None and settings.objective == "softmax":
            negative_BS = negative_BS - batch.log_ratio[k]
        same = where_equal(batch.items[k], negative)
        negative_BS = negative_BS.index_put(same, negative_BS.new_tensor(-torch.inf))
        if settings.objective == "softmax":
            everything_B = torch.logaddexp(positive_B, negative_BS.logsumexp(1))
            losses.append((everything_B - positive_B).mean())
        else:
            margins = functional.softplus(negative_BS - positive_B[:, None])
            losses.append(margins.sum() / max(negative_BS.numel() - len(same[0]), 1))
        if settings.l2:
            penalty = penalty + settings.l2 * model.squares(batch, k)
    total = penalty + sum(loss for loss in losses if loss is not None)
    return Loss(total, losses, None)


def _products(user_nD: Tensor, item_ID: Tensor, bias_I: Tensor, items: Tensor) -> Tensor:
    return (user_nD * item_ID.index_select(0, items)).sum(1) + bias_I[items]


def learner(world: World, settings: MemberConfig, train: TrainConfig) -> Learner:
    """Return MEMBER, ready to train."""
    switch, thinned = Switch.of(world.train), thinning(world.graphs, settings.edge_dropout)

    def loss(model: Member, batch: Batch) -> Loss:
        part = replace(world, graphs=thinned(batch.kept))
        return member_loss(model, part, batch, switch, settings)

    @torch.no_grad()
    def scores(model: Member) -> EmbeddingScores:
        users, items = model(world)
        temperatures = settings.temperatures_of(len(world.train.behaviors)) * EXPERTS
        scaled = [user / t for user, t in zip(users, temperatures, strict=True)]
        return EmbeddingScores(torch.stack(scaled), torch.stack(items), model.bias.clone())

    sampler = Sampler(
        world.train, train.batch_size, train.negatives, world.seed, settings.negative_power,
        settings.edge_dropout,
    )  # fmt: skip
    model = Member(world, settings).to(world.device)
    return Learner(model, sampler, loss, scores, switched)
