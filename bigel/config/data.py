"""Settings of the log, its split and its contracts."""

import re
import zoneinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bigel.config.address import check_address, check_variable
from bigel.config.section import Section
from bigel.errors import ConfigError, nearest


class Columns(Section):
    """Names that the log gives its columns.

    In NDJSON and Parquet ``properties.sku`` is a field of an object (a struct), and ``items[].sku``
    one of each element of a list, each of which is an event of its own. In a folder such as
    ``dt=2026-11-28/`` the name before the ``=`` is a column of all files in it.
    """

    user: str = Field("user_id", description="Column of the user id.")
    item: str = Field("item_id", description="Column of the item id.")
    behavior: str = Field("behavior", description="Column of the behavior.")
    timestamp: str | None = Field(
        None,
        description=(
            "Column of the event time; unset: a column that plainly holds times, by its name and "
            "its values, is used; '' says that there is none."
        ),
    )
    time_of_day: str | None = Field(
        None,
        description=(
            "Column of the time of day, where timestamp is a column of days: an hour (0 to 23) or "
            "HH:MM, HH:MM:SS. Unset: timestamp holds both."
        ),
    )
    count: str | None = Field(
        None,
        description=(
            "Column that says how many events a row stands for, a whole number from 1 on; unset: "
            "one each."
        ),
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "Columns":
        every = (self.user, self.item, self.behavior, self.timestamp, self.time_of_day, self.count)
        names = [name for name in every if name]
        if len(set(names)) != len(names):
            raise ValueError(f"one column stands for two things: {names}")
        return self

    @model_validator(mode="after")
    def _time_of_day_has_a_day(self) -> "Columns":
        if self.time_of_day and not self.timestamp:
            raise ValueError("time_of_day needs the column of days: name it in timestamp")
        return self


Format = Literal["auto", "csv", "tsv", "parquet", "ndjson", "pairs", "tables", "lists"]
ENDINGS: dict[str, Format] = {  # of the files that "auto" reads, each text format also compressed
    ".csv": "csv",
    ".tsv": "tsv",
    ".inter": "tsv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}
SYNTHETIC = "synth:"  # a path that no file system has by chance
TIME_DIRECTIVES = "YymbBdjHIMSpz%"


class DataConfig(Section):
    """Where the log is and how to read it."""

    path: Annotated[str, AfterValidator(check_address)] = Field(
        "",
        description=(
            "File, glob or folder of the log, also of an S3-compatible store as in "
            "s3://bucket/log/*.parquet (keys and address: AWS_… in the environment). 'synth:' is "
            "the synthetic log of [synth], which a [synth] section without a path or sql also "
            "asks for. Empty, there is no log, and nothing runs."
        ),
    )
    sql: str = Field(
        "",
        description=(
            "In place of a path: one SELECT for a PostgreSQL database, whose rows are the log; "
            "give it an ORDER BY, for rows are known by their number."
        ),
    )
    sql_address: Annotated[str, AfterValidator(check_variable)] = Field(
        "BIGEL_SOURCE_URL",
        description="Environment variable that holds the database's address, postgresql://….",
    )
    format: Format = Field(
        "auto",
        description=(
            f"auto goes by the file ending ({' '.join(ENDINGS)}, each text "
            "format also .gz or .zst). pairs: a folder of 'BEHAVIOR_SPLIT' files of 'user item' "
            "lines. tables: a folder of train/valid/test tables, valid optional. lists: a folder "
            "of files of 'user item item …' lines, named BEHAVIOR_SPLIT, BEHAVIOR (of train) or "
            "SPLIT (of the target)."
        ),
    )
    behaviors: tuple[str, ...] = Field(
        ("click", "favourite", "purchase"),
        min_length=1,
        description="The cascade in order; the last is the target.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Raw behavior value to its name in the cascade, for example pv = 'click'.",
    )
    ignore: tuple[str, ...] = Field(
        (), description="Raw behavior values left out on purpose; counted, quarantined as ignored."
    )
    undo: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Raw behavior that takes another back to the behavior that it takes back, for example "
            "returned = 'purchase': from then on the pair counts as if it had not happened, until "
            "it happens again. Needs times."
        ),
    )
    weight: str = Field(
        "none",
        min_length=1,
        description=(
            "What repeated events add to their pair on the graphs. none: nothing. log: a pair "
            "weighs 1 + ln(events of it and the behavior). Else the name of a column of the log: a "
            "pair weighs the sum of it (seconds looked at, pieces bought), each a number from 0 to "
            "1,000,000,000; only ratios count. Of events up to the moment that a graph is of; the "
            "graph of all behaviors together sums these."
        ),
    )
    behavior_by_file: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Pattern of file names (* and ?) to the raw behavior of all rows of the file, for logs "
            "without a behavior column. Empty: from the column."
        ),
    )
    ignore_files: tuple[str, ...] = Field(
        (),
        description=(
            "Patterns (* and ?) of names or paths of files and folders that are no part of the "
            "log. What is there besides, and is neither read nor hidden (. or _ in front) nor "
            "empty, is an error."
        ),
    )
    columns: Columns = Field(default_factory=Columns, description="Column names of the log.")
    wide: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "For a log with a column for each behavior, column to raw behavior, for example "
            "cart_at = 'cart': each filled cell is an event, an empty one did not happen."
        ),
    )
    wide_values: Literal["time", "count"] = Field(
        "time",
        description=(
            "What the cells of data.wide hold. time: when it happened. count: how often, where "
            "0 and false did not happen, and true happened once."
        ),
    )
    ids: Literal["auto", "text", "integer"] = Field(
        "auto",
        description=(
            "What an id is. auto: whole numbers are one id however they are typed (17, 17.0), all "
            "else is text; where one stands in the log in two forms of text (007 and 7), nothing "
            "runs until this says what they are. integer: they are one (7), and what is no whole "
            "number is refused. text: every text is an id of its own."
        ),
    )
    header: bool = Field(
        True,
        description=(
            "Text tables start with a header line. Without one, columns are named "
            "column_1, column_2, …"
        ),
    )
    separator: str | None = Field(
        None,
        pattern=r'^[^"\r\n]$',
        description="Field separator; unset: by format (',' or tab; pairs and lists: ' ').",
    )
    quote: str | None = Field(
        None,
        pattern=r"^[!-/:-@\[\]^-`{-~]?$",
        description=(
            "Character around a field of a text table that may hold separators and line ends; '' "
            "for none. Unset: '\"', but none where tabs or control characters separate fields, "
            "unless the header, or each of the first rows, has a field in quotes; and a quoted "
            "field that takes in whole rows is refused, which '\"' allows."
        ),
    )
    null_values: tuple[str, ...] = Field(
        ("null", "NULL", "nan", "NaN", "None", "NA", "<NA>", "\\N"),
        description="Texts that mean no value, beside the empty one; as an id they are refused.",
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = Field(
        "auto",
        description=(
            "Unit of the timestamp column; auto tells numbers apart by size and also reads ISO "
            "dates and times (of data.zone where they name no zone)."
        ),
    )
    time_format: str | None = Field(
        None,
        description=(
            "Format of the timestamps, as of strftime, for example '%d/%m/%Y %H:%M'; replaces "
            "time_unit. Where it holds digits only, lost leading zeros are put back."
        ),
    )
    zone: str = Field(
        "UTC",
        description=(
            "Time zone (as in 'Europe/Berlin') of days and times that name none; numbers of "
            "time_unit count from 1970 UTC whatever it is. An hour that a clock shows twice is "
            "taken for the first, one that it skips for what the clock before would show."
        ),
    )
    time_year: int | None = Field(
        None, ge=1970, le=2100, description="The year, where time_format names none."
    )
    time_min: int = Field(
        631_152_000,
        ge=0,
        description=(
            "Earliest event time accepted, Unix seconds (1990-01-01); earlier rows are refused: a "
            "0 that means no time, or a date such as 20171125 read as seconds. Set 0 where times "
            "only count up."
        ),
    )
    time_max: int = Field(
        4_102_444_800, gt=0, description="Latest event time accepted, Unix seconds (2100-01-01)."
    )

    @model_validator(mode="after")
    def _cascade_is_a_set(self) -> "DataConfig":
        if len(set(self.behaviors)) != len(self.behaviors):
            raise ValueError(f"behaviors names one twice: {list(self.behaviors)}")
        for raw, name in self.rename.items():
            if name not in self.behaviors:
                raise ValueError(
                    f"rename.{raw} = {name!r} is not in behaviors {list(self.behaviors)}"
                )
        for raw, name in self.undo.items():
            if name not in self.behaviors:
                raise ValueError(
                    f"undo.{raw} = {name!r} is not in behaviors {list(self.behaviors)}"
                    f"{nearest(name, self.behaviors)}"
                )
            if raw in {*self.behaviors, *self.rename, *self.ignore}:
                raise ValueError(
                    f"undo.{raw}: {raw!r} is in behaviors, rename or ignore too; leave it out there"
                )
        if self.undo and self.format in ("tables", "pairs", "lists"):
            raise ValueError(
                f"undo goes by times, and a log that came split (format = {self.format!r}) by its "
                "splits; leave undo out"
            )
        if self.undo and self.columns.timestamp == "":
            raise ValueError(
                "undo goes by times, and columns.timestamp = '' says that there are none; name "
                "their column, or leave undo out"
            )
        for pattern, raw in self.behavior_by_file.items():
            if raw not in self.raw_behaviors:
                raise ValueError(
                    f"behavior_by_file.{pattern} = {raw!r} is neither in behaviors "
                    f"{list(self.behaviors)} nor in rename, ignore or undo"
                )
        return self

    @model_validator(mode="after")
    def _wide_is_whole(self) -> "DataConfig":
        columns = self.columns
        for column, raw in self.wide.items():
            if raw not in self.raw_behaviors:
                raise ValueError(
                    f"wide.{column} = {raw!r} is neither in behaviors {list(self.behaviors)} nor "
                    f"in rename, ignore or undo{nearest(raw, sorted(self.raw_behaviors))}"
                )
            if column in (columns.user, columns.item, columns.timestamp):
                raise ValueError(f"wide.{column}: columns names it too; leave it out of one")
        if self.wide and self.behavior_by_file:
            raise ValueError("wide and behavior_by_file both say the behavior; leave one out")
        if self.wide and self.format in ("pairs", "lists"):
            raise ValueError(f"wide reads tables and NDJSON, not format = {self.format!r}")
        if self.wide and columns.count:
            raise ValueError(
                "wide and columns.count both count; leave columns.count out, and set wide_values = "
                "'count' if the cells hold numbers"
            )
        if self.has_timed_cells and columns.timestamp:
            raise ValueError(
                "wide has the times in its cells; leave columns.timestamp out, or set wide_values "
                "= 'count' if the cells hold numbers"
            )
        return self

    @model_validator(mode="after")
    def _weight_is_of_a_log(self) -> "DataConfig":
        column = self.weight_column
        if column is None:
            return self
        if column in (*self.columns.model_dump().values(), *self.wide):
            raise ValueError(
                f"weight = {column!r}: the column stands for something else already; give another "
                "one, or 'log' for how often"
            )
        if self.format in ("tables", "pairs", "lists") or self.is_synthetic:
            raise ValueError(
                f"weight = {column!r} is no column of this log, which came split or is synthetic; "
                "use 'none' or 'log'"
            )
        return self

    @model_validator(mode="after")
    def _lists_are_one(self) -> "DataConfig":
        columns = (*self.columns.model_dump().values(), *self.wide, self.weight_column)
        names = [name for name in columns if name and "[]" in name]
        lists = sorted({name.partition("[]")[0] for name in names})
        if len(lists) > 1 or any(name.count("[]") > 1 for name in names):
            raise ValueError(
                f"columns goes through {' and '.join(names)}: a row may be taken apart by one list "
                "only; flatten the log before, or leave one out"
            )
        return self

    @model_validator(mode="after")
    def _counts_are_of_a_log(self) -> "DataConfig":
        if self.is_counted and self.format in ("tables", "pairs", "lists"):
            raise ValueError(
                f"a log that came split (format = {self.format!r}) has no counts; leave "
                "columns.count and wide_values out"
            )
        return self

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str) -> str:
        try:
            zoneinfo.ZoneInfo(zone)
        except (KeyError, OSError, ValueError):
            close = nearest(zone, sorted(zoneinfo.available_timezones()))
            raise ValueError(f"no such time zone; write it as in 'Europe/Berlin'{close}") from None
        return zone

    @model_validator(mode="after")
    def _marks_differ(self) -> "DataConfig":
        if self.quote and self.quote == self.separator:
            raise ValueError(f"quote and separator are both {self.quote!r}")
        return self

    @model_validator(mode="after")
    def _time_format_is_whole(self) -> "DataConfig":
        form = self.time_format
        parts = set(re.findall(r"%(.?)", form)) if form else set()
        if form and (unknown := sorted(parts - set(TIME_DIRECTIVES))):
            raise ValueError(
                f"time_format = {form!r} holds %{unknown[0]}; known are "
                + " ".join(f"%{letter}" for letter in TIME_DIRECTIVES)
            )
        if form and not ("j" in parts or ("d" in parts and parts & set("mbB"))):
            raise ValueError(f"time_format = {form!r} names no day (%m and %d, or %j)")
        hour = "H" in parts or {"I", "p"} <= parts
        if hour != ("M" in parts) or ("S" in parts and not hour):
            raise ValueError(f"time_format = {form!r} must name hour and minute, or neither")
        if bool(form) != (bool(parts & set("Yy")) or self.time_year is not None):
            raise ValueError("time_year and a time_format without %Y and %y need each other")
        return self

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> "DataConfig":
        if self.sql and (self.path or self.behavior_by_file or self.format != "auto"):
            raise ValueError("sql stands alone: leave path, format and behavior_by_file out")
        return self

    @property
    def raw_behaviors(self) -> set[str]:
        """The values of the log's behavior that are known."""
        return {*self.behaviors, *self.rename, *self.ignore, *self.undo}

    @property
    def has_timed_cells(self) -> bool:
        """Whether the log's times are in the cells of a wide table."""
        return bool(self.wide) and self.wide_values == "time"

    @property
    def is_counted(self) -> bool:
        """Whether a column says how many events a row stands for."""
        return bool(self.columns.count or (self.wide and self.wide_values == "count"))

    @property
    def weight_column(self) -> str | None:
        """The log's column by which pairs weigh, if they do by one."""
        return None if self.weight in ("none", "log") else self.weight

    @property
    def origin(self) -> str:
        """Where the log comes from, for messages."""
        return "data.sql" if self.sql else self.path

    @property
    def is_synthetic(self) -> bool:
        """Whether the log is made up by [synth]."""
        return not self.sql and self.path == SYNTHETIC

    def require_log(self) -> None:
        """Refuse to run on no log: nothing is made up that was not asked for.

        Raises:
            ConfigError: if neither path nor sql names one.
        """
        if not self.origin.strip():
            raise ConfigError(
                "data.path is empty, so there is no log to read (was it set from a variable that "
                "is unset?): set it to a file, a glob or a folder, or set data.sql; "
                f"data.path = {SYNTHETIC!r} makes up the log of [synth], as the preset demo does"
            )

    @property
    def target(self) -> str:
        """The last behavior of the cascade."""
        return self.behaviors[-1]


