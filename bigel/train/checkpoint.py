"""Checkpoints: a safetensors file and a JSON file, both checksummed, written aside and renamed.

The JSON file is written last and holds the digest of the tensors and of itself, so a
checkpoint is whole or is not taken. The last two are kept; no pickle. A folder belongs to one
training at a time: the stage store holds a lock while a stage is built.
"""

import contextlib
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bigel.store import file_digest, fingerprint, write_json
from bigel.store.manifest import DAMAGE
from bigel.store.tensors import save_tensors

KEPT = 2
Checkpoint = tuple[int, dict[str, Tensor], dict[str, Any]]
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint as (step, tensors, facts), or None.

    A damaged one is reported and set aside, so that it does not count among those that are kept.

    Raises:
        OSError: if one cannot be read now, which is no damage.
    """
    found = _found(folder)
    for path in found:
        try:
            return _read(path)
        except (*DAMAGE, KeyError, TypeError) as error:
            _set_aside(path)
            way_on = "training starts anew" if path == found[-1] else "the one before it is used"
            log.warning("checkpoint %s is damaged (%s); %s", path, error, way_on)
    return None


@contextlib.contextmanager
def endings_deferred() -> Iterator[Callable[[], bool]]:
    """Let a request to end (Ctrl-C, SIGTERM, SIGHUP) wait until a checkpoint can be kept.

    Yields a function that tells whether one came; the block then keeps its checkpoint and leaves,
    and the handler from before ends the program. A second request ends it at once. Where another
    thread runs, or nobody handles a signal, nothing changes.

    Raises:
        KeyboardInterrupt: after the block, if a request came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []
    before: dict[int, Callable[..., Any]] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            before[number](number, frame)

    for number in ENDINGS:
        handler = signal.getsignal(number)
        if callable(handler):
            before[number] = handler
            signal.signal(number, handle)
    try:
        yield lambda: bool(came)
    finally:
        restore()
    if came:
        before[came[0]](came[0], None)
        raise KeyboardInterrupt(signal.Signals(came[0]).name)


def _found(folder: Path) -> list[Path]:
    """Return the JSON files, newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def _set_aside(path: Path) -> None:
    for file in (path, path.with_suffix(".safetensors")):
        with contextlib.suppress(FileNotFoundError):
            file.replace(file.with_name(f"damaged.{file.name}"))


def _read(path: Path) -> Checkpoint:
    both = json.loads(path.read_text("utf-8"))
    content = both["content"]
    if fingerprint(content) != both["digest"]:
        raise ValueError("its digest does not fit its content")
    tensors = path.with_suffix(".safetensors")
    if file_digest(tensors) != content["tensors"]:
        raise ValueError(f"{tensors.name} does not have its digest")
    try:
        return content["step"], load_file(tensors), content["facts"]
    except SafetensorError as error:  # the content is right, so reading failed
        raise OSError(f"{tensors}: {error}") from error
