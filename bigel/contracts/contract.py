"""A contract: the reviewed file ``HANDOVER.toml`` that says what must hold of a hand-over."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path

from bigel.contracts.row_rules import Rule, read_rule
from bigel.errors import ConfigError
from bigel.store import fingerprint

CRITICAL, WARNING = "critical", "warning"
DRIFT = "drift"
HANDOVERS = (
    *("raw_log", "interactions", DRIFT, "realized", "split", "catalogue", "recommendations"),
)  # in order
LIMITS = "limits"  # the section of the numbers that a platform owner sets
PARTS = ("version", "fix", LIMITS, "columns", "tables", "rule")


@dataclass(frozen=True)
class Contract:
    """What must hold of a hand-over.

    Args:
        handover: its name.
        path: the file.
        version: raised by whoever changes the file; "" for none.
        fix: what to do if a rule is broken that gives no advice of its own.
        tables: each table that is judged, with what it guards.
        rules: the rules on these tables.
        limits: numbers that rules name as ``$name``.
        columns: "required" and "optional" fields ("file.column") with their types.

    Raises:
        ConfigError: if a part is wrong.
    """

    handover: str
    path: Path
    version: str
    fix: str
    tables: Mapping[str, str]
    rules: Sequence[Rule]
    limits: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what a reader of the file may have got wrong."""
        for name, limit in self.limits.items():
            if type(limit) not in (int, float):
                raise ConfigError(f"{self.path}: {name} = {limit!r} is not a number")
        for rule in self.rules:
            if rule.severity not in (CRITICAL, WARNING):
                raise ConfigError(
                    f"{self.path}: rule {rule.name!r} has severity {rule.severity!r}; write "
                    f"{CRITICAL!r} or {WARNING!r}"
                )
            if rule.table not in self.tables:
                raise ConfigError(
                    f"{self.path}: rule {rule.name!r}: no table {rule.table!r}; there are "
                    f"{', '.join(self.tables)}"
                )
        if len({rule.key for rule in self.rules}) < len(self.rules):
            raise ConfigError(f"{self.path}: two rules on a table have the same name")

    @property
    def digest(self) -> str:
        """What it says, as 12 hex digits; the layout of the file does not count."""
        rules = [asdict(rule) for rule in self.rules]
        says = (self.version, self.fix, dict(self.tables), rules, self.limits, self.columns)
        return fingerprint(*says)[:12]

    @property
    def identity(self) -> dict[str, str]:
        """``version`` and ``digest``."""
        return {"version": self.version or "none", "digest": self.digest}

    def rules_on(self, table: str) -> list[Rule]:
        """Return the rules on a table."""
        return [rule for rule in self.rules if rule.table == table]

    def fix_of(self, rule: Rule) -> str:
        """Return what to do when a rule is broken."""
        return rule.fix or self.fix or f"Look at {self.path.name}."

    def bounds_of(self, measure: str) -> tuple[float | None, float | None]:
        """Return the limits of a measure, by their names: the least and the greatest."""
        return self.limits.get(f"min_{measure}"), self.limits.get(f"max_{measure}")


def contract_folder(configured: str) -> Path:
    """Return the configured folder, or the one that ships with bigel.

    Raises:
        ConfigError: if it is not a folder.
    """
    folder = Path(configured) if configured else Path(str(resources.files("data_contracts")))
    if not folder.is_dir():
        raise ConfigError(
            f"contracts.folder = {configured!r}: no such folder; make one with `bigel contracts "
            "init`, or leave it unset"
        )
    return folder


def load_contract(folder: Path, handover: str) -> Contract:
    """Read the contract of a hand-over.

    Raises:
        ConfigError: naming the file that is missing or wrong.
    """
    path = folder / f"{handover}.toml"
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        rules = [read_rule(given) for given in tree["rule"]]
        version, fix, tables = str(tree.get("version", "")), tree.get("fix", ""), tree["tables"]
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such contract; copy it from data_contracts/") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a contract: {error!r}") from None
    for key in tree.keys() - set(PARTS):
        raise ConfigError(f"{path}: no part {key!r}; there are {', '.join(PARTS)}")
    limits, columns = tree.get(LIMITS, {}), tree.get("columns", {})
    return Contract(handover, path, version, fix, tables, rules, limits, columns)
