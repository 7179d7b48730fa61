"""The manifest of an output: what it holds, what it was made from and by which versions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigel import __version__
from bigel.files import file_digest, is_own, write_json
from bigel.fingerprints import fingerprint

MANIFEST = "manifest.json"


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder.

    Args:
        folder: what a stage wrote.
        facts: JSON-ready values: stage, fingerprint, inputs, parents, settings, counts, seconds.

    Raises:
        OSError: if a file cannot be read or the manifest not be written.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digests = {str(p.relative_to(folder)): file_digest(p) for p in files}
    manifest = dict(facts) | {"version": __version__, "files": digests}
    write_json(folder / MANIFEST, manifest | {"digest": _manifest_digest(manifest)})


def checked(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the manifest of an output and "", or None and what is damaged ("": it is not there).

    Damaged is an output whose manifest cannot be read or does not have its own digest, or of which
    a file does not have its checksum.
    """
    if not folder.exists():
        return None, ""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        damaged = [
            name
            for name, digest in manifest["files"].items()
            if not is_own(folder, name) or file_digest(folder / name) != digest
        ]
        if manifest["digest"] != _manifest_digest(manifest):
            damaged.append(MANIFEST)
    except KeyError as error:
        return None, f"{MANIFEST} has no {error}; older versions wrote none"
    except (OSError, ValueError) as error:
        return None, f"{MANIFEST}: {error}"
    return (None, ", ".join(damaged)) if damaged else (manifest, "")


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the digest of all of a manifest but the digest itself, as JSON keeps it."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return fingerprint(json.loads(json.dumps(content, default=str)))
