"""What the worlds of the tests promise."""

import numpy as np
import polars as pl

from tests.worlds import (
    FINDER,
    LATE_USER,
    MEMBERS,
    NEW_ITEM,
    NEWEST_DAYS,
    NEWEST_START,
    newest_log,
)


def test_the_newest_world_has_a_new_item_and_a_late_user() -> None:
    log = newest_log()
    end = NEWEST_START + NEWEST_DAYS * 86_400
    assert log["timestamp"].is_sorted()
    assert log["timestamp"].is_between(NEWEST_START, end, closed="left").all()
    assert log.select("user_id", "item_id", "behavior").is_unique().all()
    ((user, behavior, moment),) = log.filter(item_id=NEW_ITEM).drop("item_id").rows()
    assert (user, behavior) == (FINDER, "click")
    assert moment >= log["timestamp"].quantile(0.9)
    assert moment >= end - NEWEST_DAYS * 86_400 / 10
    last = log.row(-1, named=True)
    assert log.filter(user_id=LATE_USER).rows(named=True) == [last]
    assert last["item_id"] == "A1" and 0 < end - last["timestamp"] < 3_600


def test_groups_of_the_newest_world_share_no_item_and_leave_each_member_one() -> None:
    clicks = newest_log().filter(
        pl.col("behavior") == "click",
        pl.col("user_id") != LATE_USER,
        pl.col("item_id") != NEW_ITEM,
    )
    had = dict(clicks.group_by("user_id").agg(pl.col("item_id").unique().sort()).iter_rows())
    assert len(had) == 2 * MEMBERS
    for user, items in had.items():
        group = [f"{user[0].upper()}{n}" for n in range(MEMBERS)]
        assert items == [item for item in group if item[1:] != user[1:]]


def test_neighbours_in_the_newest_world_say_what_is_right() -> None:
    """Item cosine: the late user is led to the group, and the new item to the finder's group."""
    log = newest_log().unique(["user_id", "item_id"], maintain_order=True)
    users, items = log["user_id"].unique().sort(), log["item_id"].unique().sort()
    had = np.zeros((len(users), len(items)))
    for user, item in log.select("user_id", "item_id").iter_rows():
        had[users.index_of(user), items.index_of(item)] = 1
    unit = had / np.linalg.norm(had, axis=0)
    scores = had @ (unit.T @ unit)
    of_a = np.array([item.startswith("A") for item in items])
    late = scores[users.index_of(LATE_USER)]
    assert late[of_a].min() > 0 == late[~of_a].max()
    new = scores[:, items.index_of(NEW_ITEM)]
    in_a = np.array([user.startswith("a") for user in users])
    assert new[in_a].min() > 0 == new[~in_a].max()
