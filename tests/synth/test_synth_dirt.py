from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel import schema
from bigel.config import DirtConfig, SynthConfig
from bigel.ingest import refusals
from bigel.synth import events, write_log

BEHAVIORS = ("click", "cart", "purchase")
SMALL = SynthConfig(users=300, items=200, events=6_000, tastes=8, seed=3)
COLUMNS = {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
REASONS = {
    "null_user": refusals.NULL_USER,
    "null_item": refusals.NULL_ITEM,
    "null_behavior": refusals.NULL_BEHAVIOR,
    "null_timestamp": refusals.NULL_TIMESTAMP,
    "unknown_behavior": refusals.UNKNOWN_BEHAVIOR,
    "ignored_behavior": refusals.IGNORED,
    "early_timestamp": refusals.TOO_EARLY,
    "late_timestamp": refusals.TOO_LATE,
}
OF_TEXT = {
    "control_character": refusals.CONTROL,
    "unreadable_timestamp": refusals.BAD_TIMESTAMP,
    "not_utf8": refusals.BAD_UTF8,
}
OF_CSV = {
    "too_few_fields": refusals.TOO_FEW,
    "too_many_fields": refusals.TOO_MANY,
    "repeated_header": refusals.REPEATED_HEADER,
    "broken_quotes": refusals.BAD_QUOTES,
}
DIRT = {
    ".csv": REASONS | OF_TEXT | OF_CSV,
    ".ndjson": REASONS | OF_TEXT | {"not_json": refusals.BAD_JSON, "nested_id": refusals.NESTED},
    ".parquet": REASONS | {"fractional_id": refusals.NOT_WHOLE},
}


def test_dirt_is_all_quarantined_and_nothing_else(
    tmp_path: Path, ingest_files: Callable[..., Any]
) -> None:
    results = {}
    shares = {"duplicate": 0.2, "null_user": 0.1, "null_item": 0.01, "late_timestamp": 0.002}
    for name, dirt in (("clean", {}), ("dirty", shares)):
        path = tmp_path / f"{name}.csv"
        write_log(path, SMALL.model_copy(update={"dirt": DirtConfig(**dirt)}), BEHAVIORS)
        results[name] = ingest_files(
            {path.name: path.read_bytes()}, path=path.name, columns=COLUMNS, behaviors=BEHAVIORS
        )
    clean_log, dirty = results["clean"], results["dirty"]
    numbers = {kind: round(share * clean_log.record.counts["in"]) for kind, share in shares.items()}
    doubled = numbers.pop("duplicate")
    bad = sum(numbers.values())
    assert clean_log.record.counts["quarantined"] == 0
    assert dirty.record.counts["in"] == clean_log.record.counts["in"] + bad + doubled
    assert dirty.record.counts["quarantined"] == bad
    assert dirty.record.counts["merged"] == clean_log.record.counts["merged"] + doubled
    assert dirty.interactions.drop("count").equals(clean_log.interactions.drop("count"))
    assert dirty.record.counts["reasons"] == {
        REASONS[kind]: number for kind, number in numbers.items()
    }


@pytest.mark.parametrize("ending", DIRT)
def test_each_kind_of_dirt_is_quarantined_for_its_reason(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ingest_files: Callable[..., Any]
) -> None:
    monkeypatch.setattr(events, "CHUNK_EVENTS", 1_000)  # the numbers are those of the whole log
    path, kinds = tmp_path / f"log{ending}", DIRT[ending]
    write_log(tmp_path / "clean.parquet", SMALL, BEHAVIORS)
    clean_log = pl.read_parquet(tmp_path / "clean.parquet")
    shares = {kind: 0.002 + 0.0005 * at for at, kind in enumerate(kinds)}
    dirt = DirtConfig(**shares, duplicate=0.05)
    write_log(path, SMALL.model_copy(update={"dirt": dirt}), BEHAVIORS)
    settings = {"columns": COLUMNS, "behaviors": BEHAVIORS, "ignore": ["impression"]}
    done = ingest_files({path.name: path.read_bytes()}, **settings)
    expected = {kinds[kind]: round(share * clean_log.height) for kind, share in shares.items()}
    assert done.record.counts["reasons"] == expected
    added = sum(expected.values()) + round(0.05 * clean_log.height)
    assert done.record.counts["in"] == clean_log.height + added
    pairs = clean_log.select("user_id", "item_id", "behavior").unique()
    assert set(done.pairs()) == set(pairs.iter_rows())


def test_every_reason_of_a_single_log_has_its_kind_of_dirt() -> None:
    kinds = {kind: reason for of_ending in DIRT.values() for kind, reason in of_ending.items()}
    assert set(kinds) == set(DirtConfig.model_fields) - {"duplicate"}
    others = {
        "NUMBER",
        "PROBLEM",
        "LEAK",
        "CONTROL_PATTERN",
        "PLAIN",
        "NO_TIME",
    }  # LEAK is of pre-split logs
    others |= {"SWALLOWED", "QUOTED_ID"}  # of quotes that are left to bigel
    others |= {"NO_LIST", "NOTHING", "BAD_COUNT", "BAD_WEIGHT"}  # of layouts that are not made up
    names = {name for name in vars(refusals) if name.isupper()} - set(vars(schema)) - others
    texts = {value for name in names if isinstance(value := getattr(refusals, name), str)}
    assert set(kinds.values()) == texts
