"""The champion is followed: through promotions, new lists, new rules, and what cannot be read."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigel.api import champion as module
from bigel.api.app import answer
from bigel.api.asked import ListsAsked
from bigel.api.champion import Follower
from bigel.config import Config, parse_config
from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking import Home, promote
from bigel.tracking.models import answering
from tests import fabricate
from tests.fabricate import CONFIG


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = fabricate.workspace_at(tmp_path)
    fabricate.register_one(made)
    return made


def crown_another(workspace: Workspace) -> None:
    fabricate.register_one(workspace, ndcg=0.2, seed=1)
    promote("2", "a test", CONFIG, workspace)


def listed(follower: Follower) -> list[int | str]:
    found = answer(follower.served, ListsAsked(user_id=100, exclude="none"))
    return [one.item_id for one in found.lists["click"].items]


def test_a_promotion_is_followed_and_a_rollback(workspace: Workspace) -> None:
    follower = Follower(CONFIG, workspace)
    first, before = follower.served, listed(follower)
    follower.look()
    assert follower.served is first, "the same model is not loaded again"
    crown_another(workspace)
    follower.look()
    assert follower.served.uri == "models:/bigel/2" and listed(follower) != before
    promote("1", "back", CONFIG, workspace)
    follower.look()
    assert follower.served.uri == "models:/bigel/1" and listed(follower) == before


def test_the_registry_is_asked_only_after_a_write(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes 30 ms, in which requests wait."""
    settled(workspace)
    follower = Follower(CONFIG, workspace)
    asked: list[int] = []

    def ask(*given: Any) -> Any:
        asked.append(1)
        return answering(*given)

    monkeypatch.setattr(module, "answering", ask)
    follower.look()
    assert not asked
    crown_another(workspace)
    for _ in range(2):
        follower.look()
    assert follower.served.uri == "models:/bigel/2" and asked
    settled(workspace)
    before = len(asked)
    for _ in range(3):
        follower.look()
    assert len(asked) == before + 1, "once for the time that was set"
    (workspace.mlruns / "mlflow.db").unlink()
    follower.look()
    assert "does not exist" in str(follower.trouble)


def settled(workspace: Workspace) -> None:
    """Give the registry a time of its last write that is long ago."""
    at = time.time() - 60
    os.utime(workspace.mlruns / "mlflow.db", (at, at))


def test_a_model_that_was_named_stays(workspace: Workspace) -> None:
    follower = Follower(CONFIG, workspace, "1")
    crown_another(workspace)
    follower.look()
    assert follower.served.uri == "models:/bigel/1"


def test_what_cannot_be_read_leaves_the_old_model_and_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Follower(CONFIG, workspace)
    before = listed(follower)

    def away(*given: object) -> None:
        raise ConfigError("the registry is away")

    def broken(*given: object) -> None:
        raise RuntimeError("the registry is away")

    monkeypatch.setattr(Home, "state", lambda self: None)
    for fault in (away, broken):
        with monkeypatch.context() as patch:
            patch.setattr(module, "answering", fault)
            follower.look()
            follower.look()
    assert follower.trouble == "the registry is away" and listed(follower) == before
    assert len([one for one in caplog.records if "goes on to answer" in one.message]) == 1
    follower.look()
    assert follower.trouble is None


def test_the_thread_looks_by_itself_and_no_request_waits(workspace: Workspace) -> None:
    follower = Follower(CONFIG, workspace, every=0.05)
    follower.start()
    failed: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                assert listed(follower)
            except Exception as error:
                failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    crown_another(workspace)
    deadline = time.monotonic() + 60
    while follower.served.uri != "models:/bigel/2" and time.monotonic() < deadline:
        time.sleep(0.05)
    done.set()
    asking.join()
    follower.stop()
    assert follower.served.uri == "models:/bigel/2" and not failed


def test_the_bundle_of_the_last_lists_answers_if_it_is_the_champions(workspace: Workspace) -> None:
    _, _, fresh, _ = fabricate.stages_before(workspace, seed=3)
    place = workspace.latest / "latest.json"
    place.parent.mkdir(parents=True)
    follower = Follower(CONFIG, workspace)
    registered = follower.served.recommender.user_emb
    for uri, expected in (("models:/bigel/9", False), ("models:/bigel/1", True)):
        lists = {"uri": uri, "bundle": f"bundle/{fresh.fingerprint}"}
        place.write_text(json.dumps({"lists": lists}))
        follower.look()
        same = np.array_equal(follower.served.recommender.user_emb, registered)
        assert same != expected, uri
    fresh_model = Path(fresh.path) / "model.json"
    fresh_model.chmod(0o644)
    fresh_model.write_text("{}")
    place.write_text(json.dumps({"lists": lists}))
    damaged = Follower(CONFIG, workspace)
    assert np.array_equal(damaged.served.recommender.user_emb, registered), "it falls back"
    for broken in ("{", "[]", json.dumps({"uri": "models:/bigel/1", "bundle": None})):
        place.write_text(broken)
        follower.look()
        assert follower.trouble is None
        assert np.array_equal(follower.served.recommender.user_emb, registered)


def ruled(root: Path, stock: str) -> Config:
    others = "".join(f"item {n},false\n" for n in range(2, 6))
    (root / "items.csv").write_text(f"item_id,in_stock\nitem 0,{stock}\nitem 1,true\n{others}")
    return parse_config(CONFIG.model_dump() | {"items": {"path": str(root / "items.csv")}})


def test_a_new_catalogue_counts_at_once_and_loads_no_model(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(ruled(tmp_path, "true"), workspace)
    recommender = follower.served.recommender
    assert sorted(listed(follower)) == ["item 0", "item 1"]
    ruled(tmp_path, "false")
    follower.look()
    assert len(listed(follower)) == 2, "it may be being written"
    follower.look()
    assert listed(follower) == ["item 1"] and follower.served.recommender is recommender
    (tmp_path / "items.csv").write_text("item_id\nitem 1\n")
    for _ in range(2):
        follower.look()
    assert "0.166667" in str(follower.trouble) and listed(follower) == ["item 1"]
    (tmp_path / "items.csv").write_text("item_id,in_stock\nitem 0,perhaps\n")
    for _ in range(2):
        follower.look()
    assert "perhaps" in str(follower.trouble) and listed(follower) == ["item 1"]


def test_without_a_model_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bigel run"):
        Follower(CONFIG, Workspace(tmp_path))
