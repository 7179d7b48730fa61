"""Warm start over two nights: what is taken over, what is not, and that a repeated run is none."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from bigel import schema
from bigel.config import load_config
from bigel.data.split import split
from bigel.errors import DataError
from bigel.graph import build_graphs
from bigel.lists.bundle import build_bundle, places
from bigel.model import BiGEL
from bigel.state.embed import embed
from bigel.store import Record, Workspace
from bigel.tracking import choose_start, home_of, promote, register
from bigel.tracking.warm_start import _other_architecture
from bigel.train import bigel, train
from bigel.train.start import Start, architecture
from tests import fabricate
from tests.train.test_loop import QUICK, Killed
from tests.worlds import write_timed

pytestmark = pytest.mark.usefixtures("_light_model")
SETTINGS = [
    *QUICK, 'data.behaviors=["click", "purchase"]', "run.threads=1", "train.warm_start=true",
    "tracking.gate_tolerance=0.9",
]  # fmt: skip
Rows = list[tuple[str, str, str, int]]  # user, item, behavior, time


def first_log() -> Rows:
    """Users m0…m11 click the items of their parity and buy some; the last events are held out."""
    clicks = [
        (f"m{u}", f"k{i}", "click", 100 + 7 * u + i)
        for u in range(12)
        for i in range(12)
        if (u + i) % 2 == 0
    ]
    buys = [(user, item, "purchase", time + 1) for user, item, _, time in clicks[::2]]
    return clicks + buys


def second_log() -> Rows:
    """The next day: ids that sort before all others push every inner id aside."""
    more = [("a0", f"k{i}", "click", 300 + i) for i in range(0, 12, 2)]
    more += [(f"m{u}", "a-new", "click", 300 + u) for u in range(0, 12, 2)]
    return first_log() + more + [("a0", "a-new", "purchase", 310), ("m1", "k2", "purchase", 311)]


@dataclass
class Night:
    split: Record
    graph: Record
    start: Record
    train: Record
    register: Record


def prepare(rows: Rows, workspace: Workspace, *overrides: str) -> tuple[Any, Record, Record]:
    config = load_config("", [*SETTINGS, *overrides])
    place = workspace.root / f"log-{len(rows)}"
    frame = pl.DataFrame(rows, ["user_id", "item_id", "behavior", "timestamp"], orient="row")
    frame = frame.with_columns(pl.lit(1, pl.UInt32).alias("count"))
    write_timed(place, frame)
    record = Record("ingest", f"log {len(rows)}", str(place), False, 0.0)
    parted = split(record, config, workspace)
    return config, parted, build_graphs(parted, config, workspace)


def night(rows: Rows, workspace: Workspace, *overrides: str) -> Night:
    config, parted, graph = prepare(rows, workspace, *overrides)
    start = choose_start(parted, graph, config, workspace)
    trained = train(parted, graph, config, workspace, start=start)
    evaluated = fabricate.evaluate_stage(workspace, trained)
    embedded = embed(parted, trained, config, workspace)
    bundle = build_bundle(parted, trained, embedded, config, workspace)
    made = register(parted, trained, bundle, evaluated, [], config, workspace)
    return Night(parted, graph, start, trained, made)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return fabricate.workspace_at(tmp_path)


def make_champion(made: Night, workspace: Workspace) -> None:
    promote(str(made.register.counts["version"]), "test", load_config("", SETTINGS), workspace)


def test_the_first_night_is_cold_and_is_the_training_without_the_switch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    config, parted, graph = prepare(first_log(), workspace)
    start = choose_start(parted, graph, config, workspace)
    assert "training starts cold: nothing is registered yet" in caplog.text
    trained = train(parted, graph, config, workspace, start=start)
    assert train(parted, graph, config, workspace).fingerprint == trained.fingerprint


def test_a_repeated_run_does_nothing_also_after_its_own_promotion(workspace: Workspace) -> None:
    nights = {}
    for name, rows in (("first", first_log()), ("second", second_log())):
        nights[name] = night(rows, workspace)
        for _ in range(2):
            make_champion(nights[name], workspace)
            again = night(rows, workspace)
            assert again.start.reused and again.train.reused and again.register.reused
            assert again.train.fingerprint == nights[name].train.fingerprint
            assert again.register.counts["version"] == nights[name].register.counts["version"]
    assert nights["first"].start.counts["cold"]
    assert nights["second"].start.counts["uri"] == "models:/bigel/1"
    assert nights["second"].train.counts["start"] == "models:/bigel/1"


def test_another_champion_gives_another_training(workspace: Workspace) -> None:
    make_champion(night(first_log(), workspace), workspace)
    warm = night(second_log(), workspace)
    cold = night(second_log(), workspace, "train.warm_start=false", "train.seed=0")
    assert warm.start.fingerprint == cold.start.fingerprint  # one choice for one training
    config, parted, graph = prepare(second_log(), workspace)
    assert train(parted, graph, config, workspace).fingerprint != warm.train.fingerprint


def test_known_ids_take_their_weights_along_and_new_ones_follow_the_rule(
    workspace: Workspace,
) -> None:
    more = "model.user_vectors=true", "model.view=true", "model.own_view=true"
    first = night(first_log(), workspace, *more)
    make_champion(first, workspace)
    config, parted, graph = prepare(second_log(), workspace, *more)
    record = choose_start(parted, graph, config, workspace)
    counts = record.counts
    assert (counts["known_users"], counts["users"]) == (12, 13)
    assert (counts["known_items"], counts["items"]) == (12, 13)
    model = BiGEL(config.model, 13, 13, 2, torch.Generator().manual_seed(3))
    drawn = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    start = Start.load(record)
    assert start is not None
    start.begin(model, "")
    earlier = load_file(first.train.file("weights.safetensors"))
    now = dict(model.named_parameters())
    by_id = {
        "items": ("item", 0), "users": ("user", 0), "item_bias": ("item", 1),
        "global_view.items": ("item", 1), "global_view.item_bias": ("item", 1),
        "own_view.items": ("item", 1), "own_view.item_bias": ("item", 1),
    }  # fmt: skip
    for name, (inner, axis) in by_id.items():
        ids = [
            pl.read_parquet(one.file(f"{inner}s.parquet")).sort(inner)[f"{inner}_id"].to_list()
            for one in (first.split, parted)
        ]
        assert ids[1] == [ids[1][0], *ids[0]] and ids[1][0] in ("a0", "a-new")  # all moved
        new = now[name].select(axis, 0)
        assert torch.equal(new, drawn[name].select(axis, 0))
        assert (new == 0).all() if "bias" in name else (new != 0).all()
        for place, name_of in enumerate(ids[1]):
            if name_of in ids[0]:
                old = earlier[name].select(axis, ids[0].index(name_of))
                assert torch.equal(now[name].select(axis, place), old)
    other = [name for name in now if name not in by_id]
    assert other and all(torch.equal(now[name], earlier[name]) for name in other)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.dim=4", r"another architecture \(dim 8, now 4\)"),
        ("model.layers=[1]", r"another architecture \(layers \[2\], now \[1\]\)"),
        ("train.members=2", r"another architecture \(members 1, now 2\)"),
        (
            'data.behaviors=["purchase", "click"]',
            r'another architecture \(behaviors \["click", "purchase"',
        ),
    ],
)
def test_another_architecture_starts_cold_and_says_so(
    workspace: Workspace, override: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_champion(night(first_log(), workspace), workspace)
    config, parted, graph = prepare(second_log(), workspace, override)
    start = choose_start(parted, graph, config, workspace)
    assert Start.load(start) is None
    caplog.clear()
    choose_start(parted, graph, config, workspace)  # from the store: it says so again
    assert len(caplog.messages) == 1
    assert re.search(told, caplog.text)


def test_a_setting_that_the_champion_did_not_know_is_told() -> None:
    config = load_config("", [])
    known = architecture(config)
    assert _other_architecture({"architecture": known}, config) == ""
    known["extra"] = known.pop("own_view")
    told = _other_architecture({"architecture": known}, config)
    assert (
        told == "has another architecture (extra false, now unknown; own_view unknown, now false)"
    )


def test_a_louder_own_view_is_the_same_architecture_and_one_for_more_behaviors_is_not(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    own = "model.own_view=true"
    make_champion(night(first_log(), workspace, own, "model.own_view_weight=[0,1]"), workspace)
    config, parted, graph = prepare(second_log(), workspace, own, "model.own_view_weight=[0,3]")
    start = Start.load(choose_start(parted, graph, config, workspace))
    assert start is not None
    start.begin(BiGEL(config.model, 13, 13, 2, torch.Generator()), "")
    config, parted, graph = prepare(second_log(), workspace, own, "model.own_view_weight=[1,1]")
    assert Start.load(choose_start(parted, graph, config, workspace)) is None
    assert "(own_view_behaviors [1], now [0, 1])" in caplog.text


def test_a_champion_of_before_each_own_view_had_its_place_is_refused() -> None:
    """Its tables may be of another shape."""
    config = load_config("", ["model.own_view=true"])
    older = architecture(config)
    del older["own_view_behaviors"]
    older["own_view_weight"] = [1.0]
    told = _other_architecture({"architecture": older}, config)
    assert "own_view_behaviors unknown, now [0, 1, 2]" in told


@pytest.mark.parametrize(
    "override", ["model.trend=false", "model.trend_prior=9.0", "model.memory=false"]
)
def test_another_calibration_is_the_same_architecture(workspace: Workspace, override: str) -> None:
    make_champion(night(first_log(), workspace), workspace)
    config, parted, graph = prepare(second_log(), workspace, override)
    assert Start.load(choose_start(parted, graph, config, workspace)) is not None


def test_members_start_from_their_own_member(workspace: Workspace) -> None:
    first = night(first_log(), workspace, "train.members=2")
    make_champion(first, workspace)
    config, parted, graph = prepare(second_log(), workspace, "train.members=2")
    start = Start.load(choose_start(parted, graph, config, workspace))
    assert start is not None
    earlier = load_file(first.train.file("weights.safetensors"))
    for member in range(2):
        model = BiGEL(config.model, 13, 13, 2, torch.Generator())
        start.begin(model, f"{member}.")
        known = torch.tensor(start.places["item"])
        taken = model.items[known >= 0]
        assert torch.equal(taken, earlier[f"{member}.items"][known[known >= 0]])


def test_a_killed_warm_training_ends_with_the_same_weights(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_champion(night(first_log(), workspace), workspace)
    whole = night(second_log(), workspace)
    config = load_config("", SETTINGS)
    original, taken = bigel.step_loss, []

    def die_at_step_8(*args: Any) -> Any:
        taken.append(len(taken))
        if len(taken) == 8:
            raise Killed
        return original(*args)

    monkeypatch.setattr(bigel, "step_loss", die_at_step_8)
    killed = Workspace(tmp_path / "killed")
    with pytest.raises(Killed):
        train(whole.split, whole.graph, config, killed, start=whole.start)
    resumed = train(whole.split, whole.graph, config, killed, start=whole.start)
    assert len(taken) == 8 + 6  # went on from the checkpoint of step 6
    assert resumed.fingerprint == whole.train.fingerprint
    for name in ("weights.safetensors", "embeddings.safetensors", "learned.parquet"):
        assert resumed.file(name).read_bytes() == whole.train.file(name).read_bytes()


def test_a_pair_that_was_learned_before_is_told_and_stays_marked(workspace: Workspace) -> None:
    first = night(first_log(), workspace)
    make_champion(first, workspace)
    repeated = next(row for row in first_log() if row[3] < 110 and row[2] == "click")
    moved = [row for row in second_log() if row != repeated]
    second = night([*moved, (*repeated[:3], 312)], workspace)  # clicked again, at the very end
    learned = pl.read_parquet(second.start.file("learned.parquet"))
    ids = [
        pl.read_parquet(second.split.file(f"{inner}s.parquet")).sort(inner)[f"{inner}_id"]
        for inner in ("user", "item")
    ]
    named = [(ids[0][u], ids[1][i], k) for u, i, k in learned.iter_rows()]
    assert named == [(repeated[0], repeated[1], 0)]
    user, item, _ = learned.row(0)
    seen = load_file(second.register.file("seen.safetensors"))
    low, high = seen["0.crow"][user : user + 2].tolist()
    flags = dict(zip(seen["0.col"][low:high].tolist(), seen["0.train"][low:high].tolist()))  # noqa: B905
    train_items = pl.read_parquet(second.split.file("train.parquet")).filter(
        pl.col("user") == user, pl.col("behavior_index") == 0
    )["item"]
    assert item not in train_items.to_list()
    assert {place for place, known in flags.items() if known} == {item, *train_items.to_list()}


def test_a_split_that_is_drawn_anew_starts_cold(workspace: Workspace) -> None:
    make_champion(night(first_log(), workspace, 'split.method="random"'), workspace)
    _, parted, graph = prepare(second_log(), workspace, 'split.method="random"', "split.seed=5")
    config = load_config("", SETTINGS)
    start = choose_start(parted, graph, config, workspace)
    assert "was trained on most of the validation pairs" in start.counts["cold"]


def test_a_champion_of_an_older_version_starts_cold(workspace: Workspace) -> None:
    split, trained, _, evaluated = fabricate.stages_before(workspace)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        shutil.copyfile(trained.file(schema.HISTORY_FILE), out / schema.HISTORY_FILE)
        return {"best_step": 3}

    bare = fabricate.stage(workspace, "train", ["no weights"], build)
    embedded = fabricate.embed_stage(workspace, bare)
    bundle = build_bundle(split, bare, embedded, fabricate.CONFIG, workspace)
    register(split, bare, bundle, evaluated, [], fabricate.CONFIG, workspace)
    config, parted, graph = prepare(first_log(), workspace)
    start = choose_start(parted, graph, config, workspace)
    assert start.counts["cold"] == (
        "models:/bigel/1 was registered without its weights, by an older version"
    )
    assert home_of(workspace).exists()


def test_a_reason_that_passes_is_not_stored(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk with MLflow's artifacts was not mounted that night, the store has no copy."""
    first = night(first_log(), workspace)
    make_champion(first, workspace)
    shutil.rmtree(first.register.path)
    config, parted, graph = prepare(second_log(), workspace)
    artifacts = workspace.mlruns / "artifacts"
    artifacts.rename(workspace.mlruns / "away")
    artifacts.mkdir()
    start = choose_start(parted, graph, config, workspace)
    assert "models:/bigel/1 has lost its artifacts" in start.counts["cold"]
    assert "training starts cold: models:/bigel/1 has lost" in caplog.text
    cold = train(parted, graph, config, workspace, start=start)
    assert cold.fingerprint == train(parted, graph, config, workspace).fingerprint
    artifacts.rmdir()
    (workspace.mlruns / "away").rename(artifacts)
    again = choose_start(parted, graph, config, workspace)
    assert (again.counts["cold"], again.counts["uri"]) == ("", "models:/bigel/1")
    assert again.fingerprint == start.fingerprint


