import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from bigel.config import parse_config
from bigel.data.interactions import Interactions
from bigel.data.k_core import keep_core
from bigel.data.split import split
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from tests.worlds import write_timed

BEHAVIORS = ("click", "buy")
ORDER = ["behavior_index", "user", "item"]


def inner_frame(rows):
    return pl.DataFrame(rows, ["user", "item", "behavior_index"], orient="row")


@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1)),
        min_size=1,
        unique=True,
    ),
    k=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_k_core_is_the_largest_fixpoint(pairs, k):
    left = {(user, item) for user, item, _ in pairs}
    while True:  # the naive twin
        users = [user for user, _ in left]
        items = [item for _, item in left]
        kept = {(u, i) for u, i in left if users.count(u) >= k and items.count(i) >= k}
        if kept == left:
            break
        left = kept
    if not left:
        with pytest.raises(DataError, match=f"k_core = {k} leaves no interaction"):
            keep_core(inner_frame(pairs), k)
        return
    core = keep_core(inner_frame(pairs), k)
    expected = sorted(row for row in pairs if (row[0], row[1]) in left)
    assert sorted(core.rows()) == expected
    assert_frame_equal(keep_core(core, k), core, check_row_order=False)


def test_k_core_peels_a_chain_by_hand():
    square = [(1, 1, 0), (1, 2, 0), (2, 1, 1), (2, 2, 0)]
    tail = [(2, 3, 0), (3, 3, 0), (3, 3, 1)]
    assert sorted(keep_core(inner_frame(square + tail), 2).rows()) == sorted(square)


def outer_frame(pairs):
    users, items, behaviors = zip(*pairs, strict=True)
    return pl.DataFrame({"user_id": users, "item_id": items, "behavior": behaviors})


def ingested(folder, frame):
    folder.mkdir(parents=True, exist_ok=True)
    if "timestamp" in frame.columns:
        write_timed(folder, frame)
    else:
        frame.write_parquet(folder / "interactions.parquet")
    return Record("ingest", "fingerprint", str(folder), False, 0.0, {})


def run_split(tmp_path, frame, **settings):
    config = parse_config({"data": {"behaviors": list(BEHAVIORS)}, "split": settings})
    return split(ingested(tmp_path / "in", frame), config, Workspace(tmp_path / "work"))


def test_ids_are_numbered_in_their_order(tmp_path):
    rows = [("b", "x"), ("10", "z"), ("9", "x"), ("b", "y")]
    frame = outer_frame([(*pair, BEHAVIORS[0]) for pair in rows]).with_columns(
        count=pl.lit(1, pl.UInt32)
    )
    record = run_split(tmp_path, frame, method="random", valid_share=0.3, test_share=0.3)
    users = pl.read_parquet(record.file("users.parquet"))
    assert users.rows() == [(0, "10"), (1, "9"), (2, "b")]
    assert users.schema["user"] == pl.UInt32
    assert pl.read_parquet(record.file("items.parquet"))["item_id"].to_list() == ["x", "y", "z"]


def small_log():
    rows = [(u * 100, f"i{i}", BEHAVIORS[k]) for u in range(6) for i in range(5) for k in range(2)]
    return outer_frame(rows).with_columns(
        timestamp=pl.int_range(pl.len(), dtype=pl.Int64), count=pl.lit(2, pl.UInt32)
    )


def test_stage_writes_what_the_next_stages_read(tmp_path):
    record = run_split(tmp_path, small_log())
    train = pl.read_parquet(record.file("train.parquet"))
    assert train.schema == {
        "user": pl.UInt32,
        "item": pl.UInt32,
        "behavior_index": pl.UInt8,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }
    assert train.select(ORDER).equals(train.select(ORDER).sort(ORDER))
    assert pl.read_parquet(record.file("users.parquet")).rows()[1] == (1, 100)
    assert pl.read_parquet(record.file("items.parquet")).rows()[1] == (1, "i1")
    assert record.counts["train"] == {"click": 24, "buy": 24}
    assert record.counts["valid"] == record.counts["test"] == {"click": 3, "buy": 3}
    assert {key: record.counts[key] for key in ("users", "items", "method")} == {
        "users": 6,
        "items": 5,
        "method": "time",
    }
    assert record.counts["dropped_by_k_core"] == 0
    assert record.counts["users_without_train"] == 1  # the last user's events are all late
    assert Interactions.load(record, "test").n_users == 6


