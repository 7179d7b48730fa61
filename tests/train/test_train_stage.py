import json
import threading
from dataclasses import replace

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from bigel.config import load_config
from bigel.graph import build_graphs
from bigel.model import BiGEL
from bigel.state.moment import CALIBRATIONS
from bigel.store import Record, Workspace
from bigel.train import bigel, loop, train
from bigel.train.calibration import calibrate
from tests.train.test_loop import QUICK, Killed
from tests.worlds import checkerboard, frame_of, graphs_of

NAMES = ("click", "buy")
OVERRIDES = [*QUICK, 'data.behaviors=["click", "buy"]', "run.threads=1", "train.refit=false"]


@pytest.fixture
def split(tmp_path):
    return split_in(tmp_path / "split")


def split_in(folder):
    """The checkerboard as the split stage stores it."""
    folder.mkdir()
    splits = dict(zip(("train", "valid", "test"), (*checkerboard(12), checkerboard(12)[1])))  # noqa: B905
    for name, world in splits.items():
        frames = [
            frame_of(list(zip(*(ids.tolist() for ids in world.of(k)), strict=True)), k)
            for k in range(2)
        ]
        pl.concat(frames).write_parquet(folder / f"{name}.parquet")
    for node in ("user", "item"):
        ids = pl.DataFrame({node: range(12), f"{node}_id": range(12)})
        ids.write_parquet(folder / f"{node}s.parquet")
    counts = {name: dict.fromkeys(NAMES, 1) for name in splits}
    counts |= {"users": 12, "items": 12, "behaviors": list(NAMES), "valid_drawn_from": []}
    return Record("split", "abc", str(folder), False, 0.0, counts)


def run(split, folder, *overrides, on_validation=None):
    config, workspace = load_config("", [*OVERRIDES, *overrides]), Workspace(folder)
    graph = build_graphs(split, config, workspace)
    return train(split, graph, config, workspace, on_validation)


def test_files_and_counts(split, tmp_path):
    seen = []
    record = run(split, tmp_path, on_validation=seen.append)
    history = json.loads(record.file("history.json").read_text())
    assert [step["step"] for step in history["steps"]] == list(range(1, 13))
    assert set(history["steps"][0]) == {"step", "loss", "losses", "alignment", "seconds"}
    assert set(history["steps"][0]["losses"]) == set(NAMES)
    assert seen == history["validations"]
    assert [set(found["ndcg"]) for found in seen] == [set(NAMES)] * 3
    best = max(seen, key=lambda found: found["mean"])
    assert record.counts["valid_mean"] == best["mean"]
    assert record.counts["best_step"] == history["best_step"]
    assert record.counts["stopped"] == history["stopped"] == "max_steps"
    weights = load_file(record.file("weights.safetensors"))
    calibrations = {"trained_items", "item_trend", "memory_weights"}
    assert calibrations < set(weights)
    parameters = [weight.numel() for name, weight in weights.items() if name not in calibrations]
    assert record.counts["parameters"] == sum(parameters)
    assert weights["trained_items"].tolist() == [1] * 12
    assert record.counts["device"] == "cpu"


def test_a_training_on_drawn_users_tells_of_how_many(split, tmp_path):
    few = "train.users_per_step=5", "train.max_steps=1", "train.batch_size=2"
    assert run(split, tmp_path, *few).counts["messages"] == "messages of 5 of 12 users a step"
    for everyone in ("train.users_per_step=12", "model.user_vectors=true"):
        assert "messages" not in run(split, tmp_path, *few, everyone).counts


def test_embeddings_alone_give_the_scores_of_the_best_weights(split, tmp_path):
    record = run(split, tmp_path)
    emb = load_file(record.file("embeddings.safetensors"))
    shapes = {name: tuple(tensor.shape) for name, tensor in emb.items()}
    assert shapes == {
        "user_emb": (2, 12, 8), "item_emb": (2, 12, 8), "item_bias": (2, 12),
        "item_trend": (2, 12), "memory_weights": (2, 4, 6), "memory_features": (2, 5, 12),
    }  # fmt: skip
    assert all(tensor.dtype == torch.float32 for tensor in emb.values())
    scores = emb["user_emb"][1] @ emb["item_emb"][1].T + emb["item_bias"][1]
    train_items, _ = checkerboard(12)
    scores[train_items.of(1)] = -torch.inf
    assert scores.argmax(1).tolist() == list(range(12))
    # 1/τ is folded into the users: their rows have length 1/0.1, the items' length 1.
    torch.testing.assert_close(emb["user_emb"].norm(dim=2), torch.full((2, 12), 10.0))
    torch.testing.assert_close(emb["item_emb"].norm(dim=2), torch.ones(2, 12))


