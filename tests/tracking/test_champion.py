import fcntl
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking import home_of, promote, rollback
from bigel.tracking.champion import GATE, carry_out
from bigel.tracking.gate import Decision
from bigel.tracking.registry import Registered
from bigel.tracking.told import keep_verdict, present_verdict
from bigel.verdict import Verdict
from tests.fabricate import CONFIG, register_one
from tests.tracking.conftest import aliases, client_of, decisions

pytestmark = pytest.mark.usefixtures("_light_model")

WRITES = ("set_registered_model_alias", "delete_registered_model_alias", "set_model_version_tag")


@pytest.fixture
def workspace(three_versions: Workspace) -> Workspace:
    return three_versions


def tags(workspace: Workspace, version: int) -> dict[str, str]:
    return dict(client_of(workspace).get_model_version("bigel", str(version)).tags)


def records(workspace: Workspace, version: int) -> list[dict[str, Any]]:
    run_id = client_of(workspace).get_model_version("bigel", str(version)).run_id
    return decisions(workspace, run_id)


def test_the_promoted_version_is_champion_and_the_old_one_previous(workspace: Workspace) -> None:
    assert aliases(workspace) == {"champion": 1, "challenger": 3}
    outcome = promote("2", "won the\n test", CONFIG, workspace)
    verdict = Verdict.from_dict(outcome.pop("verdict"))
    assert (verdict.title, verdict.why) == ("bigel version 2 is champion", "won the test")
    assert outcome == {
        "name": "bigel", "version": 2, "from_version": 1, "changed": True, "why": "won the test",
        "better": None,
    }  # fmt: skip
    assert aliases(workspace) == {"champion": 2, "previous": 1, "challenger": 3}
    promote("challenger", "better still", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 3, "previous": 2}
    promote("previous", "not so", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 2, "previous": 3}


