"""What is served is what is evaluated: lists of a bundle are the ranking of the same moment."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bigel.data.split import split
from bigel.errors import ConfigError
from bigel.evaluate.protocol import make_task, rank_task
from bigel.evaluate.stage import evaluate
from bigel.ingest import ingest
from bigel.lists import serving
from bigel.lists.bundle import build_bundle, learned_by, load_bundle, read_facts, refresh_bundle
from bigel.lists.serving import Candidates, Known, Session
from bigel.signals.history import History
from bigel.signals.recent import OrRecent
from bigel.signals.signals import Weighed, column_names
from bigel.state.embed import embed_learned
from bigel.state.moment import SIGNALS, history_at, learned_of, pairs_at, state_at
from bigel.tracking.side_by_side import Contender, _as_served, rank_side_by_side
from tests.signals.timed import DAY, NAMES, START, Made, all_columns, log, make, split_of

K = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(log(), tmp_path_factory.mktemp("timed"))


@pytest.mark.parametrize("moment", ["valid", "test", "now", START + 15 * DAY])
def test_a_bundle_ranks_as_the_state_does(made: Made, moment: str | int) -> None:
    state = state_at(learned_of(made.trained), made.split, moment)
    served = load_bundle(made.bundle(moment))
    users = np.flatnonzero(np.bincount(state.pairs.users, minlength=state.pairs.n_users))
    for behavior in range(len(NAMES)):
        out = torch.empty(len(users), state.pairs.n_items)
        state.scores().fill(behavior, torch.from_numpy(users), out)
        lists = served.recommend(behavior, users, 30, Candidates("none"))
        assert not lists.popular.any()
        assert len(lists.item) == int(torch.isfinite(out).sum())
        expected = out.numpy()[lists.row, lists.item]
        np.testing.assert_allclose(lists.score, expected, rtol=1e-4, atol=1e-4)


def test_a_bundle_adds_up_neighbours_as_the_signals_do_to_the_bit(made: Made) -> None:
    found = state_at(learned_of(made.trained), made.split, "now").signals
    served = load_bundle(made.bundle())
    assert found is not None and served.signals is not None
    users = np.arange(len(served.user_ids))
    mine = found.reached(torch.from_numpy(users))
    reached = Known(served, users, Session.empty()).reached
    assert len(reached.row)
    assert np.array_equal(reached.row * mine.shape[1] + reached.column, mine.keys.numpy())
    assert np.array_equal(reached.values, mine.values.numpy())


@pytest.mark.parametrize("summed", [1_000_000, 100])
def test_neighbours_of_few_users_are_those_of_many_to_the_bit(
    made: Made, summed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "SUMMED", summed)
    served = load_bundle(made.bundle())
    assert served.signals is not None
    users = np.arange(len(served.user_ids))

    def added(behavior: int, some: np.ndarray) -> np.ndarray:
        assert served.signals is not None
        scores = np.zeros((len(some), len(served.item_ids)), np.float32)
        reached = Known(served, some, Session.empty()).reached
        served.signals.add_neighbours(behavior, reached, scores)
        return scores

    for behavior in range(len(NAMES)):
        together = added(behavior, users)
        assert together.any()
        for size in (1, 7):
            parts = [added(behavior, users[at : at + size]) for at in range(0, len(users), size)]
            assert np.array_equal(np.concatenate(parts), together)


def test_weights_of_the_newest_nights_rank_from_the_logs_end_on(made: Made) -> None:
    learned = learned_of(made.trained)
    fitted = learned.signal_weights
    assert fitted is not None and not torch.equal(fitted[-1], fitted[-2])
    for moment, expected in (("valid", fitted[-2]), ("test", fitted[-2]), ("now", fitted[-1])):
        weights = state_at(learned, made.split, moment).weights
        assert weights is not None and torch.equal(weights[-1], expected)


def test_scores_are_columns_times_weights_whatever_the_batch(made: Made) -> None:
    state = state_at(learned_of(made.trained), made.split, "test")
    assert state.signals is not None and state.weights is not None
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(state.weights.shape, generator=generator)
    users = torch.arange(state.pairs.n_users)
    group_of = users % 2
    scores = Weighed(state.signals, weights, group_of)
    for behavior in range(len(NAMES)):
        columns = all_columns(state.signals, behavior, users)
        assert columns.shape[2] == len(column_names(NAMES, NAMES[behavior])) == weights.shape[2]
        naive = torch.einsum("bic,bc->bi", columns, weights[group_of, behavior])
        naive = naive.masked_fill(~state.signals.candidates, -torch.inf)
        whole = torch.empty_like(naive)
        scores.fill(behavior, users, whole)
        torch.testing.assert_close(whole, naive, rtol=1e-4, atol=1e-3)
        for some in users.split(7):
            part = torch.empty(len(some), naive.shape[1])
            scores.fill(behavior, some, part)
            assert torch.equal(part, whole[some])


def test_what_is_reported_is_what_lists_of_that_moment_reach(tmp_path: Path) -> None:
    """Also of users who come after that moment: they are served what is popular lately."""
    last = START + 20 * DAY
    late = [(100 + n, item, name, last - 3_600 - n) for n in range(9) for item in (n, 29)
            for name in NAMES]  # fmt: skip
    made = make(pl.concat([log(), pl.DataFrame(late, orient="row", schema=log().schema)]), tmp_path)
    metrics = json.loads(
        evaluate(made.split, made.trained, made.config, made.workspace)
        .file("metrics.json")
        .read_text()
    )
    served = load_bundle(made.bundle("test"))
    test = pl.read_parquet(made.split.file("test.parquet"))
    popular = 0
    for behavior, name in enumerate(NAMES):
        values = []
        rows = test.filter(pl.col("behavior_index") == behavior)
        for (user,), own in rows.group_by("user", maintain_order=True):
            items = set(own["item"].to_list())
            lists = served.recommend(behavior, np.array([user]), K)
            popular += int(lists.popular.any())
            gain = sum(1 / math.log2(r + 1) for i, r in zip(lists.item, lists.rank, strict=True)
                       if int(i) in items)  # fmt: skip
            values.append(gain / sum(1 / math.log2(r + 2) for r in range(min(K, len(items)))))
        reported = metrics["test"]["published"][name]
        assert reported["users"] == len(values)
        assert reported[f"ndcg@{K}"] == pytest.approx(sum(values) / len(values), abs=1e-6)
        assert metrics["headline"]["behaviors"][name]["value"] == reported[f"ndcg@{K}"]
    assert popular == 9 * len(NAMES)
    # The gate ranks a bundle to the figure of the report.
    bundle = made.bundle("now")
    beside = rank_side_by_side(made.split, bundle, bundle, K, "itself", 20_000)
    for name, pair in beside.behaviors.items():
        found = metrics["headline"]["behaviors"][name]
        assert pair.users == found["users"]
        assert pair.candidate == pair.champion == pytest.approx(found["value"], abs=1e-6)


def an_open_hour() -> tuple[int, pl.DataFrame]:
    """Return a moment within an hour, and events of old pairs in that hour before it."""
    moment = START + 16 * DAY + 1_800
    first = log().filter(pl.col("timestamp") < moment - DAY).unique(["user_id", "item_id"])
    known = first.sort("user_id", "item_id")[:40]
    return moment, known.with_columns(timestamp=pl.lit(moment - 1_500, pl.Int64))


def test_nothing_after_a_moment_changes_what_is_known_at_it(made: Made, tmp_path: Path) -> None:
    """Not a later event, and not one of the same hour as an earlier event of its pair."""
    moment, known = an_open_hour()
    log_before = pl.concat([log(), known])
    late = log().filter(pl.col("timestamp") >= moment)
    others = late.with_columns((pl.col("item_id") + 7) % 30, pl.col("user_id").reverse())
    repeats = [
        known.with_columns(timestamp=pl.lit(moment + seconds, pl.Int64))
        for seconds in (0, 60, 1_799)
    ]
    splits = [
        split_of(pl.concat([log_before, *more]), tmp_path / f"{len(more)}")[2]
        for more in ([], [others, *repeats])
    ]
    learned = learned_of(made.trained)
    one, two = (state_at(learned, split, moment) for split in splits)
    assert one.signals is not None and two.signals is not None
    users = torch.arange(one.pairs.n_users)
    for behavior in range(len(NAMES)):
        columns = (all_columns(signals, behavior, users) for signals in (one.signals, two.signals))
        assert torch.equal(*columns)


def test_a_cut_of_the_log_knows_as_little_of_its_last_hour(tmp_path: Path) -> None:
    moment, known = an_open_hour()
    rows = pl.concat([log(), known, known.with_columns(timestamp=pl.lit(moment + 60, pl.Int64))])
    config, workspace, whole = split_of(rows, tmp_path)
    cut = split(ingest(config, workspace), config, workspace, moment)
    seen, expected = History.load(cut), history_at(whole, moment)
    for name in ("users", "items", "behavior_index", "times", "counts"):
        assert np.array_equal(getattr(seen, name), getattr(expected, name)), name
    assert seen.counts[seen.times == moment - 1_500].tolist() == [1] * 40


@pytest.mark.parametrize("moment", ["test", "now"])
def test_a_bundle_ranks_by_every_signal(made: Made, moment: str) -> None:
    """By weights that are drawn, so that none of them is zero."""
    learned = learned_of(made.trained)
    assert learned.signal_weights is not None
    generator = torch.Generator().manual_seed(11)
    drawn = torch.randn(learned.signal_weights.shape, generator=generator)
    learned = replace(learned, tensors=learned.tensors | {SIGNALS: drawn})
    state = state_at(learned, made.split, moment)
    place = [made.split, made.config, made.workspace]
    embedded = embed_learned(learned, ["drawn"], *place, moment)
    bundle = build_bundle(made.split, made.trained, embedded, made.config, made.workspace)
    served = load_bundle(Path(bundle.path))
    users = np.flatnonzero(np.bincount(state.pairs.users, minlength=state.pairs.n_users))
    for behavior in range(len(NAMES)):
        out = torch.empty(len(users), state.pairs.n_items)
        state.scores().fill(behavior, torch.from_numpy(users), out)
        lists = served.recommend(behavior, users, 30, Candidates("none"))
        expected = out.numpy()[lists.row, lists.item]
        np.testing.assert_allclose(lists.score, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("exclude", ["same", "any", "none"])
def test_a_search_finds_the_lists_of_a_score_for_each_item(
    made: Made, exclude: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = learned_of(made.trained)
    assert learned.signal_weights is not None
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randn(learned.signal_weights.shape, generator=generator)
    learned = replace(learned, tensors=learned.tensors | {SIGNALS: drawn})
    place = [made.split, made.config, made.workspace]
    embedded = embed_learned(learned, ["drawn for a search"], *place, "now")
    bundle = Path(
        build_bundle(made.split, made.trained, embedded, made.config, made.workspace).path
    )
    scored = load_bundle(bundle)
    monkeypatch.setattr(serving, "MANY_ITEMS", 0)
    monkeypatch.setattr(serving, "PROMISING", 3)
    searched = load_bundle(bundle)
    users = np.append(np.arange(len(scored.user_ids)), [-1, -1])
    draw = np.random.default_rng(5)
    size, n_items = 40, len(scored.item_ids)
    events = (draw.integers(high, size=size) for high in (len(users), len(NAMES), n_items))
    hidden = (draw.integers(high, size=size) for high in (len(users), n_items))
    nothing = np.zeros(0, np.int64)
    some = Session(*events, *hidden, nothing, nothing)
    sessions = [Session.empty(), some]
    lengths = draw.integers(1, 9, len(users))
    for session in sessions:
        for allowed in (None, draw.random(n_items) < 0.6):
            asked = (range(len(NAMES)), users, lengths, Candidates(exclude, allowed), session)
            monkeypatch.setattr(serving, "MANY_ITEMS", 1 << 30)
            expected = scored.recommend_each(*asked)
            monkeypatch.setattr(serving, "MANY_ITEMS", 0)
            monkeypatch.setattr(type(searched), "_scores", by_popularity_alone)
            found = searched.recommend_each(*asked)
            monkeypatch.undo()
            for one, other in zip(found, expected, strict=True):
                assert len(one.item) > 50
                for field in ("row", "rank", "item", "popular"):
                    assert np.array_equal(getattr(one, field), getattr(other, field))
                np.testing.assert_allclose(one.score, other.score, rtol=1e-4, atol=1e-4)


SCORES = serving.Recommender._scores


def by_popularity_alone(
    self: serving.Recommender, behavior: int, known: Known, from_popularity: bool
) -> np.ndarray:
    assert from_popularity
    return SCORES(self, behavior, known, from_popularity)


def test_a_registered_model_embedded_over_the_same_log_is_itself(made: Made) -> None:
    own = made.bundle()
    again = Path(refresh_bundle(own, read_facts(own), made.split, made.config, made.workspace).path)
    one, two = load_bundle(own), load_bundle(again)
    for name in ("user_emb", "item_emb", "item_trend", "popularity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_a_model_embedded_over_a_later_log_goes_by_id_and_knows_whoever_came(
    made: Made, tmp_path: Path
) -> None:
    """An item launched after training, a user of an hour ago, ids that move all others."""
    end = START + 20 * DAY
    rows = [(-1, -5, "view", end + 60)]  # a new user, a new item: both come first of all ids
    rows += [(user, -5, "view", end + 30) for user in (1, 3, 5)]
    rows += [(-1, 29, "view", end + 90), (1, 29, "view", end + 20)]
    fresh = pl.DataFrame(rows, orient="row", schema=log().schema)
    config, workspace, later = split_of(pl.concat([log(), fresh]), tmp_path)
    own = made.bundle()
    served = load_bundle(Path(refresh_bundle(own, read_facts(own), later, config, workspace).path))
    user, item = served.user_ids.get_loc(-1), served.item_ids.tolist().index(-5)
    assert (user, item) == (0, 0)
    lists = served.recommend(0, np.array([user]), 10)
    assert not lists.popular.any() and len(lists.item) == 10
    graph = learned_by(own, read_facts(own), later).without_draws().embed(pairs_at(later, "now"))
    assert graph.user_emb[0, user].abs().sum() > 0
    assert graph.item_emb[0, item].abs().sum() > 0
    others = served.recommend(0, np.arange(1, 41), 30)
    assert item in others.item, "an item of the last minute can be listed"
    assert item not in lists.item, "what she has is left out"


def test_masks_and_known_pairs_are_those_of_the_moment(made: Made) -> None:
    for moment, names in (("valid", ["train"]), ("test", ["train", "valid"])):
        expected = pl.concat([pl.read_parquet(made.split.file(f"{n}.parquet")) for n in names])
        keys = expected.select("behavior_index", "user", "item").sort(pl.all()).rows()
        pairs = pairs_at(made.split, moment)
        found = zip(pairs.behavior_index, pairs.users, pairs.items, strict=True)
        assert sorted((int(b), int(u), int(i)) for b, u, i in found) == keys
        assert history_at(made.split, moment).until == made.split.counts["moments"][moment]


def test_evaluation_ranks_no_item_that_nobody_had(made: Made) -> None:
    state = state_at(learned_of(made.trained), made.split, "valid")
    born = np.bincount(state.pairs.items, minlength=state.pairs.n_items) > 0
    assert not born.all()
    task = make_task(state.pairs, pairs_at(made.split, "now"), 0, "published")
    ranked = rank_task(state.scores(), 0, task, 30, 16)
    shown = ranked.items[ranked.items >= 0].unique().numpy()
    assert born[shown].all()


@pytest.mark.parametrize("moment", [START - DAY, START + 21 * DAY])
def test_a_moment_outside_the_log_is_refused_with_its_ends(made: Made, moment: int) -> None:
    with pytest.raises(ConfigError, match=r"events are from \d{4}-.* to \d{4}-.* UTC"):
        state_at(learned_of(made.trained), made.split, moment)


def test_the_gate_serves_new_users_alike_whatever_the_order_of_a_models_behaviors(
    made: Made,
) -> None:
    state = state_at(learned_of(made.trained), made.split, "valid")
    orders = [list(NAMES), list(reversed(NAMES))]
    contenders = [Contender(state.scores(), names, np.zeros(0, bool)) for names in orders]
    served = [one.scores for one in _as_served(contenders, made.split, K)]
    assert all(isinstance(one, OrRecent) for one in served)
    users = torch.arange(3)
    served = [replace(one, known=torch.zeros_like(one.known)) for one in served]
    for name in NAMES:
        first, second = (torch.empty(3, state.pairs.n_items) for _ in orders)
        served[0].fill(orders[0].index(name), users, first)
        served[1].fill(orders[1].index(name), users, second)
        assert torch.equal(first, second) and first.isfinite().any()
