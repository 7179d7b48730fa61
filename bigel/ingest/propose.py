"""A first configuration for a log, guessed from its header and its first rows.

Names speak first: of ids, behaviors and times. A log without a header, whose columns have none, is
told by its values. Behaviors are ordered by volume, but what is named a purchase is the target.
Nothing here is certain, so the file says what was seen, and a column that cannot be guessed is left
for a person to fill in.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from bigel.config import Columns, DataConfig
from bigel.config.write import to_toml
from bigel.errors import DataError
from bigel.ingest.columns import EACH
from bigel.ingest.guess import are_times, flat_head, short_names, time_of_day, wide_cells
from bigel.ingest.layout import first_rows
from bigel.ingest.merge import open_base
from bigel.ingest.read import raw_rows
from bigel.ingest.seconds import AUTO_LIMITS, to_seconds
from bigel.ingest.sources import Source, find_sources
from bigel.ingest.timecolumn import NAME_ALONE, USUAL, VALUES_ALONE, time_columns
from bigel.schema import BEHAVIOR

USERS = (  # in lower case, letters and digits only; the first one found is taken
    *("userid", "user", "uid", "useridx", "userpseudoid", "visitorid", "customerid", "clientid"),
    *("memberid", "accountid", "personid", "buyerid", "readerid", "listenerid", "reviewerid"),
    *("visitor", "customer", "client", "member", "account", "person", "fullvisitorid"),
    *("sessionid", "session", "anonymousid", "deviceid"),
)
ITEMS = (
    *("itemid", "item", "iid", "sku", "skuid", "productid", "product", "articleid", "article"),
    *("contentid", "goodsid", "movieid", "videoid", "trackid", "songid", "bookid", "newsid"),
    *("asin", "parentasin", "businessid", "offerid", "listingid", "adid", "postid", "gameid"),
    *("content", "movie", "video", "track", "song", "book", "merchandiseid", "docid"),
)
EVENTS = (
    *("behavior", "behaviour", "behaviortype", "behaviourtype", "event", "eventtype", "eventname"),
    *("action", "actiontype", "interaction", "interactiontype", "activity", "activitytype"),
    *("verb", "type", "kind"),
)
VAGUE = (
    "event",
    "type",
    "kind",
    "verb",
    "action",
    "activity",
    "content",
    "item",
    "product",
    "user",
)
BUYING = ("purchase", "purchased", "buy", "bought", "order", "ordered", "transaction", "checkout",
          "sale", "pay", "paid", "payment", "orderplaced", "ordercompleted")  # fmt: skip
UNDOING = ("remove", "return", "refund", "cancel", "dislike", "unlike", "unfollow")
SEPARATORS = (";", "\t", "|", " ")
MOST = 6  # behaviors, at most
RAREST = 5e-4  # share of rows under which a value is no behavior; and in a small log
FEWEST = 10  # rows under which it is none
ENOUGH = 0.5  # share of the first values of a column named so that must be times
ROWS = 1_000_000  # whose behaviors are counted
FORMATS = (
    *("%Y%m%d", "%Y%m%d%H%M%S", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    *("%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
)
UNKNOWN = "?"
DATES = (pl.Datetime, pl.Date)  # types that say when, with the day
ONLY = "interaction"  # the name of the one behavior of a log that names none
WHOLE = r"^\s*[-+]?\d+\s*$"


@dataclass
class Proposal:
    """What was found.

    Args:
        data: how to read the log; a column that could not be guessed is called "?".
        names: of the columns that are there.
        rows: whose behaviors were counted.
        volumes: raw value to its rows, the most frequent first.
        unit: what the times are, in words; "" where there are none.
        missing: "user" and "item", as far as they could not be guessed.
        notes: what a person should look at.
    """

    data: DataConfig
    names: list[str]
    rows: int = 0
    volumes: dict[str, int] = field(default_factory=dict)
    unit: str = ""
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def propose(
    path: str, given: Columns | None = None, behaviors: Sequence[str] | None = None
) -> Proposal:
    """Guess how a log is to be read.

    Args:
        path: as ``data.path``: a file, a glob, a folder.
        given: columns that are known; those of other names than the defaults are kept.
        behaviors: that are known; a table is taken for a wide one only if it has all its own.

    Raises:
        DataError: if the log cannot be read, or holds no row.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = DataConfig(path=path)
        sources = find_sources(data, Path(scratch)).sources
        for source in sources:
            form = _form(source, data)
            head = flat_head(source, form)
            if head and len(head[0]):
                return _propose(sources, form, head, given or Columns(), behaviors)
    raise DataError(f"{path}: no row in {len(sources)} files; give a log that has some")


