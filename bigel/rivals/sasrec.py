"""SASRec: self-attention over a user's events in order of time, predicting the next item.

.. math::
    x_t = √D \\, (e_{i_t} + c_{b_t} + p_t), \\qquad
    x ← x + Att(n(x)), \\quad x ← x + F(n(x)) \\quad \\text{per block}, \\qquad h = n(x)
.. math:: s_k(t, i) = ⟨W_k h_t + r_k, \\; e_i⟩ + b_{k,i}

e are embeddings of items, both as input and as output; c of behaviors, p of places in the window;
n is layer norm, Att attends to events up to t, F is relu between two layers of width D. From each
event, the user's next item under each behavior is predicted, and Σ_k of a sampled softmax over
these is the loss. Ranking takes h of a user's latest event. A user without one has h = 0.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from bigel.config import SasRecConfig, TrainConfig
from bigel.generators import make_generator
from bigel.model.scores import EmbeddingScores
from bigel.rivals.base import Embedded, World, pair_loss, pair_scores
from bigel.rivals.sequences import Histories, Read, WindowBatch, WindowBatches
from bigel.train.learner import Learner
from bigel.train.ranking_loss import Loss
from bigel.train.sampler import Batch

BLOCK = 256  # users whose histories are read at a time


class Block(nn.Module):
    """Self-attention, then a layer for each event by itself, both added to what they read.

    Args:
        dim: D.
        generator: of the initial weights.
    """

    def __init__(self, dim: int, generator: Generator) -> None:
        super().__init__()
        bound = math.sqrt(3 / dim)
        drawn = bound * (2 * torch.rand(5, dim, dim, generator=generator) - 1)
        self.attention = nn.Parameter(drawn[:3])  # of queries, keys and values
        self.widths = nn.Parameter(drawn[3:])
        self.biases = nn.Parameter(torch.zeros(2, dim))
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x_BTD: Tensor, dropped: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x_BTD and what both parts add to it, each thinned by ``dropped``."""
        queries, keys, values = (
            (self.before(x_BTD) @ weight).unsqueeze(1) for weight in self.attention
        )
        found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x_BTD = x_BTD + dropped(found.squeeze(1))
        hidden = (self.between(x_BTD) @ self.widths[0] + self.biases[0]).relu()
        return x_BTD + dropped(hidden @ self.widths[1] + self.biases[1])


class SasRec(nn.Module):
    """The reader of histories.

    Args:
        world: training data.
        settings: shape.

    Source: arXiv 1808.09781, with the softmax over many shared negatives of arXiv 2309.07602,
    which lifts it to and above BERT4Rec. Not as there: behaviors have embeddings and a head each;
    long histories are trained in windows rather than cut; windows are padded after their last
    event, so places count from the first; attention weights are not dropped.
    """

    item_bias: Tensor | None

    def __init__(self, world: World, settings: SasRecConfig) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")
        n_behaviors, n_items = len(world.train.behaviors), world.train.n_items
        dim = settings.dim

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) / math.sqrt(dim))

        self.keep = 1 - settings.dropout
        self.items = table(n_items, dim)
        self.behaviors, self.places = table(n_behaviors, dim), table(settings.length, dim)
        self.blocks = nn.ModuleList(Block(dim, generator) for _ in range(settings.blocks))
        self.after = nn.LayerNorm(dim)
        self.heads = nn.Parameter(torch.eye(dim).repeat(n_behaviors, 1, 1))
        self.head_bias = table(n_behaviors, dim)
        bias = nn.Parameter(torch.zeros(n_behaviors, n_items)) if settings.item_bias else None
        self.register_parameter("item_bias", bias)

    def encode(self, events: Read, kept: Tensor | None = None) -> Tensor:
        """Return h after each event, (B, T, D).

        Args:
            events: what is read.
            kept: (2 · blocks + 1, B, T, D) what dropout keeps; None: all.
        """

        masks = iter(() if kept is None else kept)

        def dropped(x_BTD: Tensor) -> Tensor:
            return x_BTD if kept is None else x_BTD * next(masks) / self.keep

        e_BTD = self.items[events.items] + self.behaviors[events.behaviors]
        x_BTD = e_BTD + self.places[: events.items.shape[1]]
        x_BTD = dropped(x_BTD * math.sqrt(x_BTD.shape[-1]))
        for block in self.blocks:
            x_BTD = block(x_BTD, dropped)
        h_BTD: Tensor = self.after(x_BTD)
        return h_BTD

    def ask(self, behavior: int, h_ND: Tensor) -> Tensor:
        """Return W_k h + r_k."""
        return h_ND @ self.heads[behavior] + self.head_bias[behavior]

    def forward(self, batch: WindowBatch) -> Embedded:
        """Return what asks for each behavior's next items, (n_k, D), and what answers, (I, D)."""
        h_ND = self.encode(batch.events, batch.kept).flatten(0, 1)
        queries = [self.ask(k, h_ND[places]) for k, places in enumerate(batch.pairs.users)]
        return queries, [self.items] * len(queries)


@torch.no_grad()
def latest_states(model: SasRec, histories: Histories, length: int) -> Tensor:
    """Return h of each user's latest event, (U, D); zeros for a user without any."""
    windows = histories.latest(length)
    count_U = windows[:, 1] - windows[:, 0]
    h_UD = model.items.new_zeros(len(count_U), model.items.shape[1])
    order = count_U.argsort(stable=True)  # so that windows of a block are about as long
    for users in torch.split(order[count_U[order] > 0], BLOCK):
        events = histories.read(windows[users]).to(h_UD.device)
        last = model.encode(events)[torch.arange(len(users)), events.length - 1]
        h_UD[users.to(h_UD.device)] = last
    return h_UD


def learner(world: World, settings: SasRecConfig, train: TrainConfig) -> Learner:
    """Return SASRec, ready to train.

    Raises:
        ConfigError: if the log has no times: without an order there is no next item.
    """
    histories = Histories.of(world.train, "sasrec")

    def loss(model: SasRec, batch: WindowBatch) -> Loss:
        queries, items = model(batch)
        own = [torch.arange(len(rows), device=rows.device) for rows in batch.pairs.users]
        pairs = Batch(own, batch.pairs.items, batch.pairs.negatives, batch.pairs.log_ratio)
        penalized = list(zip(queries, items, strict=True))
        return pair_loss((queries, items), pairs, settings, penalized, model.item_bias)

    def scores(model: SasRec) -> EmbeddingScores:
        h_UD = latest_states(model, histories, settings.length)
        queries = [model.ask(k, h_UD) for k in range(len(model.heads))]
        return pair_scores((queries, [model.items] * len(queries)), settings, model.item_bias)

    batches = WindowBatches(histories, world.train, settings, train, world.seed)
    return Learner(SasRec(world, settings).to(world.device), batches, loss, scores)
