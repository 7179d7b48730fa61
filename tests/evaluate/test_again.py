"""The view "again": what users do once more counts, where lists may hold it."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bigel.config import load_config
from bigel.errors import ConfigError
from bigel.evaluate.protocol import make_again_task
from bigel.evaluate.stage import again_tasks, evaluate
from bigel.lists.bundle import build_bundle
from bigel.lists.recommend import recommend
from bigel.signals.history import History
from bigel.state.embed import embed
from tests.signals.timed import DAY, START, Made, log, make, split_of

K = 5
AGAIN = 'recommend.exclude={ buy = "none" }'
UNDO = 'data.undo={ returned = "buy" }'


def rows() -> pl.DataFrame:
    """Return a log in which some buy the same every other day, and some send it back."""
    again = [
        (n, n % 5, "buy", START + day * DAY + 60 * n) for n in range(15) for day in range(0, 20, 2)
    ]
    back = [(n, n % 5, "returned", START + 19 * DAY + 60 * n) for n in range(5)]
    return pl.concat([log(), pl.DataFrame(again + back, orient="row", schema=log().schema)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(rows(), tmp_path_factory.mktemp("again"), AGAIN, UNDO)


def stands(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the events that nothing takes back, by a loop."""
    kept = []
    for user, item, name, at in frame.rows():
        later = (
            frame.filter(user_id=user, item_id=item, behavior="returned")["timestamp"].to_list()
            if name == "buy"
            else []
        )
        if name != "returned" and not any(time >= at for time in later):
            kept.append((user, item, name, at))
    return pl.DataFrame(kept, orient="row", schema=frame.schema)


def test_written_lists_reach_the_figures_by_a_naive_script(made: Made) -> None:
    place = evaluate(made.split, made.trained, made.config, made.workspace)
    metrics = json.loads(place.file("metrics.json").read_text())
    assert set(metrics["test"]["again"]) == set(metrics["popularity"]["valid"]["again"]) == {"buy"}
    found = metrics["test"]["again"]["buy"]
    embedded = embed(made.split, made.trained, made.config, made.workspace)
    bundle = build_bundle(made.split, made.trained, embedded, made.config, made.workspace)
    model = f"stored:{bundle.fingerprint}"
    record = recommend(made.config, made.workspace, model, split=made.split, moment="test")
    assert record.counts["exclude"] == {"buy": "none"}
    written = pl.read_parquet(record.file("recommendations.parquet")).filter(behavior="buy")
    lists = {
        user: own.sort("rank")["item_id"].head(K).to_list()
        for (user,), own in written.group_by("user_id")
    }
    start = made.split.counts["moments"]["test"]
    after = stands(rows()).filter(pl.col("timestamp") >= start, behavior="buy")
    wanted: dict[int, set[int]] = {}
    for user, item in after.select("user_id", "item_id").iter_rows():
        wanted.setdefault(user, set()).add(item)
    values = []
    for user, chosen in wanted.items():
        gain = sum(1 / math.log2(at) for at, item in enumerate(lists[user], 2) if item in chosen)
        values.append(gain / sum(1 / math.log2(r + 2) for r in range(min(K, len(chosen)))))
    assert found["users"] == len(values) > 10
    assert found[f"ndcg@{K}"] == pytest.approx(np.mean(values), abs=1e-6)
    had = {
        (u, i)
        for u, i in stands(rows())
        .filter(pl.col("timestamp") < start, behavior="buy")
        .select("user_id", "item_id")
        .iter_rows()
    }
    assert any((u, i) in had for u, items in wanted.items() for i in items)
    report = place.file("report.html").read_text()
    assert "Again, test" in report
    assert metrics["headline"]["exclude"] == {"buy": "none"}
    assert "lists of buy leave out nothing that the user has" in report
    assert "NDCG@5, as served" not in report


def test_lists_of_others_leave_out_what_they_did(made: Made) -> None:
    embedded = embed(made.split, made.trained, made.config, made.workspace)
    bundle = build_bundle(made.split, made.trained, embedded, made.config, made.workspace)
    model = f"stored:{bundle.fingerprint}"
    frame = pl.read_parquet(
        recommend(made.config, made.workspace, model).file("recommendations.parquet")
    )
    had = stands(rows()).select("user_id", "item_id", "behavior").unique()
    repeated = frame.join(had, on=["user_id", "item_id", "behavior"])
    assert set(repeated["behavior"]) == {"buy"}


def test_without_such_a_policy_there_is_no_such_view(made: Made) -> None:
    config = load_config("", ["data.behaviors=['view','buy']"])
    place = evaluate(made.split, made.trained, config, made.workspace)
    metrics = json.loads(place.file("metrics.json").read_text())
    assert "again" not in metrics["test"] and metrics["headline"]["exclude"] == {}
    assert "NDCG@5, as served" in place.file("report.html").read_text()
    other = load_config("", ["data.behaviors=['view','buy']", "recommend.exclude=any"])
    assert evaluate(made.split, made.trained, other, made.workspace).fingerprint not in (
        place.fingerprint,
        evaluate(made.split, made.trained, made.config, made.workspace).fingerprint,
    )


def test_by_hand() -> None:
    events = np.array([[0, 0, 1, 1], [0, 1, 0, 2], [0, 0, 0, 0], [10, 60, 70, 90], [1, 1, 2, 1]])
    history = History(*events, 100, 2, 3, ("buy",))
    task = make_again_task(history.done_between(50, 90), 0)
    assert task.users.tolist() == [0, 1] and task.mask.counts.tolist() == [0, 0]
    assert task.relevant.keys().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('recommend.exclude="sme"', "'sme' is none of same, any, none; did you mean 'same'"),
        ('recommend.exclude={ buy = "all" }', "buy = 'all' is none of same, any, none"),
        ('recommend.exclude={ by = "any" }', "recommend.exclude names 'by', .* did you mean 'buy'"),
    ],
)
def test_wrong_policies_are_refused(wrong: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config("", ['data.behaviors=["view","buy"]', wrong])


def test_only_what_was_done_within_the_horizon_counts(tmp_path: Path) -> None:
    _, _, parts = split_of(rows(), tmp_path, AGAIN, UNDO, "split.horizon=1")
    tasks = again_tasks(parts, ["buy"], 1_000)
    events, moments = stands(rows()).filter(behavior="buy"), parts.counts["moments"]
    for name in ("valid", "test"):
        start = moments[name]
        done = events.filter(pl.col("timestamp").is_between(start, start + DAY, closed="left"))
        place, task = tasks[name]["buy"]
        assert place == 1
        assert len(task.relevant.keys()) == done.select("user_id", "item_id").n_unique() > 0
    after = events.filter(pl.col("timestamp") >= moments["test"])
    assert after.select("user_id", "item_id").n_unique() > len(
        tasks["test"]["buy"][1].relevant.keys()
    )
