"""Ids: which forms are one id, and whether a column of them is whole numbers.

A whole number is one id however it is typed: an integer, a float or a decimal, or a text such as
``17.0``, as an integer column with gaps is exported, or ``1.7E1``, as Java and Spark write floats.
A text with a sign or zeros in front (``007``), or as a spreadsheet shows large numbers
(``1.09E+08``, which may be rounded), is left as it is unless ``data.ids`` says more, and where it
stands beside the plain number, that is asked for.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from bigel.errors import DataError
from bigel.schema import COUNT, ITEM_ID, USER_ID

NUMBER = r"^[+-]?\d+(?:\.0*)?$|^[+-]?\d\.\d+[eE][+]?\d{1,2}$"
OF_JAVA = r"^-?\d\.\d+E\d{1,2}$"  # a whole float from 10^7 on, to its last digit
ANY_POWER = r"^[+-]?\d\.\d+[eE][+]?\d{1,2}$"
EXACT = 2**53  # below, every whole float is one integer
FLOAT = r"^-?\d+\.0+$"
IDS = (USER_ID, ITEM_ID)


def plain_id(text: pl.Expr, ids: str) -> pl.Expr:
    """Return ids (String) in the form in which they are compared, by ``data.ids``.

    >>> frame = pl.DataFrame({"id": ["17.0", "-17.00", "007", "+7", "-0.0", "1.5", "v2.0", "1e3"]})
    >>> frame.select(plain_id(pl.col("id"), "auto")).to_series().to_list()
    ['17', '-17', '007', '+7', '-0', '1.5', 'v2.0', '1e3']
    >>> frame.select(plain_id(pl.col("id"), "integer")).to_series().to_list()
    ['17', '-17', '7', '7', '0', '1.5', 'v2.0', '1e3']
    >>> powers = pl.DataFrame({"id": ["1.08775E8", "1.00E+01", "1.5E0", "9.1E18"]})
    >>> powers.select(plain_id(pl.col("id"), "auto")).to_series().to_list()
    ['108775000', '1.00E+01', '1.5E0', '9.1E18']
    >>> powers.select(plain_id(pl.col("id"), "integer")).to_series().to_list()
    ['108775000', '10', '1.5E0', '9.1E18']
    """
    if ids == "auto":
        return _without_power(text, OF_JAVA).str.replace(r"^(-?\d+)\.0+$", "${1}")
    if ids == "integer":
        plain = _without_power(text, ANY_POWER)
        digits = plain.str.replace(r"^\+?(-?)0*(\d+?)(?:\.0*)?$", "${1}${2}")
        return digits.str.replace("^-0$", "0")
    return text


def _without_power(text: pl.Expr, pattern: str) -> pl.Expr:
    """Return texts of a pattern as the integers that they are, where they are exactly one."""
    value = pl.when(text.str.contains(pattern)).then(text).cast(pl.Float64, strict=False)
    whole = (value == value.round()) & (value.abs() < EXACT)
    return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)


def find_id_types(rows: pl.LazyFrame, ids: str) -> dict[str, dict[str, Any]]:
    """Tell of each id column (String) whether it is "whole", and what speaks against it.

    Whole: every id in its plain form comes back from int64 as it was, and ``ids`` is not "text";
    ``007`` and numbers beyond int64 do not. "strays" is the number of rows with another one,
    "stray" the first (None without one); "forms" the number of strays that are a whole number in
    another form; "floats" the number of rows with an id like ``1.0``, "float" the first.
    """
    raw = {name: pl.col(name) for name in IDS}
    plain = {name: plain_id(text, ids) for name, text in raw.items()}
    stray = {
        name: text.cast(pl.Int64, strict=False).cast(pl.String).ne_missing(text)
        for name, text in plain.items()
    }
    forms = {name: stray[name] & raw[name].str.contains(NUMBER) for name in IDS}
    floats = {name: raw[name].str.contains(FLOAT) for name in IDS}
    kinds = {"strays": stray, "forms": forms, "floats": floats}
    sums = [of[n].sum().alias(f"{n} {kind}") for kind, of in kinds.items() for n in IDS]
    facts = rows.select(sums).collect(engine="streaming")
    found: dict[str, dict[str, Any]] = {}
    for name in IDS:
        counts = {kind: facts[f"{name} {kind}"][0] for kind in kinds}
        examples = {"stray": (stray, counts["strays"]), "float": (floats, counts["floats"])}
        found[name] = {"whole": not counts["strays"] and ids != "text", **counts}
        for key, (rule, number) in examples.items():
            first = rows.filter(rule[name]).select(name).head(number and 1)
            found[name][key] = first.collect(engine="streaming").item() if number else None
    return found


def type_ids(rows: pl.LazyFrame, whole: dict[str, bool]) -> pl.LazyFrame:
    """Make a whole id column Int64, another one String."""
    return rows.with_columns(
        pl.col(name).cast(pl.Int64 if whole[name] else pl.String) for name in IDS
    )


def refuse_two_forms(rows: Sequence[pl.LazyFrame], name: str) -> None:
    """Refuse ids (String) that stand for one whole number in two forms, as ``007`` and ``7``.

    Args:
        rows: with the id column and count.
        name: of the column.

    Raises:
        DataError: with the number of such ids, the one with most rows, and the setting.
    """
    text = pl.col(name).cast(pl.String)
    sizes = pl.concat([part.select(text, pl.col(COUNT).cast(pl.Int64)) for part in rows])
    forms = (
        sizes.filter(pl.col(name).str.contains(NUMBER))
        .group_by(name)
        .agg(pl.col(COUNT).sum())
        .sort(COUNT, name, descending=[True, False])
        .group_by(plain_id(pl.col(name), "integer").alias("_plain"), maintain_order=True)
        .agg(name, COUNT)
        .filter(pl.col(name).list.len() > 1)
        .collect()
    )
    if not forms.height:
        return
    first = forms.sort(pl.col(COUNT).list.sum(), "_plain", descending=[True, False]).row(0)
    shown = " and ".join(f"{one!r} ({n:,} rows)" for one, n in zip(*first[1:], strict=True))
    raise DataError(
        f"{forms.height:,} of {name} are whole numbers in more than one form, for example {shown}: "
        "set data.ids = 'integer' if they are one, or 'text' if they are not"
    )
