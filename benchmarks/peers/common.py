"""What the peers' scripts share; needs numpy and scipy alone, for it runs in their environments."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

LENGTH = 10
Rank = Callable[[np.ndarray, int], np.ndarray]  # users (B,), n -> their n best items, (B, n)


@dataclass(frozen=True, eq=False)
class Task:
    """A split as peers see it.

    Args:
        known: per behavior, the known pairs as ones, (U, I).
        asked: per behavior, the users to rank.
        settings: by rival.
    """

    known: Sequence[sparse.csr_matrix]
    asked: Sequence[np.ndarray]
    settings: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Task":
        """Read what export.py wrote."""
        data = np.load(folder / "task.npz")
        shape = tuple(data["shape"].tolist())
        asked = [data[name] for name in sorted(name for name in data if name.startswith("asked_"))]
        known = []
        for k in range(len(asked)):
            here = data["behavior"] == k
            places = (data["user"][here], data["item"][here])
            known.append(sparse.csr_matrix((np.ones(here.sum()), places), shape=shape))
        settings = json.loads((folder / "settings.json").read_text("utf-8"))
        return cls(known, asked, settings)

    def union(self, weights: Sequence[float]) -> sparse.csr_matrix:
        """Return the weighted union of behaviors, float32."""
        total = sum(weight * pairs for weight, pairs in zip(weights, self.known, strict=True))
        return sparse.csr_matrix(total).astype(np.float32)

    def lists(self, behavior: int, rank: Rank, at_once: int = 1_000) -> np.ndarray:
        """Return the best items of the asked users, without those known under the behavior.

        A peer ranks as many more items as a user has to leave out; a shorter list ends in -1.
        """
        users, known = self.asked[behavior], self.known[behavior]
        found = np.full((len(users), LENGTH), -1, np.int64)
        for start in range(0, len(users), at_once):
            some = users[start : start + at_once]
            more = int(np.diff(known.indptr)[some].max(initial=0))
            items = rank(some, min(LENGTH + more, known.shape[1]))
            for row, user in enumerate(some):
                own = known.indices[known.indptr[user] : known.indptr[user + 1]]
                left = items[row][(items[row] >= 0) & ~np.isin(items[row], own)][:LENGTH]
                found[start + row, : len(left)] = left
        return found


def measure(folder: Path, name: str, task: Task, fit: Callable[[int], Rank], once: bool) -> None:
    """Fit a peer, rank all, write lists and CPU seconds.

    Args:
        folder: of task.npz; the lists go to lists/<name>.npz.
        name: of the peer.
        task: what is ranked.
        fit: takes a behavior, returns what ranks it.
        once: whether one fit serves all behaviors.
    """
    lists, fitting, ranking, rank = {}, 0.0, 0.0, None
    for k in range(len(task.asked)):
        started = time.process_time()
        if rank is None or not once:
            rank = fit(k)
        fitted = time.process_time()
        lists[f"items_{k}"] = task.lists(k, rank)
        fitting, ranking = fitting + fitted - started, ranking + time.process_time() - fitted
    (folder / "lists").mkdir(exist_ok=True)
    np.savez(folder / "lists" / f"{name}.npz", seconds=np.array([fitting, ranking]), **lists)
    print(f"{name}: {fitting:.1f} s of CPU to fit, {ranking:.1f} s to rank", flush=True)