def test_that_there_was_no_champion_is_stored(workspace: Workspace) -> None:
    """Else a repeated run would start from what it made itself."""
    config, parted, graph = prepare(first_log(), workspace)
    assert choose_start(parted, graph, config, workspace).counts["cold"] == (
        "bigel has no champion yet"
    )
    fabricate.register_one(workspace)
    again = choose_start(parted, graph, config, workspace)
    assert again.reused and again.counts["cold"] == "bigel has no champion yet"


def test_a_damaged_champion_is_taken_from_its_copy(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    make_champion(night(first_log(), workspace), workspace)
    (place,) = workspace.mlruns.rglob("bundle/seen.safetensors")
    place.write_bytes(place.read_bytes()[:-1])
    caplog.clear()
    config, parted, graph = prepare(second_log(), workspace)
    start = choose_start(parted, graph, config, workspace)
    assert (start.counts["cold"], start.counts["uri"]) == ("", "models:/bigel/1")
    (message,) = caplog.messages
    assert "seen.safetensors is damaged" in message and "is read from its copy in" in message


def test_what_is_wrong_with_the_taking_is_not_taken_for_a_damaged_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> Any:
        raise DataError("the split is wrong")

    make_champion(night(first_log(), workspace), workspace)
    config, parted, graph = prepare(second_log(), workspace)
    monkeypatch.setattr("bigel.tracking.warm_start._learned", wrong)
    with pytest.raises(DataError, match="the split is wrong"):
        choose_start(parted, graph, config, workspace)


def test_a_damaged_champion_without_a_copy_starts_cold_until_it_is_mended(
    workspace: Workspace,
) -> None:
    first = night(first_log(), workspace)
    make_champion(first, workspace)
    shutil.rmtree(first.register.path)
    (place,) = workspace.mlruns.rglob("bundle/seen.safetensors")
    whole = place.read_bytes()
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    config, parted, graph = prepare(second_log(), workspace)
    start = choose_start(parted, graph, config, workspace)
    assert "seen.safetensors is damaged" in start.counts["cold"]
    place.write_bytes(whole)
    again = choose_start(parted, graph, config, workspace)
    assert (again.counts["cold"], again.counts["uri"]) == ("", "models:/bigel/1")


def test_numbers_and_the_same_numbers_as_text_are_the_same_ids(tmp_path: Path) -> None:
    pl.DataFrame({"item": [0, 1, 2], "item_id": ["10", "9", "x"]}).write_parquet(tmp_path / "now")
    pl.DataFrame({"item_id": [8, 9, 10]}).write_parquet(tmp_path / "then")
    found = places(tmp_path / "now", tmp_path / "then", "item")
    assert found["earlier"].to_list() == [2, 1, None]
