"""What addresses an output: a digest of its inputs, its settings, and the code that makes it."""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

FINGERPRINT = re.compile(r"[0-9a-f]{24}")  # what a fingerprint read from a file must look like
LIBRARIES = ("numpy", "polars", "scipy", "torch")


def fingerprint(*parts: Any) -> str:
    """Return the hex digest of JSON-ready values; key order does not matter.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def stage_key(
    stage: str, inputs: Iterable[str], settings: Mapping[str, Any], code: Iterable[str]
) -> str:
    """Return the fingerprint of a stage's output; arguments as of ``Workspace.run_stage``."""
    return fingerprint(stage, sorted(code), list(inputs), settings, code_digest(code))


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the release of each library whose results outputs hold, without a build's suffix."""
    return {name: metadata.version(name).partition("+")[0] for name in LIBRARIES}


def code_digest(names: Iterable[str]) -> str:
    """Return the digest of files of the package, and of the libraries that compute."""
    package = Path(str(resources.files("bigel")))
    digest = hashlib.blake2b(json.dumps(library_versions()).encode(), digest_size=12)
    for name in sorted(names):
        digest.update(name.encode())
        digest.update((package / name).read_bytes())
    return digest.hexdigest()
