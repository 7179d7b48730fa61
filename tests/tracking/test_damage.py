"""A champion whose registered artifacts are damaged or lost, with and without a copy of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.errors import ConfigError, DataError
from bigel.lists.recommend import recommend
from bigel.store import Record, Workspace
from bigel.tracking import offline_model, open_model, promote, rollback
from tests.fabricate import CONFIG, register_one
from tests.tracking.conftest import aliases, client_of

pytestmark = pytest.mark.usefixtures("_light_model")
ADVICE = (
    "models:/bigel/1 is the champion, so the last lists stay until it can be read or another takes "
    "its place: bigel promote challenger --why TEXT (bigel models shows what the gate said of it)"
)


@pytest.fixture
def workspace(three_versions: Workspace) -> Workspace:
    return three_versions


def version(workspace: Workspace, number: int) -> Any:
    return client_of(workspace).get_model_version("bigel", str(number))


def registered(workspace: Workspace, number: int) -> Path:
    """Return the folder of a version's registered bundle."""
    uri = client_of(workspace).get_run(version(workspace, number).run_id).info.artifact_uri
    return Path(uri.removeprefix("file://")) / "model/artifacts/bundle"


def stored(workspace: Workspace, number: int) -> Path:
    """Return the folder of the same bundle in the stage store."""
    key = version(workspace, number).tags["bigel.bundle"]
    return workspace.artifacts / "stages" / "bundle" / key


def alter(folder: Path) -> None:
    file = folder / "embeddings.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # in a value: the file still reads well


def lose(folder: Path) -> None:
    shutil.rmtree(folder.parents[1])


DAMAGES = {"one bit": alter, "bundle lost": shutil.rmtree, "all lost": lose}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return DAMAGES[request.param]


def lists(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("recommendations.parquet"))


def one_warning(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    return record.getMessage()


def test_lists_are_those_of_the_whole_champion_and_one_warning_says_why(
    workspace: Workspace, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = lists(recommend(CONFIG, workspace))
    damage(registered(workspace, 1))
    for output in (workspace.artifacts / "stages" / "recommend").iterdir():
        shutil.rmtree(output)
    record = recommend(CONFIG, workspace)
    assert not record.reused and lists(record).equals(before)
    assert (record.counts["model"]["version"], record.counts["model"]["alias"]) == (1, "champion")
    said = f"models:/bigel/1 is read from its copy in the stage store, {stored(workspace, 1)}; "
    assert said in one_warning(caplog)
    assert "`mlflow models serve` needs the registered artifacts: restore" in one_warning(caplog)


@pytest.mark.parametrize("some_of_it", [alter, shutil.rmtree])
def test_the_copy_put_over_the_damaged_files_mends_it(
    workspace: Workspace,
    some_of_it: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    some_of_it(registered(workspace, 1))
    shutil.copytree(stored(workspace, 1), registered(workspace, 1), dirs_exist_ok=True)
    with open_model(None, CONFIG, workspace) as found:
        assert found.folder == registered(workspace, 1)
    assert caplog.messages == []


def test_the_gate_ranks_beside_its_copy(
    workspace: Workspace, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(registered(workspace, 1))
    why = register_one(workspace, seed=3).counts["why"]
    assert "ranked side by side with the champion, version 1, it " in why
    assert "models:/bigel/1 is read from its copy" in one_warning(caplog)


def test_a_promotion_and_a_rollback_go_by_the_copy(
    workspace: Workspace, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        damage(registered(workspace, number))
    promote("2", "won the test", CONFIG, workspace)
    assert "models:/bigel/2 is read from its copy" in one_warning(caplog)
    caplog.clear()
    rollback("complaints", CONFIG, workspace)
    assert "models:/bigel/1 is read from its copy" in one_warning(caplog)
    assert aliases(workspace) == {"champion": 1, "challenger": 2}


@pytest.mark.parametrize("copy", [alter, shutil.rmtree])
def test_without_a_whole_copy_neither_moves_an_alias(
    workspace: Workspace, damage: Callable[[Path], None], copy: Callable[[Path], None]
) -> None:
    promote("2", "won the test", CONFIG, workspace)
    for number in (1, 3):
        damage(registered(workspace, number))
        copy(stored(workspace, number))
    for call in (
        lambda: promote("3", "x", CONFIG, workspace),
        lambda: rollback("x", CONFIG, workspace),
    ):
        with pytest.raises((ConfigError, DataError), match=r"damaged|has lost"):
            call()
    assert aliases(workspace) == {"champion": 2, "previous": 1, "challenger": 3}


@pytest.mark.parametrize("copy", [alter, shutil.rmtree])
def test_without_a_whole_copy_the_night_ends_with_a_judged_challenger_and_what_to_do(
    workspace: Workspace, damage: Callable[[Path], None], copy: Callable[[Path], None]
) -> None:
    damage(registered(workspace, 1))
    copy(stored(workspace, 1))
    counts = register_one(workspace, seed=3).counts
    assert (counts["version"], counts["alias"]) == (4, "challenger")
    unranked = (
        "beats the best simple rule on every behavior (click 0.3000 against 0.1000 by popularity; "
        "purchase 0.3000 against 0.1000 by popularity); not ranked side by side with the champion, "
        "version 1: "
    )
    assert counts["why"].startswith(unranked)
    assert counts["why"].endswith("champion all the same: bigel promote challenger --why TEXT")
    with pytest.raises(DataError) as caught:
        recommend(CONFIG, workspace)
    assert str(caught.value).endswith(ADVICE)
    promote("challenger", "the champion is lost", CONFIG, workspace)
    assert recommend(CONFIG, workspace).counts["model"]["version"] == 4


def test_after_a_change_of_the_format_the_same_command_ends_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("bigel.lists.serving.FORMAT", "bigel.lists.bundle.FORMAT"):
        monkeypatch.setattr(place, 7)
    counts = register_one(workspace, seed=3).counts
    assert "version 1: the bundle at " in counts["why"]
    assert "bundle format 6, this code reads 7" in counts["why"]
    with pytest.raises(DataError, match=r"bundle format 6, this code reads 7") as caught:
        recommend(CONFIG, workspace)
    assert str(caught.value).endswith(ADVICE)
    new = "f" * 24
    assert offline_model(CONFIG, workspace, new) == f"stored:{new}"
    promote("challenger", "upgrade", CONFIG, workspace)
    assert recommend(CONFIG, workspace).counts["model"]["version"] == 4


def test_one_that_was_named_is_not_advised_against(workspace: Workspace) -> None:
    shutil.rmtree(stored(workspace, 1))
    lose(registered(workspace, 1))
    said = "has lost its artifacts at .*; restore them from a backup$"
    with pytest.raises(DataError, match=said), open_model("champion", CONFIG, workspace):
        pass
