"""The conditional logit: by hand, against autograd, and what it keeps."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY
from bigel.signals import nights, weighing
from bigel.signals.choices import Choices, joined
from bigel.signals.nights import Draw, Night
from bigel.signals.signals import PARTS, Signals, column_names, part_of_columns
from tests.signals.test_columns import history_of

BEHAVIORS = ("view", "buy")
WIDTH = len(column_names(BEHAVIORS, "view"))


def choices_of(seed: int, groups: int = 60, candidates: int = 8, strength: float = 2.0) -> Choices:
    """Draw user-nights whose choices follow the column of age alone; the rest is noise."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(groups * candidates, WIDTH, generator=generator)
    columns[:, part_of_columns(2).index("touches") :] = 0
    age = part_of_columns(2).index("age")
    group = torch.arange(groups).repeat_interleave(candidates)
    share = (strength * columns[:, age]).reshape(groups, candidates).softmax(1)
    taken = torch.multinomial(share, 1, generator=generator).flatten()
    chosen = torch.zeros(groups, candidates, dtype=torch.bool)
    chosen[torch.arange(groups), taken] = True
    users = torch.arange(groups) % 20
    return Choices(columns, group, chosen.flatten(), torch.zeros(len(group)), users)


def test_likelihood_by_hand() -> None:
    columns = torch.tensor([[0.0], [1.0], [2.0]])
    chosen = torch.tensor([False, True, False])
    stands_for = torch.tensor([2.0, 1.0, 1.0]).log()  # the first stands for two alike
    one = Choices(columns, torch.zeros(3, dtype=torch.int64), chosen, stands_for, torch.tensor([0]))
    value, share = weighing.likelihood(one, torch.tensor([0.5]))
    e = torch.tensor([0.0, 0.5, 1.0]).exp()
    total = 2 * e[0] + e[1] + e[2]
    assert value == pytest.approx(float((e[1] / total).log()), abs=1e-6)
    assert share.tolist() == pytest.approx([float(x / total) for x in (2 * e[0], e[1], e[2])])
    assert weighing.likelihood(one.only(torch.tensor([False])), torch.tensor([0.5]))[0] == 0


def test_derivatives_are_those_of_autograd() -> None:
    whole, counted = choices_of(0), torch.arange(60) % 3 != 0
    one = whole.only(counted)
    weights = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1)) * 0.3

    def value(at: torch.Tensor) -> torch.Tensor:
        score = (whole.columns.double() @ at + whole.stands_for).reshape(60, 8)
        logs = score.log_softmax(1).flatten()
        return logs[whole.chosen & counted[whole.group]].sum()

    found, share = weighing.likelihood(one, weights)
    gradient, hessian = weighing.derivatives(one, share)
    at = weights.double()
    assert found == pytest.approx(float(value(at)), rel=1e-5)
    expected = torch.autograd.functional.jacobian(value, at)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3)
    expected = torch.autograd.functional.hessian(value, at)
    torch.testing.assert_close(hessian, expected, rtol=1e-3, atol=1e-2)


def test_the_fit_is_a_maximum_and_the_center_draws_it() -> None:
    one = choices_of(0)
    kept = torch.ones(WIDTH, dtype=torch.bool)
    kept[3] = False
    center = torch.full((WIDTH,), 0.2)
    weights, _ = weighing.fit(one, kept, 2.0, center)
    assert weights[3] == 0

    def objective(at: torch.Tensor) -> float:
        away = torch.where(kept, at - center, 0.0)
        return weighing.likelihood(one, at)[0] - 2.0 * float((away**2).sum())

    best = objective(weights)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        step = torch.randn(WIDTH, generator=generator) * 0.05 * kept
        assert objective(weights + step) < best
    strong, _ = weighing.fit(one, kept, 1e6, center)
    torch.testing.assert_close(strong, torch.where(kept, center, 0.0), atol=1e-3, rtol=0)


