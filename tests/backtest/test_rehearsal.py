import polars as pl
import pytest

from bigel.backtest.cut import SHOWN, after
from bigel.backtest.rehearsal import (
    NIGHTS,
    REHEARSAL_FILE,
    choose_half_lives,
    rehearse,
    rehearsed_before,
)
from bigel.evaluate.protocol import rank_task, summarize
from bigel.schema import DAY
from bigel.signals.history import History
from bigel.signals.rules import CANDIDATES, KNN, POPULAR, Evening
from tests.signals.timed import NAMES, START, log, split_of


def tried(*rows):
    names = ("behavior", "rule", "place", "users", "ndcg")
    return pl.DataFrame(rows, names, orient="row", schema_overrides={"ndcg": pl.Float64})


def test_half_lives_are_those_with_the_highest_mean_over_user_nights():
    """4 + 1 beats 1 + 3, though the second has the higher mean of means: 4/8 + 1/2 < 1/8 + 3/2."""
    one = tried(("buy", POPULAR, 0, 8, 4.0), ("buy", POPULAR, 1, 8, 1.0), ("buy", KNN, 2, 8, 1.0))
    two = tried(("buy", POPULAR, 0, 2, 1.0), ("buy", POPULAR, 1, 2, 3.0), ("view", KNN, 0, 2, 0.0))
    assert choose_half_lives([one, two]) == {
        ("buy", POPULAR): CANDIDATES[POPULAR][0],
        ("buy", KNN): CANDIDATES[KNN][2],
        ("view", KNN): CANDIDATES[KNN][0],
    }


def test_of_equals_the_one_that_forgets_least_is_chosen():
    rows = [("buy", POPULAR, place, 3, 0.1 * 3) for place in range(len(CANDIDATES[POPULAR]))]
    assert choose_half_lives([tried(*rows[::-1])])["buy", POPULAR] == (float("inf"),)


def test_a_night_looks_at_rehearsals_that_ended_when_it_began():
    found = rehearsed_before(100 * DAY, 0)
    assert len(found) == NIGHTS and found[-1] + DAY == 100 * DAY
    assert found == sorted(found)


@pytest.mark.parametrize("day", [9, 14])
def test_a_rehearsal_has_every_candidate_with_its_ndcg(tmp_path, day):
    _, workspace, split = split_of(log(), tmp_path)
    record = rehearse(split, START + day * DAY, workspace)
    found = pl.read_parquet(record.file(REHEARSAL_FILE))
    assert len(found) == len(NAMES) * sum(map(len, CANDIDATES.values()))
    history = History.load(split)
    asked = after(history, START + day * DAY)
    evening = Evening.of(history.at(START + day * DAY))
    for behavior, name in enumerate(NAMES):
        task = asked[behavior].known
        for rule, place in ((POPULAR, 1), (KNN, 3)):
            scores = evening.scores(rule, behavior, CANDIDATES[rule][place])
            expected = summarize(rank_task(scores, behavior, task, SHOWN, 3), [SHOWN])
            row = found.row(
                by_predicate=(pl.col("behavior") == name)
                & (pl.col("rule") == rule)
                & (pl.col("place") == place),
                named=True,
            )
            assert row["users"] == expected["users"] > 0
            assert row["ndcg"] == pytest.approx(expected["users"] * expected[f"ndcg@{SHOWN}"])
