"""A first look at a log says what ingest would say, before a run begins."""

import gzip
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.config.data import SYNTHETIC, DataConfig
from bigel.errors import DataError
from bigel.ingest import ingest, unknown
from bigel.ingest.look import look_at
from bigel.store import Workspace

ROWS = [(user, user % 7, ("view", "buy")[user % 2], 1_700_000_000 + user) for user in range(40)]
FRAME = pl.DataFrame(ROWS, ["user_id", "item_id", "behavior", "ts"], orient="row")


def data_of(path: Path, **settings: Any) -> DataConfig:
    data = {"path": str(path), "behaviors": ["view", "buy"], **settings}
    return parse_config({"data": data}).data


def said(call: Any) -> str:
    try:
        call()
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.ndjson", "log.parquet"])
@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, ""),
        ({"columns": {"user": "uid"}}, "no column 'uid'"),
        ({"columns": {"timestamp": "when"}}, "no column 'when'"),
        ({"columns": {"behavior": "event"}}, "no column 'event'"),
    ],
)
def test_it_says_what_ingest_says(
    tmp_path: Path, name: str, settings: dict[str, Any], word: str
) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        FRAME.write_parquet(path)
    else:
        text = FRAME.write_ndjson() if "ndjson" in name else FRAME.write_csv()
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    config = parse_config({"data": {"path": str(path), "behaviors": ["view", "buy"], **settings}})
    early = said(lambda: look_at(config.data))
    assert early == said(lambda: ingest(config, Workspace(tmp_path / "w")))
    assert word in early and bool(early) == bool(word)


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        look_at(data_of(tmp_path / "absent.csv"))


def test_only_the_first_rows_are_read_and_a_cut_row_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    long = "user_id,item_id,behavior\n" + '1,2,"view"\n' * 20_000 + '3,"broken\n'
    path.write_text(long)
    look_at(data_of(path))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("late", [{"item": "ecommerce.items[].item_id"}, {"count": "quantity"}])
def test_a_field_that_comes_late_is_no_error(
    tmp_path: Path, late: dict[str, str], ending: str
) -> None:
    page = {"user": 1, "event": "view", "at": 5, "item_id": "p", "url": "x" * 1_000}
    sale = {"ecommerce": {"items": [{"item_id": "a"}]}, "quantity": 1}
    lines = [json.dumps(page | (sale if row > 100 else {})) for row in range(120)]
    path = tmp_path / f"log.ndjson{ending}"
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if ending else text)
    columns = {"user": "user", "item": "item_id", "behavior": "event", "timestamp": "at"}
    settings = {"path": str(path), "behaviors": ["view", "buy"], "columns": columns | late}
    config = parse_config({"data": settings | {"time_min": 0}})
    look_at(config.data)
    assert ingest(config, Workspace(tmp_path / "w")).counts["kept"]


