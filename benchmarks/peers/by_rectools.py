"""Item-kNN and EASE of the package RecTools. python by_rectools.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from common import Rank, Task, measure
from implicit.nearest_neighbours import BM25Recommender
from rectools.dataset import Dataset
from rectools.models import EASEModel, ImplicitItemKNNWrapperModel
from scipy import sparse


def ranked_by(model, pairs: sparse.csr_matrix) -> Rank:
    """Fit a model; ids are numbers as they are, so no column has more than one meaning."""
    rows, columns = pairs.nonzero()
    frame = pd.DataFrame(
        {"user_id": rows, "item_id": columns, "weight": pairs.data, "datetime": "2026-01-01"}
    )
    dataset = Dataset.construct(frame)
    model.fit(dataset)
    there = np.unique(rows)

    def rank(users: np.ndarray, n: int) -> np.ndarray:
        found = np.full((len(users), n), -1)
        asked = users[np.isin(users, there)]  # who has nothing gets no list
        lists = model.recommend(asked, dataset, n, filter_viewed=False)
        place = pd.Series(np.arange(len(users)), index=users)[lists["user_id"]].to_numpy()
        found[place, lists["rank"].to_numpy() - 1] = lists["item_id"].to_numpy()
        return found

    return rank


def main() -> None:
    folder = Path(sys.argv[1])
    task = Task.load(folder)
    of_knn = task.settings["item_knn"]
    x = task.union(of_knn["weights"])

    def bm25(k: int) -> Rank:
        places = (of_knn["neighbours"][k], of_knn["k1"], of_knn["b"][k])
        return ranked_by(ImplicitItemKNNWrapperModel(BM25Recommender(*places, num_threads=1)), x)

    measure(folder, "RecTools BM25 item-kNN", task, bm25, once=False)

    def ease(_: int) -> Rank:
        ones = task.union([1.0] * len(task.known))
        ones.data[:] = 1
        model = EASEModel(task.settings["ease"]["penalty"], recommend_n_threads=1)
        return ranked_by(model, ones)

    measure(folder, "RecTools EASE", task, ease, once=True)


if __name__ == "__main__":
    main()
