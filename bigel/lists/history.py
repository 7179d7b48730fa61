"""What a bundle knows that a user had."""

import numpy as np

from bigel.lists.serving import Recommender

Had = tuple[int, int | None]  # inner item, and Unix seconds of its latest event where times are


def history_of(recommender: Recommender, user: int) -> list[list[Had]]:
    """Return per behavior what a user had: the latest first, or by item where there are no times.

    Args:
        recommender: a loaded bundle.
        user: inner user.
    """
    found: list[list[Had]] = []
    for k, (crow, col) in enumerate(recommender.seen):
        mine = slice(int(crow[user]), int(crow[user + 1]))
        items = col[mine].tolist()
        if recommender.signals is None or recommender.signals.times is None:
            found.append([(item, None) for item in items])
            continue
        times = recommender.signals.times.last[k][mine]
        order = np.argsort(-times, kind="stable")
        found.append([(items[at], int(times[at])) for at in order.tolist()])
    return found