def _form(source: Source, data: DataConfig) -> DataConfig:
    """Return how a text table is separated, and whether it has a header."""
    if source.format not in ("csv", "tsv"):
        return data
    rows = first_rows(source, data)
    if not rows or len(rows[0]) == 1:
        others = [data.model_copy(update={"separator": one}) for one in SEPARATORS]
        widths = [len(next(iter(first_rows(source, other)), {})) for other in others]
        if max(widths) > 1:
            data = others[widths.index(max(widths))]
            rows = first_rows(source, data)
    names = list(rows[0]) if rows else []
    is_data = any(name.replace(".", "", 1).lstrip("-").isdigit() for name in names)
    return data.model_copy(update={"header": not is_data})


def _propose(
    sources: Sequence[Source], data: DataConfig, head: Sequence[pl.Series], given: Columns,
    behaviors: Sequence[str] | None,
) -> Proposal:  # fmt: skip
    names = [column.name for column in head]
    found = _by_name(names, given)
    if not data.header:
        found |= _by_value(head)
    missing = [what for what in ("user", "item") if what not in found]
    columns = Columns(
        user=found.get("user", UNKNOWN),
        item=found.get("item", UNKNOWN * 2),
        behavior=found.get("behavior", UNKNOWN * 3),
    )
    cells, note = ({}, "") if "behavior" in found else wide_cells(head, found.values(), data)
    if behaviors is not None and not set(cells.values()) <= set(behaviors):
        cells = {}
    by_file = {} if "behavior" in found or cells else {"*": ONLY}
    data = data.model_copy(update={"columns": columns, "behavior_by_file": by_file, "wide": cells})
    if cells and not are_times(cells):
        data = data.model_copy(update={"wide_values": "count"})
    proposal = Proposal(data, names, missing=missing, notes=[note] if note else [])
    if data.has_timed_cells:
        _add_unit(proposal, head)
    else:
        _add_time(proposal, head, found.get("timestamp") or given.timestamp)
    if "behavior" in found or cells:
        _count(proposal, sources, head)
        _order(proposal)
    else:
        proposal.data = proposal.data.model_copy(update={"behaviors": (ONLY,)})
        proposal.notes.append(f"no column names behaviors, so every row is one {ONLY}")
    return proposal


def _by_name(names: Sequence[str], given: Columns) -> dict[str, str]:
    """Return the columns of user, item and behavior that their names tell."""
    plain: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name.count(".")):  # those inside others come last
        for short in short_names(name):
            if short not in VAGUE or "." not in name:
                plain.setdefault(short, name)
    found = {}
    usual = Columns()
    for what, known in (("user", USERS), ("item", ITEMS), ("behavior", EVENTS)):
        told = getattr(given, what)
        ways = {short: name for short, name in plain.items() if what == "item" or EACH not in name}
        if told != getattr(usual, what) or told in names:
            found[what] = told
        elif at := next((ways[short] for short in known if short in ways), None):
            found[what] = at
    return found


