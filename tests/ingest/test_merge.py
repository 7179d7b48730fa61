"""Unique interactions: the same as a naive grouping, however the rows are cut, or spilled."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.ingest import merge
from bigel.ingest.ids import add_up, settle
from bigel.ingest.merge import merge_files, merge_split, open_base
from bigel.ingest.write import write_interactions

DATA = DataConfig(behaviors=("view", "cart", "buy"))  # not in the order of the alphabet
EVENT = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99))
NAMES = ("user_id", "item_id", "behavior_index", "timestamp")
IDS: dict[str, Callable[[int], Any]] = {  # from small numbers
    "small numbers": lambda n: n - 3,
    "any numbers": lambda n: (-1) ** n * (2**63 - 1 - n),
    "text": lambda n: str(8 + n),  # whose order is not that of the numbers
}


def frame(rows: list[tuple[Any, ...]], ids: pl.DataType, extra: str = "timestamp") -> pl.DataFrame:
    """Return rows (user, item, behavior, time or split) as gather stores them."""
    last = pl.Int64() if extra == "timestamp" else pl.UInt8()
    types = [ids, ids, pl.UInt8(), last]
    return pl.DataFrame(rows, dict(zip((*NAMES[:3], extra), types, strict=True)), orient="row")


def cut_up(rows: pl.DataFrame, cuts: list[int], folder: Path) -> list[Path]:
    """Store the rows as several Parquet files, some perhaps empty."""
    edges = [0, *sorted(cut % (rows.height + 1) for cut in cuts), rows.height]
    paths = []
    for low, high in itertools.pairwise(edges):
        paths.append(folder / f"piece[{len(paths)}].parquet")  # a name like a glob
        rows[low:high].write_parquet(paths[-1])
    return paths


def merged(files: list[Path], folder: Path) -> pl.DataFrame:
    with open_base(folder) as base:
        merge_files(files, folder / "rows.parquet", base)
    write_interactions(folder / "rows.parquet", DATA, folder)
    return pl.read_parquet(folder / "interactions.parquet")


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(EVENT, min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    kind=st.sampled_from(sorted(IDS)),
)
def test_any_cut_gives_what_a_naive_grouping_gives(
    events: list[tuple[Any, Any, int, int]],
    cuts: list[int],
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    events = [(IDS[kind](u), IDS[kind](i), b, t) for u, i, b, t in events]
    rows = frame(events, pl.String() if kind == "text" else pl.Int64())
    got = merged(cut_up(rows, cuts, folder), folder)
    naive = (
        rows.group_by("user_id", "item_id", "behavior_index")
        .agg(
            pl.col("timestamp").min().alias("first"),
            pl.col("timestamp").max(),
            pl.len().alias("count"),
        )
        .sort("user_id", "item_id", "behavior_index")
    )
    names = ["view", "cart", "buy"]
    assert got.rows() == [(u, i, names[b], *others) for u, i, b, *others in naive.iter_rows()]
    assert got["count"].sum() == len(events)


def test_rows_of_one_interaction_keep_both_times_and_their_number(
    tmp_path: Path,
) -> None:
    rows = [(1, 9, 2, 50), (1, 9, 0, 7), (1, 9, 2, 80), (1, 9, 2, 60), (0, 9, 2, 1)]
    got = merged(cut_up(frame(rows, pl.Int64()), [2], tmp_path), tmp_path)
    assert got.rows() == [(0, 9, "buy", 1, 1, 1), (1, 9, "view", 7, 7, 1), (1, 9, "buy", 50, 80, 3)]
    assert got.schema == {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }


def test_a_log_without_times_is_merged_too(tmp_path: Path) -> None:
    rows = frame([(1, 9, 0, 5), (1, 9, 0, 6)], pl.Int64()).drop("timestamp")
    assert merged(cut_up(rows, [], tmp_path), tmp_path).rows() == [(1, 9, "view", 2)]


def test_ids_that_are_text_in_one_file_are_text(tmp_path: Path) -> None:
    numbers, text = frame([(10, 5, 2, 1)], pl.Int64()), frame([("x", "5", 2, 1)], pl.String())
    numbers.write_parquet(tmp_path / "a.parquet")
    text.with_columns(pl.col("item_id").cast(pl.Int64)).write_parquet(tmp_path / "b.parquet")
    got = merged([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path)
    assert got.rows() == [("10", 5, "buy", 1, 1, 1), ("x", 5, "buy", 1, 1, 1)]


def test_what_does_not_fit_the_memory_is_spilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"{n * 7919 % 400_000:036}" for n in range(400_000)]
    rows = pl.DataFrame({"user_id": users, "item_id": users, "behavior_index": [0] * len(users)})
    rows.cast({"behavior_index": pl.UInt8}).write_parquet(tmp_path / "all.parquet")
    monkeypatch.setattr(merge, "MEMORY", "60MB")  # a row takes 72 bytes and more
    got = merged([tmp_path / "all.parquet"], tmp_path)
    assert got["user_id"].to_list() == sorted(users)


@pytest.mark.parametrize(
    ("items", "ids", "facts"),
    [
        (["7", "x", "12.0"], "auto", (False, 1, 0, 1, "x", "12.0")),
        (["2.0.0", "1.5", "7"], "auto", (False, 2, 0, 0, "2.0.0", None)),
        (["7", "13.0", "12.00"], "auto", (True, 0, 0, 2, None, "13.0")),
        (["7", "007", "+7"], "auto", (False, 2, 2, 0, "007", None)),
        (["7", "007", "7.0"], "integer", (True, 0, 0, 1, None, "7.0")),
        (["7", "8"], "text", (False, 0, 0, 0, None, None)),
    ],
)
def test_ids_that_are_no_numbers_are_told(
    items: list[str], ids: str, facts: tuple[Any, ...]
) -> None:
    typed, found = settle(pl.Series("item_id", items), ids)
    keys = ("whole", "strays", "forms", "floats", "stray", "float")
    assert found == dict(zip(keys, facts, strict=True))
    assert typed.dtype == (pl.Int64 if found["whole"] else pl.String)
    each = [settle(pl.Series([item]), ids)[1] for item in items]
    assert add_up(each) == found
    users, known = settle(pl.Series("user_id", [1, 2, -3]), ids)
    assert known["whole"] == (ids != "text")
    assert users.to_list() == (["1", "2", "-3"] if ids == "text" else [1, 2, -3])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    )
)
def test_a_row_leaks_exactly_if_an_earlier_split_has_its_pair(
    rows: list[tuple[int, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("leaks")
    numbered = frame(rows, pl.Int64(), "split").with_row_index("row_number", 1)
    files = {}
    for place, split in enumerate(("train", "valid", "test")):
        path = folder / f"{split}.parquet"
        numbered.filter(pl.col("split") == place).drop("split").write_parquet(path)
        files[path] = ("log", split)
    with open_base(folder) as base:
        leaks = merge_split(files, DATA, folder / "rows.parquet", base)
    earliest: dict[tuple[int, ...], int] = {}
    for *key, split in rows:
        earliest[tuple(key)] = min(split, earliest.get(tuple(key), 2))
    expected = {}
    for number, (user, item, behavior, split) in enumerate(rows, 1):
        first = earliest[user, item, behavior]
        if split > first:
            raw = {"user_id": user, "item_id": item, "behavior": ["view", "cart"][behavior]}
            expected[number] = (f"leak: also in {['train', 'valid'][first]}", raw)
    found = {
        row["row_number"]: (row["reason"], json.loads(row["raw"]))
        for row in leaks.iter_rows(named=True)
    }
    assert found == expected
    assert leaks.height == len(expected)
    assert leaks.columns == ["source_file", "row_number", "reason", "raw"]
    left = pl.read_parquet(folder / "rows.parquet")
    keys = ["user_id", "item_id", "behavior_index", "split"]
    assert {tuple(row): n for *row, n in left.select(*keys, "count").rows()} == Counter(
        row for number, row in enumerate(rows, 1) if number not in expected
    )
