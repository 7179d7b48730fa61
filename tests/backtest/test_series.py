"""A whole back-test on the small log with times."""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bigel.backtest import read_rows
from bigel.backtest.cut import load_history, nights_of
from bigel.backtest.series import Plan, Series, run_backtest
from bigel.compare import choose
from bigel.config import load_config
from bigel.data.split import split
from bigel.errors import ConfigError, DataError
from bigel.evaluate.protocol import make_task, rank_task
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.pipeline import plain
from bigel.schema import PUBLISHED
from bigel.signals.rules import CANDIDATES, POPULAR
from bigel.state.moment import history_at, learned_of, state_at
from bigel.store import Workspace
from bigel.tracking import outbox
from bigel.train import train
from tests.signals.timed import DAY, NAMES, SETTINGS, START, log
from tests.tracking.conftest import away

NIGHTS, DAYS = 3, 20
MADE = ["split", "build_graphs", "train"]
FIRST = START + (DAYS - NIGHTS) * DAY


def frame_of(seed=0):
    """The small log, and somebody who comes on each night."""
    new = [("view", 2, 100 * hour) for hour in (1, 2)]
    rows = [(99, item, name, FIRST + at) for name, item, at in new]
    rows += [(98, 3, "buy", FIRST + 2 * DAY + 5)]
    rows += [(97, 7 + at, NAMES[at % 2], FIRST + DAY + at) for at in range(6)]
    return pl.concat([log(seed), pl.DataFrame(rows, log(seed).columns, orient="row")])


def start(root, frame, every=1, models=("bigel",), nights=NIGHTS, seeds=(0,), step=None, extra=()):
    root.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / "log.parquet")
    config = load_config("", [*SETTINGS, f'data.path="{root / "log.parquet"}"', *extra])
    plan = Plan(nights, every, choose(config, models), seeds)
    return run_backtest(config, Workspace(root), plan, *([step] if step else []))


def series_of(root, frame, every=1, nights=NIGHTS, step=plain):
    """Return the nights of a log without what a whole back-test does before and after."""
    root.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / "log.parquet")
    config = load_config("", [*SETTINGS, f'data.path="{root / "log.parquet"}"'])
    workspace = Workspace(root)
    ingested = ingest(config, workspace)
    parted = split(ingested, config, workspace)
    moments = nights_of(load_history(parted), nights)
    return Series(config, workspace, step, ingested, parted, moments, every)


def entrant(series, model="bigel"):
    return choose(series.config, [model])[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("backtest")
    return root, start(root, frame_of(), models=("bigel", "item_knn"), seeds=(0, 1))


def lists_of(root, stage="backtest_night"):
    """Return the lists of every night's stages: (night, number of contestants) to frame."""
    found = {}
    for folder in sorted((root / "artifacts" / "stages" / stage).iterdir()):
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        frame = pl.read_parquet(folder / "lists.parquet")
        key = manifest["counts"]["night"], frame["contestant"].n_unique()
        found.setdefault(key, []).append((folder, frame))
    return found


def naive_figures(raw, lists, night, days, k):
    """Return by contestant, group, behavior and user the NDCG and HR of lists, in plain Python."""
    had, new, known = set(), defaultdict(set), set()
    for user, item, behavior, time in sorted(raw, key=lambda row: row[3]):
        if time < night:
            had.add((user, behavior, item))
            known.add(user)
        elif time < night + days * DAY and (user, behavior, item) not in had:
            new[user, behavior].add(item)
    ranked = defaultdict(dict)
    contestants = set()
    for contestant, group, behavior, user, rank, item in lists.iter_rows():
        ranked[contestant, group, behavior, user][rank] = item
        contestants.add((contestant, group))
    found = {}
    for contestant, group in contestants:
        for (user, behavior), items in new.items():
            if (user in known) != (group == "known"):
                continue
            mine = ranked[contestant, group, behavior, user]
            gains = [1 / math.log2(r + 1) for r, item in mine.items() if r <= k and item in items]
            ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(items)) + 1))
            found[contestant, group, behavior, user] = (sum(gains) / ideal, float(bool(gains)))
    return found


def test_figures_are_those_of_a_scorer_that_reads_lists_and_raw_rows(whole):
    root, _ = whole
    raw = pl.read_parquet(root / "log.parquet").rows()
    users = pl.Series("user_id", sorted({row[0] for row in raw}))
    seen = 0
    for stage in ("backtest_night", "backtest_guest"):
        for (night, _), entries in lists_of(root, stage).items():
            for folder, lists in entries:
                figures = pl.read_parquet(folder / "figures.parquet")
                assert set(figures["horizon"]) == {"day"}
                for k in (5, 10, 20):
                    expected = naive_figures(raw, lists, night, 1, k)
                    found = {
                        (c, g, b, users[u]): (ndcg, hr)
                        for c, g, b, u, ndcg, hr in figures.select(
                            "contestant", "group", "behavior", "user", f"ndcg@{k}", f"hr@{k}"
                        ).iter_rows()
                    }
                    assert found.keys() == expected.keys()
                    for key, figure in found.items():
                        assert figure == pytest.approx(expected[key]), key
                    seen += len(found)
    assert seen > 1_000