def test_stage_restores_external_pairs(tmp_path):
    log = small_log()
    record = run_split(tmp_path, log, method="random")
    users = pl.read_parquet(record.file("users.parquet"))
    items = pl.read_parquet(record.file("items.parquet"))
    together = pl.concat(
        pl.read_parquet(record.file(f"{name}.parquet")) for name in ("train", "valid", "test")
    )
    restored = together.join(users, on="user").join(items, on="item")
    restored = restored.with_columns(
        behavior=pl.col("behavior_index").replace_strict({0: "click", 1: "buy"})
    )
    assert_frame_equal(restored.select(log.columns), log, check_row_order=False)


def test_stage_is_the_same_file_for_permuted_rows(tmp_path):
    log = small_log()
    one = run_split(tmp_path / "a", log, method="random")
    other = run_split(tmp_path / "b", log.sample(fraction=1, shuffle=True, seed=3), method="random")
    for name in ("train.parquet", "valid.parquet", "test.parquet", "users.parquet"):
        assert one.file(name).read_bytes() == other.file(name).read_bytes()


def test_stage_drops_what_the_core_drops(tmp_path):
    lonely = outer_frame([(150, "i0", "click"), (150, "i1-rare", "click")]).with_columns(
        timestamp=pl.lit(0, pl.Int64), count=pl.lit(1, pl.UInt32)
    )
    record = run_split(tmp_path / "more", pl.concat([small_log(), lonely]), k_core=3)
    assert record.counts["dropped_by_k_core"] == 2
    without = run_split(tmp_path / "less", small_log())
    for name in ("users", "items", "train", "valid", "test"):  # as if they had never been there
        left, expected = (pl.read_parquet(r.file(f"{name}.parquet")) for r in (record, without))
        assert_frame_equal(left, expected)


def test_stage_is_reused_until_a_split_setting_changes(tmp_path):
    assert not run_split(tmp_path, small_log(), method="random").reused
    assert run_split(tmp_path, small_log(), method="random").reused
    assert not run_split(tmp_path, small_log(), method="random", seed=1).reused


@pytest.mark.parametrize(
    ("frame", "settings", "message"),
    [
        (small_log().with_columns(timestamp=pl.lit(5, pl.Int64)), {}, "leaves train empty"),
        (small_log().head(4), {"method": "leave_one_out"}, "leaves valid empty.*three"),
        (small_log().head(2), {"method": "random"}, "leaves valid empty.*valid_share"),
        (
            small_log().head(4).with_columns(split=pl.lit("test")),
            {"method": "official"},
            "leaves train empty",
        ),
    ],
)
def test_an_empty_train_or_valid_is_refused_with_the_remedy(tmp_path, frame, settings, message):
    with pytest.raises(DataError, match=message):
        run_split(tmp_path, frame, **settings)


def triples_of(log):
    columns = (log.behavior_index.tolist(), log.users.tolist(), log.items.tolist())
    return set(zip(*columns, strict=True))


def test_valid_is_known_at_test_where_we_drew_it_and_not_where_it_came_with_the_log(tmp_path):
    pairs = [(u, i, name) for name in BEHAVIORS for u in range(10) for i in range(10)]
    came = ["valid" if (name, u) == ("click", 0) else "train" for u, _, name in pairs]
    frame = outer_frame(pairs).with_columns(split=pl.Series(came))
    record = run_split(tmp_path, frame)
    assert record.counts["valid_drawn_from"] == ["buy"]
    train, valid = (triples_of(Interactions.load(record, name)) for name in ("train", "valid"))
    drawn = {pair for pair in valid if pair[0] == 1}
    assert len(drawn) == 10 and len(valid) == 20
    assert triples_of(Interactions.known(record, "valid")) == train
    assert triples_of(Interactions.known(record, "test")) == train | drawn


