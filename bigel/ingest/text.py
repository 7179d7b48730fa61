"""Delimited text: each row split at its separators, so that a row of another width is seen."""

import polars as pl

from bigel.ingest.layout import Layout
from bigel.ingest.lines import Quoting
from bigel.ingest.refusals import PROBLEM, QUOTED_ID, TOO_FEW, TOO_MANY
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, USER_ID

FIELDS = "_fields"
QUOTED = r'^\s*".*"\s*$'


def split_rows(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return row_number, the wanted columns, problem and raw of rows (row_number, raw, problem)."""
    if not layout.quoting:
        return _take(rows, pl.col(RAW).str.split(layout.separator), layout)
    has_quote = rows[RAW].str.contains(layout.quote, literal=True)
    plain = _take(rows.filter(~has_quote), pl.col(RAW).str.split(layout.separator), layout)
    if not has_quote.any():
        return plain
    marked = pl.lit(layout.separator) + pl.col(RAW)
    quoted = _take(
        rows.filter(has_quote), marked.str.extract_all(Quoting.of(layout).field), layout
    ).with_columns(_unquoted(name, layout) for name in layout.columns)
    return pl.concat([plain, quoted]).sort(ROW_NUMBER)


def _take(rows: pl.DataFrame, fields: pl.Expr, layout: Layout) -> pl.DataFrame:
    """Take the wanted fields; a row with a problem has none."""
    one, number = pl.col(FIELDS), pl.col(FIELDS).list.len()
    problems = [
        pl.col(PROBLEM),
        pl.when(number < layout.width).then(pl.lit(TOO_FEW)),
        pl.when(number > layout.width).then(pl.lit(TOO_MANY)),
    ]
    if not (layout.quoting or layout.is_told):
        places = [layout.columns[name] for name in (USER_ID, ITEM_ID) if name in layout.columns]
        ids = (one.list.get(place, null_on_oob=True) for place in places)
        quoted = pl.any_horizontal(False, *(text.str.contains(QUOTED) for text in ids))
        problems.append(pl.when(quoted).then(pl.lit(QUOTED_ID)))
    return rows.with_columns(fields.alias(FIELDS)).select(
        ROW_NUMBER,
        *(one.list.get(i, null_on_oob=True).alias(name) for name, i in layout.columns.items()),
        pl.coalesce(problems).alias(PROBLEM),
        RAW,
    )


def _unquoted(name: str, layout: Layout) -> pl.Expr:
    """Return a field without the separator before it, and without its quotes."""
    text = pl.col(name).str.slice(1)
    bare = text.str.strip_chars_start(" ")
    inside = (
        bare.str.slice(1).str.head(-1).str.replace_all(layout.quote * 2, layout.quote, literal=True)
    )
    return pl.when(bare.str.starts_with(layout.quote)).then(inside).otherwise(text).alias(name)
