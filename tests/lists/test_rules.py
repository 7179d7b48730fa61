"""Rules for items hold in every list: batch, preview, the server's, and what popularity answers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bigel.config import Config, parse_config
from bigel.contracts import validate
from bigel.errors import ConfigError, ContractError, DataError
from bigel.lists import rules as module
from bigel.lists import serving
from bigel.lists.bundle import build_bundle
from bigel.lists.preview import preview
from bigel.lists.recommend import recommend
from bigel.lists.rules import item_rules, look_at_rules, told
from bigel.store import Record, Workspace
from tests import fabricate
from tests.fabricate import CONFIG, ITEMS

CSV = """item_id,name,category,available_from,available_until,in_stock,price
item 0,Lamp,light,,,true,5
item 1,Desk,seat,,,true,50
item 2,Chair,seat,,,false,20
item 3,Stool,seat,,,true,10
item 4,Sofa,,2000-01-01,2000-06-30,true,900
"""  # item 5 is not in it


IDS = "item_id\n" + "".join(f"item {n}\n" for n in range(ITEMS))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = fabricate.workspace_at(tmp_path_factory.mktemp("rules"))
        fabricate.register_one(made)
        yield made


def config(place: Path, catalogue: str | None = CSV, **asked: Any) -> Config:
    place.mkdir(parents=True, exist_ok=True)
    tree = CONFIG.model_dump() | {"recommend": {"k": 6, "exclude": "none", **asked}}
    if catalogue is not None:
        (place / "items.csv").write_text(catalogue, encoding="utf-8")
        tree |= {"items": {"path": str(place / "items.csv")}}
    return parse_config(tree)


def lists(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("recommendations.parquet"))


def listed(record: Record) -> set[str]:
    return set(lists(record)["item_id"])


def test_what_is_not_available_is_in_no_list_and_the_record_says_why(
    workspace: Workspace, tmp_path: Path
) -> None:
    record = recommend(config(tmp_path), workspace)
    assert listed(record) == {"item 0", "item 1", "item 3"}
    assert record.counts["left_out"] == {
        "not in the catalogue": 1, "not in stock": 1, "no longer available": 1,
    }  # fmt: skip
    assert validate("recommendations", record, config(tmp_path), workspace)["success"]
    barred = pl.read_parquet(record.file("not_listed.parquet"))["item_id"].to_list()
    assert barred == ["item 2", "item 4", "item 5"]


def test_lists_are_those_without_rules_less_what_may_not_be_listed(
    workspace: Workspace, tmp_path: Path
) -> None:
    plain = lists(recommend(config(tmp_path / "none", None), workspace))
    ruled = lists(recommend(config(tmp_path), workspace))
    kept = plain.filter(pl.col("item_id").is_in(["item 0", "item 1", "item 3"]))
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id", "behavior")
    assert ruled.equals(kept.with_columns(rank.alias("rank")))


def test_the_preview_obeys_the_same_rules(workspace: Workspace, tmp_path: Path) -> None:
    record = preview(
        build_bundle(*fabricate.bundle_inputs(workspace), CONFIG, workspace),
        config(tmp_path),
        workspace,
    )
    assert listed(record) == {"item 0", "item 1", "item 3"}


@pytest.mark.parametrize(
    ("moment", "there"),
    [(946_684_799, False), (946_684_800, True), (962_409_599, True), (962_409_600, False)],
)
def test_an_item_is_available_from_its_first_day_to_the_end_of_its_last(
    workspace: Workspace, tmp_path: Path, moment: int, there: bool
) -> None:
    folder = Path(build_bundle(*fabricate.bundle_inputs(workspace), CONFIG, workspace).path)
    found = item_rules(folder / "items.parquet", config(tmp_path), workspace, moment)
    assert found is not None
    assert found.allowed.tolist() == [True, True, False, True, there, False]


@pytest.mark.parametrize(
    ("catalogue", "asked"),
    [
        (CSV, {}),
        (None, {}),
        ("sku\nitem 0\n", {}),
        (CSV + "item 1,Desk,seat,,,true,50\n", {}),
        (CSV.replace("false", "maybe"), {}),
        ("item_id\nitem 0\n", {"names": True}),
        ("item_id\nitem 0\n", {"max_per_category": 1}),
        ("item_id\nitem 0\n", {"new_items": True}),
        (CSV, {"filter": "cost < 5"}),
        (CSV, {"deny": "nowhere.txt"}),
        (None, {"allow": "nowhere.txt"}),
    ],
)
def test_a_look_before_the_run_says_what_the_rules_say(
    workspace: Workspace, tmp_path: Path, catalogue: str | None, asked: dict[str, Any]
) -> None:
    settings = config(tmp_path, catalogue, **asked)
    folder = Path(build_bundle(*fabricate.bundle_inputs(workspace), CONFIG, workspace).path)

    def said(call: Callable[[], object]) -> str:
        try:
            call()
        except (ConfigError, DataError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    early = said(lambda: look_at_rules(settings))
    assert early == said(lambda: item_rules(folder / "items.parquet", settings, workspace))
    assert bool(early) == (bool(asked) or catalogue not in (CSV, None))


def test_the_clock_tells_what_is_available_now(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 950_000_000.0)
    assert "item 4" in listed(recommend(config(tmp_path), workspace))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"filter": "price < 40"}, {"item 0", "item 3"}),
        ({"filter": "category <> 'light' AND price <= 50"}, {"item 1", "item 3"}),
        ({"deny": "item 0\n\nitem 9\r\n"}, {"item 1", "item 3"}),
        ({"allow": "item 3\nitem 2\n"}, {"item 3"}),
    ],
)
def test_settings_say_more(
    workspace: Workspace, tmp_path: Path, asked: dict[str, str], expected: set[str]
) -> None:
    for name in ("allow", "deny"):
        if name in asked:
            (tmp_path / name).write_text(asked[name], encoding="utf-8")
            asked = asked | {name: str(tmp_path / name)}
    assert listed(recommend(config(tmp_path, **asked), workspace)) == expected


def test_denied_ids_are_read_as_those_of_the_log(tmp_path: Path, caplog: Any) -> None:
    pl.DataFrame({"item_id": [7, 8, 60]}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "deny").write_text("007\n60 \n99\n", encoding="utf-8")
    for ids, allowed in (("integer", [False, True, False]), ("auto", [True, True, False])):
        tree = {"data": {"ids": ids}, "recommend": {"deny": str(tmp_path / "deny")}}
        found = item_rules(tmp_path / "items.parquet", parse_config(tree), Workspace(tmp_path))
        assert found is not None and found.allowed.tolist() == allowed
    said = [one.message for one in caplog.records if "no list could hold" in one.message]
    assert said == [f"recommend.deny names {n} items that no list could hold" for n in (1, 2)]


def test_ids_that_are_missing_in_the_catalogue_stop_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    """No rule; the contract refuses them, unless a folder of one's own says otherwise."""
    asked = config(tmp_path, "item_id,name\nitem 0,a\n,b\n,c\n")
    folder = Path(build_bundle(*fabricate.bundle_inputs(workspace), CONFIG, workspace).path)
    found = item_rules(folder / "items.parquet", asked, workspace)
    assert found is not None and found.allowed.tolist() == [True] + [False] * (ITEMS - 1)


