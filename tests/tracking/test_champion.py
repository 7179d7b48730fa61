from pathlib import Path

import pytest

from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking import champion, needed_fingerprints, offline_model, open_model
from bigel.tracking.promotion import promote, rollback
from tests.fabricate import CONFIG
from tests.tracking.conftest import away

NEW = "f" * 24


def last_version(workspace: Workspace) -> int:
    known = champion.seen("bigel", workspace)
    assert known is not None
    return int(known["version"])


def test_lists_come_from_the_last_champion_or_else_from_the_new_model(
    three_versions: Workspace,
) -> None:
    known = champion.seen("bigel", three_versions)
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


def test_a_model_that_no_gate_has_judged_has_no_version(three_versions: Workspace) -> None:
    known = champion.seen("bigel", three_versions)
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


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"name": 1}',
        '{"name": "bigel", "version": "1", "bundle": ""}',
        '{"name": "bigel", "version": 1, "bundle": ["x"]}',
        '{"name": "bigel", "version": 1, "bundle": "../../x"}',
    ],
)
def test_a_damaged_note_is_as_none(three_versions: Workspace, content: str) -> None:
    next(three_versions.champions.iterdir()).write_text(content)
    assert champion.seen("bigel", three_versions) is None
    assert offline_model(CONFIG, three_versions, None) is None
    assert champion.seen_bundles(three_versions) == set()


def test_gc_keeps_the_last_champion_also_where_another_registry_is_asked(
    three_versions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = champion.seen("bigel", three_versions)
    assert known is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    (noted,) = (three_versions.artifacts / "homes").iterdir()
    noted.unlink()  # a person says that the first registry's models need nothing any more
    assert needed_fingerprints(three_versions) == {known["bundle"]}
