import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from bigel.config import parse_config
from bigel.config.exclusion import Exclude
from bigel.contracts import validate
from bigel.errors import ConfigError, ContractError, DataError
from bigel.lists import recommend as recommend_module
from bigel.lists import serving
from bigel.lists.recommend import read_users
from bigel.store import Record, Workspace
from tests import fabricate
from tests.fabricate import CONFIG
from tests.signals import timed


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def registered(root: Path, user_ids: Any = None) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(root)
        fabricate.register_one(workspace, user_ids=user_ids)
    return workspace


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return registered(tmp_path_factory.mktemp("integers"))


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return registered(tmp_path_factory.mktemp("strings"), ["007", "7", "a b", "é", " "])


def recommend(workspace: Workspace, k: int = 3, exclude: Exclude = "same", **asked: Any) -> Record:
    tree = CONFIG.model_dump() | {"recommend": {"k": k, "exclude": exclude}}
    return recommend_module.recommend(parse_config(tree), workspace, **asked)


def lists(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("recommendations.parquet"))


def test_all_users_and_behaviors(integers: Workspace) -> None:
    record = recommend(integers)
    frame = lists(record)
    assert dict(frame.schema) == {
        "user_id": pl.Int64, "behavior": pl.String, "rank": pl.Int32, "item_id": pl.String,
        "score": pl.Float32, "source": pl.String,
    }  # fmt: skip
    assert frame["user_id"].unique().to_list() == [100, 101, 102, 103, 104]
    assert frame.select("user_id", "behavior").unique(maintain_order=True).rows()[:3] == [
        (100, "click"), (100, "purchase"), (101, "click"),
    ]  # fmt: skip
    for _, part in frame.group_by("user_id", "behavior"):
        assert part["rank"].to_list() == list(range(1, len(part) + 1))
        assert len(part) <= 3
        assert part["item_id"].n_unique() == len(part)
        assert part["score"].is_sorted(descending=True)
    assert set(frame["source"]) == {"model"}
    assert record.counts == {
        "users": 5, "rows": frame.height, "popular_users": 0,
        "nothing_left": {"click": 0, "purchase": 0}, "behaviors": ["click", "purchase"],
        "k": 3, "exclude": "same", "only_popular": False, "left_out": {},
        "model": {"uri": "models:/bigel/1", "name": "bigel", "version": 1, "bundle": None,
                  "alias": "champion"},
    }  # fmt: skip


EACH = [{"purchase": "none"}, {"purchase": "any"}, {"click": "any", "purchase": "none"}]


@pytest.mark.parametrize("exclude", ["same", "any", "none", *EACH])
def test_what_the_user_has_is_left_out_by_policy(integers: Workspace, exclude: Exclude) -> None:
    frame = lists(recommend(integers, k=6, exclude=exclude))
    pairs = {
        behavior: {
            (100 + user, f"item {item}")
            for split in fabricate.PAIRS.values()
            for user, item in split[behavior]
        }
        for behavior in fabricate.BEHAVIORS
    }
    for behavior in fabricate.BEHAVIORS:
        shown = set(frame.filter(behavior=behavior).select("user_id", "item_id").iter_rows())
        either = pairs["click"] | pairs["purchase"]
        policy = exclude if isinstance(exclude, str) else exclude.get(behavior, "same")
        seen = {"same": pairs[behavior], "any": either, "none": set()}[policy]
        assert not shown & seen
        assert either - seen <= shown


def test_popular_items_answer_for_users_unknown(integers: Workspace) -> None:
    record = recommend(integers, users=["100", "999", "104"], behaviors=["click"])
    assert record.counts["popular_users"] == 1
    popular = lists(record).filter(pl.col("source") == "popular")
    assert popular["user_id"].unique().to_list() == [999]
    assert popular.select("item_id", "score").rows() == [
        ("item 1", 4.0), ("item 2", 2.0), ("item 0", 1.0),
    ]  # fmt: skip


