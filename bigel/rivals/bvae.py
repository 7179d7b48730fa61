"""BVAE: a variational autoencoder with one decoder per behavior.

.. math:: μ_k = M^⊤ n(x) + m, \\quad \\log σ_k^2 = S_k^⊤ n(x_k) + t_k, \\quad z_k = μ_k + σ_k ⊙ ε_k
.. math:: \\text{logits}_k = W_k \\sum_j z_j + b_k
.. math:: L_k = \\frac{1}{2v_k} NLL_k + \\log v_k, \\qquad v_k = (\\text{mean}_D σ_k)^2

x_k is the user's row of items under k, x that of their union, n scales a row to length 1 (then
dropout, drawn anew for each k, so the μ_k differ in training alone), ε is normal, and
NLL_k = -Σ_i x_{k,i} log softmax(logits_k)_i. So the first semi-encoder, global, gives the mean, a
second one per behavior the deviation, and the deviation also weighs the loss. The total is
Σ_k (L_k + β KL_k), where KL_k is the divergence of N(μ_k, σ_k²) from N(0, 1) and β grows with the
step. Ranking takes z_k = μ_k.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from bigel.config import BvaeConfig, TrainConfig
from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.generators import make_generator
from bigel.model.scores import EmbeddingScores
from bigel.rivals.base import World
from bigel.train.learner import Learner
from bigel.train.ranking_loss import Loss, log_sum_exp
from bigel.train.sampler import Pass

BIAS_STD = 0.001


@dataclass(frozen=True, eq=False)
class Bags:
    """A set of items for each of B users.

    Args:
        items: (n,) items, user by user.
        start: (B,) where each user's items start.
        unit: (n,) entries of n(x): 1 / sqrt(number of the user's items); dropped ones are 0.
        counts: (B,) number of each user's items.
    """

    items: Tensor
    start: Tensor
    unit: Tensor
    counts: Tensor

    @classmethod
    def of(cls, pairs: Pairs, users: Tensor) -> "Bags":
        """Collect the items of B users."""
        rows, items = pairs.take(users)
        counts = pairs.counts[users]
        unit = counts.float().rsqrt()[rows]
        return cls(items, counts.cumsum(0) - counts, unit, counts)

    def dropped(self, share: float, generator: Generator) -> "Bags":
        """Return the bags with a share of the entries dropped, the others scaled up."""
        kept = torch.rand(len(self.unit), generator=generator) >= share
        return Bags(self.items, self.start, self.unit * kept / (1 - share), self.counts)

    def to(self, device: torch.device) -> "Bags":
        """Return the bags on a device."""
        parts = (self.items, self.start, self.unit, self.counts)
        return Bags(*(part.to(device) for part in parts))

    def sums(self, table_ID: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the (weighted) sums of each user's rows of a table, (B, D)."""
        return functional.embedding_bag(
            self.items, table_ID, self.start, mode="sum", per_sample_weights=weights
        )


@dataclass(frozen=True, eq=False)
class UserBatch:
    """What one step trains on.

    Args:
        unions: the users' items under any behavior, once per behavior: dropout differs.
        behaviors: their items under each behavior.
        noise: (K, B, D), ε.
        kl_weight: β of this step.
    """

    unions: list[Bags]
    behaviors: list[Bags]
    noise: Tensor
    kl_weight: float

    def to(self, device: torch.device) -> "UserBatch":
        """Return the batch on a device."""
        unions, behaviors = (
            [bags.to(device) for bags in rows] for rows in (self.unions, self.behaviors)
        )
        return UserBatch(unions, behaviors, self.noise.to(device), self.kl_weight)


class UserBatches:
    """Draws batches of users, in shuffled passes over all users who have an item.

    Args:
        train: training interactions.
        settings: size of the code, dropout, largest β.
        config: batch size, and the number of steps in which β grows.
        seed: seed of its generators: one for the order, one for dropout and ε.
    """

    def __init__(
        self, train: Interactions, settings: BvaeConfig, config: TrainConfig, seed: int
    ) -> None:
        self._settings, self._config = settings, config
        self._union, self._behaviors = inputs_of(train)
        self._users = torch.nonzero(self._union.counts).flatten()
        self._pass = Pass(len(self._users), make_generator(seed, "order"))
        self._generator = make_generator(seed, "noise")
        self._drawn = 0

    def draw(self) -> UserBatch:
        """Return the next batch."""
        users = self._users[self._pass.take(self._config.batch_size)]
        own = [Bags.of(pairs, users) for pairs in self._behaviors]
        whole = Bags.of(self._union, users)
        unions, behaviors = (
            [bags.dropped(self._settings.dropout, self._generator) for bags in rows]
            for rows in ([whole] * len(own), own)
        )
        shape = (len(behaviors), len(users), self._settings.dim)
        noise = torch.randn(shape, generator=self._generator)
        grown = min(1.0, self._drawn / self._config.max_steps)
        self._drawn += 1
        return UserBatch(unions, behaviors, noise, self._settings.kl_weight * grown)

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return the generators' states, the position in the pass and the number drawn."""
        before, position = self._pass.state()
        tensors = {"order": before, "noise": self._generator.get_state()}
        return tensors, [position, self._drawn]

    def restore(self, tensors: dict[str, Tensor], positions: list[int]) -> None:
        """Go on from what ``state`` returned."""
        position, self._drawn = positions
        self._pass.restore(tensors["order"], position)
        self._generator.set_state(tensors["noise"])


def inputs_of(train: Interactions) -> tuple[Pairs, list[Pairs]]:
    """Return the users' items under any behavior, and under each."""
    shape = (train.n_users, train.n_items)
    behaviors = [Pairs.of(*train.of(k), *shape) for k in range(len(train.behaviors))]
    return train.touched, behaviors


class Bvae(nn.Module):
    """M (I, D), S (K, I, D), W (K, I, D) and their biases.

    Args:
        world: training data.
        settings: shape.

    Source: RecSys 2023, by the authors' code, which made the figures. Both of the paper's gates
    (global feature filtering, target feature fusion) are there a softmax over one value, thus
    always 1: the filter passes μ on and the fusion is the plain sum. Not as there: the code
    counts the last behavior twice in the sum of its first decoder, draws dropout and ε anew for
    each decoder, too, and lets β grow by 1 / 200,000 per step up to 0.2; here β grows over the run,
    by default as far as it does there in as many steps.
    """

    def __init__(self, world: World, settings: BvaeConfig) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")
        n_behaviors, n_items = len(world.train.behaviors), world.train.n_items
        dim = settings.dim
        bound = math.sqrt(6 / (n_items + dim))

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(bound * (2 * torch.rand(shape, generator=generator) - 1))

        def bias(*shape: int) -> nn.Parameter:
            return nn.Parameter(BIAS_STD * torch.randn(shape, generator=generator))

        self.mean, self.mean_bias = table(n_items, dim), bias(dim)
        self.log_variance = table(n_behaviors, n_items, dim)
        self.log_variance_bias = bias(n_behaviors, dim)
        self.decoder = table(n_behaviors, n_items, dim)
        self.decoder_bias = bias(n_behaviors, n_items)

    def encode(self, union: Bags) -> Tensor:
        """Return μ, (B, D)."""
        return union.sums(self.mean, union.unit) + self.mean_bias

    def loss(self, batch: UserBatch) -> Loss:
        """Return Σ_k (L_k + β KL_k) and each L_k, means over the users."""
        mean_KBD = torch.stack([self.encode(union) for union in batch.unions])
        spread = zip(batch.behaviors, self.log_variance.unbind(), strict=True)
        log_variance_KBD = torch.stack([bags.sums(table, bags.unit) for bags, table in spread])
        log_variance_KBD = log_variance_KBD + self.log_variance_bias.unsqueeze(1)
        deviation_KBD = (log_variance_KBD / 2).exp()
        code_BD = (mean_KBD + deviation_KBD * batch.noise).sum(0)
        weight_KB = deviation_KBD.mean(2).square()
        losses: list[Tensor | None] = []
        decoders = zip(batch.behaviors, self.decoder.unbind(), self.decoder_bias, strict=True)
        for k, (bags, table_ID, bias_I) in enumerate(decoders):
            if len(bags.items) == 0:
                losses.append(None)
                continue
            nll_B = negative_log_likelihood(bags, code_BD, table_ID, bias_I)
            losses.append((nll_B / (2 * weight_KB[k]) + weight_KB[k].log()).mean())
        square_KBD = mean_KBD.square() + deviation_KBD.square()
        divergence = (square_KBD - log_variance_KBD - 1).sum((0, 2)).mean() / 2
        total = batch.kl_weight * divergence + sum(loss for loss in losses if loss is not None)
        return Loss(total, losses, None)

    @torch.no_grad()
    def scores(self, union: Bags) -> EmbeddingScores:
        """Return the logits that users' codes decode to without noise.

        Args:
            union: of all users, 0…U-1.
        """
        n_behaviors = len(self.decoder)
        code_UD = n_behaviors * self.encode(union)
        users = code_UD.repeat(n_behaviors, 1, 1)
        return EmbeddingScores(users, self.decoder.clone(), self.decoder_bias.clone())


def negative_log_likelihood(
    bags: Bags, code_BD: Tensor, table_ID: Tensor, bias_I: Tensor
) -> Tensor:
    """Return -Σ_i x_i log softmax(logits)_i of each user, (B,)."""
    everything_B = log_sum_exp(code_BD, table_ID, bias_I)
    own_B = (code_BD * bags.sums(table_ID)).sum(1) + bags.sums(bias_I.unsqueeze(1)).squeeze(1)
    return bags.counts * everything_B - own_B


def learner(world: World, settings: BvaeConfig, train: TrainConfig) -> Learner:
    """Return BVAE, ready to train."""
    union, _ = inputs_of(world.train)
    everyone = Bags.of(union, torch.arange(world.train.n_users)).to(world.device)
    return Learner(
        Bvae(world, settings).to(world.device),
        UserBatches(world.train, settings, train, world.seed),
        lambda model, batch: model.loss(batch),
        lambda model: model.scores(everyone),
    )
