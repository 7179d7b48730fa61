"""What people read on the terminal. Names and ids of the log are text, never markup."""

import logging
import os
import sys
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bigel.backtest import Row as NightsRow
from bigel.compare import Row
from bigel.config import load_config, parse_config
from bigel.config.write import documented_toml
from bigel.store import Workspace
from bigel.verdict import Beside, Line, Verdict
from flows import console
from flows.console import list_lines, serving_lines

ODD = "[red]a[/] :100:"  # would be a color, the end of one, and a picture


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of a known width, and nothing configured."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


def summary_with(**parts: Any) -> dict[str, Any]:
    stage = {"seconds": 1.0, "fingerprint": "f"}
    empty = {
        "status": "ok",
        "seconds": 12.34,
        "behaviors": ["click", "buy"],
        "stages": {
            "ingest": stage | {"status": "reused"},
            "split": stage | {"status": "reused"},
            "train": stage | {"status": "ran"},
        },
        "contracts": [],
        "paths": {},
    }
    return empty | parts


def printed(
    capsys: pytest.CaptureFixture[str], workspace: Workspace | None = None, **parts: Any
) -> str:
    console.print_summary(summary_with(**parts), workspace or Workspace("/w"))
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        (
            {"ingest": "reused", "split": "ran", "train": "ran"},
            "stages    ran split, train; reused ingest (inputs unchanged); 12.3 s",
        ),
        ({"ingest": "ran"}, "stages    ran ingest; 12.3 s"),
        ({"ingest": "reused"}, "stages    reused ingest (inputs unchanged); 12.3 s"),
    ],
)
def test_a_run_that_did_little_prints_one_line(
    capsys: pytest.CaptureFixture[str], stages: dict[str, str], line: str
) -> None:
    shown = {name: {"status": status} for name, status in stages.items()}
    assert printed(capsys, stages=shown).split("\n") == ["", line, ""]


def test_rows_are_printed_as_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"in": 1_234_567, "kept": 1_000_000, "merged": 234_000, "quarantined": 567}
    line = "rows      1,234,567 in = 1,000,000 kept + 234,000 merged + 567 quarantined"
    assert line in printed(capsys, rows=rows).splitlines()


def test_lines_of_text_are_printed_as_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    rows = dict.fromkeys(("in", "kept", "merged", "quarantined"), 0)
    lines = {"raw": 1_010, "rows": 1_000, "header": 2, "inside": 5, "blank": 3}
    line = "lines     1,010 of text = 1,000 rows + 2 header + 5 inside quoted rows + 3 blank"
    assert line in printed(capsys, rows=rows, lines=lines).splitlines()
    none = dict.fromkeys(lines, 0)
    assert "lines " not in printed(capsys, rows=rows, lines=none)


