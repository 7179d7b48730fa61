"""Repeated keys by their hashes, against counting them one by one."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from bigel.contracts import keys
from bigel.contracts.keys import of_hashes, repeated_hashes


@pytest.mark.parametrize("held", [1 << 27, 1_000, 7])
def test_as_many_rows_as_counted_one_by_one_however_few_are_held(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "HASHES", held)
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"a": rng.integers(0, 90, 5_000), "b": rng.integers(0, 90, 5_000)})
    times = Counter(rows.iter_rows())
    twice = {key for key, n in times.items() if n > 1}
    hashes, count = repeated_hashes(rows.lazy(), ["a", "b"], rows.height)
    assert count == sum(times[key] for key in twice)
    assert len(hashes) == len(set(hashes.tolist())) == len(twice)
    found = of_hashes(rows.lazy(), ["a", "b"], hashes[:10]).collect()
    assert set(found.iter_rows()) <= twice and found.n_unique() == 10


def test_nothing_repeats_in_nothing() -> None:
    hashes, count = repeated_hashes(pl.LazyFrame({"a": []}), ["a"], 0)
    assert (len(hashes), count) == (0, 0)
