"""Checkpoints: a safetensors file and a JSON file, both checksummed, written aside and renamed.

The JSON file is written last and holds the digest of the tensors and of itself, so a
checkpoint is whole or is not taken. The last two are kept; no pickle.
"""

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bigel.graph import save_tensors
from bigel.workspace import file_digest, fingerprint, write_json

KEPT = 2
log = logging.getLogger(__name__)


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    """Write the checkpoint of a step and drop all but the last two.

    Args:
        folder: where the checkpoints lie.
        step: finished steps.
        tensors: what safetensors can hold.
        facts: JSON-ready values.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"step-{step:09d}.safetensors"
    save_tensors(place, tensors)
    content = {"step": step, "tensors": file_digest(place), "facts": facts}
    write_json(place.with_suffix(".json"), {"digest": fingerprint(content), "content": content})
    for old in _found(folder)[KEPT:]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Return the newest whole checkpoint as (step, tensors, facts), or None.

    A damaged one is reported and passed over.
    """
    for path in _found(folder):
        try:
            return _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("checkpoint %s is damaged (%s); the one before it is used", path, error)
    return None


def _found(folder: Path) -> list[Path]:
    """Return the JSON files, newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def _read(path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    both = json.loads(path.read_text("utf-8"))
    content = both["content"]
    if fingerprint(content) != both["digest"]:
        raise ValueError("its digest does not fit its content")
    tensors = path.with_suffix(".safetensors")
    if file_digest(tensors) != content["tensors"]:
        raise ValueError(f"{tensors.name} does not have its digest")
    return content["step"], load_file(tensors), content["facts"]
