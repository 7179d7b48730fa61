"""Every rule of every contract: kept by good data, broken by one edit, found and counted."""

import logging
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from bigel.contracts import HANDOVERS, holds
from bigel.contracts.contract import CRITICAL as IS_CRITICAL
from bigel.contracts.contract import contract_folder, load_contract
from bigel.errors import ConfigError, ContractError, DataError
from bigel.store import Workspace
from tests.contracts.good import GOOD, HandOver
from tests.contracts.mutations import (
    CRITICAL,
    WARNINGS,
    Edit,
    again,
    drop,
    empty,
    forget,
    leak,
    put,
)

pytestmark = pytest.mark.usefixtures("no_pages")


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[HandOver, str, str], Path]:
    """Leave a hand-over one rule only: nothing else can have failed."""

    def choose(data: HandOver, name: str, description: str) -> Path:
        handover, table = name.split(".")
        head, *rules = load_text(handover).split("\n[[rule]]\n")
        mine = [one for one in rules if tomllib.loads(one)["name"] == description]
        (mine,) = [[one] for one in mine if tomllib.loads(one)["table"] == table]
        path = tmp_path / "own" / f"{handover}.toml"
        path.parent.mkdir()
        path.write_text("\n[[rule]]\n".join([head, *mine]), "utf-8")
        data.settings.append(f"contracts.folder={path.parent}")
        return path

    return choose


def load_text(handover: str) -> str:
    return (contract_folder("") / f"{handover}.toml").read_text("utf-8")


def broken(error: ContractError) -> list[tuple[str, str, int]]:
    """Read (table, description, rows) of each failure from the message."""
    found = []
    for line in str(error).splitlines():
        if line.startswith("- "):
            match = re.fullmatch(r"- (\w+)[^:]*: (.*): (?:found: )?([\d,]+) rows?", line)
            assert match, line
            found.append((match[1], match[2], int(match[3].replace(",", ""))))
    return found


def described(severity_is_critical: bool) -> set[tuple[str, str]]:
    return {
        (f"{handover}.{rule.table}", rule.name)
        for handover in HANDOVERS
        for rule in load_contract(contract_folder(""), handover).rules
        if (rule.severity == IS_CRITICAL) == severity_is_critical
    }


def test_every_rule_is_broken_by_a_test() -> None:
    assert described(True) == set(CRITICAL)
    assert described(False) == set(WARNINGS)


@pytest.mark.parametrize("handover", HANDOVERS)
def test_good_data_passes_without_a_word(handover: str, tmp_path: Path) -> None:
    result = GOOD[handover]().validate(tmp_path)
    assert (result["success"], result["failed"], result["skipped"]) == (True, [], {})
    assert result["evaluated"] == len(load_contract(contract_folder(""), handover).rules)