def _by_value(head: Sequence[pl.Series]) -> dict[str, str]:
    """Return the columns of a log without a header: ids come first, the user's before the item's.

    What few short words repeat in is the behavior; what looks like times is the time.
    """
    usual = DataConfig(time_min=USUAL[0], time_max=USUAL[1])
    times = [column.name for column in head if _share(column, usual) >= ENOUGH]
    words = [
        column.name
        for column in head
        if column.name not in times
        and column.dtype == pl.String
        and column.n_unique() <= max(2, len(column) // 3)
        and not column.str.contains(r"\d").any()
    ]
    ids = [column.name for column in head if column.name not in (*times, *words)]
    told = {"user": ids[:1], "item": ids[1:2], "behavior": words[:1], "timestamp": times[-1:]}
    return {what: names[0] for what, names in told.items() if names}


def _add_time(proposal: Proposal, head: Sequence[pl.Series], told: str | None) -> None:
    """Find the column of times, and in which unit or form they are."""
    data = proposal.data
    plain, doubtful = time_columns(head, data)
    by_name = {column.name: column for column in head}
    name = told or next(iter(plain), None) or _of_doubtful(proposal, by_name, doubtful)
    unsure = None if doubtful else ""  # reading looks for times itself, and warns
    data = proposal.data
    columns = data.columns.model_copy(update={"timestamp": name or unsure})
    proposal.data = data = data.model_copy(update={"columns": columns})
    if name not in by_name:
        return
    if clock := time_of_day(head, str(name), data):
        columns = data.columns.model_copy(update={"time_of_day": clock})
        proposal.data = data = data.model_copy(update={"columns": columns})
    seconds = to_seconds(by_name[name].drop_nulls(), data).drop_nulls()
    key, unit = _unit(by_name[name])
    if data.time_format:
        unit = f"times such as {by_name[name].drop_nulls()[0]}"
    else:
        proposal.data = proposal.data.model_copy(update={"time_unit": key})
    days = [f"{datetime.fromtimestamp(int(at), UTC):%Y-%m-%d}" for at in seconds.sort()]
    proposal.unit = f"{unit}, {days[0]} to {days[-1]} (UTC) in the first rows" if days else unit


def _add_unit(proposal: Proposal, head: Sequence[pl.Series]) -> None:
    """Find in which unit or form the cells of a wide table say when."""
    data = proposal.data
    values = [column.drop_nulls().cast(pl.String) for column in head if column.name in data.wide]
    texts = pl.concat([one.str.strip_chars().rename("cells") for one in values])
    if any(column.dtype.is_temporal() for column in head if column.name in data.wide):
        proposal.unit = "dates and times"
        return
    key, proposal.unit = _unit(texts.filter(~texts.is_in(data.null_values)))
    proposal.data = data.model_copy(update={"time_unit": key})


def _of_doubtful(
    proposal: Proposal, by_name: Mapping[str, pl.Series], doubtful: Mapping[str, str]
) -> str | None:
    """Return the column that one thing beside name or values speaks for, and note the others.

    That is a column whose name is that of times and most of whose values are, one that a single
    form reads, or the only one of the type of dates.
    """
    data = proposal.data
    dates = [name for name in doubtful if by_name[name].dtype in DATES]
    for name, why in doubtful.items():
        if why == NAME_ALONE and _share(by_name[name], data) >= ENOUGH:
            proposal.notes.append(f"some rows have no time that can be read in {name!r}")
            return name
    if len(dates) == 1 and doubtful[dates[0]] == VALUES_ALONE:
        proposal.notes.append(f"{dates[0]!r}, the only column of dates, is taken for the times")
        return dates[0]
    for name in doubtful:
        values = by_name[name]
        forms = [form for form in FORMATS if _reads(values, data, form)]
        if len(forms) == 1:
            proposal.data = data.model_copy(update={"time_format": forms[0]})
            return name
        ways = f"; data.time_format may be {' or '.join(forms)}" if forms else ""
        proposal.notes.append(f"column {name!r} may hold times, but is not used{ways}")
    return None


def _share(values: pl.Series, data: DataConfig) -> float:
    """Return the share of values that are times in range."""
    kind = values.dtype
    is_other = kind.is_nested() or kind == pl.Boolean or (kind.is_temporal() and kind not in DATES)
    if is_other or values.is_empty():
        return 0.0
    in_range = to_seconds(values, data).is_between(data.time_min, data.time_max)
    return int(in_range.sum() or 0) / len(values)


def _reads(values: pl.Series, data: DataConfig, form: str) -> bool:
    """Tell whether a form reads all values; those typed as dates need none."""
    return (
        not values.dtype.is_temporal()
        and _share(values.drop_nulls(), data.model_copy(update={"time_format": form})) == 1
    )


def _unit(values: pl.Series) -> tuple[str, str]:
    """Return the unit of times as ``data.time_unit`` has it, and in words."""
    if values.dtype.is_temporal():
        return "auto", "dates and times"
    present = values.drop_nulls().cast(pl.String).str.strip_chars()
    present = present.filter(present != "")
    numbers = present.cast(pl.Float64, strict=False)
    if numbers.null_count():
        return ("iso", "ISO dates or times") if numbers.null_count() == len(numbers) else (
            "auto", "numbers and ISO times",
        )  # fmt: skip
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    found = {_size(value) for value in numbers}
    unit = found.pop() if len(found) == 1 else "auto"
    return unit, f"Unix {words[unit]}" if unit in words else "numbers of several units"


def _size(number: float) -> str:
    return next((unit for unit, limit in AUTO_LIMITS.items() if abs(number) < limit), "ns")


def _count(proposal: Proposal, sources: Iterable[Source], head: Sequence[pl.Series]) -> None:
    """Count the rows of each behavior, in the first of them; of a half-guessed log in fewer."""
    data = proposal.data
    if proposal.missing and data.wide:
        filled = {raw: _filled(head, name, data) for name, raw in data.wide.items()}
        batches = [
            pl.Series([raw], dtype=pl.String).new_from_index(0, n) for raw, n in filled.items()
        ]
    elif proposal.missing:
        batches = [{column.name: column for column in head}[data.columns.behavior].cast(pl.String)]
    else:
        batches = list(_behaviors_of(sources, data))
    texts = pl.concat(batches).str.strip_chars()
    proposal.rows = len(texts)
    texts = texts.filter(~texts.is_in(["", *data.null_values]).fill_null(True))
    counts = texts.value_counts(sort=True, name="rows")
    ordered = counts.sort(pl.col("rows"), texts.name, descending=[True, False])
    proposal.volumes = dict(ordered.iter_rows())


def _filled(head: Sequence[pl.Series], name: str, data: DataConfig) -> int:
    texts = next(column for column in head if column.name == name).cast(pl.String)
    return int((~texts.str.strip_chars().is_in(["", "0", "false", *data.null_values])).sum())


def _behaviors_of(sources: Iterable[Source], data: DataConfig) -> Iterable[pl.Series]:
    rows = 0
    with tempfile.TemporaryDirectory() as scratch, open_base(Path(scratch)) as base:
        for source in sources:
            for batch in raw_rows(source, data, base):
                yield batch[BEHAVIOR].cast(pl.String)
                rows += batch.height
                if rows >= ROWS:
                    return


def _order(proposal: Proposal) -> None:
    """Choose the behaviors and their order; what is left is ignored on purpose."""
    least = max(RAREST * proposal.rows, min(FEWEST, proposal.rows / 100))
    usual = [
        value
        for value, rows in proposal.volumes.items()
        if rows >= least and not any(word in _plain(value) for word in UNDOING)
    ]
    bought = [value for value in usual if _plain(value) in BUYING]
    others = [value for value in usual if value not in bought]
    behaviors = [*others[: max(0, MOST - len(bought))], *bought][-MOST:]
    if not behaviors:
        where = "wide" if proposal.data.wide else repr(proposal.data.columns.behavior)
        raise DataError(
            f"{proposal.data.path}: column {where} has no value that "
            f"stands for more than {least:.0f} of {proposal.rows:,} rows"
        )
    ignored = [value for value in proposal.volumes if value not in behaviors]
    if len(ignored) > 20:
        proposal.notes.append(
            f"column {proposal.data.columns.behavior!r} has {len(proposal.volumes):,} values; is "
            "it the behavior?"
        )
    for value in ignored:
        if any(word in _plain(value) for word in UNDOING):
            proposal.notes.append(
                f"{value!r} may take an event back: undo = {{ {to_toml(value)} = ... }} would say "
                "which, in place of ignore"
            )
    update = {"behaviors": tuple(behaviors), "ignore": tuple(ignored[:20])}
    proposal.data = proposal.data.model_copy(update=update)


def _plain(value: str) -> str:
    return "".join(filter(str.isalnum, value.lower()))


def proposed_toml(proposal: Proposal, command: str) -> tuple[str, dict[str, int]]:
    """Return the file's text, and in which line each of its keys stands, from 1.

    Args:
        proposal: what was found.
        command: that made it, for the first line, without the log.
    """
    data = proposal.data
    lines = [
        f"# Proposed by `{command}` from the first rows of the log: a guess, so read it once.",
        "# `bigel config` shows every other setting with its meaning; `bigel run` takes this file.",
        "",
        "[data]",
        f"path = {to_toml(data.path)}",
    ]
    if data.separator is not None:
        lines.append(f"separator = {to_toml(data.separator)}")
    if not data.header:
        lines += ["# No header: columns are numbered.", "header = false"]
    lines += ["", f"# Columns of the log: {', '.join(proposal.names)}."]
    lines += [f"# {note}." for note in proposal.notes]
    columns = data.columns
    shown = {"user": columns.user, "item": columns.item}
    in_cells = data.has_timed_cells
    if not data.behavior_by_file and not data.wide:
        shown["behavior"] = columns.behavior
    if columns.timestamp is not None and not in_cells:
        shown["timestamp"] = columns.timestamp
    if columns.time_of_day is not None:
        shown["time_of_day"] = columns.time_of_day
    if columns.timestamp == "":
        lines.append("# No times: an item's age and what is wanted lately play no part.")
    lines.append("columns = { " + ", ".join(f"{k} = {_name(v)}" for k, v in shown.items()) + " }")
    if data.wide:
        lines += [
            "# A column for each behavior; a filled cell is an event, an empty one did not happen.",
            f"wide = {to_toml(data.wide)}",
        ]
    if data.wide and not in_cells:
        lines.append('wide_values = "count"')
    if proposal.unit:
        lines.append(f"# {'The cells' if in_cells else columns.timestamp}: {proposal.unit}.")
        key = "time_format" if data.time_format else "time_unit"
        lines.append(f"{key} = {to_toml(data.time_format or data.time_unit)}")
    lines += ["", *_behavior_lines(proposal)]
    places = {line.partition(" = ")[0]: at for at, line in enumerate(lines, 1) if " = " in line}
    return "\n".join(lines) + "\n", places


def _name(column: str) -> str:
    return str(to_toml(UNKNOWN if set(column) == {UNKNOWN} else column))


def _behavior_lines(proposal: Proposal) -> list[str]:
    data = proposal.data
    if data.behavior_by_file:
        return [
            "# All rows are of one behavior; name it as you like, in both lines.",
            f"behaviors = {to_toml(data.behaviors)}",
            f"behavior_by_file = {to_toml(data.behavior_by_file)}",
        ]
    rows = ", ".join(f"{name} {proposal.volumes[name]:,}" for name in data.behaviors)
    lines = [
        f"# The funnel in its order, the target last; by volume in {proposal.rows:,} rows:",
        f"# {rows}.",
        '# Other names for them: rename = { pv = "click" }, and click here.',
        f"behaviors = {to_toml(data.behaviors)}",
        '# Repeats count once; weight = "log", or a column of numbers, lets them weigh.',
    ]
    if data.ignore:
        left = ", ".join(f"{name} {proposal.volumes[name]:,}" for name in data.ignore)
        lines += [f"# Left out on purpose, by rows: {left}.", f"ignore = {to_toml(data.ignore)}"]
    return lines