def test_the_best_weights_are_kept_not_the_last(split, tmp_path, monkeypatch):
    means = iter([0.5, 0.4, 0.3])

    def figures(*args):
        mean = next(means)
        return {k: {"ndcg@5": mean} for k in range(2)}

    monkeypatch.setattr(loop, "evaluate_tasks", figures)
    record = run(split, tmp_path)
    assert record.counts["best_step"] == 4
    assert record.counts["valid_ndcg"] == {"click": 0.5, "buy": 0.5}
    model = BiGEL(load_config("", OVERRIDES).model, 12, 12, 2, torch.Generator())
    weights = load_file(record.file("weights.safetensors"))
    model.load_state_dict({name: weights[name] for name in weights.keys() - CALIBRATIONS})
    expected = model.final_embeddings(graphs_of(checkerboard(12)[0]))
    found = load_file(record.file("embeddings.safetensors"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("memory", "memory_weights"),
        ("trend", "item_trend"),
        ("neighbours", "neighbour_weights"),
    ],
)
def test_memory_trend_and_neighbours_can_be_left_out(split, tmp_path, part, tensor):
    record = run(split, tmp_path, f"model.{part}=false")
    assert tensor not in load_file(record.file("embeddings.safetensors"))
    assert record.counts[part] == []
    assert part not in json.loads(record.file("history.json").read_text("utf-8"))


def test_the_trend_of_all_validation_users_is_written(split, tmp_path, monkeypatch):
    def fitted(scores, *args, **named):
        found = calibrate(scores, *args, **named)
        trend = torch.arange(6.0)[:, None, None].expand(6, 2, 12)
        return replace(found, trend=trend)

    monkeypatch.setattr("bigel.train.calibrate", fitted)
    emb = load_file(run(split, tmp_path).file("embeddings.safetensors"))
    assert torch.equal(emb["item_trend"], torch.full((2, 12), 5.0))


def test_a_second_run_is_reused_and_only_what_matters_trains_again(split, tmp_path):
    first = run(split, tmp_path)
    assert not first.reused
    assert run(split, tmp_path).reused
    assert run(split, tmp_path, "train.checkpoint_every=1").reused
    assert run(split, tmp_path, "evaluate.cutoffs=[1, 5]").reused
    assert not run(split, tmp_path, "train.seed=1").reused


def test_of_two_trainings_at_once_one_trains_and_the_other_uses_it(split, tmp_path, monkeypatch):
    build_graphs(split, load_config("", OVERRIDES), Workspace(tmp_path))
    original, trainers, records = bigel.step_loss, [], []
    begun = threading.Event()

    def noted(*args):
        begun.set()
        trainers.append(threading.current_thread().name)
        return original(*args)

    monkeypatch.setattr(bigel, "step_loss", noted)
    threads = [
        threading.Thread(target=lambda: records.append(run(split, tmp_path, "train.members=1")))
        for _ in range(2)
    ]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert trainers == [threads[0].name] * 12
    assert sorted(record.reused for record in records) == [False, True]
    assert records[0].path == records[1].path


def test_a_killed_stage_goes_on_and_ends_with_the_same_files(split, tmp_path, monkeypatch):
    whole = run(split, tmp_path / "whole")
    original, taken = bigel.step_loss, []

    def die_at_step_8(*args):
        taken.append(len(taken))
        if len(taken) == 8:
            raise Killed
        return original(*args)

    monkeypatch.setattr(bigel, "step_loss", die_at_step_8)
    with pytest.raises(Killed):
        run(split, tmp_path / "killed")
    resumed = run(split, tmp_path / "killed")
    assert len(taken) == 8 + 6  # went on from the checkpoint of step 6
    for name in ("weights.safetensors", "embeddings.safetensors"):
        assert resumed.file(name).read_bytes() == whole.file(name).read_bytes()
    assert not list((tmp_path / "killed" / "artifacts" / "scratch").iterdir())
