"""A world in which users buy what they clicked, and scores to rank it by."""

import numpy as np
import torch

from bigel.evaluate.protocol import make_task
from bigel.model.memory import Evidence, Memory, item_features
from bigel.model.scores import EmbeddingScores
from bigel.train.logit import collect
from tests.worlds import interactions_of

N_USERS, N_ITEMS = 60, 30


def flat_scores(n_users=N_USERS, n_items=N_ITEMS, behaviors=2, seed=None):
    bias = torch.zeros(behaviors, n_items)
    if seed is not None:
        bias = torch.randn(behaviors, n_items, generator=torch.Generator().manual_seed(seed))
    return EmbeddingScores(torch.ones(behaviors, n_users, 1), bias[..., None], 0 * bias)


def funnel_world(share, seed=0):
    """Users click six items and buy one: with this chance one that they clicked, else another."""
    rng = np.random.default_rng(seed)
    clicks, old_buys, new_buys = [], [], []
    for user in range(N_USERS):
        order = rng.permutation(N_ITEMS).tolist()
        clicks += [(user, item) for item in order[:6]]
        old_buys.append((user, order[20]))
        new_buys.append((user, order[0] if rng.random() < share else order[10]))
    train = interactions_of([clicks, old_buys], N_USERS, N_ITEMS)
    return train, interactions_of([[], new_buys], N_USERS, N_ITEMS)


def chosen_of(train, valid, scores, behavior=1):
    task = make_task(train, valid, behavior, "published")
    return collect(scores, Evidence.of(train), behavior, task, batch_users=7), task


def empty_memory(train):
    behaviors, features = len(train.behaviors), item_features(train)
    return Memory(torch.zeros(behaviors, 2**behaviors, features.shape[1] + 1), features)


class Scaled:
    """Scores times a factor: the same ranking, other logits."""

    def __init__(self, base, factor):
        self.base, self.factor = base, factor
        self.n_items, self.device = base.n_items, base.device

    def fill(self, behavior, users, out):
        self.base.fill(behavior, users, out)
        out *= self.factor
