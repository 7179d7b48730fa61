"""The contracts as files: what reviewers rely on, and what a wrong file says."""

import re
import shutil
from pathlib import Path

import pytest

from bigel.config import load_config
from bigel.contracts import HANDOVERS
from bigel.contracts.contract import Contract, contract_folder, load_contract
from bigel.contracts.validation import SCHEMA, _contents
from bigel.errors import ConfigError, ContractError
from bigel.store import Workspace
from tests.contracts.good import GOOD

SHIPPED = contract_folder("")
CONTRACTS = {name: load_contract(SHIPPED, name) for name in HANDOVERS}
# Tables of the data, of which an empty one would break no rule on rows.
OF_DATA = {
    *("raw_log.files", "interactions.rows", "split.rows", "recommendations.rows"),
    "catalogue.rows",
    *("recommendations.lists", "recommendations.behaviors"),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=HANDOVERS)
def test_limits_are_exactly_those_that_the_rules_name(contract: Contract, tmp_path: Path) -> None:
    data = GOOD[contract.handover]()
    record = data.record(tmp_path / "stage")
    found = _contents(contract, record, data.config(), Workspace(tmp_path), {})
    named = {name for rule in contract.rules for name in rule.parameters}
    assert named == set(found.parameters)
    assert set(contract.limits) <= named
    assert set(contract.tables) == {rule.table for rule in contract.rules}
    assert set(contract.tables) - {SCHEMA} == {*found.frames, *found.skipped}
    assert contract.version and contract.fix


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=HANDOVERS)
def test_no_table_of_the_data_passes_because_it_is_empty(contract: Contract) -> None:
    found = {
        f"{contract.handover}.{rule.table}": rule.severity
        for rule in contract.rules
        if rule.min_rows is not None
    }
    mine = {name for name in OF_DATA if name.startswith(f"{contract.handover}.")}
    assert found == dict.fromkeys(mine, "critical")


def test_readme_names_every_table_limit_and_setting() -> None:
    readme = (SHIPPED / "README.md").read_text("utf-8")
    for contract in CONTRACTS.values():
        for name in [*contract.tables, *contract.limits]:
            assert f"`{contract.handover}.{name}`" in readme
    for name in type(load_config("").contracts).model_fields:
        assert f"`contracts.{name}`" in readme


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=HANDOVERS)
def test_advice_names_settings_and_limits_that_exist(contract: Contract) -> None:
    config = load_config("")
    advice = " ".join([contract.fix, *(rule.fix for rule in contract.rules)])
    for section, key in re.findall(r"\b([a-z_]+)\.([a-z_]+)\b", advice):
        if key not in ("parquet", "toml"):
            assert key in type(getattr(config, section)).model_fields, f"{section}.{key}"
    for limit, handover in re.findall(r"The (?:limit|share) is (\w+) in (\w+)\.toml", advice):
        assert limit in CONTRACTS[handover].limits


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of the contracts that a user may edit."""
    folder = tmp_path / "own"
    shutil.copytree(SHIPPED, folder)
    return folder


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def validate_with(folder: Path, tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    data.settings.append(f"contracts.folder={folder}")
    data.validate(tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('severity = "critical"', 'severity = "warn"', "write 'critical' or 'warning'"),
        ('severity = "critical"', "", "a rule needs severity"),
        ("[[rule]]", "[[rules]]", "no part 'rules'"),
        ("[tables]", "[tables", "not a contract: TOMLDecodeError"),
        ('table = "rows"', 'table = "row"', "no table 'row'; there are schema, rows, totals"),
        ('rows = "', 'row = "', "no table 'rows'"),
        ('times = "', 'weeks = ""\ntimes = "', "no table 'weeks'; there are schema, rows, totals"),
        ("$time_min", "$time_mim", "no limit 'time_mim'; there are max_user_share"),
        ("min_rows = 1", "least = 1", "no key 'least' in a rule; there are table, name"),
        ("min_rows = 1", "", "a rule needs one of holds, unique and min_rows"),
        ("min_rows = 1", 'min_rows = "many"', "refuses it"),
        ("min_rows = 1", "min_rows = 1\nmostly = 0.5", "mostly goes with holds"),
        ('"count >= 1"', '"count >="', "holds 'count >='"),
        ('"count >= 1"', '"count + 1"', "'count + 1' is no condition"),
        ('"count >= 1"', '"1 = 1"', "'1 = 1' names no column"),
        ('"count >= 1"', '"prize >= 1"', "there is no column prize; there are user_id, item_id"),
        ('"count >= 1"', '"behavior >= 1"', "cannot compare string with numeric type"),
        ("an interaction stands for at", "every interaction has a user\" #", "have the same name"),
        ("max_user_share = 0.2", "max_user_share = 'few'", "'few' is not a number"),
        ("max_user_share = 0.2", "max_users_share = 0.2", "no limit 'max_user_share'"),
    ],
)  # fmt: skip
def test_a_wrong_contract_is_refused_with_its_name(
    copied: Path, old: str, new: str, expected: str, tmp_path: Path
) -> None:
    rewrite(copied / "interactions.toml", old, new)
    with pytest.raises(ConfigError, match=r"interactions\.toml") as caught:
        validate_with(copied, tmp_path)
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", ["folder", "nothing"])
def test_a_folder_without_contracts_is_refused(content: str, tmp_path: Path) -> None:
    if content == "nothing":
        (tmp_path / "own").mkdir()
    with pytest.raises(ConfigError, match=r"contracts init|data_contracts"):
        validate_with(tmp_path / "own", tmp_path)


def test_a_user_adds_a_rule_without_code(copied: Path, tmp_path: Path) -> None:
    with (copied / "interactions.toml").open("a") as contract:
        contract.write(
            '\n[[rule]]\ntable = "rows"\nname = "behaviors begin with c"\n'
            'severity = "critical"\nholds = "behavior ~ \'^c\'"\nfix = "Rename them."\n'
        )
    with pytest.raises(ContractError) as caught:
        validate_with(copied, tmp_path)
    text = str(caught.value)
    assert "rows.behavior: behaviors begin with c (behavior ~ '^c'): 20 rows" in text
    assert '"behavior": "favourite"' in text
    assert "what to do: Rename them." in text
    path = copied / "interactions.toml"
    assert f"or relax:   rule 'behaviors begin with c' of {path}, or its severity" in text


def test_the_digest_follows_what_the_file_says_not_its_layout(copied: Path) -> None:
    path = copied / "interactions.toml"
    shipped = load_contract(copied, "interactions").identity
    path.write_text("# a comment\n" + path.read_text("utf-8"), "utf-8")
    assert load_contract(copied, "interactions").identity == shipped
    found = [shipped["digest"]]
    for old, new in (
        ("max_user_share = 0.2", "max_user_share = 0.3"),
        ('"count >= 1"', '"count >= 2"'),
        ('["Int64", "String"]', '["Int64"]'),
        ('version = "3"', 'version = "4"'),
    ):
        rewrite(path, old, new)
        found.append(load_contract(copied, "interactions").digest)
    assert len(set(found)) == 5
    assert load_contract(copied, "interactions").identity["version"] == "4"
