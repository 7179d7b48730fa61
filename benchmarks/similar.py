"""How good similar items are, by what one user had together in what was held out.

Each held-out item of a user is asked about; right are the other ones of hers under that behavior.
Items that nobody had before are left out of both. All items are ranked but the one asked about. A
figure is the mean over users of the mean over their items, so that nobody counts twice; beside it
the 95 % bootstrap interval of its difference to cosine item-kNN, whose users are drawn. The model
is that of the same moment: it has seen nothing of what is held out.

python benchmarks/similar.py jd ../shared/data/jd --split test
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bigel.config import load_config
from bigel.config.write import to_toml
from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.lists.bundle import build_bundle, load_bundle
from bigel.lists.serving import Recommender, top_k
from bigel.lists.similar import similar
from bigel.pipeline import run_pipeline
from bigel.signals.neighbours import Neighbours
from bigel.state.embed import embed, users_per_item
from bigel.state.moment import pairs_at
from bigel.store import Workspace

K = 10
ITEMS_AT_A_TIME = 1_024
DRAWS = 1_000
KNN = "cosine item-kNN"
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Lists = tuple[Ints, Ints]  # place of the item asked about, item; in the order of the ranks
Finder = Callable[[Ints], Lists]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="preset or TOML file")
    parser.add_argument("path", type=Path, help="the log")
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    config = load_config(args.source, [f"data.path={to_toml(str(args.path))}", *args.settings])
    workspace = Workspace(args.workspace)
    records = run_pipeline(config, workspace, "train").records
    split, trained = records["split"], records["train"]
    embedded = embed(split, trained, config, workspace, args.split)
    bundle = build_bundle(split, trained, embedded, config, workspace)
    recommender = load_bundle(Path(bundle.path))
    known = pairs_at(split, args.split).in_order(recommender.behaviors)
    finders = contestants(recommender, known)
    held_out = Interactions.held_out(split, args.split).in_order(recommender.behaviors)
    held_out = held_out.only(np.isin(held_out.items, known.items))
    print(f"| similar items by | {' | '.join(heads(held_out))} |")
    print(f"|---|{'---:|' * len(heads(held_out))}")
    found = {name: [of_behavior(find, held_out, k) for k in range(len(held_out.behaviors))]
             for name, find in finders.items()}  # fmt: skip
    for name, figures in found.items():
        cells = [cell(*both) for both in zip(figures, found[KNN], strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


def heads(held_out: Interactions) -> list[str]:
    """Return what the columns are called, with the number of users."""
    names = []
    for k, name in enumerate(held_out.behaviors):
        users = len(set(tasks(held_out, k)[0].tolist()))
        names += [f"{name} NDCG@{K} ({users:,} users)", f"HR@{K}"]
    return names


def contestants(recommender: Recommender, known: Interactions) -> dict[str, Finder]:
    """Return what finds similar items, by name: the K best of each."""
    behaviors = recommender.behaviors
    union = Pairs.of(known.users, known.items, known.n_users, known.n_items)
    near = Neighbours.of(union)

    def knn(items: Ints) -> Lists:
        scores = np.full((len(items), known.n_items), -np.inf, np.float32)
        for row, item in enumerate(items):
            some = slice(int(near.crow[item]), int(near.crow[item + 1]))
            scores[row, near.col[some].numpy()] = near.value[some].numpy()
        return top_k(scores, K)[0::2]

    def popular(items: Ints) -> Lists:
        scores = np.tile(users_per_item(known).sum(0), (len(items), 1))
        scores[np.arange(len(items)), items] = -np.inf
        return top_k(scores, K)[0::2]

    def served(model: Recommender, behavior: int | None) -> Finder:
        return lambda items: similar(model, items, K, behavior)[0::2]

    found: dict[str, Finder] = {"popularity": popular, KNN: knn}
    found["bigel"] = served(recommender, None)
    for k, name in enumerate(behaviors):
        found[f"bigel, by {name}"] = served(recommender, k)
    if recommender.signals is not None and recommender.signals.times is not None:
        found["bigel, its states alone"] = served(replace(recommender, signals=None), None)
    return found


def tasks(held_out: Interactions, behavior: int) -> tuple[Ints, Ints]:
    """Return user and item of all pairs of users who have two or more under a behavior."""
    users, items = held_out.of(behavior)
    order = np.lexsort((items, users))
    users, items = users[order], items[order]
    several = np.bincount(users, minlength=held_out.n_users)[users] > 1
    return users[several], items[several]


def of_behavior(find: Finder, held_out: Interactions, behavior: int) -> Floats:
    """Return NDCG and HR of each user, (users, 2)."""
    users, items = tasks(held_out, behavior)
    asked, place = np.unique(items, return_inverse=True)
    listed = np.full((len(asked), K), -1)
    for start in range(0, len(asked), ITEMS_AT_A_TIME):
        some = asked[start : start + ITEMS_AT_A_TIME]
        row, item = find(some)
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        listed[start + row, rank] = item
    his = {user: items[users == user] for user in set(users.tolist())}
    figures = np.zeros((len(users), 2))
    for at, (user, item) in enumerate(zip(users, items, strict=True)):
        others = his[user][his[user] != item]
        hits = np.isin(listed[place[at]], others)
        ideal = (1 / np.log2(np.arange(2, min(K, len(others)) + 2))).sum()
        figures[at] = (hits / np.log2(np.arange(2, K + 2))).sum() / ideal, hits.any()
    _, of_user = np.unique(users, return_inverse=True)
    counts = np.bincount(of_user)[:, None]
    sums = np.column_stack([np.bincount(of_user, column) for column in figures.T])
    return sums / counts


def cell(figures: Floats, rival: Floats) -> str:
    """Return means, and the interval of the difference of the first to a rival's."""
    if not len(figures):
        return "– | –"
    draw = np.random.default_rng(0)
    gain = (figures - rival)[:, 0]
    means = [gain[draw.integers(len(gain), size=len(gain))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    ndcg, hr = figures.mean(axis=0)
    between = "" if not gain.any() else f" ({low:+.4f} to {high:+.4f})"
    return f"{ndcg:.4f}{between} | {hr:.4f}"


if __name__ == "__main__":
    main()
