"""`bigel show`: history, lists of champion and challenger, and reasons that add up."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from bigel import Recommender
from bigel.config import load_config
from bigel.errors import BigelError, ConfigError, ContractError, DataError
from bigel.lists.recommend import recommend
from bigel.store import Workspace
from flows import show
from flows.cli import app
from tests import fabricate
from tests.fabricate import PAIRS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(tmp_path_factory.mktemp("show"))
        fabricate.register_one(workspace)
        fabricate.register_one(workspace, ndcg=0.2, seed=1)
    return workspace


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def call(home: Workspace, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["show", *map(str, arguments), "--workspace", str(home.root)])


def test_champion_and_challenger_stand_side_by_side_with_reasons_that_add_up(
    home: Workspace,
) -> None:
    shown = json.loads(call(home, 100, "-k", 3, "--json", "-").stdout)
    models = {
        "champion": Recommender.champion(home.root),
        "challenger": Recommender.registered("challenger", home.root),
    }
    assert set(shown["lists"]) == set(models)
    for role, model in models.items():
        expected = model.recommend(100, None, 3)
        rows = shown["lists"][role]
        for column in ("behavior", "rank", "item_id", "source"):
            assert [row[column] for row in rows] == expected[column].to_list(), role
        for row in rows:
            assert sum(row["parts"].values()) == pytest.approx(row["score"], rel=1e-6)
    assert shown["lists"]["champion"] != shown["lists"]["challenger"]


def test_a_history_is_what_the_user_had(home: Workspace) -> None:
    shown = json.loads(call(home, 100, "--json", "-").stdout)
    had = {(row["behavior"], row["item_id"]) for row in shown["history"]}
    train = {(name, f"item {i}") for name, own in PAIRS["train"].items() for u, i in own if u == 0}
    assert train <= had


def test_a_page_names_every_list(home: Workspace) -> None:
    said = call(home, 100, "-k", 2).stdout
    assert said.startswith("user 100\n  click: item 0")
    for name in ("click", "purchase"):
        for role in ("champion", "challenger"):
            assert f"\n{name}, by the {role}\n" in said
    assert "= graph " in said and "demand " in said
    one = call(home, 100, "--behavior", "purchase").stdout
    assert "purchase, by" in one and "click, by" not in one


def test_a_page_has_names_that_come_late_and_items_that_the_challenger_alone_knows() -> None:
    had = [{"item_id": n, "behavior": "view", "item_name": None, "at": None} for n in range(120)]
    named = {"item_id": 120, "behavior": "buy", "item_name": "lamp", "at": None}
    of_it = {"item_id": 7, "behavior": "buy", "rank": 1, "score": 1.0, "item_name": None}
    why = {"parts": {"neighbours": 1.0}, "neighbours": [(120, 0.6), (999, 0.4)]}
    shown = {"user_id": 1, "history": [*had, named], "lists": {"challenger": [of_it | why]}}
    page = show._page(shown, ["buy"])
    assert page[2] == "  buy: 120 lamp"
    assert page[-1].endswith("neighbours +1.00 of 120 lamp, 999")


def test_a_challenger_that_answers_for_want_of_a_champion_is_shown_once(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace, ndcg=0.05)
    shown = json.loads(call(workspace, 100, "--json", "-").stdout)
    assert list(shown["lists"]) == ["challenger"]


@pytest.mark.parametrize("error", [DataError, ContractError, ConfigError])
def test_why_the_challengers_lists_are_missing_is_told(
    home: Workspace, monkeypatch: pytest.MonkeyPatch, error: type[BigelError],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refused(*given: Any) -> Recommender:
        raise error("no item may be listed")

    monkeypatch.setattr(Recommender, "registered", refused)
    found = call(home, 100, "--json", "-")
    assert found.exit_code == 0 and list(json.loads(found.stdout)["lists"]) == ["champion"]
    assert caplog.messages == ["the challenger's lists are left out: no item may be listed"]


def test_without_a_challenger_nothing_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace)
    caplog.clear()
    found = call(workspace, 100, "--json", "-")
    assert list(json.loads(found.stdout)["lists"]) == ["champion"] and not caplog.messages


def test_the_rules_of_the_settings_hold_as_in_batch(home: Workspace, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,name,in_stock\n" + "".join(f"item {n},Thing {n},{n != 1}\n" for n in range(5))
    )
    asked = {f"items.path={tmp_path}/items.csv", "recommend.names=true", "recommend.exclude=none"}
    options = [word for one in sorted(asked) for word in ("--set", one)]
    shown = json.loads(call(home, 100, "-k", 6, "--json", "-", *options).stdout)
    config = load_config("", [*sorted(asked), "recommend.k=6"])
    for role, rows in shown["lists"].items():
        record = recommend(config, home, model=role, users=["100"])
        expected = pl.read_parquet(record.file("recommendations.parquet"))
        assert set(expected["item_id"]) == {"item 0", "item 2", "item 3", "item 4"}, role
        assert pl.DataFrame(rows).select(expected.columns).rows() == [
            (*row[:4], pytest.approx(row[4]), *row[5:]) for row in expected.rows()
        ]
    said = call(home, 100, *options).stdout
    assert "item 2 Thing 2  " in said and "item 1 Thing 1  " not in said
    had = Recommender.champion(home.root, settings=config).history(100)
    assert had.columns == ["behavior", "item_id", "at", "item_name"]
    names = {f"item {n}": f"Thing {n}" for n in range(5)}
    assert had["item_name"].to_list() == [names[item] for item in had["item_id"]]
    assert "item_name" not in Recommender.champion(home.root).history(100).columns
    click = ", ".join(f"{i} {names[i]}" for i in had.filter(behavior="click")["item_id"])
    assert f"\n  click: {click}\n" in said
    empty = call(home, 100, "--set", f"items.path={tmp_path}/none.csv")
    assert isinstance(empty.exception, DataError)


def test_a_stranger_gets_popular_items_and_is_told(home: Workspace) -> None:
    said = call(home, 999).stdout
    assert "popular items answer" in said and "= popularity " in said


def test_what_there_is_not_is_named(home: Workspace, tmp_path: Path) -> None:
    wrong = call(home, 100, "--behavior", "clik")
    assert isinstance(wrong.exception, ConfigError) and "did you mean 'click'" in str(
        wrong.exception
    )
    nothing = call(Workspace(tmp_path), 100)
    assert isinstance(nothing.exception, ConfigError) and "bigel run" in str(nothing.exception)
