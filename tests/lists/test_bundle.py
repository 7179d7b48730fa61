import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from bigel import schema
from bigel.errors import DataError, WorkspaceError
from bigel.lists import bundle as bundle_module
from bigel.lists import serving
from bigel.lists.bundle import build_bundle, data_fingerprint, load_bundle
from bigel.state.embed import users_per_item
from bigel.state.moment import pairs_at
from bigel.store import Record, Workspace
from tests import fabricate


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def bundle_of(workspace: Workspace) -> Record:
    return build_bundle(*fabricate.bundle_inputs(workspace), fabricate.CONFIG, workspace)


def test_it_holds_what_the_stages_hold(workspace: Workspace) -> None:
    bundle = bundle_of(workspace)
    users = pl.read_parquet(bundle.file("users.parquet"))
    assert users.to_dict(as_series=False) == {
        "user_id": [100, 101, 102, 103, 104],
        "events": [4, 4, 3, 2, 1],
    }
    assert pl.read_parquet(bundle.file("items.parquet")).columns == ["item_id"]
    stored, made = load_file(bundle.file("embeddings.safetensors")), fabricate.embeddings()
    assert all(np.array_equal(stored[name], made[name]) for name in made)
    facts = json.loads(bundle.file("model.json").read_text())
    assert facts["behaviors"] == ["click", "purchase"]
    assert (facts["users"], facts["items"], facts["dim"]) == (5, 6, 4)
    assert (facts["moment"], facts["signals"]) == ("now", None)


def test_seen_is_every_pair_of_every_split(workspace: Workspace) -> None:
    seen = load_file(bundle_of(workspace).file("seen.safetensors"))
    for k, behavior in enumerate(fabricate.BEHAVIORS):
        expected = {p for split in fabricate.PAIRS.values() for p in split[behavior]}
        crow, col = seen[f"{k}.crow"], seen[f"{k}.col"]
        stored = {
            (user, int(item))
            for user in range(fabricate.USERS)
            for item in col[crow[user] : crow[user + 1]]
        }
        assert stored == expected


@pytest.mark.parametrize("name", sorted(serving.FILES | serving.MORE_FILES))
def test_one_altered_byte_of_any_file_is_found_at_loading(workspace: Workspace, name: str) -> None:
    folder = Path(bundle_of(workspace).path)
    for more in ("weights.safetensors", "signals.safetensors"):
        (folder / more).write_bytes(b"weights")
    fabricate.sign_again(folder)
    assert load_bundle(folder).behaviors == ["click", "purchase"]
    whole = bytearray((folder / name).read_bytes())
    at = whole.index(b"purchase") if name == "model.json" else len(whole) // 2
    whole[at] ^= 1
    (folder / name).write_bytes(whole)
    with pytest.raises(DataError, match=f"{name} is damaged"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop("seen.safetensors"),
        lambda files: files.pop("model.json"),
        lambda files: files.update({"../secret": "0"}),
    ],
)
def test_the_checksums_are_those_of_a_bundles_files(workspace: Workspace, change) -> None:
    bundle = bundle_of(workspace)
    facts = json.loads(bundle.file("model.json").read_text())
    change(facts["files"])
    bundle.file("model.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"model\.json is damaged: it lists other files"):
        load_bundle(Path(bundle.path))


def test_popularity_counts_the_users_of_every_pair_known(workspace: Workspace) -> None:
    split, _, _ = fabricate.bundle_inputs(workspace)
    expected = [[1, 4, 2, 0, 0, 1], [2, 2, 2, 0, 0, 0]]
    assert users_per_item(pairs_at(split, "now")).tolist() == expected
    served = load_file(bundle_of(workspace).file("popularity.safetensors"))["popularity"]
    assert served.tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"item_emb": t["item_emb"] * np.float32("nan")}, "item_emb .*not finite"),
        (lambda t: t | {"item_bias": t["item_bias"] - np.float32("inf")}, "item_bias .*not finite"),
        (lambda t: t | {"item_trend": t["item_trend"] + np.float32("inf")}, "item_trend .*not fin"),
    ],
)
def test_embeddings_that_cannot_serve_are_refused(
    workspace: Workspace, change, message: str
) -> None:
    split, trained, embedded = fabricate.bundle_inputs(workspace)
    save_file(change(fabricate.embeddings()), embedded.file(schema.EMBEDDINGS_FILE))
    with pytest.raises(WorkspaceError, match=message):
        build_bundle(split, trained, embedded, fabricate.CONFIG, workspace)


def test_an_item_that_nobody_had_may_be_left_out_of_every_list(workspace: Workspace) -> None:
    split, trained, embedded = fabricate.bundle_inputs(workspace)
    tensors = fabricate.embeddings()
    tensors["item_trend"][:, 3] = -np.inf
    save_file(tensors, embedded.file(schema.EMBEDDINGS_FILE))
    served = load_bundle(
        Path(build_bundle(split, trained, embedded, fabricate.CONFIG, workspace).path)
    )
    lists = served.recommend(0, np.array([0]), 9, serving.Candidates("none"))
    assert sorted(lists.item.tolist()) == [0, 1, 2, 4, 5]


def test_the_data_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first, same = (fabricate.split_stage(Workspace(tmp_path / n)) for n in ("a", "b"))
    other = fabricate.split_stage(Workspace(tmp_path / "c"), user_ids=range(5))
    assert data_fingerprint(first) == data_fingerprint(same) != data_fingerprint(other)


def test_writer_and_reader_name_the_same_files() -> None:
    for name in ("FORMAT", "MODEL_FILE", "SEEN_FILE"):
        assert getattr(bundle_module, name) == getattr(serving, name)
    for name in ("POPULARITY_FILE", "SIGNALS_FILE"):
        assert getattr(schema, name) == getattr(serving, name)
    text = Path(serving.__file__).read_text("utf-8")
    assert "from bigel" not in text and "import bigel" not in text
    for name in (schema.USERS_FILE, schema.ITEMS_FILE, schema.EMBEDDINGS_FILE):
        assert f'"{name}"' in text
