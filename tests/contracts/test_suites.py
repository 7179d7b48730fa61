"""The suites as files: what reviewers rely on, and what a wrong file says."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from bigel.config import load_config
from bigel.contracts import HANDOVERS
from bigel.contracts.suites import Suite, load_suites, parameters_of, suite_folder
from bigel.errors import ConfigError
from tests.contracts.good import GOOD

SHIPPED = suite_folder("")
FILES = sorted(SHIPPED.glob("*.json"))
# Tables whose number of rows does not come from the data, so that none can be empty.
FIXED = {"schema", "hours", "totals", "times", "funnel", "pairs", "maps", "policy"}
FIXED_TABLES = {
    f"{handover}.behaviors" for handover in ("interactions", "drift", "realized", "split")
}
MAY_BE_EMPTY = {"raw_log.quarantine"}


def limits() -> dict[str, dict[str, float]]:
    """Return the limits of each hand-over, from both files."""
    found: dict[str, dict[str, float]] = {}
    for name in ("thresholds.toml", "drift.toml"):
        found |= tomllib.loads((SHIPPED / name).read_text("utf-8"))
    return found


def used(handover: str) -> set[str]:
    suites = load_suites(SHIPPED, handover).values()
    return {name for suite in suites for name in parameters_of(suite.expectations)}


def supplied(handover: str, folder: Path) -> set[str]:
    from bigel.contracts import validation
    from bigel.contracts.suites import load_thresholds

    data = GOOD[handover]()
    shipped = load_thresholds(SHIPPED, handover)
    tables = validation._contents(
        handover, data.record(folder / handover), data.config(), shipped, {}
    )
    return set(tables.parameters)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_a_suite_of_great_expectations_without_ids(path: Path) -> None:
    import great_expectations as gx

    tree = json.loads(path.read_text("utf-8"))
    suite = gx.ExpectationSuite(**tree)
    assert suite.name == path.stem
    assert '"id"' not in path.read_text("utf-8")
    assert tree["meta"]["guards"]
    assert tree["meta"]["version"]
    for expectation in tree["expectations"]:
        assert expectation["severity"] in ("critical", "warning")
        assert expectation["description"]
    written = [one.severity.value for one in suite.expectations]
    assert written == [one["severity"] for one in tree["expectations"]]


@pytest.mark.parametrize("handover", HANDOVERS)
def test_parameters_are_exactly_those_that_code_supplies(handover: str, tmp_path: Path) -> None:
    schema = {"configured_fields"} if handover == "interactions" else set()
    assert used(handover) == supplied(handover, tmp_path) | schema


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_table_of_the_data_passes_because_it_is_empty(path: Path) -> None:
    table = path.stem.partition(".")[2]
    if table in FIXED or path.stem in FIXED_TABLES | MAY_BE_EMPTY:
        return
    expectations = json.loads(path.read_text("utf-8"))["expectations"]
    counted = [e for e in expectations if e["type"] == "expect_table_row_count_to_be_between"]
    of_lists = path.stem in {"recommendations.rows", "recommendations.lists"}
    fewest = {"$PARAMETER": "fewest"} if of_lists else 1  # 0 where users have nothing left
    assert [(e["severity"], e["kwargs"]) for e in counted] == [("critical", {"min_value": fewest})]


def test_readme_names_every_suite_threshold_and_setting() -> None:
    readme = (SHIPPED / "README.md").read_text("utf-8")
    for path in FILES:
        assert f"`{path.stem}`" in readme
    for handover, named in limits().items():
        for name in named:
            assert f"`{handover}.{name}`" in readme
    for name in type(load_config("").contracts).model_fields:
        assert f"`contracts.{name}`" in readme


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_advice_names_settings_that_exist(path: Path) -> None:
    config = load_config("")
    thresholds = limits()
    tree = json.loads(path.read_text("utf-8"))
    fixes = [one["meta"]["fix"] for one in tree["expectations"] if "fix" in one.get("meta", {})]
    for section, key in re.findall(
        r"\b([a-z_]+)\.([a-z_]+)\b", " ".join([tree["meta"]["fix"], *fixes])
    ):
        if key in ("parquet", "toml"):
            continue
        if section in thresholds and key in thresholds[section]:
            continue
        assert key in type(getattr(config, section)).model_fields, f"{section}.{key}"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of the suites that a user may edit."""
    folder = tmp_path / "suites"
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
        ('"severity": "critical"', '"severity": "warn"', "write 'critical' or 'warning'"),
        ('"severity": "critical",', "", "has severity None"),
        ('"name": "interactions.rows"', '"name": "rows"', "not 'interactions.rows'"),
        ('"expectations"', '"expects"', "not a suite: KeyError"),
        ("{", "[", "not a suite"),
        ('"$PARAMETER": "time_min"', '"$PARAMETER": "time_mim"', "no parameter 'time_mim'"),
        ('"type": "expect_table_row', '"id": "1", "type": "expect_table_row', "and no id"),
        ("expect_table_row_count_to_be", "expect_table_row_count_to_bee", "refuses it"),
        ('{"min_value": 1}', '{"min_value": "many"}', "refuses it"),
    ],
)
def test_wrong_suite_is_refused_with_its_name(
    copied: Path, old: str, new: str, expected: str, tmp_path: Path
) -> None:
    rewrite(copied / "interactions.rows.json", old, new)
    with pytest.raises(ConfigError, match=r"interactions\.rows\.json") as caught:
        validate_with(copied, tmp_path)
    assert expected in str(caught.value)


