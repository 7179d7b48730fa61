"""The neighbour part by hand, against a naive twin, and what it must not hang on."""

import math

import numpy as np
import pytest
import torch

from bigel.model.nearby import SMALL, Nearby, NearbyScores
from bigel.model.scores import EmbeddingScores
from tests.worlds import interactions_of

PAIRS = [[(0, 0), (0, 1), (1, 1), (2, 3)], [(1, 0), (1, 2), (0, 1)]]  # of behaviors b0 and b1


def zeros(n_users: int, n_items: int, behaviors: int = 2) -> EmbeddingScores:
    return EmbeddingScores(
        torch.zeros(behaviors, n_users, 1),
        torch.zeros(behaviors, n_items, 1),
        torch.zeros(behaviors, n_items),
    )


def filled(scores: NearbyScores, behavior: int, users: list[int]) -> torch.Tensor:
    out = torch.empty(len(users), scores.n_items)
    scores.fill(behavior, torch.tensor(users), out)
    return out


def random_pairs(seed: int, n_users: int = 30, n_items: int = 12) -> list[list[tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    return [
        sorted({(int(rng.integers(n_users)), int(rng.integers(n_items))) for _ in range(40)})
        for _ in range(2)
    ]


def test_by_hand() -> None:
    log = interactions_of(PAIRS, 4, 4)
    column = Nearby.of(log).column(torch.arange(4))
    # users of items 0 to 3, under any behavior: {0, 1}, {0, 1}, {1}, {2}
    assert column[0].tolist() == pytest.approx(
        [math.log1p(1 / SMALL), math.log1p(1 / SMALL), math.log1p(2 / math.sqrt(2) / SMALL), 0]
    )
    assert column[2].tolist() == column[3].tolist() == [0, 0, 0, 0]
    scores = NearbyScores(zeros(4, 4), Nearby.of(log), torch.tensor([[0.5, 0.0]]))
    assert torch.equal(filled(scores, 0, [0, 2]), 0.5 * column[[0, 2]])
    assert not filled(scores, 1, [0, 2]).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_naive_twin(seed: int) -> None:
    pairs = random_pairs(seed)
    owners: dict[int, set[int]] = {item: set() for item in range(12)}
    for user, item in (pair for of_behavior in pairs for pair in of_behavior):
        owners[item].add(user)
    column = Nearby.of(interactions_of(pairs, 30, 12)).column(torch.arange(30))
    for user in range(30):
        for item in range(12):
            reached = sum(
                len(owners[mine] & owners[item]) / math.sqrt(len(owners[mine]) * len(owners[item]))
                for mine in range(12)
                if user in owners[mine] and mine != item and owners[item]
            )
            assert float(column[user, item]) == pytest.approx(math.log1p(reached / SMALL), rel=1e-5)


def test_batches_and_groups_of_users_change_no_row() -> None:
    log = interactions_of(random_pairs(5), 30, 12)
    group_of = torch.arange(30) % 2
    weights = torch.tensor([[0.5, 1.0], [2.0, 0.0]])
    scores = NearbyScores(zeros(30, 12), Nearby.of(log), weights, group_of)
    every = filled(scores, 0, list(range(30)))
    parts = [filled(scores, 0, list(range(at, at + 3))) for at in range(0, 30, 3)]
    assert torch.equal(torch.cat(parts), every)
    for group in (0, 1):
        alone = NearbyScores(zeros(30, 12), Nearby.of(log), weights[group][None])
        mine = torch.nonzero(group_of == group).flatten()
        assert torch.equal(filled(alone, 0, mine.tolist()), every[mine])


def test_other_numbers_of_users_and_items_permute_the_scores() -> None:
    pairs, rng = random_pairs(7), np.random.default_rng(0)
    users, items = rng.permutation(30), rng.permutation(12)
    moved = [[(int(users[u]), int(items[i])) for u, i in of_k] for of_k in pairs]
    column = Nearby.of(interactions_of(pairs, 30, 12)).column(torch.arange(30))
    renamed = Nearby.of(interactions_of(moved, 30, 12)).column(torch.from_numpy(users))
    torch.testing.assert_close(renamed[:, torch.from_numpy(items)], column)
