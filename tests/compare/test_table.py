from dataclasses import replace

from bigel.compare.statistics import Row
from bigel.compare.table import markdown, ranking


def row(contestant, behavior, metric, mean, difference, seed_std=None, rival="o|ther"):
    low, high = (None, None) if difference is None else (difference - 0.1, difference + 0.1)
    return Row(
        contestant, contestant, False, "published", behavior, metric, 1200, mean=mean,
        seed_std=seed_std, low=mean - 0.1, high=mean + 0.1,
        rival=rival if difference is not None else None, difference=difference,
        difference_low=low, difference_high=high,
    )  # fmt: skip


ROWS = [
    row("ours", "buy", "ndcg@5", 0.5, 0.2, 0.0123),
    row("ours", "buy", "hr@5", 0.6, -0.05),
    row("theirs", "buy", "ndcg@5", 0.3, -0.2),
    row("theirs", "buy", "hr@5", 0.65, 0.05),
]


def test_best_is_bold_and_spread_and_interval_stand_beside():
    lines = markdown(ROWS, 5, "test", 3).splitlines()
    first, second = "**0.5000** ± 0.0123 [0.4000, 0.6000]", "0.6000 [0.5000, 0.7000]"
    assert f"| ours | {first} | {second} |" in lines
    assert "| theirs | 0.3000 [0.2000, 0.4000] | **0.6500** [0.5500, 0.7500] |" in lines
    assert "| contestant | buy NDCG@5 (1,200 users) | buy HR@5 |" in lines
    assert not any("Discovery" in line for line in lines)


def test_differences_say_their_interval_the_rival_and_a_verdict():
    lines = markdown(ROWS, 5, "test", 3).splitlines()
    first = "+0.2000 [+0.1000, +0.3000] to o\\|ther: first"
    assert f"| ours | {first} | -0.0500 [-0.1500, +0.0500] to o\\|ther: tied |" in lines
    second = "+0.0500 [-0.0500, +0.1500] to o\\|ther: tied"
    assert f"| theirs | -0.2000 [-0.3000, -0.1000] to o\\|ther: behind | {second} |" in lines


def test_without_rivals_there_is_no_table_of_differences():
    alone = [row("ours", "buy", metric, 0.5, None) for metric in ("ndcg@5", "hr@5")]
    assert "Difference to the rival" not in markdown(alone, 5, "test", 3)


def test_the_legend_says_what_decides_what_is_fair_and_what_was_chosen_on_these_users():
    valid, test = (markdown(ROWS, 5, on, 3) for on in ("valid", "test"))
    for text in (valid, test):
        assert "*tied*: it holds 0" in text
        assert "fair only where all contestants were searched alike (`bigel tune" in text
        assert "81 % with 3" in text
    for words in ("without that user's part", "were chosen on these same users"):
        assert words in valid and words not in test
    assert "have no epoch to choose" in test and "have no epoch to choose" not in valid
    assert "Fitted again" not in test


def test_what_was_fitted_again_has_a_table_of_its_own():
    again = [replace(row, view="published_refitted", rival="theirs") for row in ROWS]
    text = markdown([*ROWS, *again], 5, "test", 3)
    titles = [line for line in text.splitlines() if line.startswith("###")]
    assert len(titles) == 2 and "fitted again on train and valid: both" in titles[1]
    assert "as many steps, as validation chose" in text


def test_contestants_are_ranked_by_their_mean_over_behaviors():
    more = [row("ours", "click", "ndcg@5", 0.1, -0.3), row("theirs", "click", "ndcg@5", 0.4, 0.3)]
    assert ranking(ROWS, "ndcg@5") == ["ours", "theirs"]
    assert ranking([*ROWS, *more], "ndcg@5") == ["theirs", "ours"]
