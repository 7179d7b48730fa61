"""The command line: exit codes, outputs, messages.

``bigel`` is a process; ``inside`` calls the same function here, where nothing is imported again.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import polars as pl
import psutil
import pytest
import typer

from bigel.config.data import Format
from bigel.synth.files import KINDS
from flows import cli, server
from tests.flows.conftest import Bigel, Start, options

SERVE = Path(server.__file__).with_name("serve.py")
LOG = "uid,sku,event,when\n" + "".join(
    f"{user},i{(user * step) % 37},{event},{1_600_000_000 + 3600 * step + user}\n"
    for user in range(40)
    for step in range(1, 9)
    for event in ("pv", "buy")[: 1 + (step % 2)]
)
COLUMNS = "user=uid,item=sku,behavior=event,timestamp=when"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, bigel: Bigel, tiny: Path) -> Path:
    """A workspace in which the tiny pipeline ran twice."""
    home = tmp_path_factory.mktemp("finished")
    for name in ("first", "second"):
        ran = bigel("run", tiny, "--json", f"{name}.json", cwd=home)
        (home / f"{name}.out").write_text(ran.stdout + ran.stderr)
        assert ran.returncode == 0, ran.stderr
    return home


def summary_of(home: Path, name: str) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((home / f"{name}.json").read_text())
    return summary


def test_help_names_all_formats_and_contracts() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    words = {
        (verb, option.name): option.help for verb in commands for option in commands[verb].params
    }
    assert [name for name in get_args(Format) if name not in words["ingest", "file_format"]] == []
    assert [ending for ending in KINDS if ending not in words["synth", "out"]] == []
    for verb in ("ingest", "validate"):
        assert "raw-log, interactions and drift contracts" in commands[verb].help


def test_run_writes_the_summary_that_scripts_rely_on(finished: Path) -> None:
    summary = summary_of(finished, "first")
    assert summary["status"] == "ok"
    rows = summary["rows"]
    assert rows["in"] == rows["kept"] + rows["merged"] + rows["quarantined"] > 0
    assert {stage["status"] for stage in summary["stages"].values()} == {"ran"}
    for split in ("valid", "test"):
        for view in ("published", "discovery"):
            for behavior in ("click", "cart", "purchase"):
                assert 0 <= summary["metrics"][split][view][behavior]["ndcg@5"] <= 1
    assert summary["model"]["name"] == "bigel"
    assert str(summary["model"]["version"]) == "1"
    for key in ("report", "data_docs", "interactions", "quarantine", "recommendations"):
        assert Path(summary["paths"][key]).exists(), key


def test_second_run_reuses_every_stage_and_says_so(finished: Path) -> None:
    first, second = summary_of(finished, "first"), summary_of(finished, "second")
    assert {stage["status"] for stage in second["stages"].values()} == {"reused"}
    assert second["metrics"] == first["metrics"]
    assert second["model"]["version"] == first["model"]["version"]
    assert "reused ingest" in (finished / "second.out").read_text()


def test_the_history_of_both_runs_is_complete(finished: Path) -> None:
    database = sqlite3.connect(finished / "artifacts" / "prefect" / "prefect.db")
    flows = database.execute("select state_type from flow_run").fetchall()
    assert flows == [("COMPLETED",)] * 2
    tasks = database.execute("select state_type, count(*) from task_run group by 1").fetchall()
    expected = sum(
        len(summary_of(finished, name)[key])
        for name in ("first", "second")
        for key in ("stages", "contracts")
    )
    assert tasks == [("COMPLETED", expected)]


def test_terminal_page_names_metrics_lists_and_places(finished: Path) -> None:
    text = (finished / "first.out").read_text()
    parts = ("NDCG@5, as served", "best simple rule", "version 1", "why  ", "next  ", "lists  ")
    for part in (*parts, "rows in", "mlflow ui", "report.html"):
        assert part.replace("rows in", "rows ") in text, part


def test_recommend_for_one_user_prints_json(finished: Path, bigel: Bigel) -> None:
    known = pl.read_parquet(summary_of(finished, "first")["paths"]["recommendations"])
    user = known["user_id"][0]
    done = bigel("recommend", "--user", user, "--behavior", "purchase", "-k", 3, cwd=finished)
    if done.returncode:
        pytest.fail(done.stderr)
    rows = json.loads(done.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert {row["behavior"] for row in rows} == {"purchase"}


def test_recommend_for_all_writes_parquet(finished: Path, inside: Bigel) -> None:
    done = inside("recommend", "--all", "-k", 4, "--out", "lists.parquet", cwd=finished)
    assert done.returncode == 0, done.stderr
    lists = pl.read_parquet(finished / "lists.parquet")
    assert lists.columns == ["user_id", "behavior", "rank", "item_id", "score", "source"]
    assert lists["rank"].max() == 4
    log = pl.read_parquet(summary_of(finished, "first")["paths"]["interactions"])
    assert set(lists["user_id"]) == set(log["user_id"])


def test_recommend_refuses_an_unknown_model(finished: Path, inside: Bigel) -> None:
    done = inside("recommend", "--user", "1", "--model", "winner", cwd=finished)
    assert done.returncode != 0
    assert "winner" in done.stderr
    assert "Traceback" not in done.stderr


def test_ingest_writes_the_three_files(tmp_path: Path, inside: Bigel) -> None:
    (tmp_path / "log.csv").write_text(LOG + "7,,pv,1600000000\n")
    done = inside(
        *("ingest", "--path", "log.csv", "--columns", COLUMNS, "--behaviors", "pv,buy"),
        *("--out", "clean"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    kept = pl.read_parquet(tmp_path / "clean" / "interactions.parquet")
    refused = pl.read_parquet(tmp_path / "clean" / "quarantine.parquet")
    assert set(kept["behavior"]) == {"pv", "buy"}
    assert refused["row_number"].to_list() == [LOG.count("\n")]
    rows = json.loads((tmp_path / "clean" / "ingest.json").read_text())["rows"]
    assert rows["in"] == LOG.count("\n")
    assert rows["quarantined"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["run", "dmeo"], 2, "did you mean 'demo'"),
        (["run", "demo", "--set", "model.dims=3"], 2, "did you mean 'dim'"),
        (["run", "demo", "--sett", "x"], 2, "--set"),
        (["ingest", "--out", "x"], 2, "--path is missing"),
        (["ingest", "--out", "x", "--path", ""], 2, "data.path is empty"),
        (["run", "empty.toml"], 2, "data.path is empty"),
        (["run", "demo", "--set", "data.path="], 2, "data.path is empty"),
        (["train", "empty.toml"], 2, "data.path is empty"),
        (["compare", "empty.toml"], 2, "data.path is empty"),
        (["contracts", "check", "demo", "--log", ""], 2, "data.path is empty"),
        (["ingest", "--path", "x.csv", "--columns", "usr=a"], 2, "did you mean 'user'"),
        (["ingest", "--path", "absent.csv", "--out", "x"], 3, "absent.csv"),
        (["ingest", "--path", "bad.csv", "--out", "x"], 3, "user_id"),
        (["recommend", "--user", "1", "--all"], 2, "exactly one of"),
        (["nonsense"], 2, "No such command"),
        (["run", "demo", "--workspace", "bad.csv/w"], 2, "can be written into"),
        (["compare", "demo", "--workspace", "bad.csv/w"], 2, "can be written into"),
        (["serve", "--no-deploy", "--workspace", "bad.csv/w"], 2, "can be written into"),
        (["tune", "demo", "--model", "ease", "--workspace", "bad.csv/w"], 1, "cannot be written"),
        (["train", "demo", "--workspace", "bad.csv/w"], 1, "cannot be written"),
        (["recommend", "--all", "--workspace", "bad.csv/w"], 1, "cannot be written"),
        (["train", "demo", "--json", "bad.csv/x.json"], 2, "can be written into"),
        (["run", "demo", "--json", "bad.csv/x.json"], 2, "can be written into"),
        (["contracts", "check", "demo", "--json", "bad.csv/x.json"], 2, "can be written into"),
        (["tune", "demo", "--model", "ease", "--out", "bad.csv/x.toml"], 2, "can be written into"),
        (["ingest", "--path", "bad.csv", "--out", "bad.csv/x"], 2, "can be written into"),
        (["recommend", "--all", "--out", "bad.csv/x.csv"], 2, "can be written into"),
        (["synth", "bad.csv/x.csv"], 2, "can be written into"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_no_traceback(
    tmp_path: Path, inside: Bigel, arguments: list[str], code: int, expected: str
) -> None:
    (tmp_path / "bad.csv").write_text("a;b;c\n1;2;3\n")
    (tmp_path / "empty.toml").touch()
    done = inside(*arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert expected in done.stderr
    assert not (tmp_path / "x").exists()


def test_broken_contract_stops_the_run_with_exit_code_3(tmp_path: Path, bigel: Bigel) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace(",buy,", ",steal,"))
    done = bigel(
        *("ingest", "--path", "log.csv", "--columns", COLUMNS, "--behaviors", "pv,buy"),
        *("--out", "clean", "--json", "failed.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert "quarantined" in done.stderr
    assert not (tmp_path / "clean").exists()
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert failed["contracts"][-1]["success"] is False
    assert Path(failed["paths"]["data_docs"]).exists()
    assert (failed["status"], failed["kind"]) == ("failed", "ContractError")


def test_config_prints_every_field_and_synth_writes_a_log(tmp_path: Path, inside: Bigel) -> None:
    printed = inside("config", "jd", "--set", "model.dim=32", cwd=tmp_path)
    assert printed.returncode == 0
    assert "# Embedding size D.\ndim = 32" in printed.stdout
    done = inside("synth", "log.CSV", "--set", "synth.events=1500", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = pl.read_csv(tmp_path / "log.CSV", infer_schema=False).height
    assert rows >= 1500
    assert done.stdout == f"wrote log.CSV: {rows:,} rows\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_run_told_to_end_says_how_to_go_on_and_leaves_no_server_and_no_old_summary(
    tmp_path: Path, start_bigel: Start, tiny: Path, number: signal.Signals
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "s.json").write_text('{"status": "ok"}')
    process = start_bigel("run", tiny, "--json", "new/s.json", cwd=tmp_path)
    started = server_of(process.pid)
    process.send_signal(number)
    assert shell_code(process.wait(60)) == 130
    said = (tmp_path / "stderr").read_text()
    assert "error: interrupted; run the same command again to go on from here" in said
    assert "Traceback" not in said
    assert json.loads((tmp_path / "new" / "s.json").read_text())["status"] == "failed"
    wait_for(lambda: not psutil.pid_exists(started))


def test_a_signal_that_the_shell_ignores_stays_ignored(tmp_path: Path) -> None:
    """``nohup bigel run …`` goes on when its terminal is closed."""
    script = (
        "import signal, sys\n"
        "from flows.cli import main\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.argv = ['bigel', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "for number in (signal.SIGHUP, signal.SIGTERM):\n"
        "    print(signal.getsignal(number) == signal.SIG_IGN)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        **options(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == ["True", "False"]


def test_a_killed_run_takes_its_server_along(
    tmp_path: Path, start_bigel: Start, tiny: Path
) -> None:
    process = start_bigel("run", tiny, cwd=tmp_path)
    started = server_of(process.pid)
    process.kill()
    process.wait(60)
    wait_for(lambda: not psutil.pid_exists(started))


def test_a_training_told_to_end_keeps_a_checkpoint_and_says_so(
    tmp_path: Path, start_bigel: Start, tiny: Path
) -> None:
    endless = ("train.max_steps=100000", "train.patience=100000", "train.checkpoint_every=5")
    settings = [part for setting in endless for part in ("--set", setting)]
    process = start_bigel("train", tiny, *settings, cwd=tmp_path)
    wait_for(lambda: checkpoints(tmp_path) != [], 180)
    process.send_signal(signal.SIGTERM)
    assert shell_code(process.wait(60)) == 130
    said = (tmp_path / "stderr").read_text()
    kept = int(checkpoints(tmp_path)[-1].stem.removeprefix("step-"))
    assert f"training ends here; the checkpoint of step {kept} is kept" in said
    assert "error: interrupted; run the same command again to go on from here" in said


def test_a_flow_that_was_killed_in_training_ends_as_an_undisturbed_one(
    tmp_path: Path, start_bigel: Start, bigel: Bigel, tiny: Path, finished: Path
) -> None:
    often = ("--set", "train.checkpoint_every=1")
    process = start_bigel("run", tiny, *often, cwd=tmp_path)
    wait_for(lambda: checkpoints(tmp_path) != [], 180)
    process.kill()
    process.wait(60)
    done = bigel("run", tiny, *often, "--json", "s.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    resumed, undisturbed = summary_of(tmp_path, "s"), summary_of(finished, "first")
    for stage in ("ingest", "split", "graph"):
        assert resumed["stages"][stage]["status"] == "reused"
    assert resumed["metrics"] == undisturbed["metrics"]
    names = ("train/weights.safetensors", "train/embeddings.safetensors")
    for stage, name in (one.split("/") for one in (*names, "recommend/recommendations.parquet")):
        places = (
            home / "artifacts" / "stages" / stage / summary["stages"][stage]["fingerprint"] / name
            for home, summary in ((tmp_path, resumed), (finished, undisturbed))
        )
        ours, theirs = (place.read_bytes() for place in places)
        assert ours == theirs, name


def checkpoints(home: Path) -> list[Path]:
    return sorted((home / "artifacts" / "scratch").glob("*/member-0/step-*.json"))


def shell_code(code: int) -> int:
    """Return what a shell calls the end of a process.

    Python ends itself by SIGINT, not by an exit code, if an interrupt came while it executed
    source text, as imports do for a named tuple; a shell says 130 to both.
    """
    return 128 - code if code < 0 else code


def server_of(pid: int) -> int:
    """Return the process of the server that a run starts, once it is there."""
    found: list[int] = []

    def is_there() -> bool:
        children = psutil.Process(pid).children(recursive=True)
        found[:] = [child.pid for child in children if str(SERVE) in command_of(child)]
        return bool(found)

    wait_for(is_there)
    assert len(found) == 1
    return found[0]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