def test_it_agrees_with_the_served_model(integers: Workspace) -> None:
    import mlflow.pyfunc

    folder = next(integers.mlruns.rglob("artifacts/model"))
    frame = lists(recommend(integers, users=["100", "104", "555"]))
    request = frame.select("user_id", "behavior", k=pl.lit(3)).unique(maintain_order=True)
    served = mlflow.pyfunc.load_model(str(folder)).predict(request.to_pandas())
    assert pl.from_pandas(served).cast(dict(frame.schema)).equals(frame)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_row_groups_change_nothing(
    integers: Workspace, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    k = 3 + size  # a question of its own, so that it is not answered from the store
    whole = lists(recommend(integers, k=k))
    monkeypatch.setattr(recommend_module, "USERS_AT_A_TIME", size)
    parts = recommend(integers, users=["100", "101", "102", "103", "104"], k=k)
    groups = pq.ParquetFile(parts.file("recommendations.parquet")).num_row_groups
    assert groups == -(-5 // size)
    assert lists(parts).equals(whole)


def test_the_same_question_is_answered_from_the_store(integers: Workspace) -> None:
    first, again = (recommend(integers, users=["101"], k=2) for _ in range(2))
    assert (again.reused, again.fingerprint) == (True, first.fingerprint)
    assert again.counts == first.counts
    for other in ({"k": 1}, {"exclude": "any"}, {"users": ["102"]}, {"behaviors": ["click"]}):
        asked = {"users": ["101"], "k": 2} | other
        assert recommend(integers, **asked).fingerprint != first.fingerprint


def test_given_behaviors_in_the_order_of_the_cascade(integers: Workspace) -> None:
    record = recommend(integers, users=["100"], behaviors=["purchase", "click"])
    assert lists(record)["behavior"].unique(maintain_order=True).to_list() == ["click", "purchase"]
    record = recommend(integers, users=["100"], behaviors=["purchase"])
    assert set(lists(record)["behavior"]) == {"purchase"}


@pytest.mark.parametrize(
    ("given", "kept", "sources"),
    [
        (["102", "100", "102"], [102, 100], ["model", "model"]),
        (["100", "999"], [100, 999], ["model", "popular"]),
        (["100", "nobody"], ["100", "nobody"], ["model", "popular"]),
        (["0100", "100"], ["0100", "100"], ["popular", "model"]),
        (["9" * 30, "101"], ["9" * 30, "101"], ["popular", "model"]),
    ],
)
def test_ids_are_kept_as_given(
    integers: Workspace, given: list[str], kept: list[Any], sources: list[str]
) -> None:
    frame = lists(recommend(integers, users=given, behaviors=["click"], k=1))
    assert frame["user_id"].to_list() == kept
    assert frame["source"].to_list() == sources


def test_string_ids_are_matched_exactly(strings: Workspace) -> None:
    frame = lists(recommend(strings, users=["7", "007", "a b", "07"], k=1))
    assert frame.filter(behavior="click")["user_id"].to_list() == ["7", "007", "a b", "07"]
    assert frame.filter(behavior="click")["source"].to_list() == ["model"] * 3 + ["popular"]


def test_integers_of_a_file_find_string_ids(strings: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pl.DataFrame({"user_id": pl.Series([7, 8], dtype=pl.UInt16)}).write_parquet(path)
    frame = lists(recommend(strings, users=path, behaviors=["click"], k=1))
    assert frame.select("user_id", "source").rows() == [(7, "model"), (8, "popular")]


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("ids.txt", b"100\n\nx y \r\n\xc3\xa9", ["100", "x y ", "é"]),
        ("ids", b"\xef\xbb\xbf007\n7\n", ["007", "7"]),
        ("ids.csv", b"user_id,name\n1,a\n2,b\n", ["1", "2"]),
        ("ids.csv", b"name,member\na,1\n", ["1"]),
        ("ids.csv", b'user_id\n"a,b"\n', ["a,b"]),
        ("ids.csv", b"1\n2\n", ["1", "2"]),
        ("ids.tsv", b"x\tuser_id\r\n1\t2\r\n", ["2"]),
    ],
)
def test_users_files(tmp_path: Path, name: str, content: bytes, ids: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_users(tmp_path / name, pl.Series(["1"]), ("user_id", "member")).to_list() == ids


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, r"none\.txt cannot be read"),
        ("ids.csv", b"a,b\n1,2\n", r"ids\.csv has no column user_id.*it has a, b"),
        ("ids.csv", b"", r"ids\.csv cannot be read"),
        ("ids.csv", b"uid\n1\n", r"ids\.csv, row 1: .uid. is neither the column user_id"),
        ("ids.txt", b"\xff\xfe1\n", r"ids\.txt cannot be read"),
        ("ids.txt", b"\n\n", r"ids\.txt: no ids; give one per line"),
        ("ids.csv", b"user_id,x\n1,2\n,3\n", r"ids\.csv, row 2: the id is null"),
        ("ids.parquet", b"PAR1", r"ids\.parquet cannot be read"),
        ("ids.txt.gz", gzip.compress(b"1\n", mtime=0), "cannot be read"),
    ],
)
def test_a_bad_users_file_is_named(
    integers: Workspace, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        recommend(integers, users=tmp_path / name)


def test_ids_of_another_type_are_refused(integers: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pl.DataFrame({"user_id": [1.5]}).write_parquet(path)
    with pytest.raises(DataError, match="ids are Float64; write them as integers or strings"):
        recommend(integers, users=path)


def test_the_column_may_bear_the_name_of_the_log(integers: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("age,member\n9,101\n")
    config = parse_config(
        {"data": {"behaviors": list(fabricate.BEHAVIORS), "columns": {"user": "member"}}}
    )
    assert set(lists(recommend_module.recommend(config, integers, users=path))["user_id"]) == {101}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"behaviors": ["purchse"]}, r"behavior 'purchse' is not .*did you mean 'purchase'\?"),
        ({"model": "champ"}, r"did you mean 'champion'\?"),
    ],
)
def test_a_wrong_request_is_refused(
    integers: Workspace, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recommend(integers, **asked)


def test_a_list_may_be_as_long_as_the_catalogue(integers: Workspace) -> None:
    frame = lists(recommend(integers, users=["100"], k=10_000, exclude="none"))
    assert frame.filter(behavior="click").height == fabricate.ITEMS


SEEN = {
    (100 + user, f"item {item}", behavior)
    for of_behavior in fabricate.PAIRS.values()
    for behavior, pairs in of_behavior.items()
    for user, item in pairs
}


def test_what_the_model_knew_stands_beside_the_lists(integers: Workspace) -> None:
    record = recommend(integers)
    assert set(pl.read_parquet(record.file("seen.parquet")).rows()) == SEEN
    assert pl.read_parquet(record.file("users.parquet"))["user_id"].to_list() == list(
        range(100, 105)
    )
    items = pl.read_parquet(record.file("items.parquet"))["item_id"]
    assert items.to_list() == sorted(set(lists(record)["item_id"]))


@pytest.mark.parametrize("exclude", ["same", "any", "none"])
def test_beside_the_lists_of_some_users_stands_nothing_of_others(
    integers: Workspace, exclude: str
) -> None:
    record = recommend(integers, users=["101", "999"], behaviors=["purchase"], k=1, exclude=exclude)
    assert pl.read_parquet(record.file("users.parquet"))["user_id"].to_list() == [101]
    items = pl.read_parquet(record.file("items.parquet"))["item_id"]
    assert items.to_list() == sorted(set(lists(record)["item_id"]))
    hidden = {"same": ["purchase"], "any": ["click", "purchase"], "none": []}[exclude]
    seen = {pair for pair in SEEN if pair[0] == 101 and pair[2] in hidden}
    if exclude == "none":
        assert not record.file("seen.parquet").exists()
    else:
        assert set(pl.read_parquet(record.file("seen.parquet")).rows()) == seen
    result = validate("recommendations", record, CONFIG, integers)
    assert (result["success"], result["skipped"]) == (True, {})


def test_users_of_whom_nothing_is_known_have_seen_nothing(integers: Workspace) -> None:
    record = recommend(integers, users=["999"], k=1)
    assert pl.read_parquet(record.file("seen.parquet")).rows() == []
    result = validate("recommendations", record, CONFIG, integers)
    assert (result["success"], result["skipped"]) == (True, {})


@pytest.mark.parametrize(("k", "users"), [(1, 2), (2, 1), (50, 1)])
def test_long_lists_make_small_row_groups(
    strings: Workspace, monkeypatch: pytest.MonkeyPatch, k: int, users: int
) -> None:
    monkeypatch.setattr(recommend_module, "ROWS_AT_A_TIME", 4)
    record = recommend(strings, users=["7", "007", "a b", "é"], k=k)
    groups = pq.ParquetFile(record.file("recommendations.parquet")).num_row_groups
    assert groups == 4 // users


@pytest.fixture(scope="module")
def with_a_collector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a log in which user 999 has every item under every behavior."""
    frame = timed.log()
    last = frame["timestamp"].max()
    everything = frame.select(
        pl.lit(999, pl.Int64).alias("user_id"), pl.col("item_id").unique()
    ).join(pl.DataFrame({"behavior": timed.NAMES}), how="cross")
    rows = everything.with_columns(pl.lit(last, pl.Int64).alias("timestamp"))
    made = timed.make(pl.concat([frame, rows]), tmp_path_factory.mktemp("collector"))
    return made.bundle()


@pytest.mark.parametrize("exclude", ["same", "any"])
@pytest.mark.parametrize("others", [[], [0, 1]])
def test_who_has_every_item_gets_an_empty_list(
    exclude: str, others: list[int], with_a_collector: Path, tmp_path: Path
) -> None:
    request = recommend_module.Request(list(timed.NAMES), 3, exclude)
    asked = pl.Series("user_id", [999, *others])
    counts = recommend_module.write_lists(tmp_path, with_a_collector, asked, request)
    record = Record("recommend", "f", str(tmp_path), False, 0.0, counts)
    assert counts["nothing_left"] == {"view": 1, "buy": 1}
    assert sorted(lists(record)["user_id"].unique()) == others
    workspace = Workspace(tmp_path / "w")
    settings = parse_config({"data": {"behaviors": list(timed.NAMES)}})
    assert validate("recommendations", record, settings, workspace)["success"]
    claimed = replace(record, counts=counts | {"nothing_left": {"view": 0, "buy": 0}})
    if not others:  # an empty list of somebody who has something left is a fault
        with pytest.raises(ContractError, match="at least one recommendation"):
            validate("recommendations", claimed, settings, workspace)


def test_a_list_that_is_empty_without_a_reason_is_not_excused(
    with_a_collector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that scores nothing has not run out of items."""
    top_k = serving.top_k
    broken = lambda scores, k: top_k(np.full_like(scores, -np.inf), k)  # noqa: E731
    monkeypatch.setattr(serving, "top_k", broken)
    request = recommend_module.Request(list(timed.NAMES), 3, "same")
    asked = pl.Series("user_id", [0, 1])
    counts = recommend_module.write_lists(tmp_path, with_a_collector, asked, request)
    assert counts["nothing_left"] == {"view": 0, "buy": 0}


def test_one_user_who_has_everything_excuses_no_other(
    with_a_collector: Path, tmp_path: Path
) -> None:
    request = recommend_module.Request(list(timed.NAMES), 3, "same")
    asked = pl.Series("user_id", [999, 0, 1])
    counts = recommend_module.write_lists(tmp_path, with_a_collector, asked, request)
    record = Record("recommend", "f", str(tmp_path), False, 0.0, counts)
    lists(record).filter(behavior="view").write_parquet(record.file("recommendations.parquet"))
    settings = parse_config({"data": {"behaviors": list(timed.NAMES)}})
    with pytest.raises(ContractError, match="every behavior that was asked for has lists"):
        validate("recommendations", record, settings, Workspace(tmp_path / "w"))


def test_by_the_rule_whoever_has_all_that_is_bought_has_nothing_left(
    with_a_collector: Path, tmp_path: Path
) -> None:
    """The rule lists what is wanted under the behavior; the model might list more."""
    request = recommend_module.Request(["buy"], 3, "same", only_popular=True)
    recommender = recommend_module.load_bundle(with_a_collector)
    wanted = recommender.popularity[1] > 0
    wanted[np.flatnonzero(wanted)[1:]] = False
    shown = recommender.popularity.copy()
    shown[1, ~wanted] = 0
    narrow = replace(recommender, popularity=shown)
    bought = {
        user: set(narrow.seen[1][1][narrow.seen[1][0][user] : narrow.seen[1][0][user + 1]].tolist())
        for user in range(len(narrow.user_ids))
    }
    has = np.array([user for user, items in bought.items() if set(np.flatnonzero(wanted)) <= items])
    lacks = np.array([user for user in bought if user not in has])
    assert len(has) and len(lacks)
    users = np.concatenate([has, lacks[:2], [-1]])
    assert recommend_module._nothing_left(narrow, "buy", request, users) == len(has)