def test_a_week_is_scored_by_the_same_lists(tmp_path):
    root = tmp_path / "week"
    series = series_of(root, frame_of(), nights=8)
    series.model(entrant(series, "popularity"))
    raw = pl.read_parquet(root / "log.parquet").rows()
    users = pl.Series(sorted({row[0] for row in raw}))
    (entry,) = lists_of(root, "backtest_guest")[START + 13 * DAY, 1]
    figures = pl.read_parquet(entry[0] / "figures.parquet").filter(pl.col("horizon") == "week")
    expected = naive_figures(raw, entry[1], START + 13 * DAY, 7, 10)
    found = {("popularity", "known", b, users[u]): ndcg for b, u, ndcg in
             figures.select("behavior", "user", "ndcg@10").iter_rows()}  # fmt: skip
    assert found == pytest.approx({key: ndcg for key, (ndcg, _) in expected.items()})
    assert len(lists_of(root, "backtest_guest")) == 8


def test_nothing_after_a_night_changes_its_lists(whole, tmp_path):
    """The future is shuffled: items among rows, behaviors among rows, some rows twice."""
    root, summary = whole
    frame, draw = frame_of(), np.random.default_rng(5)
    night = FIRST + DAY
    past = frame.filter(pl.col("timestamp") < night)
    future = frame.filter(pl.col("timestamp") >= night)
    shuffled = future.with_columns(
        future["item_id"].gather(draw.permutation(len(future))),
        future["behavior"].gather(draw.permutation(len(future))),
    )
    other = series_of(tmp_path / "b", pl.concat([past, shuffled, shuffled[:30]]))
    ruled = other.rules(int(frame["timestamp"].min()))
    for seed in (0, 1):
        other.model(entrant(other).with_seed(seed))
    found = {record.counts["night"]: record.counts["half_lives"] for record in ruled}
    assert found[night] == summary["half_lives"][str(night)]
    before, after = lists_of(root), lists_of(tmp_path / "b")
    compared = {True: 0, False: 0}  # by whether the night is one that the shuffle left alone
    changed = dict(compared)
    for key, entries in before.items():
        one, two = (
            {row for _, lists in found for row in _whole(lists)} for found in (entries, after[key])
        )
        again = {row[0] for row in two}
        both = [row for row in one if row[0] in again]
        compared[key[0] <= night] += len(both)
        changed[key[0] <= night] += len([row for row in both if row not in two])
    assert min(compared.values()) > 50
    assert changed[True] == 0 and changed[False] > 0


def _whole(lists):
    """Return ((contestant, group, behavior, user), items in order) of each list."""
    keys = ["contestant", "group", "behavior", "user_id"]
    grouped = lists.sort("rank").group_by(keys, maintain_order=True).agg(pl.col("item_id"))
    return [(tuple(row[:4]), tuple(row[4])) for row in grouped.iter_rows()]


def test_between_trainings_the_newest_graph_is_embedded_by_the_weights_of_the_last(tmp_path):
    root, calls = tmp_path / "every", []

    def noted(function):
        def call(*given):
            calls.append(function.__name__)
            return function(*given)

        return call

    series = series_of(root, frame_of(), every=2, step=noted)
    series.model(entrant(series))
    assert calls == [*MADE, "score_bigel", "score_bigel", *MADE, "score_bigel"]
    config, workspace, parted = series.config, series.workspace, series.parted
    cut = split(series.ingested, config, workspace, FIRST)
    trained = train(cut, build_graphs(cut, config, workspace), config, workspace)
    assert trained.reused
    night = FIRST + DAY
    state = state_at(learned_of(trained), parted, night)
    (entry,) = (
        entry for entry in lists_of(root)[night, 1] if set(entry[1]["contestant"]) == {"bigel"}
    )
    history = history_at(parted, "now")
    users, items = (pl.read_parquet(parted.file(f"{name}.parquet"))[f"{name[:-1]}_id"].to_list()
                    for name in ("users", "items"))  # fmt: skip
    for behavior, name in enumerate(NAMES):
        task = make_task(state.pairs, history.new_between(night, night + DAY), behavior, PUBLISHED)
        known = torch.from_numpy(history.at(night).known_users())[task.users]
        ranked = rank_task(state.scores(), behavior, task, 20, 512)
        part = entry[1].filter((pl.col("behavior") == name) & (pl.col("group") == "known"))
        found = dict(part.group_by("user_id", maintain_order=True).agg("item_id").iter_rows())
        expected = {users[u]: [items[i] for i in row if i >= 0]
                    for u, row in zip(ranked.users[known].tolist(), ranked.items[known].tolist(),
                                      strict=True)}  # fmt: skip
        assert found == expected


