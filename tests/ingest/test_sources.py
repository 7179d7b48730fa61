import logging
from pathlib import Path
from typing import Any

import pytest

from bigel.config import DataConfig
from bigel.ingest.sources import content_fingerprint, find_sources


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(path: Path | str, **settings: Any) -> list[tuple[str, str, str | None, str | None]]:
    sources = find_sources(DataConfig(path=str(path), **settings))
    return [(s.name, s.format, s.split, s.behavior) for s in sources]


def test_a_folder_is_read_with_its_subfolders_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jsonl.zst", "a/2.csv.gz", "a/1.tsv", "c.parquet", "_old/x.csv", ".x.csv")
    assert found(tmp_path) == [
        ("a/1.tsv", "tsv", None, None),
        ("a/2.csv.gz", "csv", None, None),
        ("b.jsonl.zst", "ndjson", None, None),
        ("c.parquet", "parquet", None, None),
    ]


def test_a_glob_chooses_files_and_names_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "day1/x.csv", "day2/x.csv", "day2/y.tsv")
    assert [f[0] for f in found(tmp_path / "day*" / "*.csv")] == ["day1/x.csv", "day2/x.csv"]
    assert [f[0] for f in found(f"{tmp_path}/**/*.tsv")] == ["day2/y.tsv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "log[1].csv", "log1.csv")
    assert [f[0] for f in found(tmp_path / "log[1].csv")] == ["log[1].csv"]


def test_a_stated_format_takes_files_without_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "part-00000", "part-00001.csv", "notes.txt")
    with caplog.at_level(logging.WARNING):
        assert [f[:2] for f in found(tmp_path, format="csv")] == [
            ("part-00000", "csv"),
            ("part-00001.csv", "csv"),
        ]
    assert "skipped: notes.txt" in caplog.text
    assert found(tmp_path / "notes.txt", format="csv") == [("notes.txt", "csv", None, None)]


def test_the_pairs_layout_reads_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "add_to_cart_train.txt.gz", "click_val", "click_test", "README.md")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path, format="pairs") == [
            ("add_to_cart_train.txt.gz", "pairs", "train", "add_to_cart"),
            ("click_test", "pairs", "test", "click"),
            ("click_val", "pairs", "valid", "click"),
        ]
    assert "skipped: README.md" in caplog.text


def test_the_tables_layout_needs_no_valid(tmp_path: Path) -> None:
    touch(tmp_path, "train.parquet", "test.csv", "README.md")
    assert found(tmp_path, format="tables") == [
        ("test.csv", "csv", "test", None),
        ("train.parquet", "parquet", "train", None),
    ]


def test_the_fingerprint_follows_names_and_bytes_not_places(tmp_path: Path) -> None:
    def print_of(root: str) -> str:
        return content_fingerprint(find_sources(DataConfig(path=str(tmp_path / root))))

    touch(tmp_path / "one", "a.csv", "b.csv")
    touch(tmp_path / "two", "a.csv", "b.csv")
    first = print_of("one")
    assert print_of("two") == first
    (tmp_path / "two" / "b.csv").write_text("b.csw")
    assert print_of("two") != first
    (tmp_path / "one" / "b.csv").rename(tmp_path / "one" / "c.csv")
    assert print_of("one") != first
