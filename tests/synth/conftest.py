"""Synthetic logs are read as users' logs are."""

from tests.ingest.conftest import ingest_files

__all__ = ["ingest_files"]
