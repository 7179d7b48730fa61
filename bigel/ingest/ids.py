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

OF_JAVA = r"^-?\d\.\d+E\d{1,2}$"  # a whole float from 10^7 on, to its last digit
ANY_POWER = r"^[+-]?\d\.\d+[eE][+]?\d{1,2}$"
EXACT = 2**53  # below, every whole float is one integer
FLOAT = r"^-?\d+\.0+$"
CANONICAL = r"^(?:0|-?[1-9]\d*)$"
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
        digits = plain.str.replace(r"^(?:\+|(-))?0*(\d+?)(?:\.0*)?$", "${1}${2}")
        return digits.str.replace("^-0$", "0")
    return text


def _without_power(text: pl.Expr, pattern: str) -> pl.Expr:
    """Return texts of a pattern as the integers that they are, where they are exactly one."""
    value = pl.when(text.str.contains(pattern)).then(text).cast(pl.Float64, strict=False)
    whole = (value == value.round()) & (value.abs() < EXACT)
    return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)


def is_whole(text: pl.Expr) -> pl.Expr:
    """Tell whether texts stand for whole numbers, in any form.

    >>> frame = pl.DataFrame({"id": ["7", "+007.", "-0", "1.2E3", "1.5E0", "9.1E18", "+-7", "x"]})
    >>> frame.select(is_whole(pl.col("id"))).to_series().to_list()
    [True, True, True, True, False, False, False, False]
    """
    return plain_id(text, "integer").str.contains(CANONICAL)


def settle(ids: pl.Series, setting: str) -> tuple[pl.Series, dict[str, Any]]:
    """Return ids in their plain form, as Int64 if all are whole, and what was found.

    Whole: each id in its plain form comes back from int64 as it was, and ``setting`` (``data.ids``)
    is not "text"; ``007`` and numbers beyond int64 do not. Found are "whole"; "strays", the number
    of rows with another id, and the first, "stray" (None without one); "forms", how many strays are
    a whole number in another form; "floats", how many ids are like ``1.0``, and the first, "float".

    Args:
        ids: String, or Int64 where they are known to be whole.
        setting: what an id is.
    """
    if ids.dtype == pl.Int64:
        plain, strays, floats = ids, ids.clear(), ids.clear()
    else:
        floats = ids.filter(ids.str.contains(FLOAT))
        plain = ids.to_frame().select(plain_id(pl.col(ids.name), setting)).to_series()
        strays = ids.filter(
            ~plain.str.contains(CANONICAL) | plain.cast(pl.Int64, strict=False).is_null()
        )
    whole = not len(strays) and setting != "text"
    return plain.cast(pl.Int64 if whole else pl.String), {
        "whole": whole,
        "strays": len(strays),
        "stray": strays.first(),
        "forms": strays.cast(pl.String).to_frame().select(is_whole(pl.col(ids.name)).sum()).item(),
        "floats": len(floats),
        "float": floats.first(),
    }


def add_up(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what ``settle`` found in all batches of a file together."""
    sums = {kind: sum(one[kind] for one in found) for kind in ("strays", "forms", "floats")}
    firsts = {
        kind: next((one[kind] for one in found if one[kind] is not None), None)
        for kind in ("stray", "float")
    }
    return {"whole": all(one["whole"] for one in found), **sums, **firsts}


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
        sizes.filter(is_whole(pl.col(name)))
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
