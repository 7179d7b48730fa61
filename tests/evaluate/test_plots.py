"""Figures by what is in them: bars, lines, words. What a report makes of them is in test_report."""

import math
import re

import matplotlib
import pytest

from bigel.evaluate.plots import (
    COLORS,
    INK,
    MODEL,
    POPULAR,
    Panel,
    paired_bars,
    save,
    style,
    training_curves,
)

NAMES = ("click", "buy")


def history_of(best=30, alignment=0.5, losses=("click", "buy")):
    return {
        "steps": [
            {"step": s, "losses": dict.fromkeys(losses, 1 / s), "alignment": alignment}
            for s in (1, 2, 4)
        ],
        "validations": [
            {"step": s, "mean": s / 100, "ndcg": {"click": s / 50, "buy": 0.0}}
            for s in (10, 30, 40)
        ],
        "best_step": best,
    }


def legend_of(figure):
    (legend,) = figure.legends
    colors = [line.get_color() for line in legend.get_lines()]
    return [text.get_text() for text in legend.get_texts()], colors


def bar_texts(axis):
    return [text.get_text() for text in axis.texts]


def test_style_ends_with_its_block_even_when_the_block_fails():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), style():
        assert matplotlib.rcParams["text.color"] == INK
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def test_each_curve_has_its_color_and_its_name_in_the_legend():
    figure = training_curves(history_of(), NAMES, 5)
    assert legend_of(figure) == (
        ["click", "buy", "mean", "alignment"],
        [COLORS[0], COLORS[1], INK, POPULAR],
    )
    losses, ndcg = figure.axes
    assert [line.get_color() for line in losses.get_lines()] == [COLORS[0], COLORS[1], POPULAR]
    assert losses.get_lines()[0].get_xydata().tolist() == [[1, 1], [2, 0.5], [4, 0.25]]
    assert ndcg.get_lines()[0].get_ydata().tolist() == [0.2, 0.6, 0.8]
    assert ndcg.get_title() == "Validation NDCG@5 by step"


@pytest.mark.parametrize("alignment", [None, "left out"])
def test_a_training_without_alignment_has_no_curve_of_it(alignment):
    history = history_of(alignment=None)
    if alignment == "left out":
        for step in history["steps"]:
            del step["alignment"]
    figure = training_curves(history, NAMES, 5)
    assert legend_of(figure)[0] == ["click", "buy", "mean"]
    assert len(figure.axes[0].get_lines()) == 2


def test_a_behavior_without_a_loss_leaves_a_gap():
    left = training_curves(history_of(losses=("click",)), NAMES, 5).axes[0]
    click, buy, _ = left.get_lines()
    assert click.get_ydata().tolist() == [1, 0.5, 0.25]
    assert all(math.isnan(value) for value in buy.get_ydata())


def test_more_behaviors_than_colors_start_again():
    names = tuple(f"b{number}" for number in range(len(COLORS) + 1))
    left = training_curves(history_of(losses=names), names, 5).axes[0]
    assert left.get_lines()[len(COLORS)].get_color() == left.get_lines()[0].get_color() == COLORS[0]


@pytest.mark.parametrize(("best", "side", "shift"), [(10, "left", 4), (40, "right", -4)])
def test_the_best_step_is_written_where_there_is_room(best, side, shift):
    right = training_curves(history_of(best=best), NAMES, 5).axes[1]
    (word,) = right.texts
    assert (word.get_text(), word.get_ha()) == (f"best: step {best}", side)
    assert word.xy[0] == best
    assert word.get_position()[0] == shift


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        (False, ["0.125", "", "0.500", "0.001"]),
        (True, ["12.5%", "", "50.0%", "0.1%"]),
    ],
)
def test_bars_are_labelled_with_their_height_and_missing_ones_with_nothing(percent, expected):
    panel = Panel("t", ["a", "b"], model=[0.5, 0.001], beside=[0.125, None])
    axis = paired_bars([panel], "y", percent).axes[0]
    assert bar_texts(axis) == expected
    tick = axis.yaxis.get_major_formatter()(0.5, 0)
    assert ("%" in tick) == percent


def test_the_two_series_are_told_apart():
    figure = paired_bars([Panel("t", ["a", "b"], [0.2, 0.3], [0.1, 0.1])], "NDCG@5")
    axis = figure.axes[0]
    colors = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axis.patches]
    assert colors == [POPULAR, POPULAR, MODEL, MODEL]
    assert legend_of(figure)[0] == ["popularity", "model"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "b"]
    assert axis.get_ylabel() == "NDCG@5"


def test_error_bars_reach_as_far_as_the_errors_and_belong_to_the_model():
    panel = Panel("t", ["a", "b"], [0.5, 0.25], [0.1, 0.1], errors=[0.125, None])
    axis = paired_bars([panel], "y").axes[0]
    drawn = [group for group in axis.containers if getattr(group, "errorbar", None)]
    assert [group.get_label() for group in drawn] == ["model"]
    (segments,) = drawn[0].errorbar.lines[2]
    ends = [segment[:, 1].tolist() for segment in segments.get_segments() if segment.size]
    assert ends == [[0.375, 0.625]]


def test_only_the_first_axis_of_a_row_is_named_and_spare_ones_are_hidden():
    figure = paired_bars([Panel(f"p{n}", ["a"], [0.2], [0.1]) for n in range(4)], "share")
    assert [axis.get_ylabel() for axis in figure.axes] == ["share", "", "", "share", "", ""]
    assert [axis.get_visible() for axis in figure.axes] == [True] * 4 + [False] * 2


def test_ids_are_prefixed_with_the_name_of_the_file_wherever_they_are_used(tmp_path):
    with style():
        first, second = (
            save(paired_bars([Panel("t", ["a"], [0.2], [0.1])], "y"), tmp_path / f"{name}.png")
            for name in ("one", "two")
        )
    for svg, name in ((first, "one"), (second, "two")):
        ids = set(re.findall(r'\bid="([^"]*)"', svg))
        used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg))
        assert used and used <= ids
        assert all(one.startswith(f"{name}-") for one in ids)
    assert first.replace("one-", "two-") == second


def test_a_drawing_has_no_date_and_keeps_its_words_as_text(tmp_path):
    with style():
        svg = save(training_curves(history_of(), NAMES, 5), tmp_path / "curves.png")
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    assert "<dc:date>" not in svg and "Matplotlib v" not in svg
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"Loss by step", "click", "mean", "best: step 30"} <= set(words)
    assert INK not in svg and "currentColor" in svg
