"""The scripts of benchmarks/ run; what they measure is theirs to say."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bigel.compare import choose
from bigel.config import ModelConfig, load_config
from bigel.generators import make_generator
from bigel.graph import Graph, Nodes, propagate
from bigel.model import BiGEL
from tests.worlds import graphs_of, random_world

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
        assert f"union [4, 1], own [2, 2], edge dropout {share}" in lines[1]
        assert any(line.startswith("  forward: edge dropout ") for line in lines)
        *cascade, gce, view = passes[:5]
        edges[share], own = passes[:7], passes[5:7]
        assert gce == view > max(cascade) and passes == edges[share] * 5
        assert own == [cascade[0], cascade[2]]  # the preset's favourite has no own view
    assert max(edges[0.5]) < 0.7 * max(edges[0.0])


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
