"""Neighbours of a log without times: what is served is what ranks, in a session too."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bigel.config import Config, load_config
from bigel.data.interactions import Interactions
from bigel.data.split import split as split_log
from bigel.evaluate.stage import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.lists.bundle import build_bundle, load_bundle
from bigel.lists.serving import Candidates, Recommender, Session
from bigel.model.nearby import SMALL, Nearby
from bigel.schema import NOW, REFIT, TEST
from bigel.state.embed import embed_learned
from bigel.state.moment import NEIGHBOURS, Learned, learned_of, state_at
from bigel.store import Record, Workspace
from bigel.train import train

WEIGHTS = torch.tensor([0.75, 0.0])
SETTINGS = [
    'data.behaviors=["click", "buy"]', "model.dim=4", "train.max_steps=4", "train.negatives=8",
    "train.evaluate_every=2", "split.valid_share=0.25", "split.test_share=0.25", "run.threads=1",
    "run.progress=false",
]  # fmt: skip


class Served:
    """A trained log without times whose clicks keep their neighbours."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        rows = [
            (user, 5 * (user % 4) + int(item), name)
            for user in range(24)
            for name, size in (("click", 4), ("buy", 4))
            for item in rng.permutation(5)[:size]
        ]
        path = folder / "log.parquet"
        pl.DataFrame(rows, ["user_id", "item_id", "behavior"], orient="row").write_parquet(path)
        self.config: Config = load_config("", [f"data.path={path}", *SETTINGS])
        self.workspace = Workspace(folder / "work")
        self.split: Record = split_log(
            ingest(self.config, self.workspace), self.config, self.workspace
        )
        graph = build_graphs(self.split, self.config, self.workspace)
        self.trained = train(self.split, graph, self.config, self.workspace)
        found = learned_of(self.trained)
        self.learned: Learned = replace(found, tensors=found.tensors | {NEIGHBOURS: WEIGHTS})

    def bundle(self, learned: Learned) -> Recommender:
        keys = [str(NEIGHBOURS in learned.tensors)]
        embedded = embed_learned(learned, keys, self.split, self.config, self.workspace)
        bundle = build_bundle(self.split, self.trained, embedded, self.config, self.workspace)
        return load_bundle(Path(bundle.path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("nearby"))


def scores_of(lists, shape: tuple[int, int]) -> np.ndarray:
    out = np.full(shape, np.nan, np.float32)
    out[lists.row, lists.item] = lists.score
    return out


def test_a_bundle_ranks_as_the_state_does(made: Served) -> None:
    state, served = state_at(made.learned, made.split, NOW), made.bundle(made.learned)
    assert served.signals is not None and served.signals.times is None
    users = np.arange(state.pairs.n_users)
    for behavior in range(2):
        expected = torch.empty(len(users), state.pairs.n_items)
        state.scores().fill(behavior, torch.from_numpy(users), expected)
        lists = served.recommend(behavior, users, state.pairs.n_items, Candidates("none"))
        found = scores_of(lists, tuple(expected.shape))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_only_the_behavior_that_keeps_them_is_moved(made: Served) -> None:
    learned = replace(
        made.learned, tensors={n: t for n, t in made.learned.tensors.items() if n != NEIGHBOURS}
    )
    plain, near = made.bundle(learned), made.bundle(made.learned)
    assert plain.signals is None
    pairs = state_at(learned, made.split, NOW).pairs
    users = np.arange(pairs.n_users)
    column = Nearby.of(pairs).column(torch.from_numpy(users)).numpy()
    for behavior, weight in enumerate(WEIGHTS.tolist()):
        without, beside = (
            scores_of(
                one.recommend(behavior, users, pairs.n_items, Candidates("none")), column.shape
            )
            for one in (plain, near)
        )
        moved = beside - without
        new = column == 0 if weight else np.ones_like(column, bool)
        np.testing.assert_allclose(moved[new], 0, atol=1e-4)
        if weight and "memory_weights" not in learned.tensors:
            np.testing.assert_allclose(moved, weight * column, rtol=1e-3, atol=1e-3)


def test_test_after_a_refit_is_reported_as_its_bundle_ranks(made: Served) -> None:
    metrics = json.loads(
        evaluate(made.split, made.trained, made.config, made.workspace)
        .file("metrics.json")
        .read_text()
    )
    measured = ["activity", "valid", "test", "refit"]
    assert list(metrics["popularity"]) == measured == list(metrics)[:4]
    learned = learned_of(made.trained)
    embedded = embed_learned(
        learned, ["refit"], made.split, made.config, made.workspace, moment=REFIT
    )
    bundle = build_bundle(made.split, made.trained, embedded, made.config, made.workspace)
    served, test = load_bundle(Path(bundle.path)), Interactions.load(made.split, TEST)
    users, items = test.of(1)
    known = np.unique(users)
    lists = served.recommend(1, known, 5)
    own = [set(items[users == user].tolist()) for user in known]
    gains = np.zeros(len(known))
    for row, rank, item in zip(lists.row, lists.rank, lists.item, strict=True):
        gains[row] += (int(item) in own[row]) / math.log2(rank + 1)
    best = [sum(1 / math.log2(r + 2) for r in range(min(5, len(one)))) for one in own]
    found = metrics["refit"]["published"]["buy"]
    assert found["users"] == len(known) > 10
    assert found["ndcg@5"] == pytest.approx(np.mean(gains / best), abs=1e-5)
    headline = metrics["headline"]
    assert headline["on"] == "refit"
    assert headline["behaviors"]["buy"]["value"] == pytest.approx(found["ndcg@5"], abs=1e-6)


def test_what_a_session_touches_has_neighbours_too(made: Served) -> None:
    served = made.bundle(made.learned)
    user, item = np.array([-1]), 7
    events = {"row": np.array([0]), "behavior": np.array([1]), "item": np.array([item])}
    session = replace(Session.empty(), **events)
    near, none = served, replace(served, signals=None)
    found = [
        scores_of(one.recommend(0, user, 20, Candidates("none"), session), (1, 20))
        for one in (near, none)
    ]
    log: Interactions = state_at(made.learned, made.split, NOW).pairs
    rows = slice(*Nearby.of(log).neighbours.crow[item : item + 2].tolist())
    neighbours = Nearby.of(log).neighbours
    expected = np.zeros(20)
    expected[neighbours.col[rows].numpy()] = np.log1p(neighbours.value[rows].numpy() / SMALL)
    moved = (found[0] - found[1])[0]
    untouched = np.arange(20) != item
    np.testing.assert_allclose(moved[untouched], 0.75 * expected[untouched], rtol=1e-3, atol=1e-3)
    assert expected.any()