def test_leaving_columns_out_is_foreseen() -> None:
    one = choices_of(3, groups=300)
    kept = torch.ones(WIDTH, dtype=torch.bool)
    weights, curvature = weighing.fit(one, kept, 5.0, torch.zeros(WIDTH))
    gone = torch.zeros(WIDTH, dtype=torch.bool)
    gone[:2] = True
    foreseen = weighing.without(weights, curvature, kept, gone)
    refitted, _ = weighing.fit(one, kept & ~gone, 5.0, torch.zeros(WIDTH))
    assert foreseen[:2].tolist() == [0, 0]
    torch.testing.assert_close(foreseen, refitted, atol=0.02, rtol=0)


def test_a_part_that_is_noise_goes_and_what_chooses_stays() -> None:
    one = choices_of(6, groups=600)
    fold_of = torch.arange(20) % weighing.FOLDS
    found = weighing.weigh([one, None], BEHAVIORS, fold_of, 1.0)
    kept = found.facts["view"]["kept"]
    assert "age" in kept and "demand" in kept and len(kept) < len(PARTS)
    age = column_names(BEHAVIORS, "view").index("age")
    assert found.weights[-1, 0, age] > 1.0
    assert found.facts["buy"]["nights"] == 0
    assert found.weights.shape == (weighing.FOLDS + 1, 2, WIDTH)
    worth = found.facts["view"]["without"]
    assert worth["age"] > 0.3 and all(worth[part] > 0 for part in kept if part != "demand")
    assert all(worth[part] <= 0 for part in PARTS if part not in kept)
    assert 1 / 8 < found.facts["view"]["likelihood"] < 1  # of eight candidates


def test_a_user_has_no_part_in_the_weights_of_her_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    one = choices_of(7, groups=120)
    fold_of = torch.arange(20) % weighing.FOLDS
    fitted: list[set[int]] = []
    measured: list[set[int]] = []

    def fit(choices: Choices, *given: Any) -> Any:
        fitted.append(set(fold_of[choices.users].tolist()))
        return real_fit(choices, *given)

    def likelihood(choices: Choices, weights: torch.Tensor) -> Any:
        measured.append(set(fold_of[choices.users].tolist()))
        return real_likelihood(choices, weights)

    real_fit, real_likelihood = weighing.fit, weighing.likelihood
    monkeypatch.setattr(weighing, "fit", fit)
    weighing.weigh([one, None], BEHAVIORS, fold_of, 1.0)
    everybody = {0, 1, 2}
    assert fitted[0] == everybody  # the weights of all behaviors together
    assert fitted[1:5] == [{1, 2}, {0, 2}, {0, 1}, everybody]
    monkeypatch.setattr(
        weighing, "fit", lambda *given: (torch.zeros(WIDTH), torch.eye(WIDTH).double())
    )
    monkeypatch.setattr(weighing, "likelihood", likelihood)
    weighing.weigh([one, None], BEHAVIORS, fold_of, 1.0)
    assert measured[:3] == [{0}, {1}, {2}]


def test_newer_nights_give_newer_weights_of_the_parts_that_were_kept() -> None:
    old, new = choices_of(6, groups=600), choices_of(8, groups=600, strength=0.5)
    fold_of = torch.arange(20) % weighing.FOLDS
    found = weighing.weigh([old, None], BEHAVIORS, fold_of, 1.0)
    again = weighing.weigh_again(found, [new, None], BEHAVIORS, 1.0)
    assert torch.equal(again.weights[:-1], found.weights)
    age = column_names(BEHAVIORS, "view").index("age")
    assert 0 < again.weights[-1, 0, age] < 1 < again.weights[-2, 0, age]
    gone = torch.tensor([p not in found.facts["view"]["kept"] for p in part_of_columns(2)])
    assert gone.any() and not again.weights[-1, 0, gone].any()
    assert torch.equal(again.weights[-1, 1], again.weights[-2, 1])


def test_nights_are_the_windows_last_days() -> None:
    assert nights.moments(0, 10 * DAY + 5)[0] == (5, DAY + 5)
    assert nights.moments(0, 10 * DAY)[-1] == (9 * DAY, 10 * DAY)
    assert len(nights.moments(0, 100 * DAY)) == nights.NIGHTS


