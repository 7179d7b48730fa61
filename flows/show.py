"""The verb show: a user's history, her lists by champion and challenger, and why each item."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from bigel import schema
from bigel.config import load_config
from bigel.errors import AbsentError, BigelError
from flows import console
from flows.answer import answer
from flows.options import Json, ModelName, Place, Rules, Settings

if TYPE_CHECKING:
    from bigel.recommender import Recommender

SHOWN = 8  # items of a behavior's history
BROUGHT = 2  # items that brought another one, by name
log = logging.getLogger("bigel.show")


def show(
    user: Annotated[str, typer.Argument(metavar="USER", help="Its id in the log.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Items of each list.")] = 5,
    behavior: Annotated[str | None, typer.Option(help="One behavior; without it, all.")] = None,
    json: Json = None,
    name: ModelName = None,
    source: Rules = "",
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Show what a user did, what the model gives her, and why: beside the challenger's lists.

    The parts of a score add up to it. Behind "neighbours" stand the items that brought most of it.
    The rules of --config (catalogue, stock, filter, allow, deny, max_per_category, names, exclude)
    hold, as in what `bigel recommend` writes.

    Example: bigel show 42 -k 5 --behavior purchase --config mine.toml
    """
    config = load_config(source, settings or [])
    console.tell_begin(f"bigel show {user}", workspace)
    from bigel.recommender import Recommender

    champion = Recommender.champion(workspace, name, config)
    found = {"champion": champion}
    try:
        challenger = Recommender.registered("challenger", workspace, name, config)
        alone = champion.alias == "challenger"  # it answers for want of a champion
        found = {} if alone else found
        found["challenger"] = challenger
    except AbsentError:
        pass
    except BigelError as error:
        log.warning("the challenger's lists are left out: %s", error)
    if behavior is not None and behavior not in champion.behaviors:
        champion.recommend([], behavior)  # says which ones there are
    shown = {
        "user_id": user,
        "history": champion.history(user).to_dicts(),
        "lists": {role: _lists(model, user, behavior, k) for role, model in found.items()},
    }
    page = _page(shown, [behavior] if behavior else champion.behaviors)
    answer(shown, json, page=lambda: typer.echo("\n".join(page)))


def _lists(model: "Recommender", user: str, behavior: str | None, k: int) -> list[dict[str, Any]]:
    rows = model.recommend(user, behavior, k).to_dicts()
    reasons = [model.explain(user, row[schema.ITEM_ID], row[schema.BEHAVIOR]) for row in rows]
    return [
        row | {"parts": told["parts"], "neighbours": told["neighbours"]}
        for row, told in zip(rows, map(asdict, reasons), strict=True)
    ]


def _page(shown: dict[str, Any], behaviors: list[str]) -> list[str]:
    """Return the lines for a terminal."""
    lines = [f"user {shown['user_id']}"]
    history = pl.DataFrame(
        shown["history"], schema_overrides={"at": pl.Datetime("us")}, infer_schema_length=None
    )
    if history.is_empty():
        lines.append("  has no event that the champion knows: popular items answer")
    else:
        for (name,), own in history.group_by(schema.BEHAVIOR, maintain_order=True):
            items = [_had(row) for row in own.head(SHOWN).to_dicts()]
            more = f", and {own.height - SHOWN:,} more" if own.height > SHOWN else ""
            lines.append(f"  {name}: {', '.join(items)}{more}")
    had = {row[schema.ITEM_ID]: called(row) for row in shown["history"]}
    for name in behaviors:
        for role, rows in shown["lists"].items():
            lines += ["", f"{name}, by the {role}"]
            of_it = [_line(row, had) for row in rows if row[schema.BEHAVIOR] == name]
            lines += of_it or ["  nothing"]
    return lines


def _had(row: dict[str, Any]) -> str:
    at = row.get("at")
    return called(row) + (f" ({at:%Y-%m-%d %H:%M})" if at else "")


def _line(row: dict[str, Any], had: Mapping[Any, str]) -> str:
    """Return the line of an item.

    Args:
        row: of a list.
        had: what those of the user's items that the champion knows are called, by id.
    """
    parts = []
    for name, value in row["parts"].items():
        brought = ""
        near = row["neighbours"][:BROUGHT] if name == "neighbours" else []
        if near:
            brought = f" of {', '.join(had.get(item, str(item)) for item, _ in near)}"
        parts.append(f"{name} {value:+.2f}{brought}")
    score = f"{row[schema.SCORE]:.3f}"
    return f"{row[schema.RANK]:>4}  {called(row)}  {score} = {', '.join(parts)}"


def called(row: Mapping[str, Any], prefix: str = "item_") -> str:
    """Return the id of an item for a person to read, with its name where there is one.

    >>> called({"item_id": 7, "item_name": "lamp"}), called({"item_id": 7})
    ('7 lamp', '7')
    """
    name = row.get(f"{prefix}name")
    return f"{row[f'{prefix}id']}" + (f" {name}" if name else "")
