import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file, save_file

from bigel import schema
from bigel.data.interactions import Interactions
from bigel.errors import DataError
from bigel.evaluate.protocol import evaluate_split
from bigel.lists.bundle import build_bundle
from bigel.model.scores import EmbeddingScores
from bigel.store import Record, Workspace
from bigel.tracking.side_by_side import rank_side_by_side
from tests import fabricate

Pairs = dict[str, list[tuple[Any, Any]]]
SECOND, THIRD = 1 / math.log2(3), 1 / math.log2(4)


@dataclass
class World:
    """A log in external ids, split; ids are numbered in the order given."""

    users: list[Any]
    items: list[Any]
    train: Pairs
    test: Pairs

    def split(self, workspace: Workspace) -> Record:
        behaviors = list(self.train)

        def build(out: Path, scratch: Path) -> dict[str, Any]:
            counts: dict[str, Any] = {"users": len(self.users), "items": len(self.items)}
            counts |= {"method": "official", schema.DRAWN: []}
            empty: Pairs = {behavior: [] for behavior in behaviors}
            logs = {"train": self.train, "valid": empty, "test": self.test}
            for name, log in logs.items():
                rows = [
                    (self.users.index(user), self.items.index(item), k)
                    for k, behavior in enumerate(behaviors)
                    for user, item in log[behavior]
                ]
                columns = dict.fromkeys(("user", "item", "behavior_index"), pl.UInt32)
                frame = pl.DataFrame(rows, orient="row", schema=columns)
                frame.write_parquet(out / schema.split_file(name))
                counts[name] = {behavior: len(log[behavior]) for behavior in behaviors}
            for file, column, ids in (
                (schema.USERS_FILE, "user", self.users),
                (schema.ITEMS_FILE, "item", self.items),
            ):
                frame = pl.DataFrame({column: range(len(ids)), f"{column}_id": ids})
                frame.write_parquet(out / file)
            return counts

        return fabricate.stage(workspace, "split", [repr(self)], build)

    def bundle(self, workspace: Workspace, scores: dict[str, list[float]]) -> Path:
        """Make a bundle that gives each item, in order, this score for everybody."""
        bias = np.array([scores[behavior] for behavior in self.train], np.float32)
        k = len(bias)
        tensors = {
            "user_emb": np.zeros((k, len(self.users), 1), np.float32),
            "item_emb": np.zeros((k, len(self.items), 1), np.float32),
            "item_bias": bias,
        }

        def build(out: Path, scratch: Path) -> dict[str, Any]:
            save_file(tensors, out / schema.EMBEDDINGS_FILE)
            save_file({"popularity": np.ones_like(bias)}, out / schema.POPULARITY_FILE)
            save_file(fabricate.learned(bias), out / schema.WEIGHTS_FILE)
            return fabricate.learned_facts(list(self.train))

        split = self.split(workspace)
        trained = fabricate.stage(workspace, "train", [split.fingerprint, str(scores)], build)
        return Path(build_bundle(split, trained, trained, fabricate.CONFIG, workspace).path)


