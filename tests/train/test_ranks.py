"""Several processes that train one model: what they compute, and how they start and end."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bigel.backtest.series import Plan
from bigel.compare import choose
from bigel.compare.run import run_comparison
from bigel.config import Config, load_config
from bigel.errors import ConfigError, LostRankError, TrainingError
from bigel.graph.ranks import ALONE, Ranks
from bigel.graph.sample import divided
from bigel.retry import is_transient
from bigel.store import Workspace
from bigel.train import ranks as processes
from bigel.train.bigel import senders_of
from bigel.train.sampler import Sampler
from bigel.tune.search import run_search
from tests.train.test_train_stage import run, split_in
from tests.train.together import CASES, N_USERS, results_of, world_of
from tests.worlds import graphs_of, random_world

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Train all cases with two processes, and with three; returns the folder of each."""
    folders = {}
    for count in (2, 3):
        folder = folders[count] = tmp_path_factory.mktemp(f"ranks-{count}")
        command = [sys.executable, "-m", "tests.train.together"]
        ranks = [
            subprocess.Popen([*command, str(rank), str(count), str(folder)], cwd=ROOT)
            for rank in range(count)
        ]
        try:
            assert [process.wait(120) for process in ranks] == [0] * count
        finally:
            for process in ranks:
                process.kill()
    return folders


def numbers(found):
    """Return what a step or a validation tells, -1 where there is none."""
    parts = {**found.get("losses", found.get("ndcg")), "alignment": found.get("alignment")}
    return {name: -1.0 if part is None else part for name, part in parts.items()}