class SplitConfig(Section):
    """How interactions become train, valid and test."""

    method: Literal["auto", "official", "leave_one_out", "time", "random"] = Field(
        "auto",
        description=(
            "auto: official where the log came split, else time where it has timestamps, "
            "else leave_one_out. Under official, a missing valid is held out of train at random."
        ),
    )
    valid_behaviors: tuple[str, ...] = Field(
        (),
        description=(
            "Under official, the behaviors of whose train a missing valid is held out; empty: all. "
            "Name the target alone where the others are its evidence."
        ),
    )
    valid_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of interactions held out for validation."
    )
    test_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share held out for the test (time and random)."
    )
    horizon: float = Field(
        7.0,
        ge=0,
        description=(
            "Under time, days after the end of train, and after that of valid, by which models are "
            "measured: lists are made every night. 0: all of valid and test."
        ),
    )
    k_core: int = Field(
        0,
        ge=0,
        description="Keep only users and items with at least so many interactions; 0: keep all.",
    )
    seed: int = Field(0, ge=0, description="Seed of the random and held-out draws.")


class ContractsConfig(Section):
    """Limits of a run; the contracts themselves are reviewed files in data_contracts/."""

    folder: str = Field(
        "", description="Folder of the contracts; empty: the data_contracts that ship with bigel."
    )
    max_quarantined_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of refused rows that passes."
    )
    min_events: int = Field(
        1, ge=0, description="Fewest interactions that each behavior must have."
    )
    min_users: int = Field(1, ge=0, description="Fewest users that each behavior must have.")
    min_items: int = Field(1, ge=0, description="Fewest items that each behavior must have.")
    funnel: tuple[tuple[str, str], ...] | None = Field(
        None,
        description=(
            "Pairs (more, fewer) of behaviors by volume; unset: the first has more than the last."
        ),
    )
    history: int = Field(
        20, ge=1, description="Validations of each hand-over that the Data Docs keep."
    )
