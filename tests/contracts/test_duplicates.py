"""Repeated keys by their hashes, against counting them one by one."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from bigel.contracts import duplicates
from bigel.contracts.duplicates import MOST_TRACED, of_hashes, repeated, repeated_hashes


@pytest.mark.parametrize("held", [1 << 27, 1_000, 7])
def test_as_many_rows_as_counted_one_by_one_however_few_are_held(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "HASHES", held)
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"a": rng.integers(0, 90, 5_000), "b": rng.integers(0, 90, 5_000)})
    times = Counter(rows.iter_rows())
    twice = {key for key, n in times.items() if n > 1}
    masks = {"large": pl.col("a") > 40}
    hashes, count, counts = repeated_hashes(rows.lazy(), ["a", "b"], rows.height, masks)
    assert counts == {"large": int((rows["a"] > 40).sum())}
    assert count == sum(times[key] for key in twice)
    assert len(hashes) == len(set(hashes.tolist())) == len(twice)
    found = of_hashes(rows.lazy(), ["a", "b"], hashes[:10]).collect()
    assert set(found.iter_rows()) <= twice and found.n_unique() == 10


def test_nothing_repeats_in_nothing() -> None:
    hashes, count, _ = repeated_hashes(pl.LazyFrame({"a": []}), ["a"], 0, {})
    assert (len(hashes), count) == (0, 0)


def test_repeated_keys_are_counted_and_sorted_and_null_keys_left_out() -> None:
    rows = pl.DataFrame(
        {"a": [3, 1, 3, None, None, 1, 2], "b": ["x", "y", "x", None, None, "z", "y"]}
    )
    count, found, _ = repeated(rows.lazy(), ["a", "b"], 7)
    assert (count, found.rows()) == (2, [(3, "x"), (3, "x")])
    assert repeated(rows.lazy(), ["a"], 7)[0] == 4
    many = pl.DataFrame({"a": [*range(5_000), *range(2_000), *range(100)]})
    count, found, _ = repeated(many.lazy(), ["a"], many.height)
    assert count == 2 * 1_900 + 3 * 100 and count > MOST_TRACED
    assert found["a"].is_sorted() and found.height >= 2


def test_of_one_key_in_many_rows_few_are_collected() -> None:
    rows = pl.DataFrame({"a": [7] * 100_000 + [3, 3] + [*range(100, 200)]})
    count, found, _ = repeated(rows.lazy().with_row_index(), ["a"], rows.height)
    assert count == 100_002
    assert found["a"].to_list() == [3, 3, 7, 7, 7]
    assert found["index"].to_list()[:3] == [100_000, 100_001, 0]
