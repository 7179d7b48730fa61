import dataclasses

import polars as pl

from bigel.backtest.shown import by_night, draw, markdown
from tests.backtest.test_verdict import METRIC, ROW, figures

HR = dataclasses.replace(ROW, metric="hr@10", mean=0.6)
RULE = dataclasses.replace(ROW, contestant="item-kNN", mean=0.3, rival=None, difference=None)
RULE_HR = dataclasses.replace(RULE, metric="hr@10", mean=0.7, seed_std=0.01)
NEW = [dataclasses.replace(row, group="new", rival=None) for row in (ROW, HR)]
WEEK = [dataclasses.replace(row, horizon="week", mean=0.2) for row in (ROW, HR)]
ROWS = [ROW, HR, RULE, RULE_HR, *NEW, *WEEK]


def test_the_table_has_figures_intervals_and_differences_best_first_and_in_bold():
    lines = markdown(ROWS, ["buy: it is so"], 14).splitlines()
    assert "### The next day" in lines and "### The next week" in lines
    assert (
        "| contestant | buy NDCG@10 (1,200 user-nights) | buy HR@10 | buy: to the best rule |"
        in lines
    )
    ours = "| bigel | **0.4000** [0.3500, 0.4500] | 0.6000 [0.3500, 0.4500] | "
    ours += "+0.1000 [+0.0500, +0.1500] to item-kNN: first |"
    theirs = "| item-kNN | 0.3000 [0.3500, 0.4500] | **0.7000** ± 0.0100 [0.3500, 0.4500] | – |"
    assert lines.index(theirs) == lines.index(ours) + 1
    assert lines[-1] == "- buy: it is so"
    assert any(line.startswith("Users without an earlier event") for line in lines)


def test_means_by_night_are_of_known_users_the_day_after():
    one = pl.concat([figures([(1, 0, 0.2), (1, 1, 0.4), (2, 0, 1.0)]),
                     figures([(1, 5, 1.0)], group="new"),
                     figures([(1, 0, 1.0)], horizon="week")])  # fmt: skip
    two = figures([(1, 0, 0.6), (1, 1, 0.8), (2, 0, 0.0)])
    found = by_night({"bigel": [one, two]})
    assert found.select("night", "users").rows() == [(1, 2), (2, 1)]
    assert [round(value, 6) for value in found[METRIC]] == [0.5, 0.5]


def test_the_plot_has_the_models_and_the_best_rules(tmp_path):
    labels = {"bigel": 0.5, "best": 0.4, "good": 0.3, "poor": 0.1}
    figs = {label: [figures([(86_400, 0, v), (172_800, 1, v)])] for label, v in labels.items()}
    rows = [dataclasses.replace(ROW, contestant=label, mean=v) for label, v in labels.items()]
    svg = draw(by_night(figs), rows, ["best", "good", "poor"], tmp_path / "b.png")
    for words in ("bigel", "best", "good", "buy, NDCG@10", "01-02", "01-03"):
        assert words in svg
    assert "poor" not in svg and (tmp_path / "b.png").stat().st_size > 0
