"""Every file below a folder, or of a glob; what is there and cannot be read is no part of neither.

Links to folders are followed. Names that start with a dot or an underscore are hidden, as Hadoop
and Spark hide their own; a glob may name them.
"""

import fnmatch
import glob
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bigel.errors import DataError
from bigel.ingest.objects import fits

LOOP = "a link to a folder that it is in"
NOWHERE = "a link to nothing"
NO_FILE = "no plain file"
FOLDER = "a folder, and the glob names no files in it"


@dataclass
class Tree:
    """What was found below a folder, by its path from there, with forward slashes.

    Args:
        files: the files.
        faults: what is there and cannot be read, with the reason.
        hidden: files and folders that were not looked at, since they are hidden.
    """

    files: dict[str, Path] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)


def find_files(raw_path: str) -> Tree:
    """Find the file of a path, the visible files below a folder, or those of a glob, sorted.

    Raises:
        DataError: if there is no such path.
    """
    path = Path(raw_path).expanduser()
    if path.is_file():
        return Tree({path.name: path.absolute()})
    if path.is_dir():
        return _walk(path, is_visible, is_visible)
    if not glob.has_magic(str(path)):
        raise DataError(
            f"{raw_path}: no such file or folder (looked from {Path.cwd()}); "
            "set data.path to a file, a glob or a folder"
        )
    magic = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root, pattern = Path(*path.parts[:magic]), list(path.parts[magic:])
    if not root.is_dir():
        return Tree()
    tree = _walk(root, lambda parts: _leads(parts, pattern), lambda parts: fits(parts, pattern))
    if "**" not in pattern:
        _name_folders(tree, root, pattern)
    return tree


def is_visible(parts: Sequence[str]) -> bool:
    """Tell whether no part of a path is hidden."""
    return not any(part.startswith((".", "_")) for part in parts)


def is_named(name: str, patterns: Collection[str]) -> bool:
    """Tell whether a pattern fits a path, a folder that it is in, or the last name of either.

    >>> [is_named("a/b.txt", [one]) for one in ("*.txt", "a", "a/*", "b", "c*")]
    [True, True, True, False, False]
    """
    path = Path(name)
    places = [place for place in (path, *path.parents) if place.name]
    texts = {text for place in places for text in (place.as_posix(), place.name)}
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts for pattern in patterns)


def _walk(
    root: Path, leads: Callable[[list[str]], bool], is_wanted: Callable[[list[str]], bool]
) -> Tree:
    """Look at a folder and those below that ``leads`` admits.

    Args:
        root: the folder.
        leads: tells of the parts of a folder's path whether to look into it.
        is_wanted: tells of those of anything else whether to take it.
    """
    tree = Tree()

    def fail(error: OSError) -> None:
        tree.faults[_name(Path(error.filename), root)] = error.strerror or "cannot be read"

    chains: dict[Path, tuple[Path, ...]] = {
        root: (root.resolve(),)
    }  # what each folder and those that it is in really are
    for raw_folder, folders, others in os.walk(root, onerror=fail, followlinks=True):
        folder = Path(raw_folder)
        chain = chains.pop(folder)
        open_to: list[str] = []
        for path in (folder / name for name in sorted(folders)):
            real = path.resolve() if path.is_symlink() else chain[-1] / path.name
            if leads(list(path.relative_to(root).parts)):
                if real in chain:
                    tree.faults[_name(path, root)] = LOOP
                else:
                    chains[path] = (*chain, real)
                    open_to.append(path.name)
            elif leads is is_visible:
                tree.hidden.append(_name(path, root))
        folders[:] = open_to
        for path in (folder / name for name in others):
            if is_wanted(list(path.relative_to(root).parts)):
                _take(path, _name(path, root), tree)
            elif is_wanted is is_visible:
                tree.hidden.append(_name(path, root))
    return Tree(dict(sorted(tree.files.items())), dict(sorted(tree.faults.items())), tree.hidden)


def _take(path: Path, name: str, tree: Tree) -> None:
    try:
        if path.is_file():
            tree.files[name] = path.absolute()
        else:
            tree.faults[name] = NO_FILE if path.exists() else NOWHERE
    except OSError as error:
        tree.faults[name] = error.strerror or "cannot be read"


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _leads(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a folder may hold, at any depth, what a glob names.

    >>> [_leads(parts, ["a*", "**", "x"]) for parts in (["ab"], ["ab", "c"], ["b"], ["ab", ".c"])]
    [True, True, False, False]
    """
    for at, part in enumerate(parts):
        if at == len(pattern):
            return False
        if pattern[at] == "**":
            return not any(one.startswith(".") for one in parts[at:])
        if part.startswith(".") > pattern[at].startswith("."):
            return False
        if not fnmatch.fnmatchcase(part, pattern[at]):
            return False
    return len(parts) < len(pattern)


def _name_folders(tree: Tree, root: Path, pattern: list[str]) -> None:
    """Name the visible folders that a glob fits: their files are not read."""
    for raw_path in sorted(glob.glob(str(Path(*pattern)), root_dir=root)):  # noqa: PTH207
        path = Path(raw_path)
        if (root / path).is_dir() and is_visible(path.parts):
            tree.faults[path.as_posix()] = FOLDER
