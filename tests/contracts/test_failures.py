"""Where a failure sends its reader."""

import json
from pathlib import Path
from typing import Any

import pytest

from bigel.config import parse_config
from bigel.contracts import validate
from bigel.contracts.contract import contract_folder, load_contract
from bigel.contracts.failures import details, how_to_relax
from bigel.errors import ContractError
from bigel.ingest import ingest
from bigel.store import Workspace
from tests.contracts.good import GOOD
from tests.contracts.mutations import put, settings

SHIPPED = contract_folder("")


def relax(handover: str, column: str, parameters: dict[str, Any]) -> str:
    contract = load_contract(SHIPPED, handover)
    (rule,) = [one for one in contract.rules if one.holds.startswith(column)]
    return how_to_relax(contract, rule, {**contract.limits, **parameters})


def test_a_limit_is_named_with_file_section_and_value() -> None:
    assert relax("interactions", "largest_user_share", {}) == (
        f"max_user_share in {SHIPPED / 'interactions.toml'}, section [limits] (now 0.2)"
    )
    assert relax("drift", "late_share", {}) == (
        f"max_late_share in {SHIPPED / 'drift.toml'}, section [limits] (now 0.05)"
    )


def test_a_setting_is_named_with_its_value() -> None:
    text = relax("interactions", "events", {"min_events": 7})
    assert text == "contracts.min_events in the configuration (now 7)"


def test_anything_else_is_named_by_its_name_in_its_file() -> None:
    text = relax("interactions", "user_id", {})
    path = SHIPPED / "interactions.toml"
    assert text == f"rule 'every interaction has a user' of {path}, or its severity"


@pytest.mark.usefixtures("no_pages")
def test_a_broken_contract_says_what_where_how_many_and_how_to_go_on(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    settings("contracts.min_events=15")(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    text = str(caught.value)
    assert (
        "- behaviors.events: every behavior has enough interactions (events >= 15): 2 rows" in text
    )
    assert '{"behavior": "favourite", "events": 10, ' in text
    assert "    what to do: Take the behavior out of data.behaviors" in text
    assert "    or relax:   contracts.min_events in the configuration (now 15)" in text
    assert "interactions.toml, version 3, digest " in text
    assert "`bigel contracts init` makes a copy of your own" in text


def test_long_figures_of_samples_are_cut() -> None:
    check = {"samples": [{"share": 0.123456789, "n": 123456789}], "fix": "x", "relax": "y"}
    assert details(check)[0] == '    {"share": 0.123457, "n": 123456789}'


def test_a_share_of_refused_rows_shows_some_of_them_and_where_all_are(tmp_path: Path) -> None:
    data = GOOD["raw_log"]()
    put("quarantine", "raw", '{"user": <1' + "é" * 300)(data)
    settings("contracts.max_quarantined_share=0.006")(data)
    with pytest.raises(ContractError) as caught:
        data.validate(tmp_path)
    text, result = str(caught.value), caught.value.result
    assert result is not None
    totals, files = result["failed"]
    shown = {"source_file": "a.csv", "row_number": 3, "reason": "null user_id"}
    shown["raw"] = '{"user": <1' + "é" * 189
    assert totals["quarantined"] == files["quarantined"] == [shown]
    assert f"    {json.dumps(shown, ensure_ascii=False)}\n" in text
    assert f"    all refused: {tmp_path / 'stage' / 'quarantine.parquet'}\n" in text
    assert "rows that are not a JSON object ask for another data.format" in text
    page = Path(result["docs"]).read_text("utf-8")
    assert page.count("{&#34;user&#34;: &lt;1é") == 2
    assert str(tmp_path / "stage" / "quarantine.parquet") in page


@pytest.mark.usefixtures("no_pages")
def test_a_breach_of_drift_warns_or_stops_as_its_severity_says(tmp_path: Path) -> None:
    import shutil

    data = GOOD["drift"]()
    put("totals", "new_user_share", 0.9)(data)
    result = data.validate(tmp_path / "warn")
    assert result["success"] and len(result["failed"]) == 1
    folder = tmp_path / "own"
    shutil.copytree(SHIPPED, folder)
    path = folder / "drift.toml"
    path.write_text(path.read_text("utf-8").replace('"warning"', '"critical"'), "utf-8")
    settings(f"contracts.folder={folder}")(data)
    with pytest.raises(ContractError, match=r"totals\.new_user_share: most users were there"):
        data.validate(tmp_path / "stop")


@pytest.mark.usefixtures("no_pages")
def test_a_log_with_unknown_behaviors_lists_all_of_them_with_their_rows(tmp_path: Path) -> None:
    rows = [f"{n},{n},{'buy' if n % 2 else 'view' if n % 3 else ' like '}" for n in range(60)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["user_id,item_id,behavior", *rows]))
    config = parse_config({"data": {"path": str(log), "behaviors": ["buy"]}})
    workspace = Workspace(tmp_path / "w")
    record = ingest(config, workspace)
    with pytest.raises(ContractError) as caught:
        validate("raw_log", record, config, workspace)
    assert "    unknown:    'view' 20, 'like' 10\n" in str(caught.value)


@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("gone", [False, True])
def test_unknown_behaviors_of_lists_are_told_and_a_lost_log_hides_no_failure(
    tmp_path: Path, gone: bool
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for name in ("foo_train", "buy_train", "buy_test"):
        (folder / f"{name}.txt").write_text(f"{name[0]}1 i1 i2\n{name[0]}2 i3\n")
    data = {"path": str(folder), "behaviors": ["buy"], "format": "lists"}
    config = parse_config({"data": data})
    workspace = Workspace(tmp_path / "w")
    record = ingest(config, workspace)
    if gone:
        folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ContractError) as caught:
        validate("raw_log", record, config, workspace)
    assert ("    unknown:    'foo' 3\n" in str(caught.value)) is not gone