def test_allow_and_deny_need_no_catalogue(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("item 1\n", encoding="utf-8")
    asked = config(tmp_path, None, deny=str(tmp_path / "deny.txt"))
    record = recommend(asked, workspace)
    assert listed(record) == {f"item {n}" for n in range(ITEMS)} - {"item 1"}
    assert record.counts["left_out"] == {"in recommend.deny": 1}


def test_names_stand_beside_the_items(workspace: Workspace, tmp_path: Path) -> None:
    frame = lists(recommend(config(tmp_path, names=True), workspace))
    names = {"item 0": "Lamp", "item 1": "Desk", "item 3": "Stool"}
    assert frame.columns[-1] == "item_name"
    assert [names[item] for item in frame["item_id"]] == frame["item_name"].to_list()
    record = recommend(config(tmp_path, names=True), workspace)
    assert validate("recommendations", record, config(tmp_path), workspace)["success"]


def test_no_more_of_a_category_than_was_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    frame = lists(recommend(config(tmp_path, max_per_category=1), workspace))
    for _, own in frame.group_by("user_id", "behavior"):
        assert sorted(own["item_id"]) in (["item 0", "item 1"], ["item 0", "item 3"])
    whole = lists(recommend(config(tmp_path), workspace))
    first = whole.filter(pl.col("item_id") != "item 0").group_by("user_id", "behavior").first()
    assert set(frame.filter(pl.col("item_id") != "item 0").select("user_id", "behavior", "item_id")
               .rows()) == set(first.select("user_id", "behavior", "item_id").rows())  # fmt: skip


def test_a_changed_catalogue_makes_new_lists(workspace: Workspace, tmp_path: Path) -> None:
    first = recommend(config(tmp_path), workspace)
    assert recommend(config(tmp_path), workspace).reused
    again = recommend(config(tmp_path, CSV.replace("900", "901")), workspace)
    assert again.reused and again.fingerprint == first.fingerprint, "prices change no list"
    gone = CSV.replace("item 0,Lamp,light,,,true", "item 0,Lamp,light,,,false")
    sold = recommend(config(tmp_path, gone), workspace)
    assert not sold.reused and "item 0" not in listed(sold)


@pytest.mark.parametrize(
    ("catalogue", "asked", "error", "said"),
    [
        ("item_id,in_stock\n" + "".join(f"item {n},0\n" for n in range(ITEMS)), {}, DataError,
         r"no item of the model may be listed, of 6 \(not in stock 6\)"),
        (IDS + "item 1\n", {}, ContractError, r"contract catalogue is broken.*no id stands twice"),
        ("item_id\nitem 1\nitem 7\n", {}, ContractError, r"broken.*has much of what the log has"),
        (IDS, {"names": True}, ConfigError, r"recommend\.names needs .*'name'"),
        (IDS, {"max_per_category": 2}, ConfigError,
         r"max_per_category needs a column 'category'.*items\.columns\.category"),
        (None, {"deny": "/nowhere/deny.txt"}, DataError, r"recommend\.deny /nowhere/deny\.txt"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(
    workspace: Workspace, tmp_path: Path, catalogue: str | None, asked: dict[str, Any],
    error: type[Exception], said: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=said):
        recommend(config(tmp_path, catalogue, **asked), workspace)


def test_a_list_that_breaks_a_rule_breaks_the_contract(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.Candidates, "hide", lambda *given: None)
    record = recommend(config(tmp_path, deny="", k=5), workspace)
    with pytest.raises(ContractError, match="every item may be listed"):
        validate("recommendations", record, config(tmp_path), workspace)


def test_reasons_are_told_with_their_counts() -> None:
    assert told({"not in stock": 2}) == "2 (not in stock 2)"


def naive_best(scores: Any, category: Any, per_category: int, k: int) -> list[list[int]]:
    found = []
    for row in scores:
        order = sorted((i for i in range(len(row)) if np.isfinite(row[i])), key=lambda i: -row[i])
        taken: list[int] = []
        for item in order:
            alike = sum(category[one] == category[item] for one in taken)
            if len(taken) < k and (category[item] < 0 or alike < per_category):
                taken.append(item)
        found.append(taken)
    return found


@given(
    scores=arrays(np.float32, (3, 40), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, -np.inf])),
    category=arrays(np.int64, 40, elements=st.integers(-1, 3)),
    per_category=st.integers(1, 4),
    k=st.integers(1, 10),
)
def test_the_best_within_a_limit_are_those_of_a_greedy_walk(
    scores: Any, category: Any, per_category: int, k: int
) -> None:
    candidates = serving.Candidates(category=category, per_category=per_category)
    row, rank, column, score = candidates.best(scores.copy(), k)
    assert score.tolist() == scores[row, column].tolist()
    for at, expected in enumerate(naive_best(scores, category, per_category, k)):
        assert column[row == at].tolist() == expected
        assert rank[row == at].tolist() == list(range(1, len(expected) + 1))


def test_a_catalogue_that_is_checked_is_read_once(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    run_stage = Workspace.run_stage

    def noted(self: Workspace, name: str, **given: Any) -> Record:
        stages.append(name)
        return run_stage(self, name, **given)

    monkeypatch.setattr(Workspace, "run_stage", noted)
    recommend(config(tmp_path), workspace)
    assert stages == ["catalogue", "recommend"]


def test_rules_that_are_looked_up_leave_the_log_alone(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(tmp_path, CSV.replace("Lamp", "Lantern"))
    items = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [f"item {number}" for number in range(6)]}).write_parquet(items)
    with caplog.at_level("INFO", logger="bigel"):
        for _ in range(2):
            assert item_rules(items, settings, workspace)
    assert "catalogue:" not in caplog.text
