"""The manifest of an output: what it holds, what it was made from and by which versions."""

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bigel import __version__
from bigel.errors import WorkspaceError
from bigel.store.files import file_digest, is_own, write_json
from bigel.store.fingerprints import fingerprint, library_versions

MANIFEST = "manifest.json"
# What a manifest holds at least; its digest covers all of it.
SHAPE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("stage", "fingerprint", "digest"), str),
    **dict.fromkeys(("inputs", "parents"), list),
    **dict.fromkeys(("settings", "counts", "files", "versions", "schema"), dict),
    "seconds": (int, float),
}
TEXTS = ("inputs", "parents")  # lists of fingerprints
# What tells that content is damaged. Other errors of reading (no rights, too many open files, a
# failing disk or network) tell nothing about it.
DAMAGE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError)


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder.

    Args:
        folder: what a stage wrote.
        facts: JSON-ready values: stage, fingerprint, inputs, parents, settings, counts, seconds.

    Raises:
        OSError: if a file cannot be read or the manifest not be written.
        WorkspaceError: if a table or tensor file is not one.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digests = {str(p.relative_to(folder)): file_digest(p) for p in files}
    versions = {"bigel": __version__, "python": platform.python_version()} | library_versions()
    schema = {str(p.relative_to(folder)): found for p in files if (found := schema_of(p))}
    manifest = dict(facts) | {"versions": versions, "schema": schema, "files": digests}
    write_json(folder / MANIFEST, manifest | {"digest": _manifest_digest(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an output; the checksums in it are not looked at.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not what ``write_manifest`` writes; the message says where.
    """
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} is no JSON object")
    wrong = [key for key, kind in SHAPE.items() if not isinstance(manifest.get(key), kind)]
    wrong += [key for key in TEXTS if key not in wrong and not _are_texts(manifest[key])]
    if "files" not in wrong and not _are_texts(manifest["files"].values()):
        wrong.append("files")
    if wrong:
        raise ValueError(f"{MANIFEST} has no valid {', '.join(wrong)}")
    return manifest


def known_digest(path: Path) -> str:
    """Return the digest of a file of an output, from its manifest, else by reading it."""
    place = path.with_name(MANIFEST)
    digest = read_manifest(path.parent)["files"].get(path.name) if place.exists() else None
    return digest or file_digest(path)


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def checked(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the manifest of an output and "", or None and what is damaged ("": it is not there).

    Damaged is an output whose manifest is none or does not have its own digest, or of which a file
    is missing or does not have its checksum.

    Raises:
        OSError: if it cannot be read now, which is no damage.
    """
    if not folder.exists():
        return None, ""
    try:
        manifest = read_manifest(folder)
        damaged = [
            name
            for name, digest in manifest["files"].items()
            if not is_own(folder, name) or file_digest(folder / name) != digest
        ]
    except DAMAGE as error:
        return None, str(error)
    if manifest["digest"] != _manifest_digest(manifest):
        damaged.append(MANIFEST)
    return (None, ", ".join(damaged)) if damaged else (manifest, "")


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the digest of all of a manifest but the digest itself, as JSON keeps it."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return fingerprint(json.loads(json.dumps(content, default=str)))


def schema_of(path: Path) -> dict[str, Any] | None:
    """Return what a table or a tensor file holds, by its header alone; None for other files.

    Returns:
        of Parquet: "rows" and "columns" (name to type); of safetensors: "tensors" (name to "dtype"
        and "shape").

    Raises:
        OSError: if it cannot be read.
        WorkspaceError: if it is not what its name says.
    """
    try:
        if path.suffix == ".parquet":
            return _schema_of_table(path)
        return _schema_of_tensors(path) if path.suffix == ".safetensors" else None
    except ValueError as error:
        raise WorkspaceError(f"{path}: its header cannot be read back: {error}") from error


def _schema_of_table(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = {field.name: str(field.type) for field in file.schema_arrow}
        return {"rows": file.metadata.num_rows, "columns": columns}


def _schema_of_tensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(min(length, path.stat().st_size)))
    header.pop("__metadata__", None)
    tensors = {n: {"dtype": one["dtype"], "shape": one["shape"]} for n, one in header.items()}
    return {"tensors": tensors}
