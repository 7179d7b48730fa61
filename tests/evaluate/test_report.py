import copy
import re
from html.parser import HTMLParser

import matplotlib
import pytest

from bigel.config import EvaluateConfig
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.plots import (
    Panel,
    paired_bars,
    realized_lines,
    save,
    style,
    training_curves,
)
from bigel.evaluate.report import write_report
from bigel.verdict import Verdict, lines_of

SETTINGS = EvaluateConfig(cutoffs=(5, 10), select_cutoff=5)
NAMES = ("click", "buy")


def figures(value, users=2000):
    names = [*METRICS, "ndcg_se", "coverage"]
    return {"users": users} | {f"{name}@{k}": value for name in names for k in (5, 10)}


def tree(values):
    per_view = {
        view: {b: figures(v) for b, v in values.items()} for view in ("published", "discovery")
    }
    groups = {b: {g: figures(v) for g in ("few", "medium", "many")} for b, v in values.items()}
    return copy.deepcopy({"valid": per_view, "test": per_view, "activity": {"test": groups}})


def inputs(names=NAMES):
    metrics = tree({name: 0.1 + at / 100 for at, name in enumerate(names)})
    metrics["popularity"] = tree(dict.fromkeys(names, 0.05))
    tried = {"popularity": 0.03, "the rule": 0.04}
    chosen = {name: {"name": "the rule", "valid": tried} for name in names}
    metrics["rule"] = {"test": tree(dict.fromkeys(names, 0.07))["test"], "chosen": chosen}
    beside = {"users": 2000, "value": 0.1, "rule": 0.05, "low": 0.04, "high": 0.06,
              "discovery": 0.1, "discovery_rule": 0.05}  # fmt: skip
    found = {name: beside | {"value": 0.1 + at / 100} for at, name in enumerate(names)}
    metrics["slices"] = []
    metrics["headline"] = {"on": "test", "cutoff": 5, "behaviors": found}
    losses = dict.fromkeys(names, 1.0)
    history = {
        "steps": [
            {"step": s, "loss": 3.0, "losses": losses, "alignment": 0.5, "seconds": 0.1}
            for s in range(1, 41)
        ],
        "validations": [
            {"step": s, "mean": s / 100, "ndcg": dict.fromkeys(names, s / 90)}
            for s in (10, 20, 30, 40)
        ],
        "best_step": 30,
        "stopped": "patience",
    }
    sizes = {name: dict.fromkeys(names, 1234) for name in ("train", "valid", "test")}
    data = {"users": 50, "items": 60, "method": "time", "dropped_by_k_core": 0,
            "users_without_train": 0}  # fmt: skip
    facts = {
        "data": data | sizes,
        "model": {"parameters": 1000, "seconds_per_step": 0.1},
        "data_fingerprint": "aaaa",
        "model_fingerprint": "bbbb",
        "settings": {"model": {"dim": 64}},
        "nights": [],
        "synthetic": False,
        "examples": [],
        "verdict": Verdict(
            "shop", None, "", "", None, None, "NDCG@5", "popularity", None,
            lines_of(metrics["headline"]), "the gate judges it next",
        ),
    }  # fmt: skip
    return metrics, history, facts


class Page(HTMLParser):
    """Collect table rows (text of the cells, and class of the row), ids, and references."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.ids, self.loads, self.tags, self.cell = [], [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.loads += [attrs[name] for name in ("src", "href", "xlink:href") if name in attrs]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell.strip())
            self.cell = None


def write(tmp_path, metrics, history, facts):
    text = write_report(tmp_path, metrics, history, facts, SETTINGS).read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One whole report: (folder, text, page)."""
    folder = tmp_path_factory.mktemp("report")
    before = dict(matplotlib.rcParams)
    text, page = write(folder, *inputs())
    assert dict(matplotlib.rcParams) == before
    return folder, text, page


def test_tables_show_the_figures(drawn):
    _, text, page = drawn
    assert page.rows[:2] == [
        ["behavior", "NDCG@5, as served", "popularity"],
        ["click", "0.10002,000 users", "0.0500+0.0500 (+0.0400 to +0.0600)"],
    ]
    rows = page.rows[1 + len(NAMES) :]
    assert rows[0] == [
        "behavior", "ranked by", "users", "NDCG@5", "HR@5", "recall@5", "precision@5", "MRR@5",
        "coverage@5",
    ]  # fmt: skip
    assert rows[1] == ["click", "model", "2,000", *["0.1000"] * 5, "10.0%"]
    assert rows[2] == ["", "popularity", "2,000", *["0.0500"] * 5, "5.0%"]
    assert rows[3] == ["", "the rule", "2,000", *["0.0700"] * 5, "7.0%"]
    assert rows[4][:4] == ["buy", "model", "2,000", "0.1100"]
    assert {len(row) for row in rows} == {9, 4}
    assert ["click", "1,234", "1,234", "1,234"] in rows
    assert "Read with care" not in text


