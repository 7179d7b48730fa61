from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.ingest import ingest
from bigel.schema import INTERACTIONS_FILE, QUARANTINE_FILE, RAW_SUMMARY_FILE
from bigel.store import Record, Workspace


@dataclass(frozen=True)
class Ingested:
    record: Record
    interactions: pl.DataFrame
    quarantine: pl.DataFrame
    summary: pl.DataFrame

    def refused(self) -> list[tuple[int, str]]:
        return list(self.quarantine.select("row_number", "reason").iter_rows())

    def pairs(self) -> list[tuple[Any, ...]]:
        return list(self.interactions.select("user_id", "item_id", "behavior").iter_rows())


def read_back(record: Record) -> Ingested:
    return Ingested(
        record,
        pl.read_parquet(record.file(INTERACTIONS_FILE)),
        pl.read_parquet(record.file(QUARANTINE_FILE)),
        pl.read_parquet(record.file(RAW_SUMMARY_FILE)),
    )


@pytest.fixture
def ingest_files(tmp_path: Path) -> Callable[..., Ingested]:
    """Write files, ingest their folder (or the only file), and read the results back."""

    def run(files: dict[str, bytes], path: str | None = None, **data: Any) -> Ingested:
        for name, content in files.items():
            place = tmp_path / "log" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        if path is None:
            path = next(iter(files)) if len(files) == 1 else ""
        settings = {
            "path": str(tmp_path / "log" / path),
            "behaviors": ["click", "buy"],
            "columns": {"user": "user", "item": "item", "timestamp": "time"},
            "time_min": 0,
            **data,
        }
        config = parse_config({"data": settings})
        return read_back(ingest(config, Workspace(tmp_path / "workspace")))

    return run
