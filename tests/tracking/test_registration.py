import json
import math
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bigel.errors import WorkspaceError
from bigel.retry import retrying
from bigel.store import Record, Workspace
from bigel.tracking import home_of, open_model, promote, registration, registry, side_by_side
from bigel.verdict import Verdict
from tests import fabricate
from tests.fabricate import CONFIG, register_one
from tests.tracking.conftest import aliases, client_of, decisions


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return fabricate.workspace_at(tmp_path)


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the time of saving a model where only the registry is at stake."""
    monkeypatch.setattr("bigel.tracking.runs.log_model", lambda client, run_id, bundle: None)


def test_the_run_shows_everything(workspace: Workspace) -> None:
    record = register_one(workspace)
    client, run_id = client_of(workspace), record.counts["run_id"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.dim"] == "64"
    assert run.data.params["data.behaviors"] == '["click", "purchase"]'
    metrics = run.data.metrics
    assert {name: value for name, value in metrics.items() if "curve/" not in name} == {
        "mean/ndcg_at_5": 0.3,
        **{
            f"{behavior}/{name}": value
            for behavior in fabricate.BEHAVIORS
            for name, value in (
                ("ndcg_at_5", 0.3),
                ("users", 3),
                ("rule", 0.1),
                ("above rule", 0.2),
            )
        },
    }
    losses = client.get_metric_history(run_id, "curve/train/loss")
    assert [(m.step, m.value) for m in losses] == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    curve = client.get_metric_history(run_id, "curve/valid/ndcg_at_5/purchase")
    assert [m.step for m in curve] == [2, 3]
    names = {file.path for file in client.list_artifacts(run_id)}
    assert names == {
        "config.json", "contracts.json", "decisions", "history.json", "metrics.json", "model",
        "plots", "report.html", "verdict.json",
    }  # fmt: skip
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    assert json.loads((place / "contracts.json").read_text())[0]["handover"] == "split"
    versions = json.loads(run.data.tags["bigel.contract_versions"])
    assert versions == {"split": {"version": "3", "digest": "d1"}}
    assert json.loads((place / "config.json").read_text())["recommend"]["k"] == 3
    assert len(run.data.tags["bigel.data"]) == 24
    assert run.data.tags["version.mlflow"]


@pytest.mark.usefixtures("_light_model")
def test_mlflows_pages_say_what_the_run_and_the_version_are(workspace: Workspace) -> None:
    record = register_one(workspace)
    client = client_of(workspace)
    run = client.get_run(record.counts["run_id"])
    kind = client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert run.info.run_name == f"bigel {datetime.now(UTC):%Y-%m-%d} {run.info.run_name[-5:]}"
    assert run.info.end_time > run.info.start_time
    (inputs,) = run.inputs.dataset_inputs
    assert json.loads(inputs.dataset.profile)["users"] == fabricate.USERS
    told = Verdict.from_dict(record.counts["verdict"])
    assert (told.title, told.mean) == ("bigel version 1 is champion", 0.3)
    described = client.get_model_version("bigel", "1").description
    assert described.startswith(told.markdown())
    assert run.data.tags["mlflow.note.content"] == told.markdown()
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    assert "bigel version 1 is champion" in (place / "report.html").read_text()
    asked = '{"dataframe_records": [{"user_id": 100, "behavior": "purchase", "k": 5}]}'
    assert "mlflow models serve -m models:/bigel/1 " in described and asked in described
    refused = register_one(workspace, ndcg=0.05, seed=1).counts
    promote("2", "to try", fabricate.CONFIG, workspace)
    for number, title in ((1, "is previous"), (2, "is champion")):
        text = client.get_model_version("bigel", str(number)).description
        assert f"bigel version {number} {title}" in text and "dataframe_records" in text
    assert "**why** to try" in text and refused["verdict"]["champion"] == 1


def test_every_file_of_the_model_can_be_read_by_the_account_that_serves_it(
    workspace: Workspace,
) -> None:
    info = client_of(workspace).get_run(register_one(workspace).counts["run_id"]).info
    files = Path(info.artifact_uri.removeprefix("file://"), "model").rglob("*")
    assert {oct(path.stat().st_mode & 0o777) for path in files if path.is_file()} == {"0o644"}


def test_the_model_holds_no_pickle_and_pins_what_it_needs(workspace: Workspace) -> None:
    record = register_one(workspace)
    info = client_of(workspace).get_run(record.counts["run_id"]).info
    model = Path(info.artifact_uri.removeprefix("file://")) / "model"
    files = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
    assert {p for p in files if p.startswith("artifacts/")} == {
        f"artifacts/bundle/{name}"
        for name in ("model.json", "users.parquet", "items.parquet", "embeddings.safetensors",
                     "seen.safetensors", "popularity.safetensors", "weights.safetensors")
    }  # fmt: skip
    assert {Path(p).suffix for p in files} == {
        "", ".py", ".json", ".yaml", ".txt", ".parquet", ".safetensors",
    }  # fmt: skip
    requirements = (model / "requirements.txt").read_text().split()
    assert [r.partition("==")[0] for r in requirements] == [
        "mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy",
    ]  # fmt: skip
    assert all("==" in r for r in requirements)
    described = (model / "MLmodel").read_text()
    assert str(Path(fabricate.__file__).parents[1]) not in described


def test_the_same_model_is_registered_once(workspace: Workspace) -> None:
    first, again = register_one(workspace), register_one(workspace)
    assert (first.reused, again.reused) == (False, True)
    assert again.counts == first.counts
    assert first.counts["model_uri"] == "models:/bigel/1"
    experiment = client_of(workspace).get_experiment_by_name("bigel")
    assert first.counts["experiment_id"] == experiment.experiment_id
    assert len(client_of(workspace).search_runs(["1"])) == 1


def biased(item_2: float) -> dict[str, Any]:
    """Embeddings by which everybody's item 2, all of test, has this score, others 0."""
    tensors = {name: np.zeros_like(value) for name, value in fabricate.embeddings().items()}
    tensors["item_bias"][:, 2] = item_2
    return tensors