def test_it_is_told_how_the_simple_rule_was_chosen(tmp_path):
    metrics, history, facts = inputs()
    metrics["rule"]["chosen"]["buy"] = {"name": "recent popularity", "valid": {}}
    text, page = write(tmp_path, metrics, history, facts)
    assert ["click", "popularity", "0.0300", ""] in page.rows
    assert ["", "the rule", "0.0400", "chosen"] in page.rows
    assert ["buy", "recent popularity", "–", "nobody to choose by"] in page.rows
    ranked = [row[1] for row in page.rows if row[1:2] == ["recent popularity"]]
    assert len(ranked) == 1, "popularity has a row already"
    legend = text[text.index('id="figure"') : text.index("</figure>")]
    assert ">best simple rule<" in legend and ">popularity<" not in legend


def test_the_page_needs_nothing_else(drawn):
    _, text, page = drawn
    assert not page.tags & {"script", "link", "iframe", "img", "object"}
    assert all(place.startswith("#") for place in page.loads)
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    addresses = set(re.findall(r"https?://[^\"' <)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_drawings_share_no_id_and_find_their_own(drawn):
    _, text, page = drawn
    assert len(page.ids) == len(set(page.ids)) > 0
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | {place[1:] for place in page.loads}
    assert wanted and wanted <= set(page.ids)


def test_text_is_escaped_in_the_page(tmp_path, no_drawing):
    names = ("<b>x</b>", '$y_1$ & "z"', "_hidden", "$")
    metrics, history, facts = inputs(names)
    facts["settings"] = {"name": "</pre><script>alert(1)</script>"}
    text, page = write(tmp_path, metrics, history, facts)
    assert "<b>x</b>" not in text and "<script" not in text
    assert [row[0] for row in page.rows[1:5]] == list(names)


def test_text_is_escaped_in_drawings(tmp_path):
    names = ("<b>x</b>", "_hidden", "$", "$y_1$")
    _, history, _ = inputs(names)
    with style():
        svg = save(training_curves(history, names, 5), tmp_path / "curves.png")
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"&lt;b&gt;x&lt;/b&gt;", "_hidden", "$", "$y_1$"} <= set(drawn)
    assert "<b>" not in svg


def test_figures_without_users_are_dashes(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    for part in (metrics, metrics["popularity"]):
        for split in ("valid", "test"):
            for view in ("published", "discovery"):
                part[split][view]["buy"] = dict.fromkeys(figures(0), None) | {"users": 0}
        part["activity"]["test"]["buy"]["few"] = dict.fromkeys(figures(0), None) | {"users": 0}
    found = metrics["headline"]["behaviors"]
    found["buy"] = dict.fromkeys(found["buy"], None) | {"users": 0}
    text, page = write(tmp_path, metrics, history, facts)
    assert ["buy", "model", "0", *["–"] * 6] in page.rows
    assert "No user has a held-out item of buy" in text


def test_notes_say_what_to_be_careful_about(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    metrics["headline"]["behaviors"]["buy"]["users"] = 43
    history |= {"best_step": 40, "stopped": "max_steps"}
    text, _ = write(tmp_path, metrics, history, facts)
    assert "Few held-out users: buy (43)" in text and "raise train.max_steps" in text
    text, _ = write(tmp_path, metrics, history, facts | {"synthetic": True})
    assert "raise train.max_steps" not in text


def test_notes_tell_of_the_funnel_memory_where_it_is_on(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    on = {"on": True, "users": 9, "ndcg": 0.05, "ndcg_with": 0.0712, "gain_se": 0.001}
    history["memory"] = {"click": on, "buy": {"on": False, "users": 3}}
    text, _ = write(tmp_path, metrics, history, facts)
    told = re.sub(r"\s+", " ", text)
    assert "click: funnel memory (what a user did under other behaviors" in told
    assert "is on; on validation it raised NDCG@5 from 0.0500 to 0.0712" in told
    assert "buy: funnel memory" not in text and "the trend" not in text


def test_notes_tell_of_the_trend_where_it_is_on(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    on = {"on": True, "users": 9, "ndcg": 0.05, "ndcg_with": 0.0712, "gain_se": 0.001}
    history["trend"] = {"click": {"on": False, "users": 3}, "buy": on}
    text, _ = write(tmp_path, metrics, history, facts)
    assert "buy: the trend (an offset per item" in text and "from 0.0500 to 0.0712" in text
    assert "click: the trend" not in text


def test_examples_and_slices_are_shown_as_text(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    lists = {"buy": {"list": [("<i>hat</i>", True), ("tie", False)], "took": ["<i>hat</i>"]}}
    facts["examples"] = [
        {"kind": "found", "user": "<u>", "history": {"click": ["bag"], "buy": []}, "lists": lists}
    ]
    metrics["slices"] = [
        {
            "behavior": "buy",
            "by": "item age",
            "name": "older",
            "count": 9,
            "ours": 0.25,
            "rule": 0.1,
        }
    ]
    text, page = write(tmp_path, metrics, history, facts)
    assert ["buy", "nothing", "✓ <i>hat</i>, tie", "<i>hat</i>"] in page.rows
    assert ["buy", "older", "9", "0.2500", "0.1000"] in page.rows
    assert "<b>✓ &lt;i&gt;hat&lt;/i&gt;</b>" in text and "User &lt;u&gt;:" in text


def test_every_entry_of_the_contents_leads_to_a_section(drawn):
    _, text, page = drawn
    wanted = set(re.findall(r'<li><a href="#([^"]+)">', text))
    assert wanted == set(re.findall(r'<section id="([^"]+)">', text)) - {"figure"}
    assert wanted <= set(page.ids)


def test_the_same_input_gives_the_same_bytes(drawn, tmp_path):
    write(tmp_path, *inputs())
    for name in ("report.html", "plots/curves.png", "plots/behaviors.png"):
        assert (drawn[0] / name).read_bytes() == (tmp_path / name).read_bytes()


def night(day, lists, newcomers=3):
    """Return how the lists of a day did; buys had no users."""
    figures = {"ndcg@5": lists, "ndcg_se@5": 0.01, "hr@5": 0.5}
    view = {"users": 1234, "newcomers": newcomers, "pairs": 2345, "lists": figures,
            "rule": figures | {"ndcg@5": 0.25}, "difference": lists - 0.25,
            "difference_se": 0.02}  # fmt: skip
    nothing = dict.fromkeys(figures)
    buy = {"users": 0, "newcomers": 1, "pairs": 0, "lists": nothing, "rule": nothing,
           "difference": None, "difference_se": None}  # fmt: skip
    moment = 1_767_225_600 + day * 86_400
    return {"name": f"night {day}", "moment": moment, "until": moment + 86_400,
            "model": "models:/<shop>/7", "cutoff": 5, "half_lives": {},
            "behaviors": {"click": view, "buy": buy}}  # fmt: skip


def test_how_published_lists_did_is_a_table_of_the_last_night_and_a_plot_of_all(tmp_path):
    metrics, history, facts = inputs()
    facts["nights"] = [night(day, 0.1) for day in range(3)] + [night(3, 0.15, newcomers=1111)]
    text, page = write(tmp_path, metrics, history, facts)
    assert "How last nights' lists did" in text.replace("&#39;", "'")
    assert ["click", "1,234", "1,111", "2,345", "0.1500", "0.0100", "0.2500", "-0.1000",
            "0.0200"] in page.rows  # fmt: skip
    assert ["buy", "0", "1", "0", *["–"] * 5] in page.rows
    assert "2026-01-04 00:00 UTC" in text and "2026-01-05 00:00 UTC" in text
    assert "models:/&lt;shop&gt;/7" in text
    assert (tmp_path / "plots" / "realized.png").read_bytes().startswith(b"\x89PNG")
    assert len(page.ids) == len(set(page.ids))


def test_without_nights_nothing_is_said_of_them(drawn):
    folder, text, _ = drawn
    assert "last nights" not in text and not (folder / "plots" / "realized.png").exists()


def test_lines_over_nights_draw_the_figures():
    nights = [night(day, 0.1 + day / 100) for day in range(12)]
    nights[4]["behaviors"].pop("click")
    click, buy = realized_lines(nights).axes
    rule, lists = [container[0].get_ydata().tolist() for container in click.containers]
    assert rule[:4] == [0.25] * 4 and str(rule[4]) == "nan"
    assert lists[:4] == pytest.approx([0.1, 0.11, 0.12, 0.13]) and str(lists[4]) == "nan"
    assert click.get_title() == "click, NDCG@5" and click.get_ylim()[0] == 0
    assert click.get_xticklabels()[0].get_text() == "01-01\n00:00"
    assert all(str(value) == "nan" for value in buy.containers[0][0].get_ydata())


def test_seven_behaviors_fit(tmp_path, no_drawing):
    names = tuple(f"behavior {at}" for at in range(7))
    _, page = write(tmp_path, *inputs(names))
    assert [row[0] for row in page.rows[1:8]] == list(names)


@pytest.mark.parametrize(("panels", "shown"), [(1, 1), (3, 3), (4, 4), (7, 7)])
def test_panels_stand_three_in_a_row(panels, shown):
    figure = paired_bars([Panel(f"p{at}", ["a"], [0.2], [0.1]) for at in range(panels)], "y")
    visible = [
        axis.get_title(loc="left") or axis.get_title() for axis in figure.axes if axis.get_visible()
    ]
    assert visible == [f"p{at}" for at in range(shown)]


def test_a_run_without_a_validation_is_reported(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    history |= {"validations": [], "steps": [], "best_step": 0}
    write(tmp_path, metrics, history, facts)
    left, _ = training_curves(history, NAMES, 5).axes
    assert [len(line.get_xdata()) for line in left.get_lines()] == [0, 0]


def test_curves_draw_the_history():
    _, history, _ = inputs()
    history["validations"][1]["ndcg"]["buy"] = None
    left, right = training_curves(history, NAMES, 5).axes
    losses = {line.get_label(): line.get_ydata().tolist() for line in left.get_lines()}
    assert losses["alignment"] == [0.5] * 40
    assert len(losses) == 3
    lines = {line.get_label(): line for line in right.get_lines()}
    assert lines["mean"].get_ydata().tolist() == [0.1, 0.2, 0.3, 0.4]
    assert lines["buy"].get_xdata().tolist() == [10, 20, 30, 40]
    assert str(lines["buy"].get_ydata()[1]) == "nan"
    assert any(list(line.get_xdata()) == [30, 30] for line in right.get_lines())


def test_a_long_training_is_thinned():
    _, history, _ = inputs()
    history["steps"] = [history["steps"][0] | {"step": s} for s in range(5001)]
    left = training_curves(history, NAMES, 5).axes[0]
    assert 400 <= len(left.get_lines()[0].get_xdata()) <= 600


def test_bars_stand_as_high_as_the_figures():
    panel = Panel("t", ["few", "many"], [0.2, None], [0.1, 0.05], [0.01, None])
    axis = paired_bars([panel], "NDCG@5").axes[0]
    heights = [bar.get_height() for bar in axis.patches]
    assert heights[:3] == [0.1, 0.05, 0.2] and str(heights[3]) == "nan"
    assert axis.patches[2].get_x() > axis.patches[0].get_x()


def test_drawings_take_the_colors_of_the_page(tmp_path):
    with style():
        svg = save(paired_bars([Panel("t", ["a"], [0.2], [0.1])], "y"), tmp_path / "p.png")
    assert svg.startswith("<svg") and "currentColor" in svg
    assert "#23272f" not in svg and "#ffffff" not in svg
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_panel_is_left_out_and_bars_start_at_zero():
    full, empty = Panel("full", ["a"], [0.1], [0.1], [0.3]), Panel("none", ["a"], [None], [None])
    axes = paired_bars([empty, full], "y").axes
    assert [axis.get_title(loc="left") or axis.get_title() for axis in axes] == ["full"]
    assert axes[0].get_ylim()[0] == 0
    higher = Panel("higher", ["a"], [0.5], [0.1], [0.1])
    assert paired_bars([full, higher, full], "y").axes[0].get_ylim()[1] > 0.62
    assert len(paired_bars([empty, empty], "y").axes) == 2


def test_a_sample_of_users_is_told(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    assert "evenly spaced" not in write(tmp_path, metrics, history, facts)[0]
    metrics["test"]["published"]["buy"]["users"] = 20_000
    text, _ = write(tmp_path, metrics, history, facts)
    assert "Of buy 20,000 users are ranked, evenly spaced" in " ".join(text.split())


def test_a_training_on_drawn_users_is_told(tmp_path, no_drawing):
    metrics, history, facts = inputs()
    assert "messages of" not in write(tmp_path, metrics, history, facts)[0]
    facts["model"]["messages"] = "messages of 5 of 12 users a step"
    page = " ".join(write(tmp_path, metrics, history, facts)[0].split())
    assert "stopped by <code>train.patience</code>; messages of 5 of 12 users a step.</p>" in page


@pytest.mark.parametrize("limit", ["max_steps", "max_minutes"])
def test_the_limit_that_ended_training_too_early_is_named(limit, tmp_path, no_drawing):
    metrics, history, facts = inputs()
    last = history["validations"][-1]["step"]
    history |= {"stopped": limit, "best_step": last}
    assert f"raise train.{limit}" in write(tmp_path, metrics, history, facts)[0]
