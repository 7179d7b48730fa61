"""The scripts of benchmarks/ run; what they measure is theirs to say."""

import importlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bigel.compare import choose
from bigel.config import ModelConfig, load_config
from bigel.errors import DataError
from bigel.generators import make_generator
from bigel.graph import Graph, Nodes, propagate
from bigel.model import BiGEL
from bigel.train.loop import Trainer
from tests.worlds import graphs_of, interactions_of, random_world

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = (
    "synth.users=150", "synth.items=60", "synth.events=4000", "run.threads=1", "model.dim=8",
    "run.progress=false", "train.max_steps=2", "train.evaluate_every=1", "train.negatives=16",
    "rivals.lightgcn.max_steps=2", "rivals.lightgcn.evaluate_every=1",
)  # fmt: skip
Run = Callable[..., list[str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend((FOLDER / name).parent)
        return importlib.import_module(Path(name).name)

    return load


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture
def run(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:  # fmt: skip
    """Run a script with arguments and settings; return the lines that it prints."""

    def main(name: str, *arguments: object, settings: tuple[str, ...]) -> list[str]:
        given = [part for setting in settings for part in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), *given])
        script(name).main()
        return capsys.readouterr().out.splitlines()

    return main


def figures(line: str, labels: int) -> list[float]:
    return [float(cell) for cell in line.strip("| ").split(" | ")[labels:]]


@pytest.mark.parametrize("view", ["false", "true"])
def test_every_form_is_trained_and_measured(run: Run, workspace: Path, view: str) -> None:
    settings = (*TINY, f"model.view={view}", f"model.own_view={view}")
    arguments = ("demo", "synth:", "--workspace", workspace, "--seeds", "0")
    head, _, *lines = run("quality/forms", *arguments, settings=settings)
    assert head == "| form | seed | mean | click | cart | purchase | seconds |"
    assert len(lines) == 11
    for line in lines:
        assert all(0 <= figure < 1 for figure in figures(line, 2)[:-1])


@pytest.mark.parametrize("view", [False, True])
def test_the_shipped_form_is_bigel(script: Callable[[str], ModuleType], view: bool) -> None:
    train = random_world(0)
    size = (train.n_users, train.n_items, len(train.behaviors))
    form, bigel = (
        kind(ModelConfig(dim=4, view=view, own_view=view), *size, make_generator(0, "weights"))
        for kind in (script("quality/forms").Form, BiGEL)
    )
    found, expected = (model.final_embeddings(graphs_of(train)) for model in (form, bigel))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_a_part_of_the_pairs_is_drawn_trained_and_measured(run: Run, workspace: Path) -> None:
    arguments = ("demo", "synth:", "--workspace", workspace, "--models", "bigel,lightgcn,ease")
    head, _, *lines = run("quality/fraction", *arguments, "--shares", "0.5,1", settings=TINY)
    assert head.startswith("| model | share | pairs | seed | mean |")
    assert [line.split(" | ")[1] for line in lines] == ["0.5", "1"] * 3
    for line in lines:
        assert all(0 <= figure < 1 for figure in figures(line, 4)[:-1])


def test_new_items_are_measured_beside_simple_rules(run: Run) -> None:
    lines = run("new_items", "--seeds", 0, "--no-times", settings=(*TINY, "synth.tastes=4"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    rankings = {(row[0], row[1]) for row in rows}
    assert len(rankings) == 3 + 1 + 4 + 4
    assert all(0 <= float(value) <= 1 for row in rows for value in row[3:6])
    shares = {row[0]: float(row[5]) for row in rows if row[1].startswith("on, mean offset of all")}
    assert shares["new items"] == 1 > shares["all items"]


def test_similar_items_are_measured_beside_item_knn(run: Run, workspace: Path) -> None:
    lines = run("similar", "demo", "synth:", "--workspace", workspace, settings=TINY)
    names = [line.split(" | ")[0].strip("| ") for line in lines[2:]]
    assert names[:3] == ["popularity", "cosine item-kNN", "bigel"]
    assert names[-1] == "bigel, its states alone"
    for line in lines[2:]:
        assert all(0 <= float(cell.split()[0]) <= 1 for cell in line.strip("| ").split(" | ")[1:])


def test_what_is_had_together_counts_once_per_user(script: Callable[[str], ModuleType]) -> None:
    """User 0 held out items 0, 1 and 2; user 1 items 3 and 4; user 2 one, which asks nothing."""
    similar = script("similar")
    held_out = interactions_of([[(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (2, 0)]], 3, 6)
    answers = {0: [5, 1], 1: [0, 2], 2: [], 3: [4], 4: [5]}

    def find(items: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        rows = [(row, item) for row, asked in enumerate(items) for item in answers[int(asked)]]
        row, item = np.array(rows, np.int64).reshape(-1, 2).T
        return row, item

    second = 1 / math.log2(3)
    right = second / (1 + second)
    expected = [[(right + 1 + 0) / 3, 2 / 3], [1 / 2, 1 / 2]]
    np.testing.assert_allclose(similar.of_behavior(find, held_out, 0), expected)


@pytest.fixture
def peers(
    run: Run, script: Callable[[str], ModuleType], workspace: Path, tmp_path: Path
) -> tuple[ModuleType, Path, tuple[object, ...]]:
    """Return the scorer, the folder of an exported task and the scripts' arguments."""
    script("peers/export")  # its folder, where score.py finds common.py
    arguments = ("demo", tmp_path, "--workspace", workspace)
    run("peers/export", *arguments, settings=TINY)
    return script("common"), tmp_path, (*arguments, "--models", "item_knn,popularity,bigel")


Peers = tuple[ModuleType, Path, tuple[object, ...]]


def best_sellers(task: Any, _: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a peer that ranks items by their pairs under all behaviors, ties by number."""
    count_I = np.asarray(task.union([1.0] * len(task.known)).sum(0))[0]
    order = np.argsort(-count_I, kind="stable")
    return lambda users, n: np.tile(order[:n], (len(users), 1))


def test_a_peers_lists_are_scored_beside_ours(run: Run, peers: Peers) -> None:
    common, folder, arguments = peers
    task = common.Task.load(folder)
    assert "held_out" not in np.load(folder / "task.npz") and len(task.known) == 3
    common.measure(folder, "sellers", task, partial(best_sellers, task), once=True)
    told, head, _, *lines = run("peers/score", *arguments, settings=TINY)
    assert told.startswith("sellers: ") and "click NDCG@5 / HR@5 (shared)" in head
    names = [line.split(" | ")[0].strip("| ") for line in lines]
    assert names == ["bigel item_knn", "bigel popularity", "bigel bigel", "sellers"]
    assert lines[0].count("(100.0%)") == 3 and lines[-1].count("(100.0%)") == 0
    for line in lines:
        cells = line.strip("| ").split(" | ")[1:]
        assert len(cells) == 5 and min(float(cell.split()[0]) for cell in cells) >= 0


def test_a_peers_lists_leave_out_what_is_known_and_no_more(peers: Peers) -> None:
    common, folder, _ = peers
    task = common.Task.load(folder)
    rank = best_sellers(task, 0)
    order = rank(np.zeros(1, np.int64), task.known[0].shape[1])[0]
    for k, users in enumerate(task.asked):
        found = task.lists(k, rank, at_once=7)
        for user, items in zip(users, found, strict=True):
            own = set(task.known[k][user].indices)
            expected = [item for item in order if item not in own][: common.LENGTH]
            assert items.tolist() == expected + [-1] * (common.LENGTH - len(expected))


@pytest.mark.parametrize(("fault", "message"), [("known", "has under this"), ("twice", "twice")])
def test_wrong_lists_are_refused(run: Run, peers: Peers, fault: str, message: str) -> None:
    common, folder, arguments = peers
    task = common.Task.load(folder)
    common.measure(folder, "sellers", task, partial(best_sellers, task), once=True)
    lists = dict(np.load(folder / "lists" / "sellers.npz"))
    user = next(at for at, one in enumerate(task.asked[0]) if task.known[0][one].nnz)
    own = task.known[0][task.asked[0][user]].indices[0]
    lists["items_0"][user, 0] = own if fault == "known" else lists["items_0"][user, 1]
    np.savez(folder / "lists" / "sellers.npz", **lists)
    with pytest.raises(DataError, match=f"sellers: a list holds .*{message}"):
        run("peers/score", *arguments, settings=TINY)


@pytest.fixture
def small_step(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return benchmarks/step.py with a small log."""
    step = script("step")
    monkeypatch.setattr(step, "USERS", 60)
    monkeypatch.setattr(step, "ITEMS", 40)
    monkeypatch.setattr(step, "FILES", {"click": 300, "favourite": 90, "target": 80})
    monkeypatch.setattr(step, "bandwidth", lambda device: 1.0)
    return step


def test_a_step_is_measured_with_its_view_and_its_edge_dropout(
    run: Run, small_step: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def propagate(graph: Graph, *rest: object) -> Nodes:
        passes.append(graph.n_edges)
        return pass_messages(graph, *rest)

    pass_messages = small_step.propagate
    monkeypatch.setattr(small_step, "propagate", propagate)
    edges = {}
    for share in (0.0, 0.5):
        passes.clear()
        views = "model.view=true", "model.own_view=true"
        settings = (*TINY, *views, f"train.edge_dropout={share}")
        lines = run("step", "--repeat", 1, settings=settings)
        (dims,) = (line for line in lines if line.startswith("dim "))
        assert f"union [4, 1], own [2, 2], edge dropout {share}" in dims
        assert any(line.startswith("  forward: its graphs ") for line in lines)
        *cascade, gce, view = passes[:5]
        edges[share], own = passes[:7], passes[5:7]
        assert gce == view > max(cascade)
        assert passes[:35] == edges[share] * 5  # the warm-up and one or two more, by both backends
        assert own == [cascade[0], cascade[2]]  # the preset's favourite has no own view
    assert max(edges[0.5]) < 0.7 * max(edges[0.0])


def test_a_step_of_two_processes_is_measured_with_what_they_add_up() -> None:
    """23 tables of 832 items, 8 numbers each, and little beside: 0.6 MB."""
    settings = [part for one in (*TINY, "train.batch_size=8") for part in ("--set", one)]
    command = [sys.executable, "ranks.py", "--rows", "20000", "--steps", "1", *settings]
    told = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    _, alone, both = (line.split() for line in told.stdout.splitlines())
    assert (alone[0], alone[4], both[0], both[4]) == ("1", "0.0", "2", "0.6")


def test_the_gradient_of_propagation_alone_comes_from_every_state(
    script: Callable[[str], ModuleType],
) -> None:
    step, world = script("step"), random_world(0)
    graphs, size = graphs_of(world), (world.n_users, world.n_items, len(world.behaviors))
    off = [f"model.{name}=false" for name in ("context", "alignment", "view", "own_view")]
    model = BiGEL(load_config("jd", off).model, *size, make_generator(0, "weights"))
    step.time_propagation(model, graphs, "sparse", 1)
    found, model.items.grad = model.items.grad, None
    items: torch.Tensor = model.items
    users, total = None, torch.zeros(())
    for graph, layers in zip(graphs.cascade, model.layers, strict=True):
        users, items = propagate(graph, layers, items, users)
        total = total + users.sum() + items.sum()
    total.backward()
    torch.testing.assert_close(found, 2 * model.items.grad)  # one pass to warm up, one measured


def test_a_view_moves_bytes_of_its_own(script: Callable[[str], ModuleType]) -> None:
    step, world = script("step"), random_world(0)
    graphs, size = graphs_of(world), (world.n_users, world.n_items, len(world.behaviors))

    def moved(*settings: str) -> float:
        off = "model.view=false", "model.own_view=false", "model.view_layers=3"
        config = load_config("jd", [*off, *settings]).model
        model = BiGEL(config, *size, make_generator(0, "weights"))
        found: float = step.propagation_bytes(model, graphs)
        return found

    def halves(count: int, *of: Graph) -> float:
        return sum(2 * count * step.half_bytes(graph, 64) for graph in of)

    click, favourite, purchase = graphs.cascade
    one_sided = halves(4, graphs.union, click)  # GCE's way and the cascade's first
    assert moved() == one_sided + halves(2 * 3, favourite, purchase)
    assert moved("model.user_vectors=true") == moved() + one_sided
    assert moved("model.cascade=false") == moved() - halves(3, favourite, purchase)
    no_union = "model.context=false", "model.alignment=false"
    assert moved(*no_union) == moved() - halves(4, graphs.union)
    assert moved("model.view=true") - moved() == halves(3, graphs.union)
    own = moved("model.own_view=true") - moved()  # none for favourite: its weight is 0
    assert own == pytest.approx(halves(2, click, purchase))


def test_a_steps_messages_pass_over_the_drawn_users_and_the_batchs(
    run: Run, small_step: ModuleType
) -> None:
    few = "train.users_per_step=10", "train.batch_size=4"
    for rows in ((), ("--rows", 4_000)):
        lines = run("step", "--repeat", 1, *rows, settings=(*TINY, *few))
        (head,), (dims,) = (
            [line for line in lines if line.startswith(f"{first} ")] for first in ("device", "dim")
        )
        assert dims.endswith(", drawn users 10")
        assert ("4,000 pairs, 40 users, 166 items" in head) == bool(rows)
        timed = [line.split(",")[0] for line in lines if " of streaming" in line]
        assert {"  sparse", "  scatter"} <= set(timed) and len(timed) >= 3  # MKL has no bfloat16


def test_what_was_measured_before_a_step_is_cut_is_there(
    small_step: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[list[str]] = []

    def cut(self: Trainer) -> None:
        told.append(capfd.readouterr().out.splitlines())
        raise TimeoutError

    monkeypatch.setattr(Trainer, "_take_step", cut)
    given = [part for setting in TINY for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["step", "--rows", "4000", "--repeat", "1", *given])
    with pytest.raises(TimeoutError), open(1, "w", closefd=False) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        small_step.main()
    names = [line[2:26].strip() for line in told[0] if line.startswith("  ")]
    assert names == [
        "prepare: log", "prepare: graphs", "prepare: trainer", "sample a batch",
        "forward: its graphs", "forward: messages", "forward: rows and loss", "backward",
        "optimizer", "average",
    ]  # fmt: skip


@pytest.mark.parametrize("sizes", [[500, 40, 7], [0, 900]])
def test_a_random_log_has_the_pairs_that_were_asked_for(
    script: Callable[[str], ModuleType], sizes: list[int]
) -> None:
    make, names, cpu = script("random_log"), tuple("abc"[: len(sizes)]), torch.device("cpu")
    log = make.random_log(sizes, 30, 40, names, cpu)
    assert np.bincount(log.behavior_index, minlength=len(sizes)).tolist() == sizes
    assert np.array_equal(log.keys, np.unique(log.keys))
    assert np.array_equal(log.keys, make.random_log(sizes, 30, 40, names, cpu).keys)


def test_half_of_a_random_log_is_of_a_hundredth_of_the_items_and_users_are_alike(
    script: Callable[[str], ModuleType],
) -> None:
    size = 20_000, 1_000, ("buy",), torch.device("cpu")
    log = script("random_log").random_log([50_000], *size)
    assert np.mean(log.items < 10) == pytest.approx(0.5, abs=0.02)
    assert np.mean(log.items < 100) == pytest.approx(10 / 11, abs=0.02)  # 1 - 1 / (1 + 10)
    assert np.mean(log.users < 5_000) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_graphs_made_on_the_device_are_those_of_training(
    script: Callable[[str], ModuleType], seed: int
) -> None:
    world = random_world(seed)
    shuffled = world.only(np.random.default_rng(seed).permutation(len(world)))
    found, expected = (
        script("random_log").graphs_on(torch.device("cpu"), shuffled),
        graphs_of(world),
    )
    for one, other in zip(
        (*found.cascade, found.union), (*expected.cascade, expected.union), strict=True
    ):
        for name in ("crow", "col", "value", "degree"):
            given, wanted = getattr(one, name), getattr(other, name)
            assert given.dtype == wanted.dtype and torch.equal(given, wanted)


@pytest.fixture
def jd_folder(tmp_path: Path) -> Path:
    """Return a folder of pair files as JD's, of 60 users and 40 items numbered from 1."""
    folder, rng = tmp_path / "jd", np.random.default_rng(0)
    folder.mkdir()
    for name in ("click", "favourite", "target"):
        pairs = rng.permutation(60 * 40)[:500]
        for part, chosen in (
            ("train", pairs[:400]),
            ("valid", pairs[400:450]),
            ("test", pairs[450:]),
        ):
            rows = [f"{pair // 40 + 1} {pair % 40 + 1}" for pair in chosen]
            (folder / f"{name}_{part}").write_text("\n".join(rows) + "\n")
    return folder


def test_all_that_a_gpu_is_to_be_asked_runs_in_eight_minutes_and_on_the_cpu(
    run: Run, small_step: ModuleType, jd_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "timeout").write_text("#!/bin/sh\nprintf '%s\\t' \"$@\"; echo\n")
    (tmp_path / "timeout").chmod(0o755)
    lines = subprocess.run(
        ["sh", FOLDER / "gpu.sh", tmp_path / "work", jd_folder],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": "cpu"},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    parts = [line.split("\t")[:-1] for line in lines if not line.startswith("##")]
    assert sum(int(limit) for limit, *_ in parts) <= 8 * 60
    rows = [int(given[given.index("--rows") + 1]) for (*given,) in parts if "--rows" in given]
    assert rows == [10**6, 10**7, 10**8, 10**8]
    told = []
    for _, python, name, *given in parts:
        assert python == "python"
        if "--rows" in given:
            given[given.index("--rows") + 1] = "4000"
        told += run(Path(name).stem, *given, settings=TINY)
    assert "losses differ by at most 0 of their size, 1e-03 are allowed" in told
    assert sum(line.startswith("device cpu") for line in told) == 5
    ends = "prepared in ", "mean valid NDCG ", "mean valid NDCG ", "2 steps in "
    assert all(part in line for part, line in zip(ends, told[-4:], strict=True))


def test_losses_are_compared_step_by_step(script: Callable[[str], ModuleType]) -> None:
    one, other = ({"steps": [{"loss": loss} for loss in of]} for of in ((2.0, 3.0), (2.0, 4.0)))
    assert script("gpu").largest_difference(one, other) == 0.25


@pytest.mark.parametrize(("part", "count"), [("modules", 15), ("settings", 13)])
def test_each_variant_of_an_ablation_changes_something_else(
    tmp_path: Path, part: str, count: int
) -> None:
    bigel = tmp_path / "bigel"
    bigel.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    bigel.chmod(0o755)
    lines = subprocess.run(
        ["sh", FOLDER / "quality" / "ablation.sh", part, "jd", "folder of it", "--seeds", "0,1"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert lines[-2:] == ["--seeds", "0,1"]
    given = {
        name: [lines[at + 1] for at, line in enumerate(lines) if line == f"--{name}"]
        for name in ("set", "variant")
    }
    searched = [
        "model.view=true",
        "model.own_view=true",
        "train.edge_dropout=0.5",
        "train.max_steps=400",
    ]
    config = load_config("jd", [*given["set"], *searched])
    assert config.data.path == "folder of it"
    contestants = choose(config, ["bigel"], given["variant"])
    assert len(contestants) == count
    assert len({one.config.model_dump_json() for one in contestants}) == count