def test_how_the_last_lists_did_is_a_line_per_behavior(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def found(users: int, lists: float | None, rule: float | None) -> dict[str, Any]:
        figures = {"lists": {"ndcg@5": lists}, "rule": {"ndcg@5": rule}}
        return figures | {"users": users, "newcomers": 7}

    behaviors = {
        "view": found(1234, 0.1, 0.25),
        ODD: found(1, 0.0, 0.5),
        "buy": found(0, None, None),
    }
    night = {"moment": 1_700_000_000, "cutoff": 5, "behaviors": behaviors}
    lines = [one for one in printed(capsys, realized=night).splitlines() if "realized" in one]
    assert lines == [
        "realized  view: NDCG@5 0.1000 of the lists of 2023-11-14 22:13 UTC, recent popularity "
        "0.2500 (1,234 users, 7 newcomers)",
        f"realized  {ODD}: NDCG@5 0.0000 of the lists of 2023-11-14 22:13 UTC, recent popularity "
        "0.5000 (1 users, 7 newcomers)",
    ]
    assert "realized" not in printed(capsys, realized={})


def test_refused_rows_are_printed_by_reason_the_most_frequent_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {"a": 1, "b": 1_200, **dict.fromkeys("cdefg", 7)}
    line = "refused   1,200 b, 7 c, 7 d, 7 e, 7 f and 2 more"
    assert line in printed(capsys, refused=refused).splitlines()
    assert "refused" not in printed(capsys, refused={})


def test_each_warning_of_a_contract_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [
        {"rule": "expect_a", "column": ODD, "count": 3},
        {"rule": "expect_b", "column": "", "count": 0},
    ]
    contracts = [{"handover": "split", "failed": failed}, {"handover": "raw_log", "failed": []}]
    lines = [line for line in printed(capsys, contracts=contracts).splitlines() if "warn" in line]
    assert lines == [
        f"warning   split: expect_a on {ODD}, 3 rows",
        "warning   split: expect_b, 0 rows",
    ]


def verdict(**other: Any) -> dict[str, Any]:
    rule = Beside(0.125, 0.125, 0.1, 0.15, 7)
    lines = (Line("click", 7, 0.25, rule), Line(ODD, 0, None))
    made, days = "2026-11-30T02:00:00+00:00", ("2026-11-01", "2026-11-29")
    found = Verdict(
        "shop [b]", 3, "challenger", made, days, days, "NDCG@5", "popularity", None, lines,
        "[x] is worse :100:", ("look at it",),
    )  # fmt: skip
    return replace(found, **other).to_dict()


def test_the_verdict_shows_figures_dashes_and_names_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, verdict=verdict()).splitlines()
    words = [line.split() for line in lines]
    assert "shop [b] version 3 is challenger" in lines
    assert ["click", "0.2500", "0.1250"] in words
    assert ["7", "users", "+0.1250", "(+0.1000", "to", "+0.1500)"] in words
    assert [*ODD.split(), "–", "–"] in words
    assert "why       [x] is worse :100:" in lines and "next      look at it" in lines


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"version": 2, "alias": "champion"}, "of version 2, the champion"),
        ({"version": 2, "alias": ""}, "of version 2"),
        ({"version": None}, "of the model just trained"),
    ],
)
def test_it_is_said_whose_the_lists_are(model: dict[str, Any], said: str) -> None:
    assert list_lines({"lists_from": model}) == [said]
    (rule,) = list_lines({"lists_from": model, "lists_of_the_rule": True})
    assert rule.startswith("are popularity's")
    assert list_lines({}) == []


def test_the_command_that_serves_names_the_champion_only_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    model = {"name": "shop", "version": 2, "uri": "models:/shop/2", "alias": "champion"}
    (line,) = serving_lines({"lists_from": model}, Workspace("/w"))
    assert "models:/shop@champion" in line and "MLFLOW_TRACKING_URI=sqlite:////w/mlruns" in line
    assert line.startswith(f'PATH={Path(sys.executable).parent}:"$PATH" ')
    (line,) = serving_lines({"lists_from": model | {"alias": "challenger"}}, Workspace("/w"))
    assert "models:/shop/2 " in line
    assert serving_lines({"lists_from": {"version": None}}, Workspace("/w")) == []


def lists_of(folder: Path, rows: list[tuple[Any, ...]]) -> dict[str, str]:
    path = folder / "lists.parquet"
    names = ["user_id", "behavior", "rank", "item_id", "source"]
    pl.DataFrame(rows, names, orient="row").write_parquet(path)
    return {"recommendations": str(path)}


def test_the_first_user_that_the_model_knows_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[tuple[Any, ...]] = [("new", "click", 1, "i0", "popular")]
    rows += [("u:100:", "view", rank, f"i{rank}", "model") for rank in (6, 5, 4, 3, 2, 1)]
    rows += [("u:100:", "buy", 1, ODD, "model"), ("other", "buy", 1, "i9", "model")]
    lines = printed(capsys, paths=lists_of(tmp_path, rows)).splitlines()
    assert [line for line in lines if line.startswith("user")] == [
        "user u:100:, top 5 to view: i1, i2, i3, i4, i5",
        f"user u:100:, top 1 to buy: {ODD}",
    ]


