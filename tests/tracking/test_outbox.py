import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bigel.errors import UnreachableError, WorkspaceError
from bigel.store import MANIFEST, Record, Workspace
from bigel.store import housekeeping as store
from bigel.tracking import home_of, needed_fingerprints, outbox, register
from tests import fabricate
from tests.fabricate import CONFIG
from tests.tracking.conftest import away

VERSION = {"version": "3", "digest": "d1"}
CONTRACTS = [
    {"handover": "split", "contract": VERSION, "success": True, "failed": [], "page": "1.html"}
]
TIMED = (MANIFEST, "verdict.json", "report.html")  # they tell when
OUR_TAGS = ("bigel.", "version.", "mlflow.source")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return fabricate.workspace_at(tmp_path)


pytestmark = pytest.mark.usefixtures("_light_model")


def keep(workspace: Workspace, ndcg: float = 0.3, seed: int = 0) -> Record:
    """Fail to register, as a run does, then keep the run."""
    made = fabricate.stages_before(workspace, ndcg, seed)
    with away(), pytest.raises(UnreachableError, match="does not answer") as caught:
        register(*made, CONTRACTS, CONFIG, workspace)
    return outbox.keep_for_sync(*made, CONTRACTS, str(caught.value), CONFIG, workspace)


def deliver_all(workspace: Workspace) -> list[dict[str, Any]]:
    return [outbox.deliver(entry, workspace) for entry in outbox.waiting(workspace)]


def told(workspace: Workspace, counts: dict[str, Any]) -> dict[str, Any]:
    """Return all that a run and its version say, without times and ids."""
    client = home_of(workspace).connect()
    run = client.get_run(counts["run_id"])
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    version = client.get_model_version(counts["name"], str(counts["version"]))
    decision = json.loads(version.tags["bigel.decision"])
    files = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
    return {
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "tags": {k: v for k, v in run.data.tags.items()
                 if k.startswith(OUR_TAGS) and k != "bigel.decision"},
        "files": {n: p.read_bytes() for n, p in files.items()
                  if not n.startswith("decisions/") and p.name not in TIMED},
        "aliases": dict(client.get_registered_model(counts["name"]).aliases),
        "decision": {key: decision[key] for key in ("by", "alias", "from_version", "why")},
        "version": counts["version"],
    }  # fmt: skip


def test_a_delivered_run_is_told_and_judged_as_an_undisturbed_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    undisturbed = fabricate.workspace_at(tmp_path / "undisturbed")
    expected = []
    for ndcg, seed in ((0.3, 0), (0.05, 1)):
        made = fabricate.stages_before(undisturbed, ndcg, seed)
        counts = register(*made, CONTRACTS, CONFIG, undisturbed).counts
        expected.append(told(undisturbed, counts))
        keep(workspace, ndcg, seed)
    assert len(home_of(workspace).connect().search_runs(["0", "1"])) == 0
    first, second = outbox.waiting(workspace)
    assert told(workspace, outbox.deliver(first, workspace)) == expected[0]
    assert told(workspace, outbox.deliver(second, workspace)) == expected[1]
    assert [one["decision"]["alias"] for one in expected] == ["champion", "challenger"]
    assert list(workspace.outbox.iterdir()) == []


