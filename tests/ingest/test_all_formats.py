"""One log in every format has the same interactions: whatever quotes, links, files or id forms."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bigel.config import load_config
from bigel.ingest import ingest
from bigel.schema import INTERACTIONS_FILE
from bigel.store import Workspace

Row = tuple[Any, str, str, int]
COLUMNS = ["user", "item", "behavior", "time"]
SETTINGS = [
    'data.behaviors=["click","buy"]',
    'data.columns={user="user", item="item", behavior="behavior", timestamp="time"}',
    "run.progress=false",
]
TEXT = st.text("abçö日0 \",;|'\\_-", min_size=1, max_size=6).filter(
    lambda text: text == text.strip() and not text.isdigit() and text[0] not in "\"'"
)
USERS = st.one_of(TEXT.map(lambda text: f"u{text}"), st.sampled_from(["7", "42", "u7"]))
TIMES = st.integers(1_400_000_000, 1_600_000_000)
ROWS = st.lists(
    st.tuples(USERS, TEXT, st.sampled_from(["click", "buy"]), TIMES),
    min_size=1, max_size=12,
)  # fmt: skip


def quoted(value: object, separator: str) -> str:
    text = str(value)
    if separator in text or '"' in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def as_csv(rows: list[Row], separator: str = ",") -> bytes:
    lines = [separator.join(quoted(value, separator) for value in row) for row in [COLUMNS, *rows]]
    return ("\n".join(lines) + "\n").encode()


def as_plain_tsv(rows: list[Row]) -> bytes:
    """As Hive and mysql -B write it: quotes are characters like others."""
    return "".join("\t".join(map(str, row)) + "\n" for row in [COLUMNS, *rows]).encode()


def as_ndjson(rows: list[Row]) -> bytes:
    dumped = (json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows)
    return "".join(f"{line}\n" for line in dumped).encode()


def as_parquet(rows: list[Row], place: Path) -> None:
    frame = pl.DataFrame(rows, COLUMNS, orient="row")
    frame.write_parquet(place, row_group_size=3)


Write = Callable[[list[Row], Path], None]
FORMATS: dict[str, tuple[Write, list[str]]] = {
    "csv": (lambda rows, at: (at / "a.csv").write_bytes(as_csv(rows)), []),  # type: ignore[dict-item,misc]
    "csv.gz": (lambda rows, at: (at / "a.csv.gz").write_bytes(gzip.compress(as_csv(rows))), []),  # type: ignore[dict-item,misc]
    "semicolons": (
        lambda rows, at: (at / "a.csv").write_bytes(as_csv(rows, ";")),  # type: ignore[dict-item,misc]
        ['data.separator=";"', "data.quote='\"'"],
    ),
    "tsv": (lambda rows, at: (at / "a.tsv").write_bytes(as_plain_tsv(rows)), ["data.quote=''"]),  # type: ignore[dict-item,misc]
    "ndjson": (lambda rows, at: (at / "a.ndjson").write_bytes(as_ndjson(rows)), []),  # type: ignore[dict-item,misc]
    "parquet": (lambda rows, at: as_parquet(rows, at / "a.parquet"), []),
}


def write_parts(rows: list[Row], at: Path) -> None:
    """Three files, one of them behind a link to a folder elsewhere, one in a folder."""
    parts = [rows[start::3] for start in range(3)]
    (at / "a.csv").write_bytes(as_csv(parts[0]))
    (at / "day=2").mkdir()
    (at / "day=2" / "b.csv").write_bytes(as_csv(parts[1]))
    elsewhere = at.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.csv").write_bytes(as_csv(parts[2]))
    (at / "day=3").symlink_to(elsewhere)


FORMATS["three files"] = (write_parts, [])
FORMATS["csv, quote named"] = (FORMATS["csv"][0], ["data.quote='\"'"])


def expected(rows: list[Row]) -> set[tuple[Any, ...]]:
    times: dict[tuple[str, str, str], list[int]] = {}
    for user, item, behavior, time in rows:
        times.setdefault((str(user), item, behavior), []).append(time)
    return {(*key, min(seen), max(seen), len(seen)) for key, seen in times.items()}


@pytest.mark.parametrize("name", FORMATS)
@settings(
    max_examples=5, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
@given(rows=ROWS)
def test_every_format_holds_the_same_interactions(
    name: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("format")
    (root / "log").mkdir()
    write, more = FORMATS[name]
    write(rows, root / "log")
    config = load_config("", [*SETTINGS, f'data.path="{root / "log"}"', *more])
    record = ingest(config, Workspace(root / "w"))
    frame = pl.read_parquet(record.file(INTERACTIONS_FILE))
    found = frame.select(
        pl.col("user_id").cast(pl.String), pl.col("item_id").cast(pl.String), "behavior", "first",
        "timestamp", "count",
    )  # fmt: skip
    assert set(found.rows()) == expected(rows)
    assert frame["count"].sum() == len(rows)
