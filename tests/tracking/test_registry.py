import os
from pathlib import Path
from typing import Any

import pytest

from bigel.config import Config, parse_config
from bigel.errors import ConfigError, WorkspaceError
from bigel.store import Workspace, fingerprint, write_json
from bigel.store import housekeeping as store
from bigel.tracking import (
    Home,
    home_of,
    needed_fingerprints,
    offline_model,
    open_model,
    promote,
    registry,
    rollback,
)
from bigel.tracking.models import unchanged_champion
from tests import fabricate
from tests.fabricate import CONFIG
from tests.tracking.conftest import away

NEW = "f" * 24
pytestmark = pytest.mark.usefixtures("_light_model")


def last_version(workspace: Workspace) -> int:
    known = registry.seen("bigel", workspace)
    assert known is not None
    return int(known["version"])


def test_lists_come_from_the_last_champion_or_else_from_the_new_model(
    three_versions: Workspace,
) -> None:
    known = registry.seen("bigel", three_versions)
    assert known is not None and known["version"] == 1
    assert offline_model(CONFIG, three_versions, NEW) == f"stored:{known['bundle']}"
    assert offline_model(CONFIG, three_versions, None) == f"stored:{known['bundle']}"
    bundle = three_versions.stored("bundle", known["bundle"])
    assert bundle is not None
    bundle.file("seen.safetensors").write_bytes(b"cut")
    assert offline_model(CONFIG, three_versions, NEW) == f"stored:{NEW}"
    assert offline_model(CONFIG, three_versions, None) is None


def test_the_last_champion_keeps_its_name_without_the_registry(three_versions: Workspace) -> None:
    reference = offline_model(CONFIG, three_versions, None)
    with open_model("champion", CONFIG, three_versions) as online:
        named = (online.uri, online.name, online.version, online.alias)
        content = (online.folder / "model.json").read_bytes()
    with away(), open_model(reference, CONFIG, three_versions) as offline:
        assert (offline.uri, offline.name, offline.version, offline.alias) == named
        assert (offline.folder / "model.json").read_bytes() == content


def test_without_a_name_the_only_champion_that_was_seen_answers(three_versions: Workspace) -> None:
    note = registry.seen("bigel", three_versions)
    assert note is not None
    next(three_versions.champions.iterdir()).unlink()
    write_note(note | {"name": "shop"}, three_versions)
    reference = f"stored:{note['bundle']}"
    assert offline_model(CONFIG, three_versions, NEW) == reference
    with away(), open_model(reference, CONFIG, three_versions) as found:
        assert (found.name, found.version, found.alias) == ("shop", 1, "champion")
    assert offline_model(named("bigel"), three_versions, None) is None
    write_note(note | {"name": "other"}, three_versions)
    assert offline_model(CONFIG, three_versions, None) is None
    write_note(note, three_versions)
    assert offline_model(CONFIG, three_versions, None) == reference


def named(name: str | None) -> Config:
    tree = CONFIG.model_dump(include={"data", "recommend"})
    return parse_config(tree | ({"tracking": {"model_name": name}} if name else {}))


def settle(workspace: Workspace) -> None:
    """Make the last write of the registry so old that its time tells."""
    database = home_of(workspace).database
    assert database is not None
    os.utime(database, (1_000_000_000, 1_000_000_000))


def asked(config: Config, workspace: Workspace, reference: str | None = None) -> str:
    with open_model(reference, config, workspace) as found:
        return found.uri


