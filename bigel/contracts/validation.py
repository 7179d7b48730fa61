"""One validation: the columns first, then the contents, then the Data Docs, then the verdict."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import failures, lists, splits, suites, tables
from bigel.contracts.history import MEASURES_FILE, History
from bigel.contracts.samples import REFUSED_SHARES, refused_rows
from bigel.contracts.suites import CRITICAL, HANDOVERS, Suite
from bigel.contracts.tables import Tables
from bigel.errors import ConfigError, ContractError
from bigel.store import Record, Workspace

if TYPE_CHECKING:
    from bigel.contracts.checks import Check
    from bigel.contracts.engine import Judgement

SCHEMA = "schema"
FILES = {
    "raw_log": (schema.RAW_SUMMARY_FILE, schema.QUARANTINE_FILE),
    "interactions": (schema.INTERACTIONS_FILE,),
    "drift": (),  # its tables are there where there is something to compare
    "realized": (),  # likewise
    "split": (*map(schema.split_file, schema.SPLITS), schema.USERS_FILE, schema.ITEMS_FILE),
    "recommendations": (schema.RECOMMENDATIONS_FILE,),
}
MAIN = {"raw_log": ("totals", "rows")}  # table and column that tell the size; else the rows' number

log = logging.getLogger(__name__)


def validate(
    handover: str, record: Record, config: Config, workspace: Workspace, **facts: Any
) -> dict[str, Any]:
    """Check a hand-over against its contract and add the result to the Data Docs.

    Args:
        handover: one of ``HANDOVERS``.
        record: the stage that made the files: ingest for "raw_log" and "interactions", else the
            stage of the same name.
        config: ``contracts`` and ``data`` hold the limits.
        workspace: where the Data Docs are.
        facts: for "recommendations" only, what its maker was asked for and knew: any field of
            ``lists.Facts``.

    Returns:
        JSON-ready: ``handover``; ``contract``, its version and digest; ``success``; ``evaluated``,
        the number of expectations; ``failed``, the warnings (table, expectation, column, severity,
        description, fix, relax, observed, count, samples; of a share of refused rows also
        ``quarantined``, up to three of them, and ``quarantine``, the file of all); ``skipped``,
        table to reason; for drift, ``limits`` (``suites.limits_of``); ``docs``, the index page;
        ``page``, the page of this validation.

    Raises:
        ContractError: on a critical failure, after the Data Docs were written.
        ConfigError: if a suite, a threshold or the hand-over's name is wrong.
        DataError: if a file of the hand-over cannot be read.
        WorkspaceError: if the Data Docs cannot be written.
    """
    if handover not in FILES:
        raise ConfigError(f"{handover!r} is no hand-over; there are {', '.join(HANDOVERS)}")
    from bigel.contracts.docs import publish_run

    folder = suites.suite_folder(config.contracts.folder)
    wanted = suites.load_suites(folder, handover)
    limits = suites.load_thresholds(folder, handover)
    found, judged = _judge(handover, record, config, wanted, limits, facts)
    checks = [check for judgement in judged for check in judgement.checks]
    result = _result(handover, checks, found, wanted, limits)
    if handover == "raw_log":
        _show_refused(result["failed"], record)
    report = _report(result, record, wanted, found, checks)
    if handover == suites.DRIFT:
        report[handover] = _drift_facts(record, config, wanted, limits)
        result["limits"] = report[handover]["limits"]
    page = publish_run(
        workspace.data_docs,
        report,
        judged,
        config.contracts.history,
        History.of(workspace) if handover in (suites.DRIFT, suites.REALIZED) else None,
    )
    result |= {"docs": str(workspace.data_docs / "index.html"), "page": str(page)}
    for warning in result["failed"]:
        if warning["severity"] != CRITICAL:
            told = handover, failures.one_line(warning), warning["fix"], warning["relax"]
            log.warning("contract %s: %s. %s Or relax %s.", *told)
    if not result["success"]:
        error = ContractError(failures.message(result, record, folder, not config.contracts.folder))
        error.result = result
        raise error
    return result


def _judge(
    handover: str,
    record: Record,
    config: Config,
    wanted: Mapping[str, Suite],
    limits: Mapping[str, float],
    facts: Mapping[str, Any],
) -> "tuple[Tables, list[Judgement]]":
    """Judge the columns; if they are right, judge the contents."""
    from bigel.contracts.engine import Judge

    judge = Judge()
    columns = tables.schema_table({Path(name).stem: record.file(name) for name in FILES[handover]})
    parameters = {"configured_fields": _configured_fields(config)}
    found = Tables({SCHEMA: columns}, parameters)
    judged = []
    if SCHEMA in wanted:
        judged.append(judge.judge(wanted[SCHEMA], columns, parameters))
        if any(not c.success and c.severity == CRITICAL for c in judged[0].checks):
            why = "the columns or their types are wrong, see schema"
            return Tables(found.frames, {}, {t: why for t in wanted if t != SCHEMA}), judged
    contents = _contents(handover, record, config, limits, facts)
    _refuse_unknown(wanted, contents)
    for table, frame in contents.frames.items():
        if table in wanted:
            judged.append(judge.judge(wanted[table], frame, contents.parameters))
    return contents, judged


def _configured_fields(config: Config) -> list[str]:
    """Return the optional columns that the configuration makes required."""
    timed = (schema.FIRST, schema.TIMESTAMP) if config.data.columns.timestamp else ()
    return [f"interactions.{name}" for name in timed]


def _contents(
    handover: str,
    record: Record,
    config: Config,
    limits: Mapping[str, float],
    facts: Mapping[str, Any],
) -> Tables:
    if handover == "recommendations":
        return lists.recommendations_tables(record, lists.facts_of(record, config, **facts), limits)
    if facts:
        raise TypeError(f"validate({handover!r}) takes no {', '.join(facts)}")
    build = {
        "raw_log": tables.raw_log_tables,
        "interactions": tables.interactions_tables,
        "drift": tables.stored_tables,
        "realized": tables.stored_tables,
        "split": splits.split_tables,
    }[handover]
    return build(record, config, limits)


def _refuse_unknown(wanted: Mapping[str, Suite], contents: Tables) -> None:
    known = [SCHEMA, *contents.frames, *contents.skipped]
    for table, suite in wanted.items():
        if table not in known:
            raise ConfigError(f"{suite.path}: no table {table!r}; there are {', '.join(known)}")
        if table == SCHEMA:
            continue
        for name in suites.parameters_of(suite.expectations):
            if name not in contents.parameters:
                raise ConfigError(
                    f"{suite.path}: no parameter {name!r}; there are "
                    f"{', '.join(contents.parameters)}"
                )


def _result(
    handover: str,
    checks: "list[Check]",
    found: Tables,
    wanted: Mapping[str, Suite],
    limits: Mapping[str, float],
) -> dict[str, Any]:
    hidden = ("rows", "success", "place")
    failed = []
    for check in checks:
        if not check.success:
            shown = {key: value for key, value in asdict(check).items() if key not in hidden}
            suite = wanted[check.table]
            shown["relax"] = failures.how_to_relax(suite, check.place, found.parameters, limits)
            failed.append(shown)
    failed.sort(key=lambda check: check["severity"] != CRITICAL)
    return {
        "handover": handover,
        "contract": suites.contract_of(wanted, limits),
        "success": all(check["severity"] != CRITICAL for check in failed),
        "evaluated": len(checks),
        "failed": failed,
        "skipped": found.skipped,
    }


def _show_refused(failed: list[dict[str, Any]], record: Record) -> None:
    """Add rows of the quarantine to the failures that are about their share."""
    quarantine = record.file(schema.QUARANTINE_FILE)
    for check in failed:
        if check["column"] in REFUSED_SHARES:
            check["quarantined"] = refused_rows(quarantine, check["samples"])
            check["quarantine"] = str(quarantine)


def _drift_facts(
    record: Record, config: Config, wanted: Mapping[str, Suite], limits: Mapping[str, float]
) -> dict[str, Any]:
    """Return what the drift page shows of this run."""
    return {
        "model": config.tracking.model_name,
        "profile": record.counts["profile"],
        "reference": record.counts["reference"],
        "measures": json.loads(record.file(MEASURES_FILE).read_text("utf-8")),
        "limits": suites.limits_of(wanted, limits),
    }


def _report(
    result: dict[str, Any],
    record: Record,
    wanted: Mapping[str, Suite],
    found: Tables,
    checks: "list[Check]",
) -> dict[str, Any]:
    """Return what the pages show: the result, each check, and what each suite guards."""
    sizes = {check.table: check.rows for check in checks}
    order = [SCHEMA, *found.frames, *found.skipped]
    table, column = MAIN.get(result["handover"], ("rows", None))
    main = found.frames.get(table)
    size = sizes.get(table)
    if column is not None and isinstance(main, pl.DataFrame):
        size = int(main[column].sum())
    return result | {
        "stage": record.stage,
        "fingerprint": record.fingerprint,
        "rows": size,
        "checks": [asdict(check) for check in checks],
        "suites": [
            {
                "table": suite.table,
                "guards": suite.meta.get("guards", ""),
                "file": suite.path.name,
                "version": suite.version,
                "digest": suite.digest,
                "rows": sizes.get(suite.table, 0),
                "skipped": found.skipped.get(suite.table, ""),
            }
            for suite in sorted(wanted.values(), key=lambda one: order.index(one.table))
        ],
    }
