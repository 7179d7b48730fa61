"""The source files that an output hangs on: those of the module that makes it, by its imports.

What a module imports, wherever that stands in it, and what these import in turn, is followed to the
files that names come from. So a stage that starts to use a function is made anew when the function
changes, and nobody keeps a list. Followed too far, an output is only made once more; so exceptions
are few: ``PLUMBING`` here, and what a stage says makes its inputs, whose fingerprints count anyway.
"""

import ast
import functools
from collections.abc import Collection
from importlib import resources
from pathlib import Path

PACKAGE = Path(str(resources.files("bigel")))
# What no output depends on, with the reason.
PLUMBING = {
    "__init__.py": "the version, for manifests",
    "store/": "names outputs, describes them, keeps what it is given",
    "disk.py": "outputs of failed stages are not stored",
    "errors.py": "outputs of failed stages are not stored",
    "retry.py": "the same call again",
    "progress.py": "tells how far a stage is",
    "config/": "its resolved values stand in the settings",
}


@functools.cache
def code_of(*modules: str, apart: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the files that modules are made of, by their places in the package, sorted.

    Args:
        modules: full names; a room (``bigel.graph``) is its ``__init__``.
        apart: full names of modules that are neither followed nor taken: they make or find inputs
            of the output, or only choose what is named here.

    >>> code_of("bigel.data.pairs", apart=("bigel.schema",))
    ('data/distinct.py', 'data/pairs.py')
    """
    left = {place for name in apart if (place := _place(name))}
    seen: set[Path] = set()
    waiting = [place for name in modules if (place := _place(name))]
    while waiting:
        path = waiting.pop()
        if path in seen or path in left or _is_plumbing(path):
            continue
        seen.add(path)
        waiting += _imported(path)
    return tuple(sorted(path.relative_to(PACKAGE).as_posix() for path in seen))


@functools.cache
def _imported(path: Path) -> Collection[Path]:
    """Return the files that the names come from which a file of ours imports."""
    return {found for module, name in _imports(path) if (found := _origin(module, name))}


@functools.cache
def _imports(path: Path) -> list[tuple[str, str]]:
    """Return (module, name) of each import in a file; of ``import module`` the name is ""."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] == "bigel"]


def _origin(module: str, name: str) -> Path | None:
    """Return the file that a name comes from, through packages that only pass it on."""
    path = _place(f"{module}.{name}") or _place(module)
    if path is not None and path.name == "__init__.py":
        for source, passed_on in _imports(path):
            if passed_on == name and source != module:
                return _origin(source, name)
    return path


def _place(module: str) -> Path | None:
    """Return the file of a module of ours."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    found = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def _is_plumbing(path: Path) -> bool:
    name = path.relative_to(PACKAGE).as_posix()
    return any(name == part or (name.startswith(part) and part[-1] == "/") for part in PLUMBING)
