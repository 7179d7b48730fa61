"""What `bigel init` proposes, and that it is read as it says."""

import gzip
import json
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import Columns, Config, load_config
from bigel.errors import DataError
from bigel.ingest import ingest
from bigel.ingest.propose import Proposal, propose, proposed_toml
from bigel.store import Workspace

PUBLIC = Path(__file__).parent / "public"
EVENTS = ["view"] * 60 + ["cart"] * 8 + ["purchase"] * 12
START = 1_600_000_000


def frame(**renamed: str) -> pl.DataFrame:
    """Return 80 events in other names, more purchases than carts."""
    rows = range(len(EVENTS))
    table = pl.DataFrame(
        {
            "user_id": [f"u{row % 7}" for row in rows],
            "item_id": [f"SKU-{row % 11:03}" for row in rows],
            "behavior": EVENTS,
            "timestamp": [START + 60 * row for row in rows],
        }
    )
    return table.rename(renamed)


def written(proposal: Proposal, folder: Path) -> Config:
    text, lines = proposed_toml(proposal, "bigel init")
    path = folder / "own.toml"
    path.write_text(text)
    for key, at in lines.items():
        assert text.splitlines()[at - 1].startswith(f"{key} = ")
    return load_config(str(path))


def read(config: Config, folder: Path) -> dict[str, Any]:
    return ingest(config, Workspace(folder / "work")).counts


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.ndjson", "a.parquet"])
def test_every_format_is_found_and_read_whole(tmp_path: Path, name: str) -> None:
    table = frame(user_id="uid", item_id="sku", behavior="event_type", timestamp="ts")
    path = tmp_path / name
    if name == "a.parquet":
        table.write_parquet(path)
    elif name == "a.ndjson":
        table.write_ndjson(path)
    else:
        text = table.write_csv(separator="\t" if name == "a.tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = propose(str(path))
    config = written(found, tmp_path)
    assert config.data.behaviors == ("view", "cart", "purchase")  # what is bought last
    assert config.data.columns == Columns(user="uid", item="sku", behavior="event_type",
                                          timestamp="ts")  # fmt: skip
    assert config.data.time_unit == "s"
    assert found.volumes == {"view": 60, "purchase": 12, "cart": 8}
    counts = read(config, tmp_path)
    assert (counts["in"], counts["quarantined"]) == (80, 0)


def test_a_whole_file_in_comments_and_keys(tmp_path: Path) -> None:
    frame().write_csv(tmp_path / "log.csv")
    text, lines = proposed_toml(propose(str(tmp_path / "log.csv")), "bigel init")
    assert text.splitlines()[3:] == [
        "[data]",
        f'path = "{tmp_path / "log.csv"}"',
        "",
        "# Columns of the log: user_id, item_id, behavior, timestamp.",
        'columns = { user = "user_id", item = "item_id", behavior = "behavior", '
        'timestamp = "timestamp" }',
        "# timestamp: Unix seconds, 2020-09-13 to 2020-09-13 (UTC) in the first rows.",
        'time_unit = "s"',
        "",
        "# The funnel in its order, the target last; by volume in 80 rows:",
        "# view 60, cart 8, purchase 12.",
        '# Other names for them: rename = { pv = "click" }, and click here.',
        'behaviors = ["view", "cart", "purchase"]',
        '# Repeats count once; weight = "log", or a column of numbers, lets them weigh.',
    ]
    assert lines["columns"] == 8


@pytest.mark.parametrize(
    ("name", "columns", "behaviors", "more"),
    [
        ("retailrocket/events.csv", ("visitorid", "itemid", "event", "timestamp"),
         ("view", "addtocart", "transaction"), {"time_unit": "ms", "ignore": ("remove",)}),
        ("rees46/2019-Nov.csv", ("user_id", "product_id", "event_type", "event_time"),
         ("view", "cart", "purchase"), {"time_unit": "iso"}),
        ("userbehavior/UserBehavior.csv", ("column_1", "column_2", "column_4", "column_5"),
         None, {"header": False, "time_unit": "s"}),
        ("jdata/JData_Action_201602.csv", ("user_id", "sku_id", "type", "time"),
         ("1", "6", "2", "3", "4", "5"), {"time_unit": "iso"}),
        ("tmall/user_log_format1.csv", ("user_id", "item_id", "action_type", None), None, {}),
    ],
)  # fmt: skip
def test_public_logs(
    name: str, columns: tuple[str | None, ...], behaviors: tuple[str, ...] | None,
    more: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    config = written(propose(str(PUBLIC / name)), tmp_path)
    found = config.data.columns
    assert (found.user, found.item, found.behavior, found.timestamp) == columns
    assert behaviors is None or config.data.behaviors == behaviors
    for key, value in more.items():
        assert getattr(config.data, key) == value
    counts = read(config, tmp_path)
    assert counts["kept"] > counts["in"] / 2


def test_a_log_without_behaviors_has_one(tmp_path: Path) -> None:
    frame().drop("behavior").write_csv(tmp_path / "log.csv")
    config = written(propose(str(tmp_path / "log.csv")), tmp_path)
    assert config.data.behaviors == ("interaction",)
    assert read(config, tmp_path)["quarantined"] == 0


@pytest.mark.parametrize(
    ("form", "given"), [("%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M"), ("%Y%m%d", "%Y%m%d")]
)
def test_a_form_that_one_way_alone_reads_is_taken(tmp_path: Path, form: str, given: str) -> None:
    days = pl.from_epoch(frame()["timestamp"] + 86_400 * pl.arange(0, 80, eager=True))
    frame().with_columns(timestamp=days.dt.strftime(form)).write_csv(tmp_path / "log.csv")
    config = written(propose(str(tmp_path / "log.csv")), tmp_path)
    assert config.data.time_format == given
    assert read(config, tmp_path)["quarantined"] == 0


def test_a_form_that_two_ways_read_is_left_to_a_person(tmp_path: Path) -> None:
    frame().with_columns(timestamp=pl.lit("03/04/2020")).write_csv(tmp_path / "log.csv")
    found = propose(str(tmp_path / "log.csv"))
    assert found.data.columns.timestamp is None
    assert "timestamp =" not in proposed_toml(found, "bigel init")[0]
    assert "data.time_format may be %d/%m/%Y or %m/%d/%Y" in found.notes[0]


@pytest.mark.parametrize(
    "strange",
    [[[1]] * 80, [True] * 80, [{"at": 1}] * 80, [None] * 80, [time(8)] * 80, [timedelta(8)] * 80],
)
def test_a_column_named_as_times_may_hold_anything(tmp_path: Path, strange: list[Any]) -> None:
    frame().with_columns(timestamp=pl.Series(strange)).write_parquet(tmp_path / "log.parquet")
    found = propose(str(tmp_path / "log.parquet"))
    assert found.data.columns.timestamp is None
    assert "column 'timestamp' may hold times, but is not used" in found.notes


@pytest.mark.parametrize("kind", [pl.Datetime("us"), pl.Datetime("ms", "UTC"), pl.Date])
def test_the_only_column_of_dates_is_that_of_times(tmp_path: Path, kind: Any) -> None:
    when = pl.from_epoch(frame()["timestamp"]).cast(kind)
    table = frame().with_columns(timestamp=when, price=START).rename({"timestamp": "happened"})
    table.write_parquet(tmp_path / "log.parquet")
    found = propose(str(tmp_path / "log.parquet"))
    assert found.notes == ["'happened', the only column of dates, is taken for the times"]
    config = written(found, tmp_path)
    assert config.data.columns.timestamp == "happened"
    assert read(config, tmp_path)["quarantined"] == 0


def test_of_two_columns_of_dates_neither_is_taken_nor_are_times_given_up(tmp_path: Path) -> None:
    when = pl.from_epoch(frame()["timestamp"])
    table = frame().with_columns(seen=when, changed=when).drop("timestamp")
    table.write_parquet(tmp_path / "log.parquet")
    found = propose(str(tmp_path / "log.parquet"))
    assert found.notes == [
        f"column {name!r} may hold times, but is not used" for name in ("seen", "changed")
    ]
    assert written(found, tmp_path).data.columns.timestamp is None
    table.drop("seen", "changed").write_parquet(tmp_path / "log.parquet")
    assert written(propose(str(tmp_path / "log.parquet")), tmp_path).data.columns.timestamp == ""


def test_a_column_of_times_that_is_not_there_is_told(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match="no column 'nope' among 'user_id'"):
        propose(str(tmp_path / "log.parquet"), Columns(timestamp="nope"))


@pytest.mark.parametrize("separator", [";", "|"])
def test_other_separators_are_seen(tmp_path: Path, separator: str) -> None:
    frame().write_csv(tmp_path / "log.csv", separator=separator)
    config = written(propose(str(tmp_path / "log.csv")), tmp_path)
    assert config.data.separator == separator
    assert read(config, tmp_path)["quarantined"] == 0


def test_rare_and_undone_values_are_ignored_on_purpose(tmp_path: Path) -> None:
    many = pl.concat([frame()] * 30)
    dirt = frame()[:40].with_columns(behavior=pl.Series(["remove_from_cart"] * 35 + ["clikc"] * 5))
    pl.concat([many, dirt]).write_csv(tmp_path / "log.csv")
    config = written(propose(str(tmp_path / "log.csv")), tmp_path)
    assert config.data.behaviors == ("view", "cart", "purchase")
    assert config.data.ignore == ("remove_from_cart", "clikc")


def test_a_column_that_cannot_be_guessed_is_left_to_be_filled_in(tmp_path: Path) -> None:
    frame(user_id="a", item_id="b").write_csv(tmp_path / "log.csv")
    found = propose(str(tmp_path / "log.csv"))
    assert found.missing == ["user", "item"]
    assert found.names == ["a", "b", "behavior", "timestamp"]
    text, lines = proposed_toml(found, "bigel init")
    assert 'user = "?", item = "?"' in text.splitlines()[lines["columns"] - 1]
    known = propose(str(tmp_path / "log.csv"), Columns(user="a", item="b"))
    assert known.missing == []


@pytest.mark.parametrize("text", ["", "user_id,item_id,behavior\n"])
def test_an_empty_log_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=r"log\.csv"):
        propose(str(tmp_path / "log.csv"))


def test_of_a_folder_the_first_file_with_rows_tells_the_columns(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "0.ndjson").write_text("")
    for day in (1, 2):
        rows = frame(user_id="uid").to_dicts()
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / "logs" / f"{day}.ndjson").write_text(text)
    found = propose(str(tmp_path / "logs"))
    assert (found.data.columns.user, found.rows) == ("uid", 160)


def test_the_nameless_index_that_pandas_writes_is_no_lack_of_a_header(tmp_path: Path) -> None:
    frame().to_pandas().to_csv(tmp_path / "log.csv")
    config = written(propose(str(tmp_path / "log.csv")), tmp_path)
    assert config.data.header and config.data.columns.item == "item_id"
    assert read(config, tmp_path)["quarantined"] == 0