def ranked(monkeypatch: pytest.MonkeyPatch, *item_2: float) -> None:
    """Let the model of each seed give item 2 this score."""
    monkeypatch.setattr(fabricate, "embeddings", [biased(score) for score in item_2].__getitem__)


@pytest.mark.usefixtures("_light_model")
@pytest.mark.parametrize(("ndcg", "loses"), [(0.15, False), (0.1, True), (0.05, True)])
def test_between_popularity_and_the_best_rule_it_is_refused_and_may_make_lists(
    ndcg: float, loses: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruled = partial(fabricate.evaluate_stage, rule=0.2)
    monkeypatch.setattr(fabricate, "evaluate_stage", ruled)
    counts = register_one(workspace, ndcg=ndcg).counts
    assert (counts["alias"], counts["loses"]) == ("challenger", loses)
    said = f"on click ({ndcg:.4f} against 0.2000)"
    assert f"does not beat the best simple rule (latest first) {said}" in counts["why"]
    todo = " ".join(counts["verdict"]["todo"])
    assert ("this one makes the lists" in todo) != loses
    assert ("lists are popularity's" in todo) == loses


@pytest.mark.usefixtures("_light_model")
def test_judged_again_a_version_loses_by_the_last_figures_only(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruled = partial(fabricate.evaluate_stage, rule=0.2)
    monkeypatch.setattr(fabricate, "evaluate_stage", ruled)
    for ndcg, loses in ((0.05, True), (0.15, False), (0.07, True), (0.3, False)):
        counts = register_one(workspace, ndcg=ndcg).counts
        assert (counts["version"], counts["loses"]) == (1, loses)
        assert ("lists are popularity's" in " ".join(counts["verdict"]["todo"])) == loses
        with open_model(None, CONFIG, workspace) as found:
            assert found.loses == loses
    assert counts["alias"] == "champion"


@pytest.mark.usefixtures("_light_model")
def test_the_gate_moves_the_aliases(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(monkeypatch, 1, 0, -1, 0, 1)
    first = register_one(workspace, ndcg=0.05).counts
    assert first["alias"] == "challenger"
    assert "does not beat the best simple rule (popularity) on click" in first["why"]
    assert register_one(workspace, seed=1).counts["alias"] == "champion"
    worse = register_one(workspace, seed=2).counts
    assert worse["alias"] == "challenger"
    assert aliases(workspace) == {"champion": 2, "challenger": 3}
    equal = register_one(workspace, seed=3).counts
    assert (equal["version"], equal["alias"]) == (4, "challenger")
    assert "is not better on the mean" in equal["why"]
    assert register_one(workspace, seed=4).counts["alias"] == "champion"
    assert aliases(workspace) == {"champion": 5, "previous": 2, "challenger": 4}
    assert register_one(workspace, seed=1).counts["alias"] == "previous"


@pytest.mark.usefixtures("_no_model")
def test_a_champion_without_its_bundle_stays_whatever_was_logged(workspace: Workspace) -> None:
    shutil.rmtree(register_one(workspace, ndcg=0.3).path)
    better = register_one(workspace, ndcg=0.9, seed=1).counts
    assert better["alias"] == "challenger"
    assert (
        "not ranked side by side with the champion, version 1: models:/bigel/1 has lost"
        in (better["why"])
    )
    assert better["why"].endswith("bigel promote challenger --why TEXT")
    assert aliases(workspace) == {"champion": 1, "challenger": 2}


@pytest.mark.usefixtures("_light_model")
def test_the_gate_ranks_both_bundles_and_does_not_ask_what_was_logged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(monkeypatch, -1, 1, -1)
    register_one(workspace, ndcg=0.3, seed=0)
    better = register_one(workspace, ndcg=0.2, seed=1).counts
    assert better["alias"] == "champion"
    assert "side by side with the champion, version 1, it is better" in better["why"]
    worse = register_one(workspace, ndcg=0.9, seed=2).counts
    assert worse["alias"] == "challenger"
    assert "it is worse on click by more than 1 %" in worse["why"]
    entry = decisions(workspace, better["run_id"])[-1]
    # Item 2 comes last of the user's 4 (click) and 5 (purchase) items that are not masked.
    click = {"users": 1, "candidate": 1.0, "champion": 1 / math.log2(5)}
    click |= dict.fromkeys(("low", "high"), pytest.approx(1 - 1 / math.log2(5)))
    assert entry["side_by_side"]["behaviors"]["click"] == pytest.approx(click)
    champion = (1 / math.log2(5) + 1 / math.log2(6)) / 2
    assert entry["side_by_side"]["mean"]["champion"] == pytest.approx(champion)
    assert entry["side_by_side"]["label"] == "version 1"
    assert (entry["by"], entry["alias"], entry["from_version"]) == ("gate", "champion", 1)


@pytest.mark.usefixtures("_light_model")
def test_a_version_whose_contract_failed_is_not_champion(workspace: Workspace) -> None:
    record = register_one(workspace, ndcg=0.3, contract_passed=False)
    assert record.counts["alias"] == "challenger"
    assert record.counts["why"] == "the split contract did not pass"


@pytest.mark.usefixtures("_light_model")
def test_a_champion_that_knew_none_of_the_users_is_embedded_over_them(
    workspace: Workspace,
) -> None:
    register_one(workspace, ndcg=0.3)
    other = register_one(workspace, ndcg=0.9, user_ids=["a", "b", "c", "d", "e"]).counts
    assert other["alias"] == "challenger"
    assert "it is not better on the mean over behaviors (0.5308 against 0.5308" in other["why"]


@pytest.mark.usefixtures("_no_model")
def test_a_new_evaluation_is_judged_again_without_a_new_version(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    first = register_one(workspace, ndcg=0.05)
    ended = client_of(workspace).get_run(first.counts["run_id"]).info.end_time
    better = register_one(workspace, ndcg=0.4)
    assert (better.reused, better.counts["version"]) == (False, 1)
    assert aliases(workspace) == {"champion": 1}
    run = client_of(workspace).get_run(better.counts["run_id"])
    assert run.data.metrics["click/ndcg_at_5"] == 0.4
    assert run.info.status == "FINISHED"
    assert run.info.end_time == ended, "its duration is that of the work"
    assert "stays champion" not in caplog.text
    again = register_one(workspace, ndcg=0.5).counts["why"]
    assert again.startswith("is the champion already; measured again: beats the best simple rule")
    assert "there was no champion" not in again
    still = register_one(workspace, ndcg=0.01).counts
    assert still["alias"] == "champion"
    assert "is the champion already" in still["why"]
    assert "does not beat the best simple rule" in still["why"]
    said = "version 1 stays champion, but measured again it would not become one: "
    assert f"{said}does not beat the best simple rule (popularity) on click" in caplog.text
    register_one(workspace, ndcg=0.4, contract_passed=False)
    assert f"{said}the split contract did not pass; to take it back: bigel rollback" in caplog.text


@pytest.mark.usefixtures("_light_model")
def test_an_alias_set_by_hand_stays(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(monkeypatch, -1, 1)
    register_one(workspace)
    register_one(workspace, seed=1)
    client_of(workspace).set_registered_model_alias("bigel", "champion", "1")
    assert register_one(workspace, seed=1).counts["alias"] == ""
    assert aliases(workspace) == {"champion": 1, "previous": 1}


@pytest.mark.parametrize(
    "place",
    ["registration._create_version", "judge.decide", "judge.carry_out", "runs.log_model",
     "runs.log_evaluation"],
)  # fmt: skip
def test_a_registration_cut_off_anywhere_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def cut(*args: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"bigel.tracking.{place}", cut)
        with pytest.raises(KeyboardInterrupt):
            register_one(workspace)
    record = register_one(workspace)
    assert (record.counts["version"], record.counts["alias"]) == (1, "champion")
    client = client_of(workspace)
    assert [v.version for v in client.search_model_versions("name='bigel'")] == [1]
    statuses = [run.info.status for run in client.search_runs(["1"])]
    assert statuses.count("FINISHED") == 1
    assert "RUNNING" not in statuses
    for name in client.get_run(record.counts["run_id"]).data.metrics:
        history = client.get_metric_history(record.counts["run_id"], name)
        assert len({point.step for point in history}) == len(history), name


@pytest.mark.usefixtures("_no_model")
def test_a_version_without_alias_is_still_judged(workspace: Workspace) -> None:
    register_one(workspace)
    client = client_of(workspace)
    client.delete_registered_model_alias("bigel", "champion")
    client.delete_model_version_tag("bigel", "1", registration.JUDGED_TAG)
    assert register_one(workspace).counts["alias"] == "champion"


@pytest.mark.usefixtures("_no_model")
def test_a_champion_whose_run_is_gone_is_not_overruled(workspace: Workspace) -> None:
    client = client_of(workspace)
    client.create_registered_model("bigel")
    client.create_model_version("bigel", source="file:///nowhere", run_id=None)
    client.set_registered_model_alias("bigel", "champion", "1")
    second = register_one(workspace).counts
    assert (second["version"], second["alias"]) == (2, "challenger")
    assert "models:/bigel/1 has lost its artifacts" in second["why"]


@pytest.mark.usefixtures("_light_model")
def test_two_at_once_give_two_versions_and_one_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(monkeypatch, -1, 1)
    records: dict[int, Record] = {}

    def work(seed: int) -> None:
        records[seed] = register_one(workspace, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worse, better = (records[seed].counts["version"] for seed in (0, 1))
    assert {worse, better} == {1, 2}
    # The gates take turns in either order, whichever model was registered first.
    assert aliases(workspace) in (
        {"champion": better, "challenger": worse},
        {"champion": better, "previous": worse},
    )


@pytest.mark.usefixtures("_light_model")
def test_two_gates_rank_at_once_and_the_later_one_ranks_again_against_the_new_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Item 2, all of test: versions rank it last, first and second; 2 and 3 meet the gate."""
    by_seed = [biased(-1), biased(2), biased(1)]
    by_seed[2]["item_bias"][:, 3] = 2
    monkeypatch.setattr(fabricate, "embeddings", by_seed.__getitem__)
    register_one(workspace, seed=0)
    both, asked = threading.Barrier(2), list[str]()
    rank = side_by_side.rank_side_by_side

    def together(*arguments: Any) -> Any:
        asked.append(arguments[4])  # the label
        if len(asked) <= 2:
            both.wait(30)  # broken if a gate ranks while it holds the lock
        return rank(*arguments)

    monkeypatch.setattr(side_by_side, "rank_side_by_side", together)
    counts: dict[int, dict[str, Any]] = {}

    def work(seed: int) -> None:
        counts[seed] = register_one(workspace, seed=seed).counts

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    best, good = counts[1]["version"], counts[2]["version"]
    first_decided = asked[2].removeprefix("version ")
    assert asked[:2] == ["version 1"] * 2 and int(first_decided) in (best, good)
    assert aliases(workspace)["champion"] == best
    other = {"challenger": good, "previous": 1} if int(first_decided) == best else {
        "previous": good
    }  # fmt: skip
    assert aliases(workspace) == {"champion": best, **other}


@pytest.mark.usefixtures("_light_model")
def test_a_version_that_another_gate_judged_meanwhile_is_left(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person took the champion back while a second gate was still ranking it."""
    register_one(workspace)
    judge_once, calls = registration.judge, list[int]()

    def late(model: registry.Registered, number: int, *rest: Any) -> None:
        judge_once(model, number, *rest)
        model.give("champion", 1)
        calls.append(len(decisions(workspace, model.version(number).run_id)))
        judge_once(model, number, *rest)
        calls.append(len(decisions(workspace, model.version(number).run_id)))

    monkeypatch.setattr(registration, "judge", late)
    assert register_one(workspace, seed=1).counts["version"] == 2
    assert calls == [1, 1]
    assert aliases(workspace)["champion"] == 1


@pytest.mark.usefixtures("_light_model")
def test_a_contract_that_holds_again_is_judged_again(workspace: Workspace) -> None:
    assert register_one(workspace, contract_passed=False).counts["alias"] == "challenger"
    again = register_one(workspace)
    assert (again.counts["version"], again.counts["alias"]) == (1, "champion")
    run = client_of(workspace).get_run(again.counts["run_id"])
    assert json.loads(run.data.tags["bigel.contracts"]) == {"split": True}


@pytest.mark.usefixtures("_light_model")
def test_two_workspaces_that_register_one_bundle_at_once_leave_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a server but no lock; both have looked before either has registered."""
    shared = fabricate.workspace_at(tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home_of(shared).uri)
    monkeypatch.setattr(
        registration, "home_of",
        lambda place: replace(home_of(place), lock_file=place.artifacts / ".register.lock"),
    )  # fmt: skip
    both, find = threading.Barrier(2), registry.Registered.made_of
    looked = threading.local()

    def look(*arguments: Any) -> Any:
        found = find(*arguments)
        if not getattr(looked, "once", False):
            looked.once = True
            both.wait(30)
        return found

    monkeypatch.setattr(registry.Registered, "made_of", look)
    records: list[Record] = []

    def work(name: str) -> None:
        place = Workspace(tmp_path / name)
        place.artifacts.mkdir(parents=True)
        records.append(retrying(register_one, [0.1, 0.1])(place))  # as a run does

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.counts["version"] for record in records] == [1, 1]
    client = client_of(shared)
    assert [v.version for v in client.search_model_versions("name='bigel'")] == [1]
    assert [run.info.status for run in client.search_runs(["1"])] == ["FINISHED"]
    assert aliases(shared) == {"champion": 1}


@pytest.mark.usefixtures("_no_model")
def test_names_of_the_experiment(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from environment")
    run_id = register_one(workspace).counts["run_id"]
    client = client_of(workspace)
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    assert experiment.name == "from environment"
    named = CONFIG.model_copy(
        update={"tracking": CONFIG.tracking.model_copy(update={"experiment": "configured"})}
    )
    run_id = register_one(workspace, seed=1, config=named).counts["run_id"]
    assert client.get_experiment(client.get_run(run_id).info.experiment_id).name == "configured"


def test_a_model_that_does_not_answer_is_not_registered(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = pd.DataFrame({"user_id": [100], "behavior": ["view"], "k": [1]})
    monkeypatch.setattr("bigel.tracking.runs._example", lambda bundle: refused)
    with pytest.raises(WorkspaceError, match=r"give one of click, purchase"):
        register_one(workspace)
    client = client_of(workspace)
    assert client.search_registered_models() == []
    assert [run.info.status for run in client.search_runs(["1"])] == ["FAILED"]