def test_a_decision_is_a_tag_and_an_artifact(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    promote("models:/bigel/2", "won the test", CONFIG, workspace)
    first, last = records(workspace, 2)
    assert (first["by"], first["alias"], first["from_version"]) == ("gate", "challenger", 1)
    when = last.pop("when")
    assert when.endswith("+00:00") and when >= first["when"]
    assert last == {
        "by": "promote", "who": "ann", "version": 2, "alias": "champion", "from_version": 1,
        "why": "won the test",
    }  # fmt: skip
    assert tags(workspace, 2)["bigel.why"] == "won the test"
    assert json.loads(tags(workspace, 2)["bigel.decision"]) == last | {"when": when}
    client = client_of(workspace)
    run = client.get_run(client.get_model_version("bigel", "2").run_id)
    assert run.data.tags["bigel.why"] == "won the test"


def test_promoting_the_champion_again_changes_nothing(workspace: Workspace) -> None:
    promote("2", "won the test", CONFIG, workspace)
    before = aliases(workspace), tags(workspace, 2), records(workspace, 2)
    outcome = promote("champion", "said twice", CONFIG, workspace)
    assert (outcome["version"], outcome["changed"]) == (2, False)
    assert (aliases(workspace), tags(workspace, 2), records(workspace, 2)) == before


def test_rollback_brings_the_previous_champion_back_once(workspace: Workspace) -> None:
    promote("2", "won the test", CONFIG, workspace)
    outcome = rollback("complaints", CONFIG, workspace)
    assert (outcome["version"], outcome["from_version"], outcome["changed"]) == (1, 2, True)
    assert aliases(workspace) == {"champion": 1, "challenger": 2}
    assert tags(workspace, 1)["bigel.why"] == "complaints"
    assert tags(workspace, 2)["bigel.why"] == "rolled back to version 1: complaints"
    for version, alias in ((1, "champion"), (2, "challenger")):
        last = records(workspace, version)[-1]
        assert (last["by"], last["alias"], last["from_version"]) == ("rollback", alias, 2)
    with pytest.raises(ConfigError, match=r"bigel has no previous champion .* bigel promote"):
        rollback("more complaints", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 1, "challenger": 2}


def test_the_gate_leaves_what_was_rolled_back(workspace: Workspace) -> None:
    promote("2", "won the test", CONFIG, workspace)
    rollback("complaints", CONFIG, workspace)
    assert register_one(workspace, ndcg=0.05, seed=1).counts["alias"] == "challenger"
    assert aliases(workspace) == {"champion": 1, "challenger": 2}


@pytest.mark.parametrize(
    ("reference", "why", "message"),
    [
        ("7", "x", r"no model 'models:/bigel/7'.*version 1 \(champion\), 2, 3 \(challenger\)"),
        ("champoin", "x", "did you mean 'champion'"),
        ("2", " ", "give the reason in 1 to 1,000 characters"),
        ("2", "x" * 1001, "give the reason"),
    ],
)
def test_what_cannot_be_promoted_is_refused(
    workspace: Workspace, reference: str, why: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        promote(reference, why, CONFIG, workspace)
    assert aliases(workspace) == {"champion": 1, "challenger": 3}


def test_what_is_not_registered_is_refused(workspace: Workspace) -> None:
    (key, *_) = (path.name for path in workspace.artifacts.glob("stages/bundle/*")
                 if path.name != tags(workspace, 1)["bigel.bundle"])  # fmt: skip
    with pytest.raises(ConfigError, match="is not registered; promote a registered version"):
        promote(f"stored:{key}", "x", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 1, "challenger": 3}


def test_a_workspace_without_models_says_so_and_stays_empty(tmp_path: Path) -> None:
    for call in (
        lambda place: promote("1", "x", CONFIG, place),
        lambda place: rollback("x", CONFIG, place),
    ):
        with pytest.raises(ConfigError, match="does not exist yet; train one"):
            call(Workspace(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_version_whose_run_was_deleted_keeps_its_tags(workspace: Workspace) -> None:
    client = client_of(workspace)
    client.delete_run(client.get_model_version("bigel", "2").run_id)
    promote("2", "won the test", CONFIG, workspace)
    assert aliases(workspace)["champion"] == 2
    assert tags(workspace, 2)["bigel.why"] == "won the test"


def test_a_user_number_without_a_name_is_recorded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    promote("2", "won the test", CONFIG, workspace)
    assert records(workspace, 2)[-1]["who"] == "uid 4711"


def test_every_write_happens_under_the_lock(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_file, held = home_of(workspace).lock_file, []
    for name in WRITES:
        original = getattr(MlflowClient, name)

        def checked(*arguments: Any, original: Any = original, **named: Any) -> Any:
            with lock_file.open("w") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(True)
                else:
                    held.append(False)
            return original(*arguments, **named)

        monkeypatch.setattr(MlflowClient, name, checked)
    promote("2", "won the test", CONFIG, workspace)
    rollback("complaints", CONFIG, workspace)
    register_one(workspace, ndcg=0.05, seed=3)
    assert len(held) > 12
    assert all(held)


def test_two_promotions_at_once_are_one_after_the_other(workspace: Workspace) -> None:
    threads = [
        threading.Thread(target=promote, args=(number, "at once", CONFIG, workspace))
        for number in ("2", "3")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = aliases(workspace)
    assert {now["champion"], now["previous"]} == {2, 3}
    assert {records(workspace, version)[-1]["from_version"] for version in (2, 3)} == {
        1, now["previous"],
    }  # fmt: skip


def cut_off(monkeypatch: pytest.MonkeyPatch, cut: int, call: Any) -> bool:
    """Do every write before the cut, that at the cut and all after it not; tell if it was met."""
    left = [cut]

    def cutting(original: Any) -> Any:
        def write(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return original(*arguments, **named)

        return write

    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowClient, name, cutting(getattr(MlflowClient, name)))
        try:
            call()
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("cut", range(6))
def test_a_rollback_after_a_promotion_that_was_cut_off_goes_back_from_the_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """1 was replaced by 2, which a promotion of 3 should replace."""
    promote("2", "won the test", CONFIG, workspace)
    cut_off(monkeypatch, cut, lambda: promote("3", "better still", CONFIG, workspace))
    live = aliases(workspace)["champion"]
    assert live == (2 if cut < 3 else 3)  # two tags come before the first alias
    outcome = rollback("complaints", CONFIG, workspace)
    assert (outcome["from_version"], outcome["version"], outcome["changed"]) == (
        live, live - 1, True,
    )  # fmt: skip
    assert aliases(workspace) == {"champion": live - 1, "challenger": live}


@pytest.mark.parametrize("cut", (3, 4))
def test_a_gate_that_was_cut_off_leaves_the_version_before_it_to_go_back_to(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    promote("2", "won the test", CONFIG, workspace)
    cut_off(monkeypatch, cut, lambda: promote("3", "better still", CONFIG, workspace))
    model = Registered(client_of(workspace), "bigel")
    with home_of(workspace).locked():  # the same version is judged again, as by the next run
        carry_out(model, 3, Decision("champion", "is the champion already"), GATE)
    assert aliases(workspace) == {"champion": 3, "previous": 2}


def description(workspace: Workspace, version: int) -> str:
    return str(client_of(workspace).get_model_version("bigel", str(version)).description)


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_gate_tells_the_versions_whose_aliases_it_moved_too(
    alias: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = Decision(alias, "because"), None
    monkeypatch.setattr("bigel.tracking.judge.judgement", lambda *_: decided)
    assert register_one(workspace, seed=3).counts["alias"] == alias
    owners = {number: name for name, number in aliases(workspace).items()}
    assert owners[4] == alias
    for number in (1, 3, 4):
        title = f"bigel version {number} is {owners.get(number, 'without an alias')}"
        assert title in description(workspace, number)
    if alias == "champion":
        assert "its lists are served" not in description(workspace, 1)
        assert "version 4 stays champion" in description(workspace, 3)


def test_who_has_no_alias_names_no_champion_that_may_change(workspace: Workspace) -> None:
    promote("2", "to try", CONFIG, workspace)
    promote("3", "better still", CONFIG, workspace)
    promote("2", "after all", CONFIG, workspace)
    told = description(workspace, 1)
    assert "bigel version 1 is without an alias" in told and "stays champion" not in told
    assert "to crown version 1 all the same: bigel promote 1" in told


def test_a_promotion_by_hand_tells_every_version_that_has_or_had_an_alias(
    workspace: Workspace,
) -> None:
    promote("2", "to try", CONFIG, workspace)
    promote("challenger", "better still", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 3, "previous": 2}
    assert "bigel version 1 is without an alias" in description(workspace, 1)
    rollback("worse", CONFIG, workspace)
    assert aliases(workspace) == {"champion": 2, "challenger": 3}
    for number, title in ((1, "without an alias"), (2, "champion"), (3, "challenger")):
        assert f"bigel version {number} is {title}" in description(workspace, number)


def test_the_present_verdict_is_of_the_alias_and_reason_now(
    workspace: Workspace, tmp_path: Path
) -> None:
    promote("3", "to try", CONFIG, workspace)
    found = present_verdict("bigel", 3, workspace)
    assert found is not None and (found.alias, found.why) == ("champion", "to try")
    assert present_verdict("bigel", 9, workspace) is None
    assert present_verdict("bigel", 3, Workspace(tmp_path / "empty")) is None


def test_a_description_is_no_longer_than_its_column(workspace: Workspace) -> None:
    """PostgreSQL refuses what is longer; the request goes first, as a whole."""
    model, example = Registered(client_of(workspace), "bigel"), {"user_id": "x" * 20}
    few = present_verdict("bigel", 3, workspace)
    assert few is not None
    for copies, size, asks in ((1, 20, True), (1, 4_900, False), (45, 20, False)):
        lines = tuple(
            replace(few.lines[0], behavior=f"behavior {k} of many and more") for k in range(copies)
        )
        many = replace(few, lines=lines, why=few.why + " and so on" * 3 * copies)
        keep_verdict(model, 3, many, example | {"user_id": "x" * size})
        text = description(workspace, 3)
        assert len(text) <= 5_000 and text.startswith("### bigel version 3 is challenger")
        assert ("dataframe_records" in text) == asks == ("### A request" in text)


def test_the_version_that_a_champion_replaced_may_have_been_deleted(workspace: Workspace) -> None:
    promote("2", "won the test", CONFIG, workspace)
    client_of(workspace).delete_model_version("bigel", "1")
    assert promote("3", "better still", CONFIG, workspace)["from_version"] == 2
    client_of(workspace).delete_model_version("bigel", "2")
    with pytest.raises(ConfigError, match="has no previous champion"):
        rollback("complaints", CONFIG, workspace)


@pytest.mark.parametrize("cut", (0, 2, 3, 4, 5, 6))
def test_a_decision_cut_off_anywhere_is_finished_by_the_same_command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    def interrupted(call: Any) -> None:
        if cut_off(monkeypatch, cut, call):
            assert aliases(workspace)["champion"] in (1, 3)
            call()

    interrupted(lambda: promote("3", "won the test", CONFIG, workspace))
    assert aliases(workspace) == {"champion": 3, "previous": 1}
    assert tags(workspace, 3)["bigel.why"] == "won the test"
    interrupted(lambda: rollback("complaints", CONFIG, workspace))
    assert aliases(workspace) == {"champion": 1, "challenger": 3}
    assert tags(workspace, 1)["bigel.why"] == "complaints"
