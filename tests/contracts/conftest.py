"""Validation without pages, for the many tests that look at the verdict only."""

from typing import Any

import pytest

from bigel.store import Workspace


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    import bigel.contracts.page

    def skip(workspace: Workspace, *given: Any) -> str:
        return f"{workspace.data_docs / 'index.html'}#none"

    monkeypatch.setattr(bigel.contracts.page, "publish_run", skip)
