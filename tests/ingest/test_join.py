"""Parts together: messages about the whole log, ids that one file makes text."""

import logging
from pathlib import Path

import polars as pl
import pytest

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import join, merge, part
from bigel.ingest.join import join_parts
from bigel.ingest.merge import open_base
from bigel.ingest.part import Part, clean_file
from bigel.ingest.sources import Source

HEADER = "user,item,behavior\n"
DATA = DataConfig(
    path="the log", behaviors=("click", "buy"), columns={"user": "user", "item": "item"}
)


def parts_of(folder: Path, files: dict[str, list[str]]) -> list[Part]:
    parts = []
    for name, lines in files.items():
        place = folder / "parts" / name
        place.mkdir(parents=True)
        log = folder / name
        log.write_text(HEADER + "".join(f"{line}\n" for line in lines))
        source = Source(log, name, "csv")
        with open_base(place) as base:
            parts.append(Part(source, place, clean_file(source, DATA, place, base)))
    return parts


def joined(folder: Path, files: dict[str, list[str]]) -> pl.DataFrame:
    (folder / "out").mkdir(parents=True)
    with open_base(folder) as base:
        join_parts(parts_of(folder, files), DATA, folder / "out", base)
    return pl.read_parquet(folder / "out" / "interactions.parquet")


def test_one_id_that_is_no_number_makes_the_column_text_in_all_files(tmp_path: Path) -> None:
    got = joined(tmp_path, {"a.csv": ["10,5,buy", "9,5,buy"], "b.csv": ["x,5,buy", "9,5,buy"]})
    assert got.rows() == [("10", 5, "buy", 1), ("9", 5, "buy", 2), ("x", 5, "buy", 1)]


def test_a_few_ids_that_are_no_numbers_are_counted_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"{user},5,buy" for user in range(8)]
    with caplog.at_level(logging.WARNING, logger="bigel"):
        joined(tmp_path, {"a.csv": lines, "b.csv": ["zz,5,buy", *lines, "009,5,buy"]})
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "user_id is kept as text, for 2 of 18 rows have no whole number there, the first of them "
        "'zz' in b.csv;"
    )


def test_ids_that_are_mostly_text_are_no_strays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="bigel"):
        joined(tmp_path, {"a.csv": ["u1,5,buy", "u2,5,buy", "3,5,buy"]})
    assert caplog.records == []


def test_float_like_ids_of_one_file_are_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="bigel"):
        got = joined(tmp_path, {"a.csv": ["1,5,buy"], "b.csv": ["1,5.0,buy"]})
    assert got["item_id"].to_list() == [5]
    assert [record.message.split(", as an")[0] for record in caplog.records] == [
        "item_id: 1 rows have a whole number written as a float, the first of them '5.0' in b.csv"
    ]


def test_the_bytes_do_not_depend_on_how_the_rows_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{u % 23},{u * 7 % 11},{('click', 'buy')[u % 2]}" for u in range(200)]
    joined(tmp_path / "one", {"a.csv": lines})
    joined(tmp_path / "two", {"a.csv": lines[:50], "b.csv": lines[50:]})
    monkeypatch.setattr(merge, "MEMORY", "64MB")
    joined(tmp_path / "spilled", {"a.csv": lines[::2], "b.csv": lines[1::2]})
    files = [tmp_path / case / "out" / "interactions.parquet" for case in ("one", "two", "spilled")]
    assert len({file.read_bytes() for file in files}) == 1


def test_a_log_of_empty_files_says_how_many(tmp_path: Path) -> None:
    for files, said in ({"a.csv": []}, "1 file"), ({"a.csv": [], "b.csv": []}, "2 files"):
        with pytest.raises(DataError, match=rf"^the log: holds no rows in {said}; .*data\.path$"):
            joined(tmp_path / said, files)


def test_a_log_without_a_usable_row_names_reasons_the_first_row_and_advice(tmp_path: Path) -> None:
    files = {"a.csv": [",1,buy"], "b.csv": ["1,1,like", "1,1", "2,2,like", "1,2,3,4", ",,"]}
    with pytest.raises(DataError) as caught:
        joined(tmp_path, files)
    assert str(caught.value) == (
        "the log: none of 6 rows is usable (2 × null user_id, 2 × unknown behavior, "
        "1 × too few fields); the first is a.csv row 1 (null user_id): ',1,buy'; "
        "check data.columns"
    )
    with pytest.raises(
        DataError, match=r"unknown: 'like' 2; name the log's values in data\.behaviors"
    ):
        joined(tmp_path / "again", {"b.csv": files["b.csv"][:3]})


def test_a_long_refused_row_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        joined(tmp_path, {"a.csv": ["," + "x" * 5_000 + ",buy"]})
    assert "," + "x" * 199 + "'" in str(caught.value)
    assert "x" * 200 not in str(caught.value)


def test_refused_rows_are_counted_by_file_and_reason(tmp_path: Path) -> None:
    joined(tmp_path, {"a.csv": ["1,5,buy", ",5,buy", "2,5"], "b.csv": ["1,,buy", ",5,buy", ",,"]})
    assert pl.read_parquet(tmp_path / "out" / "quarantine_summary.parquet").rows() == [
        ("a.csv", "null user_id", 1),
        ("a.csv", "too few fields", 1),
        ("b.csv", "null item_id", 1),
        ("b.csv", "null user_id", 2),
    ]


def test_a_row_that_a_part_lost_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, {"a.csv": ["1,5,buy"], "b.csv": ["2,5,buy", ",5,buy"]})
    parts[1].counts["rows"] += 1
    (tmp_path / "out").mkdir()
    with (
        open_base(tmp_path) as base,
        pytest.raises(DataError, match=r"^b\.csv: 3 rows were read, but 1 kept and 1 refused"),
    ):
        join_parts(parts, DATA, tmp_path / "out", base)


def test_a_row_that_merging_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.csv": ["1,5,buy", "2,5,buy"], "b.csv": ["3,5,buy", ",5,buy"]}
    parts = parts_of(tmp_path, files)
    merge_files = join.merge_files
    monkeypatch.setattr(join, "merge_files", lambda files, *others: merge_files(files[:1], *others))
    (tmp_path / "out").mkdir()
    with (
        open_base(tmp_path) as base,
        pytest.raises(DataError, match=r"^the log: 4 rows were read, but 2 kept and 1 refused"),
    ):
        join_parts(parts, DATA, tmp_path / "out", base)


def test_a_row_that_reading_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_rows = part.read_rows
    monkeypatch.setattr(part, "read_rows", lambda *given: (one[1:] for one in read_rows(*given)))
    with pytest.raises(DataError, match=r"^a\.csv: 2 rows were read, but 1 kept and 0 refused"):
        joined(tmp_path, {"a.csv": ["1,5,buy", "2,5,buy"]})