OLD = World(
    ["ann", "bob", "cat"],
    ["hat", "tie", "bag"],
    {"buy": [("ann", "hat"), ("bob", "tie"), ("cat", "bag")]},
    {"buy": [("cat", "hat")]},
)
NEW = World(  # "cat" is gone, "dan" and "pin" are new, and the order differs
    ["bob", "dan", "ann"],
    ["pin", "bag", "tie", "hat"],
    {"buy": [("bob", "tie"), ("dan", "pin"), ("ann", "hat")]},
    {"buy": [("ann", "tie"), ("ann", "pin"), ("bob", "bag"), ("dan", "bag")]},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_both_rank_all_that_is_known_at_the_end_of_train(workspace: Workspace) -> None:
    champion = OLD.bundle(workspace, {"buy": [2, 1, 3]})
    candidate = NEW.bundle(workspace, {"buy": [9, 1, 3, 2]})
    found = rank_side_by_side(NEW.split(workspace), candidate, champion, 2, "version 1", 20_000)
    # Masked by the present train: bob's tie, dan's pin, ann's hat. The champion never saw dan and
    # pin; a new item gets one of its lowest biases, here 1.1, between tie and hat. Champion: bob
    # gets bag, hat; dan bag, hat; ann bag, pin. Candidate: bob gets pin, hat; dan tie, hat; ann
    # pin, tie. Wanted: bob's bag, dan's bag, ann's tie and pin.
    buy = found.behaviors["buy"]
    assert (buy.users, found.label) == (3, "version 1")
    assert buy.candidate == pytest.approx((0 + 0 + 1) / 3)
    assert buy.champion == pytest.approx((1 + 1 + SECOND / (1 + SECOND)) / 3)
    assert found.mean == buy


def test_a_pair_that_the_champion_was_trained_on_is_left_out(workspace: Workspace) -> None:
    drawn_again = World(OLD.users, OLD.items, {"buy": [("cat", "hat"), ("bob", "tie")]}, {})
    drawn_again.test = {"buy": [("ann", "hat"), ("cat", "bag"), ("bob", "bag")]}
    champion = OLD.bundle(workspace, {"buy": [3, 2, 1]})
    candidate = drawn_again.bundle(workspace, {"buy": [1, 2, 3]})
    split = drawn_again.split(workspace)
    buy = rank_side_by_side(split, candidate, champion, 2, "", 20_000).behaviors["buy"]
    # Of ann's hat, cat's bag and bob's bag the champion had the first two in train.
    assert (buy.users, buy.candidate, buy.champion) == (1, 1.0, pytest.approx(SECOND))


def test_a_pair_that_was_the_champions_validation_is_left_out(workspace: Workspace) -> None:
    """It chose the champion's weights, and a refit learned it."""
    drawn_again = World(OLD.users, OLD.items, {"buy": [("cat", "hat")]}, {})
    drawn_again.test = {"buy": [("ann", "bag"), ("bob", "bag")]}
    champion = OLD.bundle(workspace, {"buy": [3, 2, 1]})
    candidate = drawn_again.bundle(workspace, {"buy": [1, 2, 3]})
    split = drawn_again.split(workspace)
    assert rank_side_by_side(split, candidate, champion, 2, "", 20_000).behaviors["buy"].users == 2
    seen = load_file(champion / "seen.safetensors")
    # The champion's row of ann is hat (of train); let it be bag, of validation.
    seen["0.col"][0], seen["0.train"][0], seen["0.valid"][0] = 2, False, True
    save_file(seen, champion / "seen.safetensors")
    fabricate.sign_again(champion)
    assert rank_side_by_side(split, candidate, champion, 2, "", 20_000).behaviors["buy"].users == 1


def test_a_pair_that_the_candidate_started_from_is_left_out(workspace: Workspace) -> None:
    champion = OLD.bundle(workspace, {"buy": [2, 1, 3]})
    candidate = NEW.bundle(workspace, {"buy": [9, 1, 3, 2]})
    seen = load_file(candidate / "seen.safetensors")
    # The candidate's row of bob: bag (1, of valid) and tie (2, of train).
    assert seen["0.col"][:2].tolist() == [1, 2] and seen["0.train"][:2].tolist() == [False, True]
    seen["0.train"][0] = True
    save_file(seen, candidate / "seen.safetensors")
    fabricate.sign_again(candidate)
    found = rank_side_by_side(NEW.split(workspace), candidate, champion, 2, "version 1", 20_000)
    assert found.behaviors["buy"].users == 2  # ann and dan


def test_numbers_that_became_text_are_the_same_ids(workspace: Workspace) -> None:
    pairs: Pairs = {"buy": [(7, 70), (8, 80)]}
    old = World([7, 8], [70, 80, 90], pairs, {"buy": [(7, 90)]})
    now = {"buy": [(str(user), str(item)) for user, item in pairs["buy"]]}
    new = World(["7", "8", "x"], ["70", "80", "90"], now, {"buy": [("7", "90")]})
    candidate = new.bundle(workspace, {"buy": [1, 2, 3]})
    champion = old.bundle(workspace, {"buy": [1, 3, 2]})
    buy = rank_side_by_side(new.split(workspace), candidate, champion, 2, "", 20_000).behaviors[
        "buy"
    ]
    assert (buy.users, buy.candidate, buy.champion) == (1, 1.0, pytest.approx(SECOND))


def test_the_order_of_the_cascade_may_differ(workspace: Workspace) -> None:
    pairs = {"view": [("ann", "tie")], "buy": [("ann", "hat"), ("bob", "tie"), ("cat", "bag")]}
    held = {"view": [("ann", "hat")], "buy": [("bob", "bag")]}
    one = World(OLD.users, OLD.items, pairs, held)
    other = World(OLD.users, OLD.items, dict(reversed(pairs.items())), dict(reversed(held.items())))
    scores: dict[str, list[float]] = {"view": [0, 2, 1], "buy": [3, 2, 1]}
    candidate, champion = one.bundle(workspace, scores), other.bundle(workspace, scores)
    found = rank_side_by_side(one.split(workspace), candidate, champion, 3, "", 20_000)
    for behavior in ("view", "buy"):
        pair = found.behaviors[behavior]
        assert pair.candidate == pair.champion == pytest.approx(SECOND)


def test_the_mean_is_that_of_the_behaviors_and_users_are_resampled_together(
    workspace: Workspace,
) -> None:
    pairs: Pairs = {"view": [("ann", "tie")], "buy": [("ann", "tie"), ("bob", "tie")]}
    train: Pairs = {name: [(user, "hat") for user in OLD.users] for name in pairs}
    world = World(OLD.users, OLD.items, train, pairs)
    best, worst = ({"view": scores, "buy": scores} for scores in ([0, 2, 1], [0, 1, 2]))
    candidate, champion = (world.bundle(workspace, scores) for scores in (best, worst))
    mean = rank_side_by_side(world.split(workspace), candidate, champion, 2, "", 20_000).mean
    assert (mean.users, mean.candidate, mean.champion) == (2, 1.0, pytest.approx(SECOND))
    # Each user is a half of buy; ann is view alone: twice ann counts 1.5, twice bob 0.5.
    assert (mean.low, mean.high) == pytest.approx((0.5 * (1 - SECOND), 1.5 * (1 - SECOND)))


@pytest.mark.parametrize("seed", range(4))
def test_on_the_same_data_it_is_the_published_protocol(workspace: Workspace, seed: int) -> None:
    """A bundle knows validation and test pairs, too, and has a trend; here it must not."""
    split, _, made, _ = fabricate.stages_before(workspace, seed=seed)
    bundle = Path(made.path)
    train, test = (Interactions.load(split, name) for name in ("train", "test"))
    bias = torch.from_numpy(fabricate.embeddings(seed)["item_bias"])
    users, items = torch.zeros(2, train.n_users, 1), torch.zeros(2, train.n_items, 1)
    scores = EmbeddingScores(users, items, bias)
    expected = evaluate_split(scores, train, test, schema.PUBLISHED, [5])
    found = rank_side_by_side(split, bundle, bundle, 5, "itself", 20_000)
    for k, name in enumerate(fabricate.BEHAVIORS):
        assert found.behaviors[name].candidate == expected[k]["ndcg@5"]
        assert found.behaviors[name].users == expected[k]["users"]
    assert (found.mean.difference, found.mean.low, found.mean.high) == (0, 0, 0)


def test_a_behavior_without_a_held_out_user_is_left_out(
    workspace: Workspace,
) -> None:
    pairs: Pairs = {"buy": OLD.train["buy"], "cart": [("ann", "hat")]}
    world = World(OLD.users, OLD.items, pairs, {"buy": [("bob", "bag")], "cart": []})
    best, worst = ({"buy": scores, "cart": [0, 0, 0]} for scores in ([1, 2, 3], [3, 2, 1]))
    candidate, champion = (world.bundle(workspace, scores) for scores in (best, worst))
    found = rank_side_by_side(world.split(workspace), candidate, champion, 2, "version 1", 20_000)
    assert (list(found.behaviors), found.left_out) == (["buy"], ("cart",))
    # Bob's bag is first of the candidate's list, and second, after hat, of the champion's.
    assert found.mean == found.behaviors["buy"]
    assert (found.mean.candidate, found.mean.champion) == (1.0, pytest.approx(SECOND))


def test_what_cannot_be_compared_is_refused(workspace: Workspace) -> None:
    candidate = NEW.bundle(workspace, {"buy": [1, 2, 3, 4]})
    split = NEW.split(workspace)
    renamed = World(OLD.users, OLD.items, {"get": OLD.train["buy"]}, {"get": []})
    other = renamed.bundle(workspace, {"get": [1, 2, 3]})
    with pytest.raises(DataError, match="the behaviors get, the data buy"):
        rank_side_by_side(split, candidate, other, 2, "", 20_000)
    with pytest.raises(DataError, match="cannot be read"):
        rank_side_by_side(split, candidate, workspace.root, 2, "", 20_000)
    champion = OLD.bundle(workspace, {"buy": [1, 2, 3]})
    learned = World(NEW.users, NEW.items, NEW.test, {"buy": NEW.test["buy"]})
    with pytest.raises(DataError, match="no test pair of buy is new to both"):
        rank_side_by_side(
            split, candidate, learned.bundle(workspace, {"buy": [1, 2, 3, 4]}), 2, "", 20_000
        )
    seen = load_file(champion / "seen.safetensors")
    save_file({k: v for k, v in seen.items() if "train" not in k}, champion / "seen.safetensors")
    with pytest.raises(DataError, match=r"seen\.safetensors is damaged"):
        rank_side_by_side(split, candidate, champion, 2, "", 20_000)
    fabricate.sign_again(champion)
    with pytest.raises(DataError, match="does not tell which pairs"):
        rank_side_by_side(split, candidate, champion, 2, "", 20_000)
