"""A few users of the newest held-out days: what they had, their lists, and what they then took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bigel.data.catalogue import CATEGORY, NAME
from bigel.data.interactions import IntArray, Interactions
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Ranked
from bigel.schema import ITEM, ITEM_ID, USER, USER_ID
from bigel.signals.history import History

EACH = 2  # users of a kind
SHOWN = 8  # items of a history, the latest
GOOD, BAD, NEW = "found", "missed", "new"
TOLD = {
    GOOD: "what she took stands at the top of her list",
    BAD: "nothing of what she took is in her list, though she has a history",
    NEW: "no event before the lists were made, so they are what is popular",
}


def examples(
    model: Mapping[str, Ranked], known: Interactions, held_out: Interactions,
    history: History | None, ids: Mapping[str, pl.Series], k: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return users whose lists were good, whose were bad, and who were new, as JSON values.

    They are chosen by the target behavior, the last of the cascade: the best and the worst NDCG, of
    equals who did more.

    Args:
        model: behavior to the model's lists.
        known: what users are known to have.
        held_out: what they did then.
        history: events before the lists; None: the log has no times.
        ids: "user" and "item": what each is called, by inner number.
        k: length of a list.

    Returns:
        of each "kind", "user", "history" and "lists": behavior to names; in a list each item is
        (name, whether she took it), and "took" has what she took.
    """
    target = model[known.behaviors[-1]]
    did_U = np.bincount(known.users, minlength=known.n_users)
    chosen = [
        (kind, user) for kind, users in _chosen(target, did_U, k).items() for user in users[:EACH]
    ]
    return [
        {
            "kind": kind,
            "user": str(ids[USER][user]),
            "history": _history(user, known, history, ids[ITEM]),
            "lists": _lists(user, model, held_out, ids[ITEM]),
        }
        for kind, user in chosen
    ]


def _chosen(target: Ranked, did_U: IntArray, k: int) -> dict[str, list[int]]:
    """Return users by kind, who shows it best first."""
    users = target.users.numpy()
    ndcg_B = ndcg_at(target.hits, target.relevant, k).numpy()
    did_B = did_U[users]
    by_did = np.lexsort((users, -did_B))
    best = np.lexsort((users, -did_B, -ndcg_B))
    return {
        GOOD: [int(users[at]) for at in best if ndcg_B[at] > 0 and did_B[at]],
        BAD: [int(users[at]) for at in by_did if ndcg_B[at] == 0 and did_B[at]],
        NEW: [int(users[at]) for at in by_did if not did_B[at]],
    }


def _history(
    user: int, known: Interactions, history: History | None, names: pl.Series
) -> dict[str, list[str]]:
    """Return what a user had under each behavior, the latest first where there are times."""
    found = {}
    for behavior, name in enumerate(known.behaviors):
        if history is None:
            users, items = known.of(behavior)
            mine = items[users == user]
        else:
            rows = (history.users == user) & (history.behavior_index == behavior)
            mine = history.items[rows][::-1]
        latest = list(dict.fromkeys(mine.tolist()))
        found[name] = [str(names[item]) for item in latest[:SHOWN]]
    return found


def _lists(
    user: int, model: Mapping[str, Ranked], held_out: Interactions, names: pl.Series
) -> dict[str, dict[str, Any]]:
    """Return a user's lists of the behaviors that she has held-out items of."""
    found = {}
    for behavior, (name, ranked) in enumerate(model.items()):
        (places,) = np.nonzero(ranked.users.numpy() == user)
        if not len(places):
            continue
        items, hits = ranked.items[int(places[0])].tolist(), ranked.hits[int(places[0])].tolist()
        users, taken = held_out.of(behavior)
        found[name] = {
            "list": [
                (str(names[item]), hit) for item, hit in zip(items, hits, strict=True) if item >= 0
            ],
            "took": [str(names[item]) for item in taken[users == user].tolist()[:SHOWN]],
        }
    return found


def names_of(users: Path, items: Path, catalogue: Path | None) -> dict[str, pl.Series]:
    """Return what users and items are called: their ids, of an item its name where it has one.

    Args:
        users: table of inner user and id.
        items: the same of items.
        catalogue: table with the names of items by id, if there is one.
    """
    of_users, of_items = _ids(users, USER, USER_ID), _ids(items, ITEM, ITEM_ID)
    found = {USER: of_users[USER_ID], ITEM: of_items[ITEM_ID]}
    if catalogue is None or NAME not in pl.read_parquet_schema(catalogue):
        return found
    shown = pl.coalesce(pl.format("{} ({})", NAME, ITEM_ID), ITEM_ID)
    return found | {ITEM: _beside(of_items, catalogue, NAME).select(shown.alias(ITEM)).to_series()}


def categories_of(items: Path, catalogue: Path | None) -> list[str | None]:
    """Return the category of each item, by inner number; [] where no catalogue has categories."""
    if catalogue is None or CATEGORY not in pl.read_parquet_schema(catalogue):
        return []
    return _beside(_ids(items, ITEM, ITEM_ID), catalogue, CATEGORY)[CATEGORY].to_list()


def _ids(path: Path, inner: str, name: str) -> pl.DataFrame:
    """Return ids as text, by inner number."""
    return pl.read_parquet(path).sort(inner).select(pl.col(name).cast(pl.String))


def _beside(of_items: pl.DataFrame, catalogue: Path, column: str) -> pl.DataFrame:
    """Return item ids with what the catalogue says of each, null where it says nothing."""
    known = pl.read_parquet(catalogue, columns=[ITEM_ID, column]).unique(ITEM_ID, keep="first")
    return of_items.join(known, on=ITEM_ID, how="left", maintain_order="left")
