"""Validation without pages, for the many tests that look at the verdict only."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    import bigel.contracts.docs

    def skip(folder: Path, *given: Any) -> Path:
        return folder / "runs" / "none" / "index.html"

    monkeypatch.setattr(bigel.contracts.docs, "publish_run", skip)
