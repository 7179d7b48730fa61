"""What makes an output is part of its fingerprint: the package's modules, and the libraries."""

import ast
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from bigel import fingerprints, train
from bigel.compare import fitting
from bigel.compare.contestants import TRAINED
from bigel.fingerprints import library_versions, stage_key
from bigel.tune import study

PACKAGE = Path(fingerprints.__file__).parent
# What no output depends on, with the reason.
PLUMBING = {
    "__init__.py": "the version, for manifests",
    "workspace.py": "stores what a stage wrote",
    "files.py": "writes what it is given",
    "fingerprints.py": "names outputs",
    "manifest.py": "describes outputs",
    "locks.py": "who waits for whom",
    "errors.py": "outputs of failed stages are not stored",
    "disk.py": "outputs of failed stages are not stored",
    "retry.py": "the same call again",
    "engine.py": "makes units wherever; their own modules say of what",
    "config/": "its resolved values stand in the settings",
}
# What a stage's module imports for another purpose than its output, with the reason.
INPUT = "finds or makes an input, whose fingerprint counts"
HUSH = "keeps MLflow quiet"
OTHERWISE = {
    "backtest/__init__.py": {
        f"backtest/{name}.py": INPUT for name in ("cut", "guests", "night", "rehearsal", "rules")
    },
    "compare/__init__.py": {"compare/contest.py": INPUT, "compare/contestants.py": INPUT},
    "compare/contest.py": {"compare/fitting.py": INPUT},
    "contracts/drift.py": {"contracts/history.py": INPUT},
    "ingest/part.py": {f"ingest/{name}.py": INPUT for name in ("digests", "sources")},
    "ingest/ranges.py": {f"ingest/{name}.py": INPUT for name in ("digests", "sources")},
    **{
        key: {"tracking/resolve.py": INPUT, "tracking/store.py": HUSH, "embed.py": INPUT}
        for key in ("preview.py", "recommend.py")
    },
    "tracking/bundle.py": {"tracking/store.py": HUSH, "embed.py": INPUT},
    "tracking/start.py": {
        **{
            f"tracking/{name}.py": "finds the champion"
            for name in ("gate", "lookup", "resolve", "store", "tags")
        },
        "tracking/bundle.py": "names of the champion's files",
    },
}
BESIDE = {"tracking/start.py": train.CODE}  # of the stage that it is made for


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def place_of(module: str) -> Path | None:
    """Return the file of a module of ours."""
    if module.partition(".")[0] != "bigel":
        return None
    place = PACKAGE.joinpath(*module.split(".")[1:])
    found = [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()]
    return found[0] if found else None


def imports(path: Path) -> list[tuple[str, str]]:
    """Return (module, name) of each ``from module import name``, wherever it stands."""
    return [
        (node.module, alias.name)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ] + [
        (alias.name, "")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import)
        for alias in node.names
    ]


def origin(module: str, name: str) -> Path | None:
    """Return the file that a name comes from, through packages that only pass it on."""
    path = place_of(f"{module}.{name}") or place_of(module)
    if path is not None and path.name == "__init__.py":
        for source, passed_on in imports(path):
            if passed_on == name and source != module:
                return origin(source, name)
    return path


def closure(start: str, others: Iterable[str] = ()) -> set[str]:
    """Return the package's files that a file imports, and so on, without plumbing and others."""
    skipped = [*PLUMBING, *OTHERWISE.get(start, {}), *others]
    seen: set[str] = set()
    waiting = [PACKAGE / start]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(PACKAGE).as_posix()
        if name in seen or covered(name, skipped):
            continue
        seen.add(name)
        waiting += [found for one in imports(path) if (found := origin(*one))]
    return seen


def covered(name: str, parts: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part.rstrip('/')}/") for part in parts)


def stages() -> list[str]:
    """Return the modules that run a stage, or say what a unit of work is."""
    return [
        name
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(map(is_stage, ast.walk(tree(path))))
        and not covered(name := path.relative_to(PACKAGE).as_posix(), PLUMBING)
    ]


def is_stage(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "WorkUnit" for base in node.bases)
    return isinstance(node, ast.Attribute) and node.attr == "run_stage"


@pytest.mark.parametrize("stage", stages())
def test_all_code_of_a_stage_is_part_of_its_fingerprint(stage: str) -> None:
    name = stage.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    code = (*import_module(f"bigel.{name}").CODE, *BESIDE.get(stage, ()))
    assert sorted(file for file in closure(stage) if not covered(file, code)) == []
    assert [part for part in code if not (PACKAGE / part).exists()] == []


def test_all_code_of_a_search_is_part_of_its_key() -> None:
    files = closure("tune/study.py", ["tune/spaces.py"])  # a model's room is part of the key
    code = (*study.CODE, *fitting.code_of("bigel"))
    assert [file for file in sorted(files) if not covered(file, code)] == []


@pytest.mark.parametrize(
    ("start", "beside"), [("compare/fitting.py", ()), ("tune/study.py", study.CODE)]
)
def test_rivals_hang_on_all_code_but_that_of_bigel_and_of_rules(
    start: str, beside: tuple[str, ...]
) -> None:
    others = ["train/bigel.py", "rivals/funnel_rule.py", "rivals/conversion_rule.py",
              "evaluate/popularity.py", "tune/spaces.py"]  # fmt: skip
    files = closure(start, others)
    assert {fitting.code_of(model) for model in TRAINED} == {fitting.OF_RIVALS}
    code = (*beside, *fitting.OF_RIVALS)
    assert [file for file in sorted(files) if not covered(file, code)] == []
    assert not any(covered(file, code) for file in ("model/bigel.py", "train/objective.py"))


def test_the_stages_are_found() -> None:
    assert {
        "ingest/part.py",
        "ingest/ranges.py",
        "split.py",
        "train/__init__.py",
        "recommend.py",
    } <= set(stages())
    assert "schema.py" in closure("split.py") and "train/sampler.py" in closure("train/__init__.py")


@pytest.mark.parametrize("library", ["numpy", "polars", "scipy", "torch"])
def test_another_version_of_a_library_makes_another_fingerprint(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> str:
        return stage_key("split", ["a"], {"k": 1}, ["split.py"])

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