def test_lists_of_popular_items_only_show_no_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = lists_of(tmp_path, [("new", "click", 1, "i0", "popular")])
    assert "user" not in printed(capsys, paths=paths).replace(str(tmp_path), "")


MODEL = {"name": "shop [b]", "version": 3, "alias": "challenger", "why": "[x] is worse :100:"}


def test_the_model_and_the_way_to_see_it_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace("/w/a[new]")
    text = printed(capsys, workspace, model=MODEL | {"experiment_id": "7"})
    assert "mlflow ui --backend-store-uri sqlite:////w/a[new]/mlruns/mlflow.db\n" in text
    at, training = "then open http://127.0.0.1:5000/#", "workflowType=machine_learning"
    assert f"{at}/experiments/7/runs?{training}\n" in text
    assert f"{at}/models?{training}\n" in printed(capsys, workspace, model=MODEL)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert "mlflow ui" not in printed(capsys, workspace, model=MODEL)


def test_the_way_to_see_the_flow_is_named_where_the_server_was_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace("/w/a[new]")
    line = "PREFECT_HOME=/w/a[new]/artifacts/prefect "
    assert line in printed(capsys, workspace, flow_run_id="1")
    assert "PREFECT_HOME" not in printed(capsys, workspace)
    monkeypatch.setenv("PREFECT_API_URL", "http://server")
    assert "PREFECT_HOME" not in printed(capsys, workspace, flow_run_id="1")


def test_places_stand_on_one_line_each_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "/w/" + "x" * 60 + "/[a]/report.html"
    paths = {"latest": "/w/latest", "report": long, "interactions": "/not/shown"}
    lines = printed(capsys, paths=paths).splitlines()
    assert lines[-2:] == [f"report          {long}", "latest          /w/latest"]


