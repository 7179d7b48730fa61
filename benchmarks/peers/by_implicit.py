"""Item-kNN and ALS of the package implicit. python by_implicit.py FOLDER"""

import sys
from pathlib import Path

from common import Rank, Task, measure
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender


def main() -> None:
    folder = Path(sys.argv[1])
    task = Task.load(folder)
    of_knn, of_als = task.settings["item_knn"], task.settings["als"]
    x = task.union(of_knn["weights"])

    def ranked_by(model, inputs) -> Rank:
        model.fit(inputs, show_progress=False)
        return lambda users, n: model.recommend(
            users, inputs[users], N=n, filter_already_liked_items=False
        )[0]

    def bm25(k: int) -> Rank:
        places = (of_knn["neighbours"][k], of_knn["k1"], of_knn["b"][k])
        return ranked_by(BM25Recommender(*places, num_threads=1), x)

    measure(folder, "implicit BM25 item-kNN", task, bm25, once=False)
    for name, kind in (("TF-IDF", TFIDFRecommender), ("cosine", CosineRecommender)):

        def knn(k: int, kind=kind) -> Rank:
            return ranked_by(kind(of_knn["neighbours"][k], num_threads=1), x)

        measure(folder, f"implicit {name} item-kNN", task, knn, once=False)

    def als(_: int) -> Rank:
        weights = of_als["weights"] * (1 if len(of_als["weights"]) > 1 else len(task.known))
        model = AlternatingLeastSquares(
            of_als["dim"], of_als["penalty"], of_als["alpha"], iterations=of_als["rounds"],
            num_threads=1, random_state=0,
        )  # fmt: skip
        return ranked_by(model, task.union(weights))

    measure(folder, "implicit ALS", task, als, once=True)


if __name__ == "__main__":
    main()
