"""What makes an output is part of its fingerprint: the package's modules, and the libraries."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from bigel.compare.contestants import CLOSED, MODELS, TRAINED
from bigel.compare.fitting import CHOOSES, code_of_model
from bigel.store import code, fingerprints
from bigel.store.code import PACKAGE, PLUMBING, code_of
from bigel.store.fingerprints import library_versions, stage_key


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in for the package; what was read of either is forgotten."""
    caches = (code.code_of, code._imported, code._imports)
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    for one in caches:
        one.cache_clear()
    yield tmp_path
    for one in caches:
        one.cache_clear()


def write(package: Path, **texts: str) -> None:
    for name, text in texts.items():
        place = package / f"{name}.py"
        place.write_text(text)


def test_imports_are_followed_wherever_they_stand(package: Path) -> None:
    write(
        package,
        stage="from bigel import a\nimport polars\ndef f():\n    from bigel.b import g\n",
        a="import bigel.c\n",
        b="from bigel.stage import f\n",  # in a circle
        c="",
        d="from bigel.a import x\n",
    )
    assert code_of("bigel.stage") == ("a.py", "b.py", "c.py", "stage.py")
    assert code_of("bigel.c", "bigel.d") == ("a.py", "c.py", "d.py")


def test_a_room_that_passes_a_name_on_adds_where_the_name_comes_from_alone(package: Path) -> None:
    (package / "room").mkdir()
    passes = "from bigel.room.a import one\nfrom bigel.room.b import two\n"
    (package / "room" / "__init__.py").write_text(passes + "def here(): ...\n")
    for name in ("a", "b"):
        (package / "room" / f"{name}.py").write_text("")
    write(package, uses="from bigel.room import one\n", calls="from bigel.room import here\n")
    assert code_of("bigel.uses") == ("room/a.py", "uses.py")
    assert code_of("bigel.calls") == ("calls.py", "room/__init__.py", "room/a.py", "room/b.py")


def test_what_is_set_apart_and_plumbing_are_neither_taken_nor_followed(package: Path) -> None:
    write(package, stage="import bigel.a\nimport bigel.errors\n", a="import bigel.b\n", b="")
    write(package, errors="import bigel.b\n")
    assert code_of("bigel.stage") == ("a.py", "b.py", "stage.py")
    assert code_of("bigel.stage", apart=("bigel.a",)) == ("stage.py",)


def test_what_is_named_as_plumbing_is_there() -> None:
    assert [name for name in PLUMBING if not (PACKAGE / name).exists()] == []


def stages() -> list[str]:
    """Return the modules that run a stage, or say what a unit of work is."""
    files = sorted(PACKAGE.rglob("*.py"))
    found = [file.relative_to(PACKAGE).as_posix() for file in files if makes_outputs(file)]
    return [name for name in found if name not in PLUMBING]


def makes_outputs(file: Path) -> bool:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            if any(isinstance(base, ast.Name) and base.id == "WorkUnit" for base in node.bases):
                return True
        elif isinstance(node, ast.Attribute) and node.attr == "run_stage":
            return True
    return False


def module_of(file: str) -> str:
    return f"bigel.{file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"


@pytest.mark.parametrize("stage", stages())
def test_a_stage_hangs_on_its_own_module_and_sets_apart_only_what_it_imports(stage: str) -> None:
    text = (PACKAGE / stage).read_text("utf-8")
    assert "code_of(__name__" in text or "code_of_model(" in text or "identity(" in text
    module = module_of(stage)
    apart = getattr(import_module(module), "APART", ())
    everything = code_of(module)
    named = [f"{name.removeprefix('bigel.').replace('.', '/')}.py" for name in apart]
    assert [name for name in named if name not in everything] == []
    assert stage in code_of(module, apart=apart)


def test_the_stages_are_found() -> None:
    assert {
        "data/split.py",
        "train/__init__.py",
        "lists/recommend.py",
        "lists/bundle.py",
    } <= set(stages())


def test_a_training_hangs_on_all_that_makes_it_and_on_nothing_that_only_uses_it() -> None:
    files = code_of("bigel.train")
    assert {"model/bigel.py", "train/sampler.py", "graph/build.py", "schema.py"} <= set(files)
    assert [name for name in files if name.split("/")[0] in ("tracking", "ingest", "rivals")] == []


@pytest.mark.parametrize("model", MODELS)
def test_no_models_figures_hang_on_another_model_or_on_who_takes_part(model: str) -> None:
    rooms = {one: make.__module__ for one, make in (TRAINED | CLOSED).items()}
    rooms["bigel"] = "bigel.train.bigel"
    ours = set(code_of_model(model))
    assert f"{rooms[model].removeprefix('bigel.').replace('.', '/')}.py" in ours
    imported = set(code_of(rooms[model], apart=(CHOOSES,)))
    others = {f"{room.removeprefix('bigel.').replace('.', '/')}.py" for room in rooms.values()}
    assert ours & others <= imported
    assert "compare/contestants.py" not in ours


@pytest.mark.parametrize("library", ["numpy", "polars", "scipy", "torch"])
def test_another_version_of_a_library_makes_another_fingerprint(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> str:
        return stage_key("split", ["a"], {"k": 1}, ["schema.py"])

    before, known = key(), library_versions()
    monkeypatch.setattr(fingerprints, "library_versions", lambda: known | {library: "99.0.0"})
    assert key() != before
    monkeypatch.undo()
    assert key() == before


def test_another_build_of_a_library_makes_the_same_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cu126")
    assert set(library_versions.__wrapped__().values()) == {"2.13.0"}