def test_suite_of_an_unknown_table_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "interactions.rows.json").rename(copied / "interactions.row.json")
    rewrite(copied / "interactions.row.json", "interactions.rows", "interactions.row")
    with pytest.raises(ConfigError, match="no table 'row'; there are schema, rows, totals"):
        validate_with(copied, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_user_share = 0.2", "max_user_share = 'few'", "is not a number"),
        ("[interactions]", "[interaction]", "section [interactions]"),
        ("max_user_share", "max_users_share", "no parameter 'max_user_share'"),
    ],
)
def test_wrong_threshold_is_refused(
    copied: Path, old: str, new: str, expected: str, tmp_path: Path
) -> None:
    rewrite(copied / "thresholds.toml", old, new)
    with pytest.raises(ConfigError) as caught:
        validate_with(copied, tmp_path)
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", ["folder", "nothing"])
def test_folder_without_suites_is_refused(content: str, tmp_path: Path) -> None:
    if content == "nothing":
        (tmp_path / "suites").mkdir()
    with pytest.raises(ConfigError, match="data_contracts"):
        validate_with(tmp_path / "suites", tmp_path)


def test_a_user_adds_an_expectation_without_code(copied: Path, tmp_path: Path) -> None:
    more = (
        '"expectations": [{"type": "expect_column_values_to_match_regex", "severity": "critical", '
        '"kwargs": {"column": "behavior", "regex": "^c"}},'
    )
    rewrite(copied / "interactions.rows.json", '"expectations": [', more)
    from bigel.errors import ContractError

    with pytest.raises(ContractError) as caught:
        validate_with(copied, tmp_path)
    text = str(caught.value)
    assert "rows.behavior: it must hold: 20 rows [expect_column_values_to_match_regex]" in text
    assert '{"value": "favourite"}' in text


def test_optional_expectation_is_left_out_where_the_column_is_not_there(tmp_path: Path) -> None:
    def on(column: str, optional: bool) -> dict[str, object]:
        return {
            "type": "expect_column_values_to_not_be_null",
            "severity": "critical",
            "kwargs": {"column": column},
            "meta": {"optional": optional},
        }

    expectations = (on("a", False), on("b", True), on("c", True))
    suite = Suite("x.y", {}, expectations, tmp_path / "x.y.json")
    assert [place for place, _ in suite.applicable(["c"])] == [0, 2]
