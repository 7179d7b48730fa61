"""Safetensors files: no pickle."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bigel.store.files import written_aside


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file aside, flush it to disk and rename it into place.

    Raises:
        OSError: if it cannot be written.
    """
    there = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with written_aside(path) as aside:
            aside.touch()
            mode = aside.stat().st_mode  # safetensors would leave a file for its owner alone
            save_file(there, aside, metadata)
            aside.chmod(mode)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
