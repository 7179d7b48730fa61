"""The weights of the signals, fitted after BiGEL's own on nights of the validation window."""

import torch

from bigel.config import Config
from bigel.generators import make_generator
from bigel.moment import Learned
from bigel.schema import MOMENTS, TEST, VALID
from bigel.signals.history import History
from bigel.signals.nights import Night, collect, moments
from bigel.signals.weighing import Weighing, signal_folds, weigh
from bigel.workspace import Record


def weigh_signals(
    learned: Learned, split: Record, config: Config, device: torch.device
) -> Weighing:
    """Fit the weights of every behavior.

    Messages pass over the graph as it was each night; the tables are those of the training, which
    saw nothing after train.

    Args:
        learned: BiGEL's weights, in the split's numbers.
        split: record of a split by time.
        config: penalty, cutoff of the NDCG that decides, seed.
        device: where messages pass.
    """
    history, cuts = History.load(split), split.counts[MOMENTS]
    nights = [Night.of(history, *ends) for ends in moments(cuts[VALID], cuts[TEST])]
    served = learned.without_draws()
    choices = collect(
        nights,
        lambda pairs: served.embed(pairs, device),
        make_generator(config.train.seed, "signal candidates"),
    )
    fold_of = signal_folds(history.n_users, config.train.seed)
    penalty, cutoff = config.model.signals_penalty, config.evaluate.select_cutoff
    return weigh(choices, history.behaviors, fold_of, penalty, cutoff)