def timed_log():
    """Users click items 0…4 in turn, all again at the end; every buy comes once."""
    events = [(u, i, "click", 100 * i + u, 1) for u in range(6) for i in range(5)]
    events += [(u, i, "click", 900 + u, 1 + i // 4) for u in range(6) for i in range(5)]
    events += [(u, u % 3, "buy", 500 + u, 1) for u in range(6)]
    names = ["user_id", "item_id", "behavior", "timestamp", "count"]
    kinds = {"count": pl.UInt32}
    history = pl.DataFrame(events, names, schema_overrides=kinds, orient="row")
    time = pl.col("timestamp")
    log = history.group_by(names[:3], maintain_order=True).agg(
        time.min().alias("first"), time.max(), pl.col("count").sum()
    )
    return log, history


def split_timed(tmp_path, log, history, until=None, **settings):
    place = tmp_path / "in"
    place.mkdir(parents=True)
    log.write_parquet(place / "interactions.parquet")
    history.write_parquet(place / "history.parquet")
    config = parse_config({"data": {"behaviors": list(BEHAVIORS)}, "split": settings})
    record = Record("ingest", "fingerprint", str(place), False, 0.0, {})
    return split(record, config, Workspace(tmp_path / "work"), until)


def test_a_pair_that_is_repeated_in_the_time_of_test_belongs_where_it_first_happened(tmp_path):
    """36 pairs: the last 4 first times are buys (502…505), the 3 before 405, 500 and 501."""
    log, history = timed_log()
    record = split_timed(tmp_path, log, history)
    assert record.counts["test"] == {"click": 0, "buy": 4}
    assert record.counts["valid"] == {"click": 1, "buy": 2}
    assert record.counts["moments"] == {"valid": 405, "test": 502, "now": 906}
    train = pl.read_parquet(record.file("train.parquet"))
    assert train["first"].max() == 404 and train["timestamp"].max() == 905
    loaded = Interactions.load(record, "train")
    assert loaded.first.tolist() == train["first"].to_list()


def test_history_is_the_log_in_inner_ids_sorted_by_time(tmp_path):
    log, history = timed_log()
    record = split_timed(tmp_path, log, history.sample(fraction=1, shuffle=True, seed=1))
    found = pl.read_parquet(record.file("history.parquet"))
    assert found.schema == {
        "user": pl.UInt32,
        "item": pl.UInt32,
        "behavior_index": pl.UInt8,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }
    naive = [  # ids are inner ids here
        (time, ("click", "buy").index(behavior), user, item, count)
        for user, item, behavior, time, count in history.iter_rows()
    ]
    assert found.select("timestamp", *ORDER, "count").rows() == sorted(naive)


def test_the_core_leaves_out_of_history_what_it_leaves_out_of_the_splits(tmp_path):
    log, history = timed_log()
    lonely = [(-1, 0, "click"), (7, 9, "click"), (7, 2, "buy")]
    more = pl.DataFrame(lonely, log.columns[:3], orient="row").with_columns(
        timestamp=pl.lit(950, pl.Int64), count=pl.lit(1, pl.UInt32)
    )
    pairs = more.with_columns(first="timestamp").select(log.columns)
    cored = split_timed(
        tmp_path / "more", pl.concat([log, pairs]), pl.concat([history, more]), k_core=3
    )
    without = split_timed(tmp_path / "less", log, history)
    for name in ("history", "train", "valid", "test", "users", "items"):
        found, expected = (pl.read_parquet(r.file(f"{name}.parquet")) for r in (cored, without))
        assert_frame_equal(found, expected)
    ends = [record.counts["moments"].pop("now") for record in (cored, without)]
    assert ends == [951, 906]  # the end of the log, not of the core
    assert cored.counts["moments"] == without.counts["moments"]


def test_another_history_is_another_split(tmp_path):
    log, history = timed_log()
    one = split_timed(tmp_path / "a", log, history)
    other = split_timed(tmp_path / "b", log, history.with_columns(pl.col("count") + 1))
    assert one.fingerprint != other.fingerprint
    assert split_timed(tmp_path / "c", log, history).fingerprint == one.fingerprint


@pytest.mark.parametrize("method", ["leave_one_out", "random"])
def test_a_method_that_looks_into_the_future_says_so(method, tmp_path, caplog):
    log, history = timed_log()
    record = split_timed(tmp_path, log, history, method=method)
    (said,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert said.startswith(f"split.method = '{method}' looks into the future")
    assert "split.method = 'time'" in said
    assert "moments" not in record.counts and not record.file("history.parquet").exists()


@pytest.mark.parametrize("method", ["leave_one_out", "random", "auto"])
def test_a_log_without_times_cannot_be_split_better(method, tmp_path, caplog):
    run_split(tmp_path, small_log().drop("timestamp"), method=method)
    assert not [entry for entry in caplog.records if entry.levelname == "WARNING"]


@pytest.mark.parametrize("until", [300, 503, 905])
def test_a_log_cut_at_a_moment_is_split_as_if_it_ended_there(tmp_path, until):
    """All users and items are there from the first 100 seconds on, so the numbers are the same."""
    log, history = timed_log()
    unfinished = pl.col("timestamp") // 3600 == until // 3600  # one event is known of such an hour
    count = pl.when(unfinished).then(pl.lit(1, pl.UInt32)).otherwise("count").alias("count")
    past = history.filter(pl.col("timestamp") < until).with_columns(count)
    keys, time = ["user_id", "item_id", "behavior"], pl.col("timestamp")
    past_log = past.group_by(keys, maintain_order=True).agg(
        time.min().alias("first"), time.max(), pl.col("count").sum()
    )
    items = pl.DataFrame({"item": [0, 1, 2, 3, 4]}, schema={"item": pl.UInt32})
    cut = split_timed(tmp_path / "cut", log, history, until)
    ended = split_timed(tmp_path / "ended", past_log, past)
    for name in ("history", "train", "valid", "test"):
        found, expected = (pl.read_parquet(r.file(f"{name}.parquet")) for r in (cut, ended))
        assert_frame_equal(found, expected)
    assert cut.counts["moments"] == ended.counts["moments"] | {"now": until}
    assert {name: cut.counts[name] for name in ("train", "valid", "test")} == {
        name: ended.counts[name] for name in ("train", "valid", "test")
    }
    assert pl.read_parquet(cut.file("items.parquet")).select("item").equals(items)


def test_a_cut_keeps_the_numbers_of_the_whole_log_and_is_another_output(tmp_path):
    log, history = timed_log()
    whole, cut = (split_timed(tmp_path / name, log, history, until)
                  for name, until in (("whole", None), ("cut", 203)))  # fmt: skip
    for name in ("users", "items"):
        found, expected = (pl.read_parquet(r.file(f"{name}.parquet")) for r in (cut, whole))
        assert_frame_equal(found, expected)
    assert cut.counts["items"] == 5 and cut.fingerprint != whole.fingerprint
    known = pl.concat([pl.read_parquet(cut.file(f"{n}.parquet")) for n in ("train", "valid")])
    assert known["item"].max() == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"method": "random"}, "not by 'random'"), ({"k_core": 2}, "use split.k_core = 0")],
)
def test_what_cannot_be_cut_at_a_moment_is_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        split_timed(tmp_path, *timed_log(), 500, **settings)
