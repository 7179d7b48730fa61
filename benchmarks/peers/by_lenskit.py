"""Item-kNN and implicit matrix factorization of the package LensKit. python by_lenskit.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from common import Rank, Task, measure
from lenskit.als import ImplicitMFScorer
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.knn import ItemKNNScorer
from lenskit.training import TrainingOptions
from scipy import sparse


def ranked_by(scorer, pairs: sparse.csr_matrix) -> Rank:
    """Train a scorer; it scores all items for one user at a time."""
    rows, columns = pairs.nonzero()
    frame = pd.DataFrame({"user_id": rows, "item_id": columns, "rating": pairs.data})
    scorer.train(from_interactions_df(frame), TrainingOptions(rng=0))
    everything = ItemList(item_ids=np.unique(columns))
    names = everything.ids()

    def best(user: int, n: int) -> np.ndarray:
        start, end = pairs.indptr[user], pairs.indptr[user + 1]
        own = ItemList(item_ids=pairs.indices[start:end], rating=pairs.data[start:end])
        found = scorer(RecQuery(user_id=user, user_items=own), everything).scores()
        order = np.argsort(np.nan_to_num(-found, nan=np.inf), kind="stable")[:n]
        return np.where(np.isfinite(found[order]), names[order], -1)

    def rank(users: np.ndarray, n: int) -> np.ndarray:
        lists = np.full((len(users), n), -1)
        for row, user in enumerate(users):
            items = best(int(user), n)
            lists[row, : len(items)] = items
        return lists

    return rank


def main() -> None:
    folder = Path(sys.argv[1])
    task = Task.load(folder)
    of_knn, of_als = task.settings["item_knn"], task.settings["als"]
    x = task.union(of_knn["weights"])
    most = max(of_knn["neighbours"])
    measure(
        folder, "LensKit item-kNN", task,
        lambda _: ranked_by(ItemKNNScorer(feedback="implicit", max_nbrs=most, save_nbrs=most), x),
        once=True,
    )  # fmt: skip
    weights = of_als["weights"] * (1 if len(of_als["weights"]) > 1 else len(task.known))
    settings = {
        "embedding_size": of_als["dim"], "epochs": of_als["rounds"], "weight": of_als["alpha"],
        "regularization": of_als["penalty"], "use_ratings": True,
    }  # fmt: skip
    measure(
        folder, "LensKit implicit MF", task,
        lambda _: ranked_by(ImplicitMFScorer(**settings), task.union(weights)), once=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
