"""The verdict on a model: one typed record, and the same words wherever it is shown.

The terminal, the report, Prefect's artifact, MLflow's run and the description of a version all show
what ``Verdict`` says: its title, facts, table, reason and next steps. Nothing else judges a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from bigel.config.exclusion import ANY, NONE
from bigel.data.days import as_time
from bigel.schema import FIRST, HORIZON, MOMENTS, NOW, TEST, TRAIN, VERDICT_FILE, ZONE, split_file
from bigel.store import Record
from bigel.templates import templates_of

NO_FIGURE = "–"
BEST_RULE = "best simple rule"
CUT = " …"  # where a text ends early
TITLE, SUB = 0, 1  # of a cell


@dataclass(frozen=True)
class Beside:
    """Another ranking of the same users, and how far ours is above it.

    Args:
        value: its mean.
        difference: ours minus it.
        low: lower end of the 95 % interval of the difference.
        high: upper end.
        users: number of users.
    """

    value: float
    difference: float
    low: float
    high: float
    users: int

    @property
    def told(self) -> str:
        """The difference and its interval.

        >>> Beside(0.2, 0.01, -0.001, 0.021, 9).told
        '+0.0100 (-0.0010 to +0.0210)'
        """
        return f"{self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True)
class Line:
    """One behavior: the figure of what is served, and what stands beside it.

    Args:
        behavior: its name.
        users: that count.
        value: the mean; None: nothing was measured.
        rule: the best simple rule on the same users; None: likewise.
        champion: the champion, ranked side by side; None: it was not.
        discovery: the figure among items that the user never touched; None: no such user.
        discovery_rule: the rule's.
        rule_name: what the rule does; "" in a verdict of before rules were chosen.
        popularity: popularity on the same users, whatever the best rule is.
    """

    behavior: str
    users: int
    value: float | None
    rule: Beside | None = None
    champion: Beside | None = None
    discovery: float | None = None
    discovery_rule: float | None = None
    rule_name: str = ""
    popularity: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What a run found about its model.

    Args:
        model: registered name.
        version: None: it has none yet.
        alias: of the version, "" without one.
        made: when the run was ready, ISO, UTC.
        data: first and last day of the log; None: it has no times.
        held_out: first and last day that was held out; None likewise.
        metric: for example "NDCG@5".
        rule: what the column of the simple rule is called.
        champion: version that was champion when it was judged, if it was another.
        lines: one per behavior.
        why: the gate's reason.
        todo: what to do next, a sentence each.
        zone: time zone of the days.
        exclude: policy of the lists of each behavior where it is not "same"; figures are of "same".
    """

    model: str
    version: int | None
    alias: str
    made: str
    data: tuple[str, str] | None
    held_out: tuple[str, str] | None
    metric: str
    rule: str
    champion: int | None
    lines: tuple[Line, ...]
    why: str
    todo: tuple[str, ...] = ()
    zone: str = "UTC"
    exclude: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Verdict":
        """Return what ``to_dict`` was made of."""

        def beside(found: Any) -> Beside | None:
            return None if found is None else Beside(**found)

        lines = tuple(
            Line(**{**line, "rule": beside(line["rule"]), "champion": beside(line["champion"])})
            for line in value["lines"]
        )
        spans = {key: tuple(value[key]) if value[key] else None for key in ("data", "held_out")}
        return cls(**{**value, **spans, "lines": lines, "todo": tuple(value["todo"])})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @property
    def named(self) -> str:
        """The model and its version."""
        number = "without a version" if self.version is None else f"version {self.version}"
        return f"{self.model} {number}"

    @property
    def title(self) -> str:
        """Who it is about and what it is."""
        if self.version is None:
            return f"{self.model}: not judged yet"
        return f"{self.named} is {self.alias or 'without an alias'}"

    @property
    def good(self) -> bool:
        """Whether it serves."""
        return self.alias == "champion"

    @property
    def mean(self) -> float | None:
        """The mean over behaviors of the figure."""
        known = [line.value for line in self.lines if line.value is not None]
        return sum(known) / len(known) if known else None

    def facts(self) -> list[tuple[str, str]]:
        """Return label and text of what is known about the run."""
        facts = [("made", as_time(self.made))] if self.made else []
        days = f"{' to '.join(self.data)}, {self.zone}" if self.data else "without times"
        newest = f"{' to '.join(self.held_out)}, the newest days" if self.held_out else "test"
        return [*facts, ("data", f"{days}; held out: {newest}")]

    def header(self) -> list[str]:
        """Return the names of the table's columns."""
        metric = self.metric if self.exclude else f"{self.metric}, as served"
        names = ["behavior", metric, self.rule]
        return names if self.champion is None else [*names, f"champion, version {self.champion}"]

    def rows(self) -> list[list[tuple[str, str]]]:
        """Return a row per behavior: of each column the text, and what stands smaller below."""
        return [self._row(line) for line in self.lines]

    def _row(self, line: Line) -> list[tuple[str, str]]:
        users = f"{line.users:,} users"
        rule = _cell(line.rule, line.users, line.rule_name)
        cells = [(line.behavior, ""), (rate(line.value), users), rule]
        return cells if self.champion is None else [*cells, _cell(line.champion, line.users)]

    def notes(self) -> list[str]:
        """Return what changes how the figures are read, at most one sentence a kind."""
        below = [
            f"{line.behavior} {rate(line.discovery)} against {rate(line.discovery_rule)}"
            for line in self.lines
            if line.discovery is not None
            and line.discovery_rule is not None
            and line.discovery <= line.discovery_rule
        ]
        notes = []
        if below:
            notes.append(
                f"among items that a user never touched it is not above the {self.rule}: "
                + ", ".join(below)
            )
        return notes + self._policies()

    def _policies(self) -> list[str]:
        """Return a sentence for each policy of lists that is another than the figures'."""
        told = []
        for policy, hidden, only in (
            (ANY, "what the user has under any behavior", " only"),
            (NONE, "nothing that the user has", ""),
        ):
            if names := [name for name, other in self.exclude.items() if other == policy]:
                told.append(
                    f"lists of {', '.join(names)} leave out {hidden} (recommend.exclude), but "
                    f"every figure here leaves out what the user has under the same behavior{only}"
                )
        return told

    def said(self) -> list[tuple[str, str]]:
        """Return label and text of what follows the table: notes, reason, next steps."""
        return [
            *(("note", note) for note in self.notes()),
            ("why", self.why),
            *(("next", step) for step in self.todo),
        ]

    def markdown(self, most: int | None = None) -> str:
        """Return the whole as Markdown, for Prefect and MLflow.

        Args:
            most: characters; the last rows of the table are left out where there is no room.
        """
        text = self._markdown(self.rows(), 0)
        if most is None:
            return text
        for left_out in range(1, len(self.lines) + 1):
            if len(text) <= most:
                return text
            text = self._markdown(self.rows()[:-left_out], left_out)
        return text if len(text) <= most else text[: most - len(CUT)] + CUT

    def _markdown(self, rows: Sequence[Sequence[tuple[str, str]]], left_out: int) -> str:
        header = self.header()
        table = [header, ["---", *["---:"] * (len(header) - 1)]]
        table += [[_in_one(cell) for cell in row] for row in rows]
        lines = [f"### {_safe(self.title)}", ""]
        lines += [f"**{label}** {_safe(text)}  " for label, text in self.facts()]
        lines += ["", *(f"| {' | '.join(map(_safe, row))} |" for row in table), ""]
        if left_out:
            lines += [f"… and {left_out} more: see {VERDICT_FILE} of the run", ""]
        lines += [BELOW, ""]
        lines += [f"**{label}** {_safe(text)}  " for label, text in self.said()]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the whole as a section of a page."""
        return (
            templates_of("evaluate")
            .get_template("verdict.html.j2")
            .render(verdict=self, below=BELOW)
        )


BELOW = "Beside a rule's or a champion's figure: ours minus it, with its 95 % interval."


def stamp(page: str, verdict: Verdict) -> str:
    """Return a report with this verdict in the place of the one it has."""
    return stamped(page, "verdict", verdict.html())


def stamp_lists(page: str, told: str) -> str:
    """Return a report that says this, as HTML, of the lists that stand beside it."""
    return stamped(page, "lists", told)


def stamped(page: str, name: str, block: str) -> str:
    """Return a page with a block between its comments of that name; without them as it is."""
    head, begin, rest = page.partition(f"<!--{name}-->")
    _, end, tail = rest.partition(f"<!--/{name}-->")
    return f"{head}{begin}{block}{end}{tail}" if end else page


def unjudged(
    headline: Mapping[str, Any], split: Record, model: str, why: str,
    made: str = "", todo: tuple[str, ...] = (),
) -> Verdict:  # fmt: skip
    """Return the verdict before a gate has judged: without version, alias and champion.

    Args:
        headline: the branch of ``metrics.json``, see ``bigel.evaluate.headline``.
        split: record of the split stage.
        model: registered name.
        why: why no gate has judged.
        made: as of ``Verdict``, "" where it is not known.
        todo: likewise.
    """
    return Verdict(
        model=model, version=None, alias="", made=made, metric=f"NDCG@{headline['cutoff']}",
        rule=BEST_RULE, champion=None, lines=lines_of(headline), why=why, todo=todo,
        zone=split.counts.get(ZONE, "UTC"), exclude=headline.get("exclude", {}), **spans_of(split),
    )  # fmt: skip


def lines_of(
    headline: Mapping[str, Any], champion: Mapping[str, Beside] | None = None
) -> tuple[Line, ...]:
    """Return a line per behavior.

    Args:
        headline: the branch of ``metrics.json``, see ``bigel.evaluate.headline``.
        champion: by behavior, where it was ranked side by side.
    """
    return tuple(
        Line(
            name,
            found["users"],
            found["value"],
            _rule(found),
            (champion or {}).get(name),
            found["discovery"],
            found["discovery_rule"],
            found.get("rule_name", ""),
            found.get("popularity"),
        )
        for name, found in headline["behaviors"].items()
    )


def spans_of(split: Record) -> dict[str, tuple[str, str] | None]:
    """Return "data" and "held_out" of a verdict, by a split stage's record.

    Days are those of the log's zone; of a log that is not cut by time, which has none, in UTC.
    """
    zone = split.counts.get(ZONE, "UTC")
    places = [split.file(split_file(name)) for name in (TRAIN, TEST)]
    spans: dict[str, tuple[str, str] | None] = {"data": None, "held_out": None}
    if FIRST not in pl.read_parquet_schema(places[0]):
        return spans
    times = pl.scan_parquet(places).select(pl.min(FIRST).alias("a"), pl.max(FIRST).alias("b"))
    first, last = times.collect().row(0)
    moments = split.counts.get(MOMENTS)
    if moments:
        begin, last = moments[TEST], moments[NOW] - 1
        horizon = split.counts.get(HORIZON) or last - begin
        spans["held_out"] = day(begin, zone), day(min(last, begin + horizon - 1), zone)
    return spans | {"data": (day(first, zone), day(last, zone))}


def day(seconds: int, zone: str) -> str:
    """Return the day of a time in a zone.

    >>> day(86399, "UTC"), day(86399, "Asia/Tokyo")
    ('1970-01-01', '1970-01-02')
    """
    return f"{datetime.fromtimestamp(seconds, ZoneInfo(zone)):%Y-%m-%d}"


def _rule(found: Mapping[str, Any]) -> Beside | None:
    value, rule = found["value"], found["rule"]
    if value is None or rule is None:
        return None
    return Beside(rule, value - rule, found["low"], found["high"], found["users"])


def _cell(found: Beside | None, users: int, name: str = "") -> tuple[str, str]:
    if found is None:
        return NO_FIGURE, name
    fewer = "" if found.users == users else f", {found.users:,} users"
    return rate(found.value), (f"{name}:\n" if name else "") + found.told + fewer


def _in_one(cell: Sequence[str]) -> str:
    return f"{cell[TITLE]} · {cell[SUB]}" if cell[SUB] else cell[TITLE]


def rate(value: float | None) -> str:
    """Return a figure as it is shown.

    >>> rate(0.12345), rate(None)
    ('0.1235', '–')
    """
    return NO_FIGURE if value is None else f"{value:.4f}"


def _safe(text: str) -> str:
    """Return text without what Markdown would take as its own inside a table or a line."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
