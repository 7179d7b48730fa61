"""The suites: reviewed files in Great Expectations' own form, read without the framework."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bigel.errors import ConfigError
from bigel.store import fingerprint

CRITICAL, WARNING = "critical", "warning"
THRESHOLDS = "thresholds.toml"
DRIFT, DRIFT_THRESHOLDS = "drift", "drift.toml"  # proposed by a program, so in a file of its own
REALIZED = "realized"
HANDOVERS = ("raw_log", "interactions", DRIFT, REALIZED, "split", "recommendations")  # in order
BETWEEN = "expect_column_values_to_be_between"
PARAMETER = "$PARAMETER"


@dataclass(frozen=True)
class Suite:
    """The expectations on one table of a hand-over.

    Args:
        name: ``HANDOVER.TABLE``, also the name of the file.
        meta: ``version`` (raised by whoever changes the suite), ``guards`` (what it protects) and
            ``fix`` (the advice where an expectation has none).
        expectations: each with ``type``, ``severity``, ``kwargs`` and, if wanted, ``description``
            and ``meta`` (``fix``, ``optional``: leave it out where the table has no such column).
        path: the file.

    Raises:
        ConfigError: if a part is missing or a severity is unknown.
    """

    name: str
    meta: dict[str, Any]
    expectations: tuple[dict[str, Any], ...]
    path: Path

    def __post_init__(self) -> None:
        """Check the parts that Great Expectations would not."""
        if self.name != self.path.stem:
            raise ConfigError(f"{self.path}: its name is {self.name!r}, not {self.path.stem!r}")
        for place, expectation in enumerate(self.expectations, start=1):
            severity = expectation.get("severity")
            if severity not in (CRITICAL, WARNING):
                raise ConfigError(
                    f"{self.path}: expectation {place} ({expectation.get('type')}) has severity "
                    f"{severity!r}; write {CRITICAL!r} or {WARNING!r}"
                )
            if "id" in expectation or not {"type", "kwargs"} <= set(expectation):
                raise ConfigError(
                    f"{self.path}: expectation {place} needs type and kwargs, and no id"
                )

    @property
    def table(self) -> str:
        """The name after the dot."""
        return self.name.partition(".")[2]

    @property
    def version(self) -> str:
        """The version that people gave it, "" for none."""
        return str(self.meta.get("version", ""))

    @property
    def digest(self) -> str:
        """What it says, as 12 hex digits; the layout of the file does not count."""
        return fingerprint(self.name, self.meta, self.expectations)[:12]

    def fix_of(self, expectation: dict[str, Any]) -> str:
        """Return what to do when an expectation fails."""
        meta = expectation.get("meta") or {}
        return str(meta.get("fix") or self.meta.get("fix") or f"Look at {self.path.name}.")

    def applicable(self, columns: list[str]) -> list[tuple[int, dict[str, Any]]]:
        """Return place and expectation, without optional ones on columns that are not there."""
        return [
            (place, expectation)
            for place, expectation in enumerate(self.expectations)
            if not (expectation.get("meta") or {}).get("optional")
            or set(columns_of(expectation)) <= set(columns)
        ]


def columns_of(expectation: dict[str, Any]) -> list[str]:
    """Return the columns that an expectation names.

    >>> columns_of({"kwargs": {"column_A": "train", "column_B": "test", "or_equal": True}})
    ['train', 'test']
    """
    kwargs = expectation["kwargs"]
    named = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
    return named + list(kwargs.get("column_list", []))


def parameters_of(value: Any) -> Iterator[str]:
    """Yield the names of the parameters anywhere in an expectation.

    >>> list(parameters_of([{"kwargs": {"column": "rank", "max_value": {"$PARAMETER": "k"}}}]))
    ['k']
    """
    if isinstance(value, dict):
        if PARAMETER in value:
            yield value[PARAMETER]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from parameters_of(part)


def contract_of(suites: Mapping[str, Suite], limits: Mapping[str, float]) -> dict[str, str]:
    """Return ``version`` and ``digest`` of a contract: its suites and their thresholds."""
    versions = sorted({suite.version or "none" for suite in suites.values()})
    digests = sorted(suite.digest for suite in suites.values())
    return {"version": ", ".join(versions), "digest": fingerprint(digests, dict(limits))[:12]}


def limits_of(
    suites: Mapping[str, Suite], parameters: Mapping[str, Any]
) -> dict[str, tuple[float | None, float | None]]:
    """Return the limits in force, ``TABLE.COLUMN`` to (least, greatest); None for no limit."""
    found = {}
    for suite in suites.values():
        for expectation in suite.expectations:
            if expectation["type"] == BETWEEN:
                kwargs = expectation["kwargs"]
                ends = [kwargs.get(key) for key in ("min_value", "max_value")]
                low, high = (
                    parameters.get(end[PARAMETER]) if isinstance(end, dict) else end for end in ends
                )
                found[f"{suite.table}.{kwargs['column']}"] = (low, high)
    return found


def thresholds_file(folder: Path, handover: str) -> Path:
    """Return the file that holds the limits of a hand-over."""
    return folder / (DRIFT_THRESHOLDS if handover == DRIFT else THRESHOLDS)


def suite_folder(configured: str) -> Path:
    """Return the configured folder, or the one that ships with bigel.

    Raises:
        ConfigError: if it is not a folder.
    """
    folder = Path(configured) if configured else Path(str(resources.files("data_contracts")))
    if not folder.is_dir():
        raise ConfigError(
            f"contracts.folder = {configured!r}: no such folder; copy data_contracts/ and edit it, "
            "or leave it unset"
        )
    return folder


def load_suites(folder: Path, handover: str) -> dict[str, Suite]:
    """Read the suites of a hand-over, by table.

    Raises:
        ConfigError: naming the file that is missing or wrong.
    """
    paths = sorted(folder.glob(f"{handover}.*.json"))
    if not paths:
        raise ConfigError(f"{folder}: no suite {handover}.*.json; copy them from data_contracts/")
    suites = [_read_suite(path) for path in paths]
    return {suite.table: suite for suite in suites}


def load_thresholds(folder: Path, handover: str) -> dict[str, float]:
    """Read the limits of a hand-over.

    Raises:
        ConfigError: if the file or the section is missing or wrong.
    """
    path = thresholds_file(folder, handover)
    try:
        section = tomllib.loads(path.read_text("utf-8"))[handover]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(f"{path}: cannot read section [{handover}]: {error!r}") from None
    wrong = [name for name, limit in section.items() if type(limit) not in (int, float)]
    if wrong:
        raise ConfigError(f"{path}: {handover}.{wrong[0]} = {section[wrong[0]]!r} is not a number")
    return dict(section)


def _read_suite(path: Path) -> Suite:
    try:
        tree = json.loads(path.read_text("utf-8"))
        return Suite(tree["name"], dict(tree["meta"]), tuple(tree["expectations"]), path)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not a suite: {error!r}") from None
