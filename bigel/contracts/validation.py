"""One validation: count the columns, then the contents; judge; write the Data Docs; tell."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import failures, recommendations, splits, tables
from bigel.contracts.accepted import MEASURES_FILE, accepted_at
from bigel.contracts.contract import (
    CRITICAL,
    DRIFT,
    HANDOVERS,
    Contract,
    contract_folder,
    load_contract,
)
from bigel.contracts.drift import MEASURES
from bigel.contracts.profile import profile_log
from bigel.contracts.row_rules import count, is_kept, refuse_unknown, shortened
from bigel.contracts.tables import Tables
from bigel.errors import ConfigError, ContractError
from bigel.store import Record, Workspace

SCHEMA = "schema"
FILES = {
    "raw_log": (schema.RAW_SUMMARY_FILE, schema.QUARANTINE_FILE),
    "interactions": (schema.INTERACTIONS_FILE,),
    "drift": (),  # its tables are there where there is something to compare
    "realized": (),  # likewise
    "split": (*map(schema.split_file, schema.SPLITS), schema.USERS_FILE, schema.ITEMS_FILE),
    "catalogue": (schema.CATALOGUE_FILE, schema.COVERAGE_FILE),
    "recommendations": (schema.RECOMMENDATIONS_FILE,),
}

log = logging.getLogger(__name__)


def validate(
    handover: str,
    record: Record,
    config: Config,
    workspace: Workspace,
    checked: str = "",
    **facts: Any,
) -> dict[str, Any]:
    """Check a hand-over against its contract and add the result to the Data Docs.

    Args:
        handover: one of ``HANDOVERS``.
        record: the stage that made the files: ingest for "raw_log" and "interactions", else the
            stage of the same name.
        config: ``contracts`` and ``data`` hold the limits of a run.
        workspace: where the Data Docs are, and the profile that "interactions" reads.
        checked: the log that is checked by hand; "" in a run. Checks stand apart in the Data Docs.
        facts: for "recommendations" only, what its maker was asked for and knew: any field of
            ``recommendations.Facts``.

    Returns:
        JSON-ready: ``handover``; ``contract``, its version and digest; ``success``; ``evaluated``,
        the number of rules; ``failed``, the warnings (table, rows, rule, column, severity,
        description, with the limits in force; fix; relax; observed, in words; count, the rows that
        break it; samples, up to three of them; of a share of refused rows also ``quarantined``, up
        to three of these, and ``quarantine``, the file of all); ``skipped``, table to reason; for
        drift, ``limits``, ``TABLE.MEASURE`` to (least, greatest), and ``reference``, when the run
        was accepted that it was compared with; ``docs``, the Data Docs;
        ``page``, where in them this validation is.

    Raises:
        ContractError: on a critical failure, after the Data Docs were written.
        ConfigError: if the contract or the hand-over's name is wrong.
        DataError: if a file of the hand-over cannot be read.
        WorkspaceError: if the Data Docs cannot be written.
    """
    if handover not in FILES:
        raise ConfigError(f"{handover!r} is no hand-over; there are {', '.join(HANDOVERS)}")
    from bigel.contracts.expectations import judge
    from bigel.contracts.page import publish_run

    folder = contract_folder(config.contracts.folder)
    contract = load_contract(folder, handover)
    found, counts = count_rules(contract, record, config, workspace, facts)
    kept, judgement = judge(contract, counts, found.parameters)
    checks = _checks(contract, counts, kept, found.parameters)
    failed = [check for check in checks if not check["success"]]
    failed.sort(key=lambda check: check["severity"] != CRITICAL)
    if handover == "raw_log":
        failures.show_refused(failed, record, config, workspace)
    result = {
        "handover": handover,
        "contract": contract.identity,
        "success": all(check["severity"] != CRITICAL for check in failed),
        "evaluated": len(checks),
        "failed": failed,
        "skipped": found.skipped,
    }
    if handover == DRIFT:
        result["limits"] = limits_of(contract)
    report = _report(result, record, contract, checks, found)
    report |= {"session": workspace.session, "checked": checked}
    if handover == DRIFT:
        report[DRIFT] = {
            "model": config.tracking.model_name,
            "profile": record.counts["profile"],
            "reference": record.counts["reference"],
            "measures": json.loads(record.file(MEASURES_FILE).read_text("utf-8")),
            "limits": result["limits"],
        }
        result["reference"] = _reference(record, config, workspace)
    page = publish_run(workspace, report, judgement, config.contracts.history)
    result |= {"docs": page.partition("#")[0], "page": page}
    _tell(result, record, contract, shipped=not config.contracts.folder)
    return result


def holds(handover: str, record: Record, config: Config, workspace: Workspace) -> bool:
    """Tell whether the counts alone show that no critical rule is broken.

    Without Great Expectations and without a page, for an answer that a person waits for; where it
    is false, ``validate`` says what is wrong, and ``broken`` in short.

    Args: as of ``validate``.
    """
    return not broken(handover, record, config, workspace)


def broken(handover: str, record: Record, config: Config, workspace: Workspace) -> list[str]:
    """Return in words each critical rule that the counts show to be broken; as ``holds``."""
    contract = load_contract(contract_folder(config.contracts.folder), handover)
    found, counts = count_rules(contract, record, config, workspace, {})
    rules = {rule.key: rule for rule in contract.rules if rule.severity == CRITICAL}
    return [
        f"{rule.words(found.parameters)}: {row['found']}. {contract.fix_of(rule)}"
        for row in counts.to_dicts()
        if (rule := rules.get(row["rule"])) and not is_kept(rule, row, found.parameters)
    ]


def count_rules(
    contract: Contract,
    record: Record,
    config: Config,
    workspace: Workspace,
    facts: Mapping[str, Any],
) -> tuple[Tables, pl.DataFrame]:
    """Count the rules on the columns; if none is broken, those on the contents, too.

    Returns:
        the tables, and the counts of the rules on them, as of ``row_rules.count``.
    """
    files = {Path(name).stem: record.file(name) for name in FILES[contract.handover]}
    columns = tables.schema_table(files, contract.columns, _configured_fields(config))
    on_columns = contract.rules_on(SCHEMA)
    counts = [count(columns, on_columns, contract.limits, contract.path)]
    broken = counts[0].filter(pl.col("violations") > 0)["rule"].to_list()
    if any(rule.severity == CRITICAL and rule.key in broken for rule in on_columns):
        why = "the columns or their types are wrong, see schema"
        skipped = {table: why for table in contract.tables if table != SCHEMA}
        return Tables({}, dict(contract.limits), skipped), counts[0]
    found = _contents(contract, record, config, workspace, facts)
    _refuse_unknown(contract, found)
    for table, frame in found.frames.items():
        if rules := contract.rules_on(table):
            counts.append(count(frame, rules, found.parameters, contract.path))
    return found, pl.concat(counts)


def _reference(record: Record, config: Config, workspace: Workspace) -> str:
    """Return when the run was accepted that a log was compared with; "" where there is none."""
    profile = record.counts["reference"]
    return accepted_at(profile, config, workspace) if profile else ""


def limits_of(contract: Contract) -> dict[str, tuple[float | None, float | None]]:
    """Return the limits of drift in force, ``TABLE.MEASURE`` to (least, greatest)."""
    return {
        f"{table}.{measure}": contract.bounds_of(measure)
        for table, measures in MEASURES.items()
        for measure in measures
    }


def _configured_fields(config: Config) -> list[str]:
    """Return the optional columns that the configuration makes required."""
    timed = (schema.FIRST, schema.TIMESTAMP) if config.data.columns.timestamp else ()
    weighs = (schema.AMOUNT,) if config.data.weight_column else ()
    return [f"interactions.{name}" for name in (*timed, *weighs)]


def _contents(
    contract: Contract,
    record: Record,
    config: Config,
    workspace: Workspace,
    facts: Mapping[str, Any],
) -> Tables:
    handover, limits = contract.handover, contract.limits
    if handover == "recommendations":
        known = recommendations.facts_of(record, config, **facts)
        return recommendations.recommendations_tables(record, known, limits)
    if facts:
        raise TypeError(f"validate({handover!r}) takes no {', '.join(facts)}")
    if handover == "raw_log":
        return tables.raw_log_tables(record, config, limits)
    if handover == "interactions":
        profiled = profile_log(record, config, workspace, quiet=True)
        return tables.interactions_tables(record, profiled, config, limits)
    if handover == "split":
        return splits.split_tables(record, config, limits)
    if handover == "catalogue":
        return tables.catalogue_tables(record, limits)
    return tables.stored_tables(record, limits)


def _refuse_unknown(contract: Contract, contents: Tables) -> None:
    known = [SCHEMA, *contents.frames, *contents.skipped]
    for table in contract.tables:
        if table not in known:
            raise ConfigError(f"{contract.path}: no table {table!r}; there are {', '.join(known)}")
    refuse_unknown(contract.rules, contents.parameters, contract.path)


def _checks(
    contract: Contract, counts: pl.DataFrame, kept: Sequence[bool], parameters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what pages and messages tell of each rule, from its counts and the verdict."""
    rules = {rule.key: rule for rule in contract.rules}
    checks = []
    for row, success in zip(counts.to_dicts(), kept, strict=True):
        rule = rules[row["rule"]]
        checks.append(
            {
                "table": rule.table,
                "rule": rule.name,
                "column": row["column"],
                "rows": row["rows"],
                "severity": rule.severity,
                "success": success,
                "description": shortened(rule.words(parameters)),
                "fix": contract.fix_of(rule),
                "relax": failures.how_to_relax(contract, rule, parameters),
                "observed": row["found"],
                "count": 0 if success else row["violations"],
                "samples": [] if success else json.loads(row["example"]),
            }
        )
    return checks