def test_an_error_is_one_line_of_text_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    console.print_error(ValueError(f"no column '{ODD}' in the log, and a long word follows"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: no column '{ODD}' in the log, and a long word follows\n"


def test_written_files_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_copied([Path("/w/a[b].parquet"), Path("/w/c.json")])
    assert capsys.readouterr().out == "wrote /w/a[b].parquet\nwrote /w/c.json\n"


@pytest.mark.parametrize(("given_level", "kept"), [(None, "CRITICAL"), ("DEBUG", "DEBUG")])
def test_log_lines_of_ours_go_to_standard_error(
    ours: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given_level: str | None,
    kept: str,
) -> None:
    name = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
    monkeypatch.setenv(name, given_level or "")
    if given_level is None:
        monkeypatch.delenv(name)
    console.set_up_logging()
    logging.getLogger("bigel.train").info("train: started")
    logging.getLogger("bigel.train").debug("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    time, _, message = captured.err.partition("  ")
    assert len(time) == len("12:34:56") and message == "train: started\n"
    assert os.environ[name] == kept


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@example(path="\x7f", null="\\", raw='"', behavior="\n\t\0")
@given(path=TEXT, null=TEXT, raw=TEXT, behavior=TEXT)
def test_any_text_in_a_printed_configuration_reads_back(
    path: str, null: str, raw: str, behavior: str
) -> None:
    data = {
        "path": path,
        "null_values": [null, "x"],
        "behaviors": [behavior],
        "rename": {raw: behavior},
    }
    config = parse_config({"data": data})
    assert parse_config(tomllib.loads(documented_toml(config))) == config


def test_a_printed_configuration_says_what_each_field_means_and_what_is_unset() -> None:
    lines = documented_toml(parse_config({"data": {"ignore": ["a", "b"]}})).splitlines()
    assert lines[0] == "[data]"
    assert 'ignore = ["a", "b"]' in lines
    assert "rename = {}" in lines
    assert "header = true" in lines
    at = lines.index("[data.columns]")
    assert lines[at - 1] == ""
    assert lines[at : at + 3] == ["[data.columns]", "# Column of the user id.", 'user = "user_id"']
    assert "# timestamp is unset" in lines[at : lines.index("", at)]
    assert "# separator is unset" in lines[:at]


KEPT = {"name": ODD, "version": None, "alias": "", "why": f"no answer {ODD}", "waiting": "entry"}


@pytest.mark.parametrize(("number", "rule"), [(None, "the model just trained"), (7, "version 7")])
def test_a_run_that_was_not_registered_says_so_and_what_to_do(
    capsys: pytest.CaptureFixture[str], number: int | None, rule: str
) -> None:
    lists = {"version": number, "name": "shop", "uri": "models:/shop/7"}
    kept = verdict(version=None, alias="", why=f"no gate has judged it: no answer {ODD}")
    text = printed(capsys, model=KEPT, verdict=kept, lists_from=lists, waiting=["entry"])
    assert "shop [b]: not judged yet" in text
    assert f"why       no gate has judged it: no answer {ODD}" in text
    assert f"lists     of {rule}" in text
    assert "waiting   1 run waits in /w/artifacts/outbox for the tracking store" in text
    assert "bigel sync --workspace /w" in text


def test_a_later_run_mentions_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    model = {"name": "bigel", "version": 4, "alias": "champion", "why": "better"}
    text = printed(capsys, model=model, waiting=["a", "b"])
    assert "version 4 is champion" in text and "2 runs wait" in text
    assert "waiting" not in printed(capsys, model=model, waiting=[])


def test_sync_tells_what_it_delivered_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    model = {"name": ODD, "version": 4, "alias": "champion", "why": "better", "entry": "a"}
    waiting = [{"entry": "b", "why": f"no answer {ODD}"}]
    console.print_sync({"delivered": [model], "waiting": waiting})
    text = capsys.readouterr().out
    assert f"delivered a: {ODD} version 4 is champion: better" in text
    assert f"waits     b: no answer {ODD}" in text
    console.print_sync({"delivered": [model | {"alias": ""}], "waiting": []})
    assert "version 4 is without an alias: better" in capsys.readouterr().out
    console.print_sync({"delivered": [], "waiting": []})
    assert "nothing waits" in capsys.readouterr().out


def trial(number: int, value: float | None, state: str = "complete") -> dict[str, Any]:
    return {"number": number, "value": value, "state": state}


def test_a_search_prints_its_trials_and_settings_that_can_be_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {
        "model.layers.0": 4, "model.layers.1": 3, "model.layers.2": 3, "model.item_bias": True,
        "model.temperature.0": 0.123456, "model.temperature.1": 0.2, "model.temperature.2": 1.0,
        "train.learning_rate": 1.23456e-5, "train.objective": "bpr",
    }  # fmt: skip
    console.print_search(
        {
            "model": "bigel", "cutoff": 10, "preset": "/w/best.toml", "study": "/w/study.log",
            "trials": [trial(1, 0.1), trial(2, 0.2), trial(3, None, "fail")],
            "best": {"number": 2, "value": 0.2, "settings": settings},
        }
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "bigel: validation mean of NDCG@10" in text
    rows = [line.split("│")[1:3] for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["2", "0.2000"], ["1", "0.1000"], ["3", "fail"]
    ]  # fmt: skip
    best = [line.removeprefix("best ").strip() for line in text.splitlines() if "best  " in line]
    assert "model.layers = [4, 3, 3]" in best
    config = load_config("jd", best)
    assert config.model.layers == (4, 3, 3) and config.model.temperature == (0.1235, 0.2, 1)
    assert config.train.learning_rate == 1.235e-5 and config.train.objective == "bpr"


@pytest.mark.parametrize(
    ("model", "root", "command"),
    [
        ("bigel", "", "bigel run 'a b.toml'"),
        ("ease", "", "bigel compare 'a b.toml' --models bigel,ease"),
        ("bigel", "/w", "bigel run 'a b.toml' --workspace /w"),
    ],
)
def test_the_next_command_can_be_copied(
    capsys: pytest.CaptureFixture[str], model: str, root: str, command: str
) -> None:
    console.print_next(model, Path("a b.toml"), Workspace(root))
    assert capsys.readouterr().out.split(maxsplit=1) == ["next", f"{command}\n"]


@pytest.mark.parametrize("behaviors", [("pv", ODD, "buy"), ("pv", "fav", "cart", "buy")])
def test_a_comparison_shows_interval_and_verdict_on_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    behaviors: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    ends = {"popularity": (-0.3, -0.1), "lightgcn_per_behavior, calibrated": (-0.1, 0.1)}
    rows = [
        Row(label, label, False, "published", behavior, metric, 9, mean=0.25 + sum(pair),
            seed_std=None, low=0.0512, high=0.3, rival="x", difference=sum(pair) / 2,
            difference_low=pair[0], difference_high=pair[1])
        for label, pair in (*ends.items(), ("bigel", (0.1, 0.3)))
        for behavior in behaviors
        for metric in ("ndcg@5", "hr@5")
    ]  # fmt: skip
    file = tmp_path / "comparison.parquet"
    pl.DataFrame([asdict(row) for row in rows]).write_parquet(file)
    units = {"ran": 3, "reused": 0}
    summary = {"units": units, "cutoff": 5, "on": "valid", "paths": {"rows": str(file)}}
    console.print_comparison(summary, Workspace("/w"))
    head, *lines = capsys.readouterr().out.partition("rows   ")[0].splitlines()
    assert head == "units     3 ran, 0 reused"
    assert max(map(len, lines)) <= 80
    text = [" ".join(line.split()) for line in lines]
    n = len(behaviors)
    at = [text.index(line) for line in ("bigel" + n * " 0.6500 +", "popularity" + n * " -0.1500 -")]
    assert at == sorted(at) and text[at[0] + 1] == " ".join(n * [".0512–.3000"])
    (long,) = (line for line in text if line.startswith("lightgcn_per_behavior"))
    assert long.endswith(n * " 0.2500 =")
    assert any("NDCG@5, published view, valid split" in line for line in text)
    assert "+ first, = tied, - behind" in " ".join(text)


def test_a_back_test_ends_with_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    beside: Any = {"rival": "x", "difference": 0.1, "difference_low": 0.05, "difference_high": 0.2}
    rows = [
        NightsRow(label, group, horizon, behavior, "ndcg@10", 9, 20, 14, mean=mean,
                  seed_std=None, low=0.1, high=0.3, **(beside if label == "bigel" else {}))
        for group, horizon in (("known", "day"), ("new", "day"), ("known", "week"))
        for label, mean in (("item-kNN", 0.1), ("bigel", 0.25))
        for behavior in ("pv", ODD)
    ]  # fmt: skip
    file = tmp_path / "backtest.parquet"
    pl.DataFrame([asdict(row) for row in rows]).write_parquet(file)
    said = [f"{ODD}: bigel is ahead of the best rule", "pv: take the rule"]
    units = {"ran": 3, "reused": 1}
    summary = {"units": units, "cutoff": 10, "paths": {"rows": str(file)}, "said": said}
    console.print_backtest(summary, Workspace("/w"))
    out = capsys.readouterr().out
    assert out.startswith("units     3 ran, 1 reused")
    assert out.endswith(f"\n\n{ODD}: bigel is ahead of the best rule\npv: take the rule\n")
    text = [" ".join(line.split()) for line in out.splitlines()]
    titles = [line for line in text if line.startswith("NDCG@10, ")]
    assert titles == [
        "NDCG@10, known users, the next day",
        "NDCG@10, new users, the next day",
        "NDCG@10, known users, the next week",
    ]
    assert text.index("bigel 0.2500 + 0.2500 +") < text.index("item-kNN 0.1000 0.1000")
    assert "the difference to the best rule: + first" in " ".join(text)


def test_a_warning_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [{"rule": "few", "column": "share", "count": 1}, {"rule": "many", "count": 1_200}]
    lists = {"handover": "recommendations", "failed": failed}
    said = printed(capsys, Workspace("/w"), contracts=[lists, lists])
    assert said.count("recommendations: few on share, 1 row\n") == 1
    assert said.count("recommendations: many, 1,200 rows\n") == 1
