"""The loss of a step: Σ_k λ_k (L_k + L^v_k + L^o_k) + λ_c CPA; L^v_k, L^o_k of a view alone.

Of a rank's part of a batch it is the rank's part: the parts' sum is the loss.
"""

import torch
from torch import Tensor

from bigel.config import TrainConfig
from bigel.graph import Graphs
from bigel.model import BiGEL
from bigel.model.alignment import align
from bigel.model.bigel import Embedded
from bigel.model.view import View
from bigel.train.ranking_loss import Loss, Places, ranking_loss
from bigel.train.sampler import Batch


def step_loss(model: BiGEL, graphs: Graphs, batch: Batch, config: TrainConfig) -> Loss:
    """Return the loss of one batch; that of a behavior has its views' added.

    Args:
        model: the model.
        graphs: training graphs.
        batch: positive pairs and negatives.
        config: objective, weights and temperatures.
    """
    states = model(graphs)
    users = model.embed(states, "users", batch.users)
    candidates = [torch.cat(both) for both in zip(batch.items, batch.negatives, strict=True)]
    items = model.embed(states, "items", candidates)
    losses = [
        _behavior_loss(model, k, users, items, candidates[k], batch, config)
        if batch.pairs(k)
        else None
        for k in range(len(batch.users))
    ]
    total = users.z[0].new_zeros(())
    for weight, loss in zip(config.weights_of(len(losses)), losses, strict=True):
        if loss is not None:
            total = total + weight * loss
    alignment = None
    if model.config.alignment and batch.pairs(-1):
        alignment = _alignment(users, items, batch, config)
        total = total + config.alignment_weight * alignment
    return Loss(total, losses, alignment)


def _behavior_loss(
    model: BiGEL, k: int, users: Embedded, items: Embedded, candidates: Tensor, batch: Batch,
    config: TrainConfig,
) -> Tensor:  # fmt: skip
    """Return L_k and the views' added; candidates: the B positive items, then the S negatives."""
    log_ratio_S = None if batch.log_ratio is None else batch.log_ratio[k]
    objective = config.objective
    more = candidates, batch.same[k], log_ratio_S, objective, batch.terms(k, objective)
    loss = _loss_of_scores(model, k, users.z[k], items.z[k], *more)
    for view, user, item in zip(model.views, users.views, items.views, strict=True):
        if view.omegas[k]:
            loss = loss + _loss_of_scores(view, k, user[k], item[k], *more)
    return loss


def _loss_of_scores(
    part: BiGEL | View, k: int, user_BD: Tensor, item_CD: Tensor, candidates: Tensor,
    same: Places, log_ratio_S: Tensor | None, objective: str, terms: int | None,
) -> Tensor:  # fmt: skip
    user_BD = user_BD / part.temperatures[k]
    bias_C = part.item_bias[k].index_select(0, candidates)
    return ranking_loss(objective, user_BD, item_CD, bias_C, same, log_ratio_S, terms)


def _alignment(users: Embedded, items: Embedded, batch: Batch, config: TrainConfig) -> Tensor:
    """Return CPA: users' and items' InfoNCE over the distinct nodes of the target's pairs."""
    total = users.target.new_zeros(())
    for side, (rows, once) in enumerate(zip((users, items), batch.firsts, strict=True)):
        assert rows.context is not None
        target, context = rows.target.index_select(0, once), rows.context.index_select(0, once)
        everyones, own = batch.among_all(side, context)
        total = total + align(target, everyones, config.alignment_temperature, own)
    return total / 2
