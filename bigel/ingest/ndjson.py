"""NDJSON: each line by itself through DuckDB's parser, which keeps the digits of whole numbers."""

import duckdb
import polars as pl

from bigel.ingest.ids import IDS
from bigel.ingest.refusals import BAD_JSON, EXACT_FLOAT, NESTED, NOT_WHOLE, PROBLEM
from bigel.schema import RAW, ROW_NUMBER

TYPE = "_type_"
QUERY = """
    SELECT row_number, raw, problem, texts IS NOT NULL AS is_object, {columns}
    FROM (
        SELECT *, CASE WHEN is_object THEN json_extract_string(raw, $paths) END AS texts,
            CASE WHEN is_object THEN json_type(raw, $paths[1:2]) END AS types
        FROM (
            SELECT *, problem IS NULL AND starts_with(ltrim(raw, chr(9) || ' '), '{{')
                AND json_valid(raw) AS is_object
            FROM lines))"""


def parse_objects(
    rows: pl.DataFrame, columns: dict[str, str], base: duckdb.DuckDBPyConnection
) -> pl.DataFrame:
    """Return row_number, the wanted columns, problem and raw of rows (row_number, raw, problem).

    Args:
        rows: a line each.
        columns: schema name to field name, ids first. The first of two equal keys counts.
        base: parses.
    """
    taken = [f"texts[{n}] AS {name}" for n, name in enumerate(columns, 1)]
    taken += [f"types[{n}] AS {TYPE}{name}" for n, name in enumerate(IDS, 1)]
    paths = ["/" + name.replace("~", "~0").replace("/", "~1") for name in columns.values()]
    with base.cursor() as parser:
        parser.register("lines", rows.to_arrow())
        found: pl.DataFrame = parser.sql(
            QUERY.format(columns=", ".join(taken)), params={"paths": paths}
        ).pl()
    problems = [
        pl.col(PROBLEM),
        pl.when(~pl.col("is_object")).then(pl.lit(BAD_JSON)),
        *(_id_problem(name) for name in IDS),
    ]
    fields = (_plain(name) if name in IDS else name for name in columns)
    return found.select(ROW_NUMBER, *fields, pl.coalesce(problems).alias(PROBLEM), RAW)


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
