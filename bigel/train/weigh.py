"""The weights of the signals, fitted after BiGEL's own on nights of the validation window."""

import torch

from bigel import progress
from bigel.config import Config
from bigel.model.scores import EmbeddingScores
from bigel.schema import MOMENTS, NOW, TEST, VALID
from bigel.signals.history import History
from bigel.signals.nights import collect
from bigel.signals.weighing import Weighing, signal_folds, weigh, weigh_again
from bigel.state.moment import Learned
from bigel.store import Record


def weigh_signals(
    learned: Learned, split: Record, config: Config, device: torch.device
) -> Weighing:
    """Fit the weights of every behavior: on nights of validation, and on the log's last ones.

    The first are what test is ranked by, the second what lists are made by from the log's end on.
    Messages pass over the graph as it was each night; the tables are those of the training, which
    saw nothing after train.

    Args:
        learned: BiGEL's weights, in the split's numbers.
        split: record of a split by time.
        config: penalty, seed.
        device: where messages pass.
    """
    history, cuts = History.load(split), split.counts[MOMENTS]
    served, seed = learned.without_draws(), config.train.seed
    penalty = config.model.signals_penalty

    def embed(night: History) -> EmbeddingScores:
        return served.embed(night.weighed(served.weight), device)

    progress.at("weighing the signals on the nights of validation and the last ones")
    windows = [(cuts[VALID], cuts[TEST]), (cuts[VALID], cuts[NOW])]
    of_valid, newest = collect(history, windows, embed, seed)
    fold_of = signal_folds(history.n_users, seed)
    found = weigh(of_valid, history.behaviors, fold_of, penalty)
    return weigh_again(found, newest, history.behaviors, penalty)
