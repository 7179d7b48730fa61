"""What a rival of a back-test is fitted on: all that stood on the night, and nothing later."""

import numpy as np
import polars as pl
import pytest

from bigel.backtest.guests import known_to
from bigel.backtest.series import Plan, run_backtest
from bigel.compare import choose
from bigel.config import load_config
from bigel.data.split import split
from bigel.ingest import ingest
from bigel.schema import MOMENTS, VALID
from bigel.store import Workspace
from tests.signals.timed import DAY, SETTINGS, START, log, split_of

NIGHT = START + 12 * DAY
LOG = 'data.weight="log"'


def cut_of(frame, root, *settings):
    config, workspace, _ = split_of(frame, root, *settings)
    return split(ingest(config, workspace), config, workspace, until=NIGHT)


def ids_of(cut):
    names = ("user", "item")
    return [pl.read_parquet(cut.file(f"{name}s.parquet"))[f"{name}_id"].to_list() for name in names]


def dict_of(known, values):
    names = [("view", "buy")[k] for k in known.behavior_index]
    return dict(zip(zip(known.users, known.items, names, strict=True), values, strict=True))


def test_each_pair_weighs_by_all_its_events_before_the_night(tmp_path):
    frame = log()
    cut = cut_of(frame, tmp_path, LOG)
    known = known_to(cut, "log")
    before = frame.filter(pl.col("timestamp") < NIGHT)
    users, items = ids_of(cut)
    rows = before.group_by("user_id", "item_id", "behavior").agg(
        pl.len(), pl.col("timestamp").min()
    )
    counts = {(users.index(u), items.index(i), b): n for u, i, b, n, _ in rows.rows()}
    firsts = {(users.index(u), items.index(i), b): at for u, i, b, _, at in rows.rows()}
    found = dict_of(known, known.weight)
    assert found == pytest.approx({pair: 1 + np.log(n) for pair, n in counts.items()})
    assert dict_of(known, known.first) == firsts
    repeated = before.filter(pl.col("timestamp") >= cut.counts[MOMENTS][VALID]).join(
        before.filter(pl.col("timestamp") < cut.counts[MOMENTS][VALID]),
        on=["user_id", "item_id", "behavior"], how="semi",
    )  # fmt: skip
    assert len(repeated) > 0, "some pairs of train are repeated between its end and the night"
    plain = known_to(cut, "none")
    assert plain.weight is None and plain.keys.tolist() == known.keys.tolist()


def test_what_was_taken_back_by_the_night_is_not_known_and_what_came_again_is(tmp_path):
    frame = log()
    bought = frame.filter((pl.col("behavior") == "buy") & (pl.col("timestamp") < START + 3 * DAY))
    one, two = bought.unique("user_id", keep="first", maintain_order=True).rows()[:2]

    def event(row, behavior, day):
        return (row[0], row[1], behavior, START + day * DAY)

    more = [event(row, "unbuy", 11.5) for row in (one, two)] + [event(two, "buy", 11.75)]
    more = pl.DataFrame(more, frame.schema, orient="row")
    alone = frame.filter(
        ~((pl.col("behavior") == "buy") & (pl.col("timestamp") >= START + 3 * DAY))
        | ~(pl.col("user_id").is_in([one[0], two[0]]))
    )
    cut = cut_of(pl.concat([alone, more]), tmp_path, 'data.undo={unbuy="buy"}', LOG)
    known = known_to(cut, "log")
    had, (users, items) = dict_of(known, known.weight), ids_of(cut)
    one, two = ((users.index(row[0]), items.index(row[1]), "buy") for row in (one, two))
    assert one not in had and had[two] == 1


def test_a_guest_on_weighted_graphs_runs_and_hears_nothing_of_later_events(tmp_path):
    """Everything after the first night is taken from the log; the weights move the walks."""

    def lists(frame, root, *settings):
        root.mkdir()
        frame.write_parquet(root / "log.parquet")
        config = load_config("", [*SETTINGS, f'data.path="{root / "log.parquet"}"', *settings])
        plan = Plan(1, 1, choose(config, ["cascading_rank"]), (0,))
        run_backtest(config, Workspace(root), plan)
        (found,) = (root / "artifacts" / "stages" / "backtest_guest").glob("*/lists.parquet")
        return pl.read_parquet(found)

    night = START + 19 * DAY
    frame = log()
    late = frame.filter(pl.col("timestamp") >= night)
    again = frame.filter(pl.col("timestamp") < night - DAY).sample(300, seed=1)
    moved = again.with_columns(timestamp=pl.int_range(pl.len()) + night + 60)
    first = lists(frame, tmp_path / "one", LOG)
    second = lists(pl.concat([frame, moved]), tmp_path / "two", LOG)
    assert len(late) > 0
    key = ["behavior", "user_id", "rank"]
    both = first.join(second, on=["contestant", "group", *key], how="inner", suffix="_again")
    assert len(both) > 100 and both["item_id"].equals(both["item_id_again"])
    plain = lists(frame, tmp_path / "three")
    other = first.join(plain, on=["contestant", "group", *key], how="inner", suffix="_plain")
    assert not other["item_id"].equals(other["item_id_plain"])
