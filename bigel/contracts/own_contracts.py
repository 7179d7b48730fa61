"""Contracts for a log of one's own: the shipped ones fitted to it, and a check without a run."""

import math
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.config.write import to_toml
from bigel.contracts.contract import CRITICAL, HANDOVERS, LIMITS, contract_folder, load_contract
from bigel.contracts.drift import measure_drift
from bigel.contracts.learned_limits import with_limits
from bigel.contracts.profile import profile_log
from bigel.contracts.tables import Tables, interactions_tables, raw_log_tables
from bigel.contracts.validation import validate
from bigel.errors import ConfigError, ContractError, WorkspaceError
from bigel.schema import INTERACTIONS_FILE
from bigel.store import Record, Workspace, write_text

SETTINGS_FILE = "contracts.toml"
SHARE = "refused_share <= $max_quarantined_share"  # a rule of the raw log
UNREVIEWED = "0"
SLACK = 2.0  # a share may be twice what it is, a volume half
SMALLEST_SHARE = 0.01  # of a limit


def propose(ingested: Record, config: Config, workspace: Workspace, out: Path) -> list[Path]:
    """Write a folder of contracts fitted to a log, for a person to review.

    Everything that ships with bigel is copied. Fitted are the limits of the raw log and of the
    interactions, and the columns and types of the latter. contracts.toml holds the settings to put
    into the configuration.

    Args:
        ingested: record of the ingest stage.
        config: of the log.
        workspace: where the log's profile is stored.
        out: folder to write; must not be there, or be empty.

    Returns:
        the fitted files.

    Raises:
        ConfigError: if the folder has files in it.
        WorkspaceError: if it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is there already; name a new folder")
    aside = out.with_name(f".{out.name}.aside")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for handover in HANDOVERS:
            shutil.copy(contract_folder("") / f"{handover}.toml", aside)
        fitted = _fit(ingested, profile_log(ingested, config, workspace), config, aside, out)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        raise WorkspaceError(f"--out {out}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [out / name for name in fitted]


def check_contracts(config: Config) -> dict[str, dict[str, str]]:
    """Read every contract.

    Returns:
        hand-over to ``version`` and ``digest`` of its contract.

    Raises:
        ConfigError: naming the file that is missing or wrong.
    """
    folder = contract_folder(config.contracts.folder)
    return {handover: load_contract(folder, handover).identity for handover in HANDOVERS}


def most_refused(config: Config) -> float:
    """Return the share of a log's rows that may be refused; 1 where no critical rule says it."""
    contract = load_contract(contract_folder(config.contracts.folder), "raw_log")
    stops = any(rule.severity == CRITICAL and rule.holds == SHARE for rule in contract.rules)
    return config.contracts.max_quarantined_share if stops else 1.0


def check_log(ingested: Record, config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """Judge the raw log, the interactions and the drift; a broken contract does not stop the next.

    Returns:
        the results of ``validate``, also of broken contracts.
    """
    results = [_result("raw_log", ingested, config, workspace)]
    results.append(_result("interactions", ingested, config, workspace))
    drifted = measure_drift(profile_log(ingested, config, workspace), config, workspace)
    return [*results, _result("drift", drifted, config, workspace)]


def _result(handover: str, record: Record, config: Config, workspace: Workspace) -> dict[str, Any]:
    try:
        return validate(handover, record, config, workspace, checked=config.data.origin)
    except ContractError as error:
        assert error.result is not None
        return error.result


def _fit(ingested: Record, profiled: Record, config: Config, folder: Path, out: Path) -> list[str]:
    """Fit the copies in ``folder``, which becomes ``out``; return the names of those changed."""
    raw = _frame(raw_log_tables(ingested, config, {}), "totals")
    found = interactions_tables(ingested, profiled, config, {})
    unknown = _share(raw["unknown_behavior_share"][0])
    _edit(folder / "raw_log.toml", {LIMITS: {"max_unknown_behavior_share": unknown}})
    types = pl.read_parquet_schema(ingested.file(INTERACTIONS_FILE))
    kinds = {f"interactions.{name}": [str(kind)] for name, kind in types.items()}
    columns = {
        f"columns.{part}": {f'"{field}"': kinds.get(field, []) for field in known}
        for part, known in load_contract(folder, "interactions").columns.items()
    }
    _edit(folder / "interactions.toml", {LIMITS: _limits(found), **columns})
    settings = _settings(raw, _frame(found, "behaviors"), config, out)
    lines = [f"{name} = {to_toml(value)}" for name, value in settings.items()]
    write_text(folder / SETTINGS_FILE, "[contracts]\n" + "\n".join(lines) + "\n")
    return ["raw_log.toml", "interactions.toml", SETTINGS_FILE]


def _edit(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Set values in a contract, and its version to one that nobody has reviewed."""
    text = path.read_text("utf-8")
    for section, values in sections.items():
        text = with_limits(text, section, values)
    write_text(path, re.sub(r'^version = ".*"', f'version = "{UNREVIEWED}"', text, flags=re.M))


def _frame(found: Tables, table: str) -> pl.DataFrame:
    return found.frames[table].lazy().collect()


def _limits(found: Tables) -> dict[str, float]:
    volumes = _frame(found, "behaviors")
    limits = {
        "max_user_share": _share(volumes["largest_user_share"].max()),
        "max_item_share": _share(volumes["largest_item_share"].max()),
    }
    if "times" in found.frames:
        days = _frame(found, "times")["days"][0]
        limits["min_days"] = math.floor(days / SLACK * 10) / 10
    return limits


def _settings(
    raw: pl.DataFrame, volumes: pl.DataFrame, config: Config, out: Path
) -> dict[str, Any]:
    """Return the section ``contracts``: shares with slack, half of the smallest volumes."""
    events = dict(volumes.select("behavior", "events").iter_rows())
    names = config.data.behaviors
    pairs = tuple((more, fewer) for more, fewer in pairwise(names) if events[more] > events[fewer])
    least = {
        f"min_{column}": max(int(int(str(volumes[column].min())) / SLACK), 1)
        for column in ("events", "users", "items")
    }
    share = _share(raw["refused_share"][0])
    return {"folder": str(out), "max_quarantined_share": share, **least, "funnel": pairs}


def _share(observed: Any) -> float:
    """Return a limit above an observed share.

    >>> _share(0.0), _share(0.123), _share(0.9)
    (0.01, 0.25, 1.0)
    """
    return min(max(math.ceil(float(observed) * SLACK * 100) / 100, SMALLEST_SHARE), 1.0)
