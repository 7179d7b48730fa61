"""Rows of requests are answered one by one, as if each had come alone."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.lists import serving
from tests.signals import timed

UNKNOWN = -1
Row = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> serving.TopK:
    made = timed.make(timed.log(), tmp_path_factory.mktemp("made"))
    served = serving.TopK()
    served.recommender = serving.Recommender.load(made.bundle())
    return served


def ask(model: serving.TopK, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Return (user_id, behavior, rank, item_id, score, source)."""
    frame = pd.DataFrame(list(rows), columns=list(serving.FIELDS), dtype=object)
    return list(model.predict(None, frame).itertuples(index=False, name=None))


def row_of(user: int, item: int | None = None, **more: Any) -> Row:
    recent = [] if item is None else [{"item_id": item, "behavior": "view"}]
    return {"user_id": user, "behavior": "buy", "k": 4, "recent": recent} | more


def assert_alike(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> None:
    assert [(*row[:4], row[5]) for row in found] == [(*row[:4], row[5]) for row in wanted]
    assert [row[4] for row in found] == pytest.approx([row[4] for row in wanted], rel=1e-5)


@pytest.mark.parametrize("user", [UNKNOWN, 10**12])
def test_sessions_under_one_id_are_strangers(model: serving.TopK, user: int) -> None:
    rows = [row_of(user, 2), row_of(user, 7), row_of(user)]
    alone = [ask(model, [row]) for row in rows]
    assert_alike(ask(model, rows), [*alone[0], *alone[1], *alone[2]])
    assert len({tuple(row[3] for row in answer) for answer in alone}) == 3  # they do differ


def test_what_one_row_leaves_out_another_may_show(model: serving.TopK) -> None:
    best = ask(model, [row_of(UNKNOWN, k=1)])[0][3]
    rows = [row_of(UNKNOWN, k=1), row_of(UNKNOWN, k=1, exclude_items=[best])]
    assert [row[3] == best for row in ask(model, rows)] == [True, False]


@pytest.mark.parametrize("only", [[3, 5, 7], [7, 999], [999], []])
@pytest.mark.parametrize("user", [UNKNOWN, 1])
def test_only_the_items_that_were_named_are_listed(
    model: serving.TopK, user: int, only: list[int]
) -> None:
    every = [row[3] for row in ask(model, [row_of(user, k=30)])]
    rows = [row_of(user, k=30), row_of(user, k=2, only_items=only), row_of(user, k=30)]
    answer = ask(model, rows)
    ours = answer[len(every) : len(answer) - len(every)]
    assert [row[3] for row in ours] == [item for item in every if item in only][:2]
    assert [row[3] for row in answer[: len(every)]] == every


def test_the_same_row_twice_is_answered_twice_each_with_its_k(model: serving.TopK) -> None:
    answer = ask(model, [row_of(1, k=1), row_of(2, k=1), row_of(1, k=3)])
    assert [(row[0], row[2]) for row in answer] == [(1, 1), (2, 1), (1, 1), (1, 2), (1, 3)]


ROWS = st.lists(
    st.builds(
        row_of,
        st.sampled_from([UNKNOWN, 0, 1]),
        st.sampled_from([None, 2, 7, 999]),
        behavior=st.sampled_from(timed.NAMES),
        k=st.integers(1, 5),
        exclude_items=st.lists(st.integers(0, 8), max_size=3),
        only_items=st.none() | st.lists(st.integers(0, 12) | st.just(999), max_size=8),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS)
def test_rows_together_are_rows_alone(model: serving.TopK, rows: list[Row]) -> None:
    alone = [answer for row in rows for answer in ask(model, [row])]
    assert_alike(ask(model, rows), alone)
