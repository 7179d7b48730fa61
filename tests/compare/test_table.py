import polars as pl

from bigel.compare.statistics import Row
from bigel.compare.table import markdown, memory_table, ranking


def row(contestant, behavior, metric, mean, difference, p_value, seed_std=None):
    return Row(contestant, "published", behavior, metric, 1200, mean, seed_std, mean - 0.1,
               mean + 0.1, "other", difference, p_value)  # fmt: skip


ROWS = [
    row("ours", "buy", "ndcg@5", 0.5, 0.1, 0.001, 0.0123),
    row("ours", "buy", "hr@5", 0.6, -0.1, 0.2),
    row("theirs", "buy", "ndcg@5", 0.4, -0.1, 0.001),
    row("theirs", "buy", "hr@5", 0.7, 0.1, 0.2),
]


def test_best_is_bold_a_tie_is_marked_and_spread_and_interval_stand_beside():
    lines = markdown(ROWS, 5, "test", 3).splitlines()
    assert "| ours | **0.5000** ± 0.0123 [0.4000, 0.6000] | 0.6000° |" in lines
    assert "| theirs | 0.4000 [0.3000, 0.5000] | **0.7000** |" in lines
    assert "| contestant | buy NDCG@5 (1,200 users) | buy HR@5 |" in lines
    assert not any("Discovery" in line for line in lines)


def test_contestants_are_ranked_by_their_mean_over_behaviors():
    more = [row("ours", "click", "ndcg@5", 0.1, -0.3, 0.5)]
    more += [row("theirs", "click", "ndcg@5", 0.4, 0.3, 0.5)]
    assert ranking(ROWS, "ndcg@5") == ["ours", "theirs"]
    assert ranking([*ROWS, *more], "ndcg@5") == ["theirs", "ours"]


def memory_figures(without, with_memory):
    cells = [(False, "published", without), (True, "published", with_memory)]
    cells.append((True, "discovery", 9))
    return pl.DataFrame(
        [(memory, view, "buy", user, float(value)) for memory, view, value in cells
         for user in (0, 1)],
        schema=["memory", "view", "behavior", "user", "ndcg@5"], orient="row",
    )  # fmt: skip


def test_the_memory_table_averages_over_users_and_seeds_and_leaves_discovery_out():
    figures = {"a|b": [memory_figures(0.1, 0.3), memory_figures(0.3, 0.5)]}
    text = memory_table(figures, 5)
    assert "| a\\|b | 0.2000 → 0.4000 |" in text and "| contestant | buy |" in text
    without = {"a": [memory_figures(0.1, 0.3).filter(~pl.col("memory"))]}
    assert memory_table(without, 5) == ""
