import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.errors import DataError
from bigel.graph import build, build_all, build_graph, build_graphs, load_graphs
from bigel.store import Record, Workspace
from tests.worlds import (
    SMALL_PAIRS,
    SMALL_SHAPE,
    dense_adjacency,
    dense_of,
    frame_of,
    random_pairs,
    small_graph,
)


def test_by_hand():
    graph = small_graph()
    assert graph.crow.tolist() == [0, 2, 3, 4, 6, 6]
    assert graph.col.tolist() == [2, 3, 3, 0, 0, 1]
    r = 2**-0.5
    torch.testing.assert_close(graph.value, torch.tensor([r, 0.5, r, r, 0.5, r]))
    assert graph.degree.tolist() == [2, 1, 1, 2, 0]
    assert graph.n_edges == 3
    assert (graph.crow.dtype, graph.col.dtype, graph.value.dtype) == (
        torch.int32,
        torch.int32,
        torch.float32,
    )


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 20))
def test_agrees_with_the_naive_twin(seed, n_pairs):
    pairs = random_pairs(seed, 5, 6, n_pairs)
    dense = dense_adjacency(pairs, 5, 6)
    torch.testing.assert_close(
        dense_of(build_graph(frame_of(pairs), 5, 6)), dense, check_dtype=False
    )


def test_order_and_repetition_of_pairs_change_nothing():
    shuffled = build_graph(frame_of(SMALL_PAIRS[::-1] + SMALL_PAIRS), *SMALL_SHAPE)
    assert torch.equal(dense_of(shuffled), dense_of(small_graph()))


def test_halves_are_the_blocks_of_the_whole():
    graph = small_graph()
    dense = dense_of(graph).float()
    assert torch.equal(graph.half("users").to_dense(), dense[:2, 2:])
    assert torch.equal(graph.half("items").to_dense(), dense[2:, :2])


def test_union_holds_each_pair_once_and_behaviors_stay_apart():
    train = pl.concat([frame_of([(0, 0), (0, 1)], 0), frame_of([(0, 1), (1, 1)], 1)])
    graphs = build_all(train, ("click", "buy"), *SMALL_SHAPE)
    assert [graph.n_edges for graph in graphs.cascade] == [2, 2]
    assert torch.equal(dense_of(graphs.union), dense_of(small_graph()))


def test_a_graph_without_pairs_is_empty():
    graph = build_graph(frame_of([]), *SMALL_SHAPE)
    assert graph.crow.tolist() == [0] * 6
    assert graph.n_edges == 0


def test_too_many_edges_for_32_bits_are_refused(monkeypatch):
    monkeypatch.setattr(build, "_LARGEST", 5)
    with pytest.raises(DataError, match=r"3 pairs and 5 nodes.*split\.k_core"):
        small_graph()


def test_stage(tmp_path):
    train = pl.concat([frame_of([(0, 0), (0, 1)], 0), frame_of([(0, 1), (1, 1)], 1)])
    train.write_parquet(tmp_path / "train.parquet")
    split = Record("split", "abc", str(tmp_path), False, 0.0, {"users": 2, "items": 3})
    config = parse_config({"data": {"behaviors": ["click", "buy"]}})
    record = build_graphs(split, config, Workspace(tmp_path))
    assert record.counts == {
        "users": 2,
        "items": 3,
        "edges": {"click": 2, "buy": 2, "union": 3},
        "isolated_nodes": 1,
    }
    graphs = load_graphs(record.file("graphs.safetensors"))
    assert graphs.behaviors == ("click", "buy")
    assert torch.equal(dense_of(graphs.union), dense_of(small_graph()))
    assert build_graphs(split, config, Workspace(tmp_path)).reused