def known_to_answer(config: Config, workspace: Workspace) -> str | None:
    """Return which version is known to answer without asking the registry, None if none is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Home, "connect", None)
        reference = unchanged_champion(config, workspace)
        return None if reference is None else asked(config, workspace, reference)


def test_a_registry_that_did_not_change_answers_by_its_note_of_the_same_model_only(
    tmp_path: Path,
) -> None:
    """Model "bigel" has no champion: its challenger answers, never the champion of another."""
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace, 0.3, config=named("other"))
    settle(workspace)
    assert known_to_answer(named(None), workspace) is None  # nobody asked since it was written
    assert asked(named("other"), workspace) == "models:/other/1"
    for config in (named(None), named("other")):  # the only one answers where none is named
        assert known_to_answer(config, workspace) == asked(config, workspace) == "models:/other/1"
    assert known_to_answer(named("bigel"), workspace) is None
    fabricate.register_one(workspace, 0.01, seed=1)
    settle(workspace)
    assert known_to_answer(named("other"), workspace) is None
    assert asked(named("other"), workspace) == "models:/other/1"
    assert known_to_answer(named("other"), workspace) == "models:/other/1"
    assert asked(named(None), workspace) == "models:/bigel/1"
    assert known_to_answer(named(None), workspace) is None
    promote("1", "to try", CONFIG, workspace)
    settle(workspace)
    for config, uri in ((named(None), "models:/bigel/1"), (named("other"), "models:/other/1")):
        assert asked(config, workspace) == uri == known_to_answer(config, workspace)


def write_note(note: dict[str, Any], workspace: Workspace) -> None:
    write_json(workspace.champions / f"{fingerprint(note['name'])}.json", note)


def test_a_model_that_no_gate_has_judged_has_no_version(three_versions: Workspace) -> None:
    known = registry.seen("bigel", three_versions)
    assert known is not None
    places = (three_versions.artifacts / "stages" / "bundle").iterdir()
    other = next(place.name for place in places if place.name != known["bundle"])
    with away(), open_model(f"stored:{other}", CONFIG, three_versions) as found:
        assert (found.uri, found.version, found.alias) == (f"stored:{other}", None, "")
    for wrong in ("0" * 24, "../../x"):
        with (
            pytest.raises(ConfigError, match="its bundle is not in"),
            open_model(f"stored:{wrong}", CONFIG, three_versions),
        ):
            pass


def test_the_note_follows_promotions_rollbacks_and_what_is_read(three_versions: Workspace) -> None:
    promote("2", "won", CONFIG, three_versions)
    assert last_version(three_versions) == 2
    rollback("lost", CONFIG, three_versions)
    assert last_version(three_versions) == 1
    next(three_versions.champions.iterdir()).unlink()
    with open_model(None, CONFIG, three_versions):
        assert last_version(three_versions) == 1


def test_a_damaged_note_is_as_none_until_the_champion_is_read_again(
    three_versions: Workspace,
) -> None:
    (place,) = three_versions.champions.iterdir()
    place.write_text("{")
    assert offline_model(CONFIG, three_versions, None) is None
    with open_model(None, CONFIG, three_versions):
        assert last_version(three_versions) == 1


def test_gc_keeps_the_last_champion_also_where_another_registry_is_asked(
    three_versions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = registry.seen("bigel", three_versions)
    assert known is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    (noted,) = (three_versions.artifacts / "homes").iterdir()
    noted.unlink()  # a person says that the first registry's models need nothing any more
    assert needed_fingerprints(three_versions) == {known["bundle"]}


def stages(workspace: Workspace) -> dict[str, str]:
    return {path.parent.name: path.name for path in workspace.artifacts.glob("stages/*/*")}


def test_a_registry_that_is_not_there_needs_nothing(tmp_path: Path) -> None:
    assert needed_fingerprints(Workspace(tmp_path)) == set()


def test_a_registered_version_keeps_its_bundle_and_what_that_was_made_of(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    record = fabricate.register_one(workspace)
    assert needed_fingerprints(workspace) == {record.fingerprint}
    store.collect(workspace, 0, lambda: needed_fingerprints(workspace))
    assert set(stages(workspace)) == {"split", "train", "embed", "bundle"}


def test_another_home_than_that_of_the_models_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = home_of(fabricate.workspace_at(tmp_path / "server"))
    workspace = fabricate.workspace_at(tmp_path / "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    fabricate.register_one(workspace)
    before = stages(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    told = rf"registered at {server.database}, but mlruns/mlflow.db is asked"
    with pytest.raises(WorkspaceError, match=told) as caught:
        store.collect(workspace, 0, lambda: needed_fingerprints(workspace))
    assert stages(workspace) == before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert needed_fingerprints(workspace) == {before["bundle"]}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (noted,) = (workspace.artifacts / "homes").iterdir()
    assert str(noted) in str(caught.value)
    noted.unlink()  # the way out that the message names
    assert needed_fingerprints(workspace) == {before["bundle"]}  # of the champion last seen


def test_a_workspace_that_moved_still_knows_its_own_home(tmp_path: Path) -> None:
    fabricate.register_one(fabricate.workspace_at(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert len(needed_fingerprints(Workspace(tmp_path / "new"))) == 1