def _report(
    result: dict[str, Any],
    record: Record,
    contract: Contract,
    checks: list[dict[str, Any]],
    found: Tables,
) -> dict[str, Any]:
    """Return what the pages show: the result, each check, and what each table guards."""
    sizes = {check["table"]: check["rows"] for check in checks}
    totals = found.frames.get("totals")
    if contract.handover == "raw_log" and isinstance(totals, pl.DataFrame):
        sizes["rows"] = int(totals["rows"].sum())
    return result | {
        "stage": record.stage,
        "fingerprint": record.fingerprint,
        "rows": sizes.get("rows"),
        "checks": checks,
        "file": contract.path.name,
        "reviewed": dict(contract.limits),
        "tables": [
            {
                "table": table,
                "guards": guards,
                "rows": sizes.get(table, 0),
                "skipped": result["skipped"].get(table, ""),
            }
            for table, guards in contract.tables.items()
        ],
    }


def _tell(result: dict[str, Any], record: Record, contract: Contract, shipped: bool) -> None:
    """Log the warnings; raise what is critical."""
    for warning in result["failed"]:
        if warning["severity"] != CRITICAL:
            told = contract.handover, failures.one_line(warning), warning["fix"], warning["relax"]
            log.warning("contract %s: %s. %s Or relax %s.", *told)
    if not result["success"]:
        error = ContractError(failures.message(result, record, contract, shipped))
        error.result = result
        raise error