def test_a_stopped_back_test_goes_on_where_it_was(tmp_path):
    left = [1]

    def stopping(function):
        def call(*given):
            if function.__name__ == "score_bigel":
                if not left:
                    raise DataError("the power went")
                left.pop()
            return function(*given)

        return call

    stopped = series_of(tmp_path, frame_of(), every=2, step=stopping)
    with pytest.raises(DataError, match="the power went"):
        stopped.model(entrant(stopped))
    resumed = series_of(tmp_path, frame_of(), every=2)
    resumed.model(entrant(resumed))
    ran = [record.stage for record in resumed.ran if not record.reused]
    assert ran == ["backtest_night", "split", "graph", "train", "backtest_night"]


def test_the_same_again_runs_nothing(whole):
    root, summary = whole
    again = start(root, frame_of(), models=("bigel", "item_knn"), seeds=(0, 1))
    assert again["units"]["ran"] == 0 and again["metrics"] == summary["metrics"]
    assert again["mlflow_run"] == summary["mlflow_run"]


def test_the_summary_has_every_contestant_and_says_whether_it_is_worth_it(whole):
    _, summary = whole
    assert summary["nights"] == [FIRST, FIRST + DAY, FIRST + 2 * DAY]
    assert set(summary["metrics"]) == {*CANDIDATES, "bigel", "item_knn"}
    rows = read_rows(Path(summary["paths"]["rows"]))
    assert {row.contestant for row in rows if row.group == "new"} == {"bigel", POPULAR}
    new = [row for row in rows if row.group == "new" and row.metric == "ndcg@10"]
    assert {(row.contestant, row.rival) for row in new} == {("bigel", POPULAR), (POPULAR, None)}
    assert {row.behavior: row.user_nights for row in new}["buy"] == 2
    (view, buy) = summary["said"]
    for said, name in ((view, "view"), (buy, "buy")):
        assert said.startswith(f"{name}: bigel is ") and "of 3 nights" in said
    table = Path(summary["paths"]["table"]).read_text("utf-8")
    assert table.rstrip().endswith(buy) and "| repeat of the last |" in table
    assert Path(summary["paths"]["plot"]).stat().st_size > 0
    spread = {row.contestant: row.seed_std for row in rows if row.metric == "ndcg@10"}
    assert spread["bigel"] is not None and spread["item_knn"] is None


def test_mlflow_has_a_parent_with_files_and_a_child_per_contestant(whole):
    import mlflow

    root, summary = whole
    client = mlflow.MlflowClient(f"sqlite:///{Workspace(root).mlruns / 'mlflow.db'}")
    parent = client.get_run(summary["mlflow_run"])
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"backtest.md", "backtest.png", "backtest.parquet"} <= names
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], query)
    found = {run.info.run_name: run for run in children}
    assert set(found) == set(summary["metrics"])
    expected = summary["metrics"]["bigel"]["known"]["day"]["buy"]["ndcg@10"]
    assert found["bigel"].data.metrics["known/day/buy/ndcg_at_10"] == pytest.approx(expected)
    assert found["bigel"].data.params["every"] == "1"


def test_without_its_tracking_store_a_back_test_is_kept_and_delivered(tmp_path):
    with away():
        summary = start(tmp_path, frame_of(), models=("popularity",))
    workspace = Workspace(tmp_path)
    (entry,) = outbox.waiting(workspace)
    assert summary["mlflow_run"] is None and summary["waiting"] == [entry.path.name]
    counts = outbox.deliver(entry, workspace)
    assert counts["name"] == "backtest" and outbox.names_waiting(workspace) == []


def test_a_log_without_times_and_numbers_that_cannot_be_are_refused(tmp_path):
    timeless = frame_of().drop("timestamp")
    with pytest.raises(ConfigError, match=r"data\.columns\.timestamp"):
        start(tmp_path / "a", timeless, extra=('data.columns.timestamp=""',))
    with pytest.raises(ConfigError, match="--every 0"):
        start(tmp_path / "b", frame_of(), every=0)
    with pytest.raises(ConfigError, match="--nights 40: from 1 to 1"):
        start(tmp_path / "c", frame_of(), nights=40)
    with pytest.raises(ConfigError, match=r"split\.k_core = 0"):
        start(tmp_path / "d", frame_of(), extra=("split.k_core=2",))