def night() -> Night:
    events = [
        (0, 0, 0, 0.1), (1, 1, 0, 0.2), (1, 0, 0, 0.3), (0, 2, 0, 0.4),
        (0, 1, 0, 1.1), (1, 3, 0, 1.2), (2, 0, 0, 1.3), (1, 0, 0, 1.4), (1, 2, 0, 2.5),
    ]  # fmt: skip
    history = history_of(events, until=3 * DAY)
    return Night.of(history, history.at(DAY), 2 * DAY)


def drawn(one: Night, graph: EmbeddingScores, seed: int) -> Choices | None:
    draw = Draw.of([one], seed)
    draw.add(Signals.of(one.history, graph), one.tasks)
    return joined(draw.parts[0])


def test_a_nights_choices_are_new_pairs_of_known_users_and_items() -> None:
    task = night().tasks[0]
    rows, items = task.relevant.take(task.users)
    # Item 3 is new, user 2 is new, (1, 0) is a repeat, (1, 2) comes a day later.
    assert task.users.tolist() == [0] and items.tolist() == [1]
    assert rows.tolist() == [0]


def test_of_many_candidates_the_likely_are_there_and_the_drawn_stand_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the graph the last items are the best; item 7 is wanted most; item 5 was touched last."""
    monkeypatch.setattr(nights, "ENTRIES", 12)  # two of a kind
    events = [(1, item, 0, 0.01 * item) for item in range(60)]
    events += [(2 + n, 7, 0, 0.9) for n in range(4)] + [(2 + n, 8, 0, 0.9) for n in range(3)]
    events += [(0, 0, 0, 0.1), (0, 5, 1, 0.5), (0, 30, 0, 1.5)]
    in_order = sorted(events, key=lambda event: event[3])
    history = history_of(in_order, 3 * DAY, n_users=6, n_items=60)
    one = Night.of(history, history.at(DAY), 2 * DAY)
    items = torch.arange(60.0)[None, :, None].repeat(2, 1, 1)
    graph = EmbeddingScores(torch.ones(2, 6, 1), items, torch.zeros(2, 60))
    counts = []
    for seed in range(60):
        found = drawn(one, graph, seed)
        assert found is not None and found.users.tolist() == [0]
        items_there = found.columns[:, 0].int().tolist()
        there = dict(zip(items_there, found.stands_for.tolist(), strict=True))
        assert all(there[item] == 0 for item in (58, 59, 7, 8, 5, 30))
        assert 0 not in there  # she had it
        counts.append(sum(math.exp(weight) for weight in there.values()))
    assert np.mean(counts) == pytest.approx(59, rel=0.15)


def test_a_log_of_one_behavior_has_candidates_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "ENTRIES", 12)
    events = [(1, item, 0, 0.01 * item) for item in range(60)]
    events += [(0, 0, 0, 0.9), (0, 30, 0, 1.5)]
    history = replace(history_of(events, 3 * DAY, n_users=6, n_items=60), behaviors=("view",))
    graph = EmbeddingScores(torch.ones(1, 6, 1), torch.ones(1, 60, 1), torch.zeros(1, 60))
    found = drawn(Night.of(history, history.at(DAY), 2 * DAY), graph, 0)
    assert found is not None and found.users.tolist() == [0] and int(found.chosen.sum()) == 1


@pytest.mark.parametrize("entries", [1_000_000, 2])
def test_choices_hold_every_free_candidate_or_stand_for_them(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nights, "ENTRIES", entries)
    flat = EmbeddingScores(torch.zeros(2, 4, 1), torch.zeros(2, 4, 1), torch.zeros(2, 4))
    counts = np.zeros(30)
    for seed in range(len(counts)):
        found = drawn(night(), flat, seed)
        assert found is not None
        assert found.users.tolist() == [0] and int(found.chosen.sum()) == 1
        counts[seed] = found.stands_for.exp().sum()
    # User 0 has items 0 and 2, item 3 is not born: item 1 alone is free.
    assert counts == pytest.approx(np.ones(len(counts)))