def test_a_night_that_waited_does_not_dethrone_the_champion_of_a_later_night(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own, older data the first night would win: it gives all of validation first."""
    first, second = fabricate.embeddings(), fabricate.embeddings()
    for tensors, score in ((first, 1), (second, -1)):
        for name, values in tensors.items():
            tensors[name] = values * 0
        tensors["item_bias"][:, 2] = score
    monkeypatch.setattr(fabricate, "embeddings", [first, second].__getitem__)
    keep(workspace, ndcg=0.9, seed=0)
    fabricate.register_one(workspace, ndcg=0.3, seed=1, salt="later", user_ids=range(101, 106))
    (counts,) = deliver_all(workspace)
    assert counts["alias"] == "challenger"
    assert "the champion, version 1: it is of newer data" in counts["why"]
    client = home_of(workspace).connect()
    assert dict(client.get_registered_model("bigel").aliases) == {"champion": 1, "challenger": 2}
    keep(workspace, seed=0, ndcg=0.8)  # kept after the champion was made
    assert "it is better on the mean" in deliver_all(workspace)[0]["why"]


def test_a_night_of_the_champions_data_is_ranked_though_it_waited(workspace: Workspace) -> None:
    keep(workspace, seed=0)
    fabricate.register_one(workspace, seed=1)
    assert "side by side with the champion, version 1, it is" in deliver_all(workspace)[0]["why"]


def test_a_night_that_waited_leaves_the_challenger_of_a_later_night(workspace: Workspace) -> None:
    fabricate.register_one(workspace, seed=0)
    keep(workspace, ndcg=0.05, seed=1)
    assert fabricate.register_one(workspace, ndcg=0.05, seed=2).counts["alias"] == "challenger"
    (counts,) = deliver_all(workspace)
    assert (counts["version"], counts["alias"]) == (3, "")
    stays = "; version 2, of a later run, stays the challenger (this one is 3)"
    assert counts["why"].endswith(stays)
    client = home_of(workspace).connect()
    assert dict(client.get_registered_model("bigel").aliases) == {"champion": 1, "challenger": 2}
    again = fabricate.register_one(workspace, ndcg=0.06, seed=1)  # measured now
    assert (again.counts["version"], again.counts["alias"]) == (3, "challenger")


def test_a_delivered_run_has_the_time_of_the_run(workspace: Workspace) -> None:
    keep(workspace)
    (entry,) = outbox.waiting(workspace)
    content = entry.content | {"kept": "2026-01-02T03:04:05+00:00"}
    both = {"digest": outbox.fingerprint(content), "content": content}
    entry.path.write_text(json.dumps(both))
    (counts,) = deliver_all(workspace)
    client, run_id = home_of(workspace).connect(), counts["run_id"]
    info, then = client.get_run(run_id).info, 1_767_323_045_000
    assert info.end_time == then and 0 < then - info.start_time < 60_000  # what its stages took
    for name in ("click/ndcg_at_5", "curve/train/loss"):
        assert {point.timestamp for point in client.get_metric_history(run_id, name)} == {then}


@pytest.mark.parametrize(("ndcg", "loses"), [(0.3, False), (0.05, True)])
def test_a_run_that_waits_knows_whether_it_loses_to_popularity(
    workspace: Workspace, ndcg: float, loses: bool
) -> None:
    assert keep(workspace, ndcg).counts["loses"] == loses
    assert deliver_all(workspace)[0]["loses"] == loses


def test_delivering_twice_makes_one_run_and_one_version(workspace: Workspace) -> None:
    keep(workspace)
    (entry,) = outbox.waiting(workspace)
    kept = entry.path.read_bytes()
    (first,) = deliver_all(workspace)
    entry.path.write_bytes(kept)
    assert deliver_all(workspace) == [first]
    client = home_of(workspace).connect()
    assert len(client.search_model_versions("name='bigel'")) == 1
    assert len(client.search_runs([client.get_experiment_by_name("bigel").experiment_id])) == 1
    assert outbox.names_waiting(workspace) == []


def test_the_same_run_again_waits_once_and_a_new_evaluation_waits_beside_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keep(workspace).counts
    monkeypatch.setitem(CONTRACTS[0], "page", "2.html")  # each validation has a page of its own
    assert keep(workspace).counts["waiting"] == first["waiting"]
    assert (first["version"], first["alias"], first["run_id"]) == (None, "", None)
    other = keep(workspace, ndcg=0.4).counts
    assert outbox.names_waiting(workspace) == [first["waiting"], other["waiting"]]
    assert [counts["version"] for counts in deliver_all(workspace)] == [1, 1]


def test_an_entry_stays_while_the_store_is_away_or_until_the_gate_has_decided(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(workspace)
    (entry,) = outbox.waiting(workspace)
    with away(), pytest.raises(UnreachableError):
        outbox.deliver(entry, workspace)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bigel.tracking.registration.judge", cut)
        with pytest.raises(KeyboardInterrupt):
            outbox.deliver(entry, workspace)
    assert outbox.names_waiting(workspace) == [entry.path.name]
    assert [counts["version"] for counts in deliver_all(workspace)] == [1]
    client = home_of(workspace).connect()
    assert [run.info.status for run in client.search_runs(["1"])] == ["FINISHED"]


def test_an_entry_holds_no_secret_and_only_json(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fabricate.stages_before(workspace)
    with away("me:hunter2@"), pytest.raises(UnreachableError) as caught:
        register(*made, CONTRACTS, CONFIG, workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    outbox.keep_for_sync(*made, CONTRACTS, str(caught.value), CONFIG, workspace)
    (file,) = (path for path in workspace.outbox.rglob("*") if path.is_file())
    assert "127.0.0.1" in str(caught.value) and "hunter2" not in str(caught.value)
    assert "hunter2" not in file.read_text()
    json.loads(file.read_text())


def test_gc_keeps_what_waits_and_a_damaged_entry_stops_it(workspace: Workspace) -> None:
    keep(workspace)
    keep(workspace, ndcg=0.2, seed=1)
    before = {output.path for output in store.inventory(workspace)}
    half = workspace.outbox / ".half.12345678"
    half.touch()
    found = store.collect(workspace, 0, lambda: needed_fingerprints(workspace))
    assert {output.path for output in store.inventory(workspace)} == before
    assert found["removed"] == [] and found["leftovers"] == [str(half)]
    entry = workspace.outbox / outbox.names_waiting(workspace)[0]
    entry.write_text(entry.read_text().replace('"success": true', '"success": false'))
    with pytest.raises(WorkspaceError, match=r"json is damaged \(its digest"):
        needed_fingerprints(workspace)


@pytest.mark.parametrize("evil", ["../../../../etc", "A" * 24, ""])
def test_an_entry_cannot_point_out_of_the_store(workspace: Workspace, evil: str) -> None:
    keep(workspace)
    (entry,) = outbox.waiting(workspace)
    content = entry.content | {"stages": entry.content["stages"] | {"train": evil}}
    both = {"digest": outbox.fingerprint(content), "content": content}
    entry.path.write_text(json.dumps(both))
    with pytest.raises(WorkspaceError, match="a fingerprint is not one"):
        outbox.waiting(workspace)


def test_an_entry_whose_output_is_gone_says_what_to_do(workspace: Workspace) -> None:
    keep(workspace)
    for path in workspace.artifacts.glob("stages/train/*"):
        shutil.rmtree(path)
    with pytest.raises(WorkspaceError, match=r"output of train, .* is gone or damaged; run the"):
        deliver_all(workspace)
    assert len(outbox.names_waiting(workspace)) == 1


def test_an_entry_that_cannot_be_written_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outbox, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        keep(workspace)
    assert list(workspace.outbox.iterdir()) == []