@pytest.mark.parametrize("case", CRITICAL, ids=" / ".join)
def test_critical_failure_raises_and_names_itself(
    case: tuple[str, str], alone: Callable[[HandOver, str, str], Path], tmp_path: Path
) -> None:
    suite, description = case
    handover, table = suite.split(".")
    count, edit = CRITICAL[case]
    data = GOOD[handover]()
    path = alone(data, suite, description)
    edit(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    ((found_table, found_description, found_count),) = broken(caught.value)
    assert (found_table, found_count) == (table, count)
    assert found_description.startswith(description)
    text = str(caught.value)
    assert f"contract {handover} is broken, 1 critical failure:" in text
    assert text.count("what to do: ") == 1
    assert text.count("or relax:   ") == 1
    assert f"rules:    {path}, version " in text


@pytest.mark.parametrize("case", WARNINGS, ids=" / ".join)
def test_warning_is_returned_and_logged_but_does_not_raise(
    case: tuple[str, str],
    alone: Callable[[HandOver, str, str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    suite, description = case
    handover, table = suite.split(".")
    count, edit = WARNINGS[case]
    data = GOOD[handover]()
    edit(data)
    alone(data, suite, description)
    with caplog.at_level(logging.WARNING, logger="bigel"):
        result = data.validate(tmp_path)
    assert result["success"]
    (failed,) = result["failed"]
    assert failed["description"].startswith(description)
    assert (failed["table"], failed["severity"], failed["count"]) == (table, "warning", count)
    assert failed["samples"]
    assert failed["fix"]
    assert any(description in line.message for line in caplog.records)


def test_message_shows_the_bad_rows_and_at_most_three(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    for row in range(5):
        put("interactions", "behavior", "steal", row)(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    samples = [line for line in str(caught.value).splitlines() if '"steal"' in line]
    first = '{"user_id": 0, "item_id": 0, "behavior": "steal", "first": 1700000000, '
    assert samples[0].strip().startswith(first)
    assert len(samples) == 3
    assert "Name the behavior in data.behaviors" in str(caught.value)


def test_missing_column_is_one_plain_sentence(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    drop("interactions", "count")(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    assert '{"field": "interactions.count", "type": null, ' in str(caught.value)
    assert len(broken(caught.value)) == 1


@pytest.mark.parametrize(
    ("handover", "files"),
    [
        ("raw_log", ("raw_summary", "quarantine")),
        ("interactions", ("interactions",)),
        ("split", ("train", "valid", "test", "users", "items")),
        ("recommendations", ("recommendations",)),
    ],
)
def test_no_rows_at_all_never_pass(handover: str, files: tuple[str, ...], tmp_path: Path) -> None:
    data = GOOD[handover]()
    empty(*files)(data)
    with pytest.raises(ContractError, match=r"found: 0 rows|totals"):
        data.validate(tmp_path)


def test_a_clean_log_has_an_empty_quarantine(tmp_path: Path) -> None:
    data = GOOD["raw_log"]()
    empty("quarantine")(data)
    for column in ("quarantined", "ignored", "null_users"):
        put("raw_summary", column, 0)(data)
    put("raw_summary", "kept", 100)(data)
    assert data.validate(tmp_path)["failed"] == []


def test_nulls_beside_huge_ids_make_no_false_duplicates(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    data.frames["interactions"] = data.frames["interactions"].with_columns(
        user_id=pl.col("user_id") + 2**62
    )
    put("interactions", "user_id", None)(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    assert [failure[1] for failure in broken(caught.value)] == [
        "every interaction has a user (user_id IS NOT NULL)"
    ]


def test_a_log_without_times_and_splits_is_checked_without_them(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    for column in ("first", "timestamp", "split", "amount"):
        drop("interactions", column)(data)
    record = data.record(tmp_path / "stage")
    from bigel.config import Config
    from bigel.contracts import validate
    from bigel.store import Workspace

    result = validate("interactions", record, Config(), Workspace(tmp_path))
    assert result["failed"] == []
    assert result["skipped"] == {"times": "the log has no event times"}
    assert result["evaluated"] == 18


def test_one_behavior_has_no_funnel(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    data.settings += ["data.behaviors=['click']"]
    frame = data.frames["interactions"]
    data.frames["interactions"] = frame.filter(pl.col("behavior") == "click")
    assert "funnel" in data.validate(tmp_path)["skipped"]


def test_order_in_time_counts_under_a_time_cut_only(tmp_path: Path) -> None:
    data = GOOD["split"]()
    data.counts["method"] = "random"
    put("train", "first", 1_800_000_000)(data)
    result = data.validate(tmp_path)
    assert (result["failed"], list(result["skipped"])) == ([], ["order"])


@pytest.mark.parametrize(("edit", "splits"), [(again("valid"), ["valid"] * 2), (leak, None)])
def test_a_row_that_stands_twice_is_shown_with_its_splits(
    edit: Edit, splits: list[str] | None, tmp_path: Path
) -> None:
    data = GOOD["split"]()
    edit(data)
    with pytest.raises(ContractError, match="stands twice") as caught:
        data.validate(tmp_path)
    found = re.findall(r'"split": "(\w+)"', str(caught.value))[: len(splits or "..")]
    assert found == splits if splits else set(found) == {"train", "test"}


def test_ignored_rows_are_not_refused_rows(tmp_path: Path) -> None:
    data = GOOD["raw_log"]()
    put("raw_summary", "ignored", 2)(data)
    put("raw_summary", "quarantined_share", 0.0)(data)
    data.settings += ["contracts.max_quarantined_share=0.0"]
    assert data.validate(tmp_path)["failed"] == []


@pytest.fixture
def policy(alone: Callable[[HandOver, str, str], Path]) -> HandOver:
    """Return good recommendations of which only the policy is checked."""
    data = GOOD["recommendations"]()
    alone(data, "recommendations.policy", "no row breaks the rule")
    return data


def broken_rules(data: HandOver, folder: Path) -> list[str]:
    """Return the rules that the message names; [] if the contract is kept."""
    try:
        data.validate(folder)
    except ContractError as error:
        return re.findall(r'"rule": "([^"]*)"', str(error))
    return []


def test_items_that_the_model_does_not_know_are_refused(policy: HandOver, tmp_path: Path) -> None:
    forget("items")(policy)
    assert broken_rules(policy, tmp_path) == ["every item is known to the model"]


def test_unknown_users_must_be_marked_popular(policy: HandOver, tmp_path: Path) -> None:
    forget("users")(policy)
    rule = "a user unknown to the model gets popular items"
    assert broken_rules(policy, tmp_path / "unmarked") == [rule]
    lists = policy.frames["recommendations"]
    policy.frames["recommendations"] = lists.with_columns(
        source=pl.when(pl.col("user_id") == 0).then(pl.lit("popular")).otherwise("source")
    )
    assert broken_rules(policy, tmp_path / "marked") == []


@pytest.mark.parametrize(
    ("exclude", "behavior", "fails"),
    [
        ("same", "click", True),
        ("same", "view", False),
        ("any", "view", True),
        ("none", "click", False),
        ({"click": "none"}, "click", False),
        ({"click": "any"}, "view", True),
        ({"view": "none"}, "click", True),
        ({"view": "any"}, "view", False),
    ],
)
def test_seen_items_by_policy(
    policy: HandOver, exclude: str | dict[str, str], behavior: str, fails: bool, tmp_path: Path
) -> None:
    policy.counts["exclude"] = exclude
    seen = {"user_id": [0], "item_id": [1], "behavior": [behavior]}
    policy.facts["seen"] = pl.DataFrame(seen)
    of_clicks = exclude if isinstance(exclude, str) else exclude.get("click", "same")
    rule = f"seen items are left out (exclude = {of_clicks})"
    assert broken_rules(policy, tmp_path) == ([rule] if fails else [])


def test_what_a_user_unknown_to_the_model_saw_does_not_count(
    policy: HandOver, tmp_path: Path
) -> None:
    forget("users")(policy)
    policy.facts["seen"] = pl.DataFrame({"user_id": [0], "item_id": [1], "behavior": ["click"]})
    lists = policy.frames["recommendations"]
    policy.frames["recommendations"] = lists.with_columns(source=pl.lit("popular"))
    assert broken_rules(policy, tmp_path) == []


def test_text_ids_are_compared_with_numbers_as_text(policy: HandOver, tmp_path: Path) -> None:
    lists = policy.frames["recommendations"]
    policy.frames["recommendations"] = lists.cast({"user_id": pl.String})
    assert broken_rules(policy, tmp_path) == []


def test_policy_without_facts_is_said_to_be_unchecked(tmp_path: Path) -> None:
    data = GOOD["recommendations"]()
    data.facts = {}
    assert list(data.validate(tmp_path)["skipped"]) == ["policy"]


def test_the_stage_is_left_as_it_was(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    put("interactions", "user_id", None)(data)
    with pytest.raises(ContractError):
        data.validate(tmp_path)
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == [
        "interactions.parquet",
        "raw_summary.parquet",
    ]
    left = pl.read_parquet(tmp_path / "stage" / "interactions.parquet")
    assert left.equals(data.frames["interactions"])


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    from bigel.config import Config
    from bigel.contracts import validate
    from bigel.store import Workspace

    record = GOOD["interactions"]().record(tmp_path / "stage")
    record.file("interactions.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(DataError, match=r"interactions\.parquet: cannot be read"):
        validate("interactions", record, Config(), Workspace(tmp_path))
    record.file("interactions.parquet").unlink()
    with pytest.raises(DataError, match=r"interactions\.parquet: cannot be read"):
        validate("interactions", record, Config(), Workspace(tmp_path))


def test_unknown_handover_is_refused(tmp_path: Path) -> None:
    from bigel.config import Config
    from bigel.contracts import validate
    from bigel.store import Workspace

    record = GOOD["split"]().record(tmp_path / "stage")
    with pytest.raises(ConfigError, match="no hand-over; there are raw_log"):
        validate("splits", record, Config(), Workspace(tmp_path))


@pytest.mark.parametrize(
    "case",
    [one for one in CRITICAL if one[0].startswith(("recommendations", "catalogue"))],
    ids=" / ".join,
)
def test_a_glance_sees_every_critical_failure(case: tuple[str, str], tmp_path: Path) -> None:
    handover = case[0].partition(".")[0]
    good, bad = GOOD[handover](), GOOD[handover]()
    CRITICAL[case][1](bad)
    seen = [
        holds(one.name, one.record(tmp_path / name), one.config(), Workspace(tmp_path / "w"))
        for name, one in (("good", good), ("bad", bad))
    ]
    assert seen == [True, False]


@pytest.mark.parametrize(
    "case", [one for one in WARNINGS if one[0].startswith("recommendations")], ids=" / ".join
)
def test_a_glance_passes_over_warnings(case: tuple[str, str], tmp_path: Path) -> None:
    data = GOOD["recommendations"]()
    WARNINGS[case][1](data)
    record = data.record(tmp_path / "lists")
    assert holds("recommendations", record, data.config(), Workspace(tmp_path / "w"))