@pytest.mark.parametrize("rest", [b"", b"}", b"}\n"])
def test_a_line_longer_than_the_look_is_no_matter(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "log.ndjson"
    path.write_bytes(FRAME.write_ndjson().encode() + b'{"a": "' + b"x" * (1 << 21) + b'"' + rest)
    look_at(data_of(path))
    with pytest.raises(DataError, match="no column 'uid'"):
        look_at(data_of(path, columns={"user": "uid"}))


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_log_of_which_no_behavior_is_known_is_refused_with_all_its_values(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    times: list[int] = []
    FRAME.write_parquet(path) if name.endswith("parquet") else FRAME.write_csv(path)
    read = unknown.raw_rows
    monkeypatch.setattr(unknown, "raw_rows", lambda *given: [times.append(1), read(*given)][1])
    with pytest.raises(DataError) as caught:
        look_at(data_of(path, behaviors=["pv", "order"]))
    said = str(caught.value)
    assert len(times) == 1, "the log is read once"
    assert "unknown: 'buy' 20, 'view' 20; name them in data.behaviors, data.rename" in said
    look_at(data_of(path, behaviors=["pv", "order"], rename={"view": "pv"}))


def test_a_log_whose_known_rows_come_late_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = FRAME.with_columns(pl.lit("gift").alias("behavior"))
    pl.concat([*[late] * 3_000, FRAME]).write_csv(tmp_path / "log.csv")
    data = data_of(tmp_path / "log.csv")
    with caplog.at_level(logging.WARNING, logger="bigel"):
        look_at(data)
    assert "rows can be used" in caplog.text and "unknown behavior" in caplog.text
    late.write_csv(tmp_path / "log.csv")
    with pytest.raises(DataError, match="unknown: 'gift' 40"):
        look_at(data)
    monkeypatch.setattr("bigel.ingest.unknown.MOST_ROWS", 39)
    look_at(data)  # of so many rows nothing is known for sure


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
@pytest.mark.parametrize("dirt", [{}, {"ignore": ["share"]}])
def test_too_many_unknown_behaviors_are_refused_by_the_share_that_ingest_finds(
    tmp_path: Path, name: str, dirt: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    parts = {"view": 600, "buy": 100, "gift": 200, "share": 100}
    kinds = [kind for kind, rows in parts.items() for _ in range(rows)]
    mixed = [kinds[613 * row % 1_000] for row in range(1_000)]
    users = [None if row % 9 == 0 else row for row in range(1_000)]  # is another reason
    frame = pl.DataFrame({"user_id": users, "item_id": range(1_000), "behavior": mixed})
    if name.endswith("parquet"):
        frame.write_parquet(tmp_path / name)
    else:
        text = frame.write_csv().encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    config = parse_config(
        {"data": {"path": str(tmp_path / name), "behaviors": ["view", "buy"], **dirt}}
    )
    counts = ingest(config, Workspace(tmp_path / "w")).counts
    unknown, ignored = (
        counts["reasons"].get(why, 0) for why in ("unknown behavior", "ignored behavior")
    )
    share = unknown / (counts["in"] - ignored)
    look_at(config.data, share)
    with pytest.raises(DataError) as caught:
        look_at(config.data, 0.9 * share)  # of the first rows, too
    assert f"{unknown:,} of 1,000 rows ({share:.1%}) have a behavior that neither" in str(
        caught.value
    )
    others = "'gift' 200" if dirt else "'gift' 200, 'share' 100"
    assert f"unknown: {others}; name them in data.behaviors" in str(caught.value)


def test_a_big_log_is_read_in_full_by_ingest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = FRAME.with_columns(
        pl.when(pl.col("item_id") < 3).then(pl.lit("gift")).otherwise("behavior").alias("behavior")
    )
    pl.concat([half] * 5_000).write_csv(tmp_path / "log.csv")
    data = data_of(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"lets 5\.0% pass"):
        look_at(data, 0.05)
    monkeypatch.setattr("bigel.ingest.look.MOST_ROWS", 100_000)
    look_at(data, 0.05)
    read: list[str] = []
    reads = look_at.__globals__["read_rows"]
    monkeypatch.setitem(
        look_at.__globals__, "read_rows", lambda *given: [read.append("once"), reads(*given)][1]
    )
    FRAME.write_csv(tmp_path / "log.csv")
    look_at(data, 0.05)
    assert read == ["once"], "its first rows are in order"


def test_a_first_look_imports_nothing_that_a_wrong_setting_need_not_wait_for() -> None:
    program = (
        "import sys, flows.cli, bigel.ingest.look\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'great_expectations', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"


def test_of_many_files_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        FRAME.write_csv(tmp_path / f"{number:02}.csv")
    seen: list[str] = []
    first_rows = look_at.__globals__["_first_rows"]
    monkeypatch.setitem(
        look_at.__globals__,
        "_first_rows",
        lambda source, folder: seen.append(source.name) or first_rows(source, folder),
    )
    look_at(data_of(tmp_path))
    assert seen == [f"{number:02}.csv" for number in range(0, 50, 7)]


def test_what_is_made_up_or_elsewhere_is_left_to_ingest() -> None:
    look_at(parse_config({"data": {"path": SYNTHETIC}}).data)
    look_at(parse_config({"data": {"path": "s3://nowhere/log.csv"}}).data)