def without_times(history):
    return {**history, "steps": [{**step, "seconds": 0} for step in history["steps"]]}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_together_they_learn_what_one_learns(together, tmp_path, case, count):
    history, weights = results_of(case, tmp_path)
    folder = together[count]
    histories = [json.loads((folder / f"{case}-{r}.json").read_text()) for r in range(count)]
    found = [load_file(folder / f"{case}-{rank}.safetensors") for rank in range(count)]
    assert all(one == histories[0] for one in histories)
    assert all(torch.equal(one[name], found[0][name]) for one in found for name in weights)
    assert found[0].keys() == weights.keys()
    for name, tensor in weights.items():
        rate = 2e-4 if name == "user_feedback.gate" else 2e-5  # Adam makes steps of what is near 0
        torch.testing.assert_close(found[0][name], tensor, rtol=rate, atol=rate)
    for one, of_all in zip(history["steps"], histories[0]["steps"], strict=True):
        assert of_all["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert numbers(of_all) == pytest.approx(numbers(one), rel=1e-5)
    assert any(one["mean"] > 0 for one in history["validations"])
    for one, of_all in zip(history["validations"], histories[0]["validations"], strict=True):
        assert numbers(of_all) == pytest.approx(numbers(one), abs=1e-9)
    assert histories[0]["best_step"] == history["best_step"]


def test_messages_of_two_ranks_by_hand(together):
    """User 0 of rank 0 has items 0 and 1, user 1 of rank 1 has item 1; weights a, 1/2 and a, where
    a = sqrt(1/2); two layers over users 0, 4 and items 1, 2, 5, of which item 2 has no user.

    One message: users a + 1 and 2 a, items 0 and 4 a. Two: users 4 a / 2 and 4 a a, items a (a + 1)
    and (a + 1) / 2 + 2 a a. The loss is the sum of all, each term on one rank, so its gradient is
    what two layers make of ones: a + 1/2, a, a, a + 1/2, then 3/4 + a/2, 1/2 + a/2 on either side.
    """
    first, second = (load_file(together[2] / f"by-hand-{rank}.safetensors") for rank in range(2))
    a = 0.5**0.5
    close = torch.testing.assert_close
    close(first["users"], torch.tensor([[(a + 1 + 2 * a) / 3]]))
    close(second["users"], torch.tensor([[(4 + 2 * a + 2) / 3]]))
    items = [(1 + a * (a + 1)) / 3, (2 + 4 * a + (a + 1) / 2 + 1) / 3, 5 / 3]
    close(first["items"], torch.tensor(items)[:, None])
    assert torch.equal(first["items"], second["items"])
    of_items = torch.tensor([[0.5 + a / 2], [0.75 + a / 2], [1 / 3]])
    close(first["of items"] + second["of items"], of_items)
    close(first["of users"], torch.tensor([[0.75 + a / 2]]))
    close(second["of users"], torch.tensor([[0.5 + a / 2]]))


def all_of(count, before):
    return [Ranks(rank, count).dividing(before) for rank in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_user_is_of_one_rank_and_each_edge(count):
    world = random_world(3)
    graphs = graphs_of(world)
    ranks = all_of(count, graphs.union.crow[: world.n_users + 1])
    assert [user for one in ranks for user in one.users] == list(range(world.n_users))
    assert all(len(one.users) for one in ranks)
    parts = [divided(graphs, one) for one in ranks]
    for (_, whole), *own in zip(graphs.named(), *(part.named() for part in parts), strict=True):
        for to in ("users", "items"):
            expected = whole.half(to).to_dense()
            dense = [graph.half(to).to_dense() for _, graph in own]
            assert torch.equal(torch.cat(dense, 0 if to == "users" else 1), expected)


def test_ranks_have_about_as_many_pairs():
    before = torch.arange(0, 1001, 10)
    assert [len(one.users) for one in all_of(4, before)] == [25] * 4
    heavy = torch.tensor([0, 500, 505, 510, 515, 520])
    assert [list(one.users) for one in all_of(2, heavy)] == [[0], [1, 2, 3, 4]]
    with pytest.raises(TrainingError, match=r"3 ranks for 2 users.*run\.ranks"):
        Ranks(0, 3).dividing(torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("case", ["plain", "dropout", "both", "one pair"])
@pytest.mark.parametrize("count", [2, 3])
def test_the_parts_of_a_batch_are_the_batch(case, count):
    world, _ = world_of(case)
    config = load_config("", ["data.behaviors=['a', 'b', 'c']", *CASES[case]])
    settings = config.train
    batch = Sampler(
        world, settings.batch_size, 8, 0, dropout=settings.edge_dropout,
        senders=senders_of(config, N_USERS),
    ).draw()  # fmt: skip
    before = graphs_of(world).union.crow[: N_USERS + 1]
    ranks = all_of(count, before)
    parts = [batch.part_of(one, before) for one in ranks]

    def users_of(one, part):
        """Return each behavior's users by their numbers among all."""
        named = torch.arange(N_USERS) if part.sample is None else part.sample.users
        first = one.users.start if one is not ALONE else 0
        return [named[users] + first for users in part.users]

    for k in range(3):
        whole = zip(users_of(ALONE, batch)[k].tolist(), batch.items[k].tolist(), strict=True)
        found = [
            (users_of(one, part)[k].tolist(), part.items[k].tolist())
            for one, part in zip(ranks, parts, strict=True)
        ]
        pairs = [pair for users, items in found for pair in zip(users, items, strict=True)]
        assert Counter(pairs) == Counter(whole)
        assert {part.pairs(k) for part in parts} == {len(batch.users[k])}
        assert sum(len(part.same[k][0]) for part in parts) == parts[0].whole.same[k]
    for side, nodes in enumerate((batch.users[-1], batch.items[-1])):
        places = torch.cat([part.whole.places[side] for part in parts])
        assert sorted(places.tolist()) == list(range(len(nodes.unique())))
    if batch.kept is not None:
        assert torch.equal(torch.cat([part.kept for part in parts]), batch.kept)
    if batch.sample is not None:
        both = zip(ranks, parts, strict=True)
        users = torch.cat([part.sample.users + one.users.start for one, part in both])
        assert torch.equal(users, batch.sample.users)
        assert torch.equal(torch.cat([p.sample.weight for p in parts]), batch.sample.weight)


def test_one_process_has_no_sums():
    part = torch.ones(2, requires_grad=True)
    assert ALONE.add_(part) is part and ALONE.added(part) is part
    assert ALONE.any(True) is True and ALONE.of_first(3.0) == 3.0
    ALONE.wait()


# How they start and end


@pytest.fixture
def split(tmp_path):
    return split_in(tmp_path / "split")


@pytest.fixture
def helpers(monkeypatch):
    """Return what is started in place of ranks, as it comes."""
    started = []
    original = subprocess.Popen

    def popen(*args, **named):
        started.append(original(*args, **named))
        return started[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    return started


def weights_of(record):
    return load_file(record.file("weights.safetensors"))


TWO = "run.ranks=2"


def test_a_killed_rank_costs_the_steps_since_the_checkpoint(split, tmp_path, helpers, caplog):
    undisturbed = run(split, tmp_path / "undisturbed", TWO)

    def kill(found):
        if found["step"] == 8:
            helpers[-1].kill()

    with pytest.raises(LostRankError, match=r"rank 1 .*killed \(SIGKILL\).*goes on") as raised:
        run(split, tmp_path / "killed", TWO, on_validation=kill)
    assert is_transient(raised.value)  # so that a run tries again by itself
    assert all(process.poll() is not None for process in helpers)
    with caplog.at_level(logging.INFO):
        resumed = run(split, tmp_path / "killed", TWO)
    assert "goes on from the checkpoint of step 6" in caplog.text
    expected, found = weights_of(undisturbed), weights_of(resumed)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    histories = [
        without_times(json.loads(record.file("history.json").read_text()))
        for record in (undisturbed, resumed)
    ]
    assert histories[0] == histories[1]


def test_members_and_a_refit_are_as_of_one_process(split, tmp_path, helpers):
    settings = "train.members=2", "train.refit=true"
    one, two = (run(split, tmp_path / name, *settings, f"run.ranks={name}") for name in "13")
    assert len(helpers) == 4  # two beside rank 0, for the training and for the refit
    expected, found = weights_of(one), weights_of(two)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert one.counts["valid_ndcg"] == pytest.approx(two.counts["valid_ndcg"])
    assert one.fingerprint == two.fingerprint  # the last bits may differ, as with run.threads


def test_a_request_to_end_keeps_a_checkpoint_and_leaves_nobody(split, tmp_path, helpers, caplog):
    def end(found):
        if found["step"] == 4:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(split, tmp_path / "ended", TWO, on_validation=end)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert helpers[0].poll() is not None
    with caplog.at_level(logging.INFO):
        run(split, tmp_path / "ended")  # one process goes on where two were
    assert "goes on from the checkpoint of step 4" in caplog.text


@pytest.mark.parametrize(
    ("program", "kind", "told"),
    [
        ("raise SystemExit('no luck today')", TrainingError, "rank 1 .* failed: no luck today"),
        ("import os; os.abort()", LostRankError, r"rank 1 .* killed \(SIGABRT\)"),
    ],
)
def test_a_rank_that_cannot_start_is_told_of_at_once(
    split, tmp_path, monkeypatch, helpers, program, kind, told
):
    monkeypatch.setattr(processes, "PROGRAM", program)
    with pytest.raises(kind, match=told) as raised:
        run(split, tmp_path, "run.ranks=3")
    assert is_transient(raised.value) == (kind is LostRankError)
    assert len(helpers) == 2 and all(process.poll() is not None for process in helpers)


def test_a_rank_that_is_silent_is_not_waited_for_without_end(split, tmp_path, monkeypatch, helpers):
    monkeypatch.setattr(processes, "LIMIT", processes.timedelta(seconds=3))
    monkeypatch.setattr(processes, "GRACE", 0.1)

    def stop(found):
        os.kill(helpers[0].pid, signal.SIGSTOP)

    with pytest.raises(LostRankError, match=r"does not answer \(.*; the training goes on"):
        run(split, tmp_path, TWO, on_validation=stop)
    assert helpers[0].poll() is not None


def test_an_error_of_rank_0_is_its_own(split, tmp_path, helpers):
    def fail(found):
        raise RuntimeError("a disk is gone")

    with pytest.raises(RuntimeError, match="a disk is gone"):
        run(split, tmp_path, TWO, on_validation=fail)
    assert helpers[0].poll() is not None


def test_others_end_with_rank_0_however_it_ends(tmp_path):
    program = (
        "import sys, time\nfrom bigel.train.ranks import _started\n"
        "with _started(2) as others:\n"
        "    print(others.processes[0][0].pid, flush=True)\n    time.sleep(600)\n"
    )
    rank_0 = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        pid = int(rank_0.stdout.readline())
    finally:
        rank_0.kill()
        rank_0.wait()
        rank_0.stdout.close()
    latest = time.monotonic() + 60
    while is_there(pid) and time.monotonic() < latest:
        time.sleep(0.1)
    assert not is_there(pid)


def is_there(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.slow
def test_torchrun_starts_a_run(tmp_path):
    """The first process runs the pipeline, the second trains with it and ends with it."""
    few = "synth.users=200", "synth.items=120", "synth.events=4000", "train.max_steps=4"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "bigel", "train", "demo", "--workspace", str(tmp_path)),
        *(part for setting in (*few, "train.evaluate_every=2") for part in ("--set", setting)),
    ]
    for ran in ("train, accept", "accept"):
        found = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert ran in found.stdout
    (history,) = tmp_path.glob("artifacts/stages/train/*/history.json")
    assert json.loads(history.read_text())["stopped"] == "max_steps"


def test_what_ranks_cannot_divide_is_refused_by_name():
    for settings, told in (
        (["model.user_vectors=true"], r"model\.user_vectors.*run\.ranks"),
        (["run.device='cuda:1'"], r'run\.device = "cuda:1"'),
    ):
        with pytest.raises(ConfigError, match=told):
            load_config("", [TWO, *settings])
        load_config("", settings).check_ranks(1)


def test_who_trains_refuse_ranks_says_so_before_anything_is_read(tmp_path):
    config, place = load_config("", [TWO]), Workspace(tmp_path)
    told = r"run\.ranks = 2: only .*, {} trains in one; set run\.ranks to 1"
    with pytest.raises(ConfigError, match=told.format("bigel compare")):
        run_comparison(config, place, choose(config, ["bigel"]), [0])
    with pytest.raises(ConfigError, match=told.format("bigel tune")):
        run_search("bigel", 1, config, place)
    with pytest.raises(ConfigError, match=told.format("the back-test's bpr_mf")):
        Plan(1, 1, choose(config, ["bigel", "bpr_mf"]), [0])
    Plan(1, 1, choose(config, ["bigel", "item_knn"]), [0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["demo", "jd", "taobao", "recbole", "adjacency"])
def test_another_rank_reads_the_same_settings(source):
    config = load_config(source, [TWO])
    told = json.loads(json.dumps(config.model_dump(mode="json")))
    assert Config.model_validate(told) == config
