"""``data.weight`` in a comparison: it moves what passes messages, and nothing else."""

import polars as pl
import pytest
import torch

from bigel.compare import choose
from bigel.compare.contest import FIGURES_FILE, contest
from bigel.compare.fitting import World
from bigel.data.interactions import Interactions
from bigel.graph import build_all, build_graphs
from bigel.schema import GRAPHS_FILE
from tests.signals.timed import log, split_of

MODELS = ("bigel", "mule", "cascading_rank", "item_knn", "bpr_mf")
QUICK = tuple(
    f"rivals.{model}.{setting}" for model in ("mule", "bpr_mf")
    for setting in ("dim=4", "max_steps=3", "evaluate_every=3", "negatives=8")
)  # fmt: skip


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Return by weight and model the figures of test, and the split that they are of."""
    frame, found, parted = log(), {}, {}
    for weight in ("none", "log"):
        root = tmp_path_factory.mktemp(weight)
        config, workspace, divided = split_of(frame, root, f'data.weight="{weight}"', *QUICK)
        graph = build_graphs(divided, config, workspace)
        for entry in choose(config, MODELS):
            record = contest(entry, divided, graph, "test", workspace)
            found[weight, entry.model] = pl.read_parquet(record.file(FIGURES_FILE))
        parted[weight] = divided, graph, config
    return found, parted


@pytest.mark.parametrize("model", MODELS)
def test_graphs_alone_hear_how_often(figures, model):
    found, _ = figures
    same = found["none", model].equals(found["log", model])
    assert same == (model in ("item_knn", "bpr_mf"))


def test_contestants_train_on_the_weighted_graphs(figures):
    divided, graph, config = figures[1]["log"]
    world = World.load(divided, graph, config)
    assert world.train.weight.max() > 1
    expected = build_all(world.train.frame(), world.train.behaviors, *sizes(world.train))
    assert torch.equal(world.graphs.union.value, expected.union.value)
    assert graph.file(GRAPHS_FILE).exists()


def test_what_is_trained_again_hears_of_repeats_in_validation(figures):
    divided, _, _ = figures[1]["log"]
    train = Interactions.load(divided, "train", weight="log")
    again = Interactions.before_test(divided, "log")
    later = dict(zip(again.keys.tolist(), again.weight.tolist(), strict=True))
    more = [later[key] - own for key, own in zip(train.keys.tolist(), train.weight, strict=True)]
    assert min(more) == 0 < max(more)


def sizes(log):
    return log.n_users, log.n_items
