"""NDJSON: each line by itself through DuckDB's parser, which keeps the digits of whole numbers."""

from dataclasses import dataclass, field

import duckdb
import polars as pl

from bigel.ingest.columns import EACH, in_element, steps
from bigel.ingest.ids import IDS
from bigel.ingest.refusals import BAD_JSON, EXACT_FLOAT, NESTED, NO_LIST, NOT_WHOLE, PROBLEM
from bigel.schema import RAW, ROW_NUMBER

TYPE = "_type_"
IS_LIST = "is_list"
OBJECTS = """
    SELECT *, problem IS NULL AND starts_with(ltrim(raw, chr(9) || ' '), '{')
        AND json_valid(raw) AS is_object
    FROM lines"""
ELEMENTS = f"""
    SELECT *, coalesce(kind IN ('ARRAY', 'NULL'), true) AS {IS_LIST},
        unnest(CASE WHEN kind = 'ARRAY' AND json_array_length(list) > 0
            THEN list::JSON[] ELSE [NULL]::JSON[] END) AS element
    FROM (
        SELECT *, json_type(list) AS kind
        FROM (
            SELECT * EXCLUDE lists, coalesce(lists[1], lists[2]) AS list
            FROM (
                SELECT *, CASE WHEN is_object THEN json_extract(raw, $list) END AS lists
                FROM ({OBJECTS}))))"""
QUERY = """
    SELECT row_number, raw, problem, is_object, {columns}
    FROM (SELECT *, {found} FROM ({rows}))"""


@dataclass
class Ways:
    """How the values of columns are got from a text, a line or an element of its list.

    Args:
        text: the column of DuckDB that holds it.
        pointers: JSON pointers of all columns, those of ids first.
        of_ids: how many are those of ids.
        places: where those of a column stand in ``pointers``, from 1.
    """

    text: str
    pointers: list[str] = field(default_factory=list)
    of_ids: int = 0
    places: dict[str, list[int]] = field(default_factory=dict)

    def add(self, column: str, name: str) -> None:
        """Add a column by the name of its field inside the text."""
        start = len(self.pointers)
        self.pointers += pointers_of(name)
        self.places[column] = [at + 1 for at in range(start, len(self.pointers))]
        self.of_ids = len(self.pointers) if column in IDS else self.of_ids

    def found(self) -> str:
        """Return SQL that reads all pointers at once."""
        ways = f"${self.text}_ways"
        return (
            f"CASE WHEN is_object THEN json_extract_string({self.text}, {ways}) END "
            f"AS {self.text}_texts, CASE WHEN is_object "
            f"THEN json_type({self.text}, {ways}[1:{self.of_ids}]) END AS {self.text}_types"
        )

    def taken(self) -> list[str]:
        """Return SQL of each column, and of the type of each id."""
        taken = []
        for column, places in self.places.items():
            texts = [f"{self.text}_texts[{at}]" for at in places]
            taken.append(f'coalesce({", ".join(texts)}, NULL) AS "{column}"')
            if column in IDS:
                kinds = [f"{self.text}_types[{at}]" for at in places]
                cases = (
                    f"WHEN {t} IS NOT NULL THEN {k}" for t, k in zip(texts, kinds, strict=True)
                )
                taken.append(f'CASE {" ".join(cases)} END AS "{TYPE}{column}"')
        return taken


def parse_objects(
    rows: pl.DataFrame, columns: dict[str, str], base: duckdb.DuckDBPyConnection
) -> pl.DataFrame:
    """Return row_number, the wanted columns, problem and raw of rows (row_number, raw, problem).

    A row stands once for each element of the list that its columns go through, once where the list
    is empty or not there.

    Args:
        rows: a line each.
        columns: schema name to field name, ids first; see ``columns``. The first of two equal keys
            counts.
        base: parses.
    """
    own, inside = Ways("raw"), Ways("element")
    for column, name in columns.items():
        rest = in_element(name)
        own.add(column, name) if rest is None else inside.add(column, rest)
    used = [ways for ways in (own, inside) if ways.pointers]
    params = {f"{ways.text}_ways": ways.pointers for ways in used}
    each = next((name.partition(EACH)[0] for name in columns.values() if EACH in name), None)
    if each is not None:
        params |= {"list": pointers_of(each)}
    taken = [one for ways in used for one in ways.taken()]
    query = QUERY.format(
        columns=", ".join([IS_LIST if each else f"true AS {IS_LIST}", *taken]),
        found=", ".join(ways.found() for ways in used),
        rows=OBJECTS if each is None else ELEMENTS,
    )
    with base.cursor() as parser:
        parser.register("lines", rows.to_arrow())
        found: pl.DataFrame = parser.sql(query, params=params).pl()
    ids = [name for name in IDS if name in columns]
    problems = [
        pl.col(PROBLEM),
        pl.when(~pl.col("is_object")).then(pl.lit(BAD_JSON)),
        pl.when(~pl.col(IS_LIST)).then(pl.lit(NO_LIST)),
        *(_id_problem(name) for name in ids),
    ]
    fields = (_plain(name) if name in IDS else name for name in columns)
    return found.select(ROW_NUMBER, *fields, pl.coalesce(problems).alias(PROBLEM), RAW)


def pointers_of(name: str) -> list[str]:
    """Return JSON pointers of a field by its whole name, and inside others.

    >>> pointers_of("a/b.c")
    ['/a~1b.c', '/a~1b/c']
    """
    if not name:
        return ["$"]
    whole = name.replace("~", "~0").replace("/", "~1")
    return list(dict.fromkeys(["/" + whole, "/" + "/".join(steps(whole))]))


def _id_problem(name: str) -> pl.Expr:
    text, kind = pl.col(name), pl.col(TYPE + name)
    value = text.cast(pl.Float64, strict=False)
    is_whole = text.str.contains(r"^-?\d+$") | (
        text.str.contains(r"^-?\d+\.0$") & (value.abs() < EXACT_FLOAT)
    )
    return (
        pl.when(kind.is_in(["ARRAY", "OBJECT"]))
        .then(pl.lit(NESTED))
        .when((kind == "BOOLEAN") | ((kind == "DOUBLE") & ~is_whole))
        .then(pl.lit(NOT_WHOLE))
    )


def _plain(name: str) -> pl.Expr:
    """Write a whole number without its fraction."""
    number = pl.col(name).str.strip_suffix(".0")
    return pl.when(pl.col(TYPE + name) == "DOUBLE").then(number).otherwise(pl.col(name)).alias(name)
