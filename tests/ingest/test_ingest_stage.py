"""The stage as a whole: its books, its order, pre-split logs, reuse, and the real logs."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import load_config, parse_config
from bigel.errors import ConfigError
from bigel.ingest import ingest, join, part
from bigel.store import Record, Workspace

HEADER = "user,item,behavior,time\n"
EVENT = st.tuples(
    st.sampled_from(["1", "2", "", "NULL"]),
    st.sampled_from(["10", "20", "30", " "]),
    st.sampled_from(["click", "pv", "buy", "like", ""]),
    st.sampled_from(["5", "7", "9000", "-1", "x", ""]),
)


def naive(files: dict[str, list[tuple[str, str, str, str]]]) -> tuple[Any, Any]:
    """Merge and refuse row by row with dictionaries."""
    merged: dict[tuple[int, int, str], list[int]] = {}
    refused = []
    for name in sorted(files):
        for number, (user, item, behavior, time) in enumerate(files[name], 1):
            names = {"click": "click", "pv": "click", "buy": "buy"}
            reason = (
                ("null user_id" if user in ("", "NULL") else None)
                or ("null item_id" if not item.strip() else None)
                or ("null behavior" if not behavior else None)
                or ("unknown behavior" if behavior not in names else None)
                or ("null timestamp" if not time else None)
                or ("unreadable timestamp" if time == "x" else None)
                or ("timestamp before data.time_min" if int(time) < 0 else None)
            )
            if reason:
                refused.append((name, number, reason, f"{user},{item},{behavior},{time}"))
            else:
                merged.setdefault((int(user), int(item), names[behavior]), []).append(int(time))
    order = {"click": 0, "buy": 1}
    keys = sorted(merged, key=lambda key: (key[0], key[1], order[key[2]]))
    return [(*key, min(merged[key]), max(merged[key]), len(merged[key])) for key in keys], refused


@settings(max_examples=40, deadline=None)
@given(files=st.fixed_dictionaries({n: st.lists(EVENT, max_size=12) for n in ("a.csv", "b.csv")}))
def test_the_stage_is_its_naive_twin(
    files: dict[str, list[tuple[str, str, str, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("twin")
    (root / "log").mkdir()
    files["a.csv"].append(("1", "10", "click", "5"))
    files["b.csv"].append(("1", "20", "click", "5"))  # no copy of the other
    for name, events in files.items():
        text = HEADER + "".join(",".join(event) + "\n" for event in events)
        (root / "log" / name).write_text(text, "utf-8")
    data = {
        "path": str(root / "log"),
        "behaviors": ["click", "buy"],
        "rename": {"pv": "click"},
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "time_min": 0,
    }
    record = ingest(parse_config({"data": data}), Workspace(root))
    merged, refused = naive(files)
    assert pl.read_parquet(record.file("interactions.parquet")).rows() == merged
    assert pl.read_parquet(record.file("quarantine.parquet")).rows() == refused
    counts = record.counts
    assert counts["in"] == sum(map(len, files.values()))
    assert counts["kept"] == len(merged)
    assert counts["merged"] == sum(row[-1] for row in merged) - len(merged)
    assert counts["quarantined"] == len(refused)
    assert counts["reasons"] == Counter(row[2] for row in refused)
    assert counts["users"] == len({row[0] for row in merged})
    assert counts["items"] == len({row[1] for row in merged})
    assert counts["per_behavior"] == {
        name: sum(row[2] == name for row in merged) for name in ("click", "buy")
    }
    sizes = Counter((name, reason) for name, _, reason, _ in refused)
    by_file = pl.read_parquet(record.file("quarantine_summary.parquet"))
    assert {(name, reason): n for name, reason, n in by_file.iter_rows()} == sizes
    summary = pl.read_parquet(record.file("raw_summary.parquet"))
    for row in summary.iter_rows(named=True):
        own = [reason for name, _, reason, _ in refused if name == row["source_file"]]
        assert row["rows"] == len(files[row["source_file"]])
        assert row["quarantined"] == len(own) == row["rows"] - row["kept"]
        assert row["null_users"] == own.count("null user_id")
        assert row["null_items"] == own.count("null item_id")
        assert row["null_behaviors"] == own.count("null behavior")
        assert row["unknown_behaviors"] == own.count("unknown behavior")
        assert row["bad_timestamps"] == sum("timestamp" in reason for reason in own)
        assert row["quarantined_share"] == (len(own) / row["rows"] if row["rows"] else 0)


def test_a_pair_of_an_earlier_split_is_a_leak(ingest_files: Callable[..., Any]) -> None:
    files = {
        "click_train": b"1 10\n1 10\n1 20\n",
        "click_valid": b"1 10\n1 30\n1 30\n",
        "click_test": b"1 40\n1 30\n1 10\n1 40\n1 30\n",
        "buy_test": b"1 10\n",
    }
    got = ingest_files(files, format="pairs")
    assert got.quarantine.drop("raw").rows() == [
        ("click_test", 2, "leak: also in valid"),
        ("click_test", 3, "leak: also in train"),
        ("click_test", 5, "leak: also in valid"),
        ("click_valid", 1, "leak: also in train"),
    ]
    assert json.loads(got.quarantine["raw"][0]) == {
        "user_id": 1,
        "item_id": 30,
        "behavior": "click",
    }
    assert got.interactions.rows() == [
        (1, 10, "click", 2, "train"),
        (1, 10, "buy", 1, "test"),
        (1, 20, "click", 1, "train"),
        (1, 30, "click", 2, "valid"),
        (1, 40, "click", 2, "test"),
    ]
    counts = got.record.counts
    assert (counts["in"], counts["kept"], counts["merged"], counts["quarantined"]) == (12, 5, 3, 4)
    assert dict(got.summary.select("source_file", "kept").iter_rows()) == {
        "buy_test": 1,
        "click_test": 2,
        "click_train": 3,
        "click_valid": 2,
    }


def test_a_pair_of_one_behavior_is_no_leak_of_another(ingest_files: Callable[..., Any]) -> None:
    got = ingest_files(
        {
            "train.csv": (HEADER + "1,10,click,5\n").encode(),
            "validation.csv": (HEADER + "1,20,click,6\n").encode(),
            "test.csv": (HEADER + "1,10,buy,7\n").encode(),
        },
        format="tables",
    )
    assert got.interactions["split"].to_list() == ["train", "test", "valid"]
    assert got.interactions["timestamp"].to_list() == [5, 7, 6]
    assert got.quarantine.height == 0


def run(path: Path, workspace: Path, **data: Any) -> Record:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    settings = {"path": str(path), "behaviors": ["click", "buy"], "columns": columns, "time_min": 0}
    return ingest(parse_config({"data": settings | data}), Workspace(workspace))


def test_the_stage_is_reused_until_bytes_or_settings_change(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(HEADER + "1,10,click,5\n1,10,like,5\n", "utf-8")
    first = run(log, tmp_path)
    assert not first.reused
    (tmp_path / "moved").mkdir()
    moved = log.rename(tmp_path / "moved" / "log.csv")
    again = run(moved, tmp_path)
    assert again.reused and again.fingerprint == first.fingerprint and again.counts == first.counts
    assert not run(moved, tmp_path, rename={"like": "click"}).reused
    moved.write_text(HEADER + "1,10,click,6\n", "utf-8")
    assert not run(moved, tmp_path).reused


def test_a_failed_run_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(HEADER + "1,10,like,5\n", "utf-8")
    for _ in range(2):
        with pytest.raises(ValueError, match="none of 1 rows is usable"):
            run(log, tmp_path)
    assert not run(log, tmp_path, behaviors=["like"]).reused


@pytest.mark.parametrize("where", ["read", "merge"])
def test_a_run_that_meets_the_same_new_file_does_not_disturb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Another run begins while this one is in the middle; it waits for what this one makes."""
    log = tmp_path / "log"
    log.mkdir()
    for name in ("a.csv", "b.csv"):
        rows = "".join(f"{name}{u},{u % 7},click,{u}\n" for u in range(50))
        (log / name).write_text(HEADER + rows + ",,click,1\n", "utf-8")
    expected = run(log, tmp_path / "alone")
    others: list[Record] = []

    def disturbed(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            found = original(*given, **named)
            monkeypatch.undo()
            other.start()
            return found

        return call

    other = threading.Thread(target=lambda: others.append(run(log, tmp_path / "shared")))
    module, name = {"read": (part, "_store"), "merge": (join, "merge_files")}[where]
    monkeypatch.setattr(module, name, disturbed(getattr(module, name)))
    ours = run(log, tmp_path / "shared")
    other.join(60)
    assert others and others[0].counts == ours.counts == expected.counts
    assert others[0].reused and others[0].path == ours.path
    for name in ("interactions.parquet", "quarantine.parquet"):
        assert ours.file(name).read_bytes() == expected.file(name).read_bytes()


@pytest.mark.parametrize(
    ("source", "overrides"),
    [
        ("", []),
        ("", ["data.path="]),
        ("", ['data.path="  "']),
        ("", ["synth.users=50", "data.path="]),
        ("demo", ["data.path="]),
        ("rees46", ["data.path="]),
    ],
)
def test_an_empty_path_is_no_log_and_invents_none(
    tmp_path: Path, source: str, overrides: list[str]
) -> None:
    with pytest.raises(ConfigError, match=r"data\.path is empty"):
        ingest(load_config(source, overrides), Workspace(tmp_path))
    assert not (tmp_path / "artifacts" / "stages").exists()


def test_the_synthetic_log_is_made_where_it_is_asked_for_by_name(tmp_path: Path) -> None:
    overrides = [
        "synth.users=50",
        "synth.items=30",
        "synth.events=500",
        "synth.dirt.null_item=0.02",
    ]
    record = ingest(load_config("demo", overrides), Workspace(tmp_path))
    assert record.counts["quarantined"] > 5
    assert min(record.counts["per_behavior"].values()) > 5
    assert ingest(load_config("demo", overrides), Workspace(tmp_path)).reused
    overrides[0] = "synth.users=51"
    assert not ingest(load_config("demo", overrides), Workspace(tmp_path)).reused


@pytest.mark.real_data
def test_the_jd_log_has_its_published_numbers(real_data: Path, tmp_path: Path) -> None:
    config = load_config("jd", [f"data.path={real_data / 'jd'}"])
    record = ingest(config, Workspace(tmp_path))
    interactions = pl.read_parquet(record.file("interactions.parquet"))
    numbers = dict(
        interactions.group_by("behavior", "split")
        .len()
        .select(pl.concat_str("behavior", "split", separator=" "), "len")
        .iter_rows()
    )
    assert numbers == {
        "click train": 217_977,
        "click valid": 20_059,
        "click test": 15_967,
        "favourite train": 7_380,
        "favourite valid": 955,
        "favourite test": 954,
        "purchase train": 60_967,
        "purchase valid": 5_892,
        "purchase test": 5_013,
    }
    assert record.counts["merged"] == record.counts["quarantined"] == 0
    assert record.counts["users"] == 10_690
    assert interactions["user_id"].dtype == interactions["item_id"].dtype == pl.Int64


@pytest.mark.real_data
def test_the_taobao_log_has_its_published_numbers(real_data: Path, tmp_path: Path) -> None:
    config = load_config("taobao", [f"data.path={real_data / 'taobao'}"])
    record = ingest(config, Workspace(tmp_path))
    assert record.counts["per_behavior"] == {
        "view": 858_505,
        "cart": 180_027,
        "buy": 92_180 + 15_449,
    }
    assert record.counts["merged"] == record.counts["quarantined"] == 0
    assert (record.counts["users"], record.counts["items"]) == (15_449, 11_953)
