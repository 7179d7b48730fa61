"""The catalogue as a shop exports it, and as lists read it."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import load_config
from bigel.data.catalogue import coverage, read_catalogue
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace

CSV = """item_id,name,category,available_from,available_until,in_stock,price
007,Lamp,light,2026-11-01,2026-11-30,true,30
8.0,Chair,seat,,2026-11-30T06:00,no,120.5
1.08775E8,Desk,seat,1764547200,,3,
"""
DAY = 86_400
NOV_1, NOV_30 = 1_793_491_200, 1_795_996_800  # midnight of 2026, UTC


def read(root: Path, text: str | None, *settings: str, name: str = "items.csv") -> Record:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    pl.DataFrame({"item_id": [7, 8, 9]}).write_parquet(root / "known.parquet")
    config = load_config("", [f'items.path="{path}"', *settings])
    return read_catalogue(root / "known.parquet", config, Workspace(root))


def table(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("catalogue.parquet"))


def test_a_file_becomes_our_columns(tmp_path: Path) -> None:
    record = read(tmp_path, CSV, 'recommend.filter="price < 100"')
    assert table(record).to_dict(as_series=False) == {
        "item_id": ["007", "8", "108775000"],
        "name": ["Lamp", "Chair", "Desk"],
        "category": ["light", "seat", "seat"],
        "available_from": [NOV_1, None, 1_764_547_200],
        "available_until": [NOV_30 + DAY, NOV_30 + 6 * 3_600, None],
        "in_stock": [True, False, True],
        "passes_filter": [True, False, False],
    }
    found = pl.read_parquet(record.file("coverage.parquet")).to_dicts()
    assert found == [{"of_log": 3, "of_catalogue": 3, "both": 1, "known_share": 1 / 3,
                      "used_share": 1 / 3}]  # fmt: skip
    assert read(tmp_path, None, 'recommend.filter="price < 100"').reused


@pytest.mark.parametrize("ending", ["tsv", "csv.gz", "parquet", "ndjson", "jsonl"])
def test_every_format_says_the_same(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "in_stock": [True, False], "name": ["A", None]})
    expected = table(read(tmp_path / "csv", frame.write_csv()))
    path = tmp_path / f"items.{ending}"
    if ending == "tsv":
        frame.write_csv(path, separator="\t")
    elif ending == "csv.gz":
        import gzip

        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif ending == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_ndjson(path)
    found = table(read(tmp_path, None, name=path.name))
    assert found.select(expected.columns).equals(expected)


def test_dates_of_parquet_count_as_those_of_text(tmp_path: Path) -> None:
    text = table(read(tmp_path / "text", "item_id,available_until\na,2026-11-30\nb,\n"))
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": ["a", "b"], "available_until": ["2026-11-30", None]}).with_columns(
        pl.col("available_until").str.to_date()
    ).write_parquet(path)
    assert table(read(tmp_path, None, name=path.name)).equals(text)
    assert text["available_until"].to_list() == [NOV_30 + DAY, None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["true", "NO", " y ", "0"], [True, False, True, False]),
        (["3", "0", "-1", ""], [True, False, False, None]),
    ],
)
def test_a_stock_is_a_switch_a_word_or_a_number(
    tmp_path: Path, values: list[str], expected: list[Any]
) -> None:
    rows = "".join(f"{n},{value}\n" for n, value in enumerate(values))
    found = table(read(tmp_path, f"item_id,in_stock\n{rows}"))
    assert found["in_stock"].to_list() == expected


def test_columns_go_by_the_names_that_the_file_has(tmp_path: Path) -> None:
    settings = ('items.columns.id="sku"', 'items.columns.category="dept"')
    found = table(read(tmp_path, "sku,dept,category\na,x,ignored\n", *settings))
    assert found.to_dicts() == [{"item_id": "a", "category": "x"}]


@pytest.mark.parametrize(
    ("text", "settings", "error", "said"),
    [
        ("sku,name\na,A\n", (), ConfigError, r"items\.columns\.id = 'item_id'.* it has sku"),
        ("item_id,cat\na,x\n", ('items.columns.category="categry"',), ConfigError,
         r"items\.columns\.category = 'categry'.*it has item_id, cat"),
        ("item_id,in_stock\na,true\nb,maybe\n", (), DataError,
         r"items\.csv, row 2, in_stock: 'maybe' says nothing of a stock"),
        ("item_id,available_from\na,soon\nb,later\n", (), DataError,
         r"items\.csv, row 1, available_from: 'soon' is no time.*2 rows"),
        ("item_id,price\na,3\n", ('recommend.filter="cost < 3"',), ConfigError,
         r"recommend\.filter 'cost < 3' cannot be applied.*price \(Int64\)"),
        ("item_id,price\na,3\n", ('recommend.filter="price + 1"',), ConfigError,
         r"'price \+ 1' is no condition"),
        ("item_id,available_until\na,20261130\n", (), DataError,
         r"row 1, available_until: 20261130 is no time from 2000 on"),
        (None, (), DataError, r"items\.path .*items\.csv: No such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_row(
    tmp_path: Path, text: str | None, settings: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read(tmp_path, text, *settings)


@pytest.mark.parametrize(
    ("ids", "found"), [("auto", ["007", "7"]), ("integer", ["7", "7"]), ("text", ["007", "7.0"])]
)
def test_ids_are_read_as_those_of_the_log(tmp_path: Path, ids: str, found: list[str]) -> None:
    record = read(tmp_path, "item_id\n007\n7.0\n", f'data.ids="{ids}"')
    assert table(record)["item_id"].to_list() == found


def test_a_column_that_holds_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"items\.ndjson, category: List\(String\) cannot be"):
        read(tmp_path, '{"item_id": "a", "category": ["x"]}\n', name="items.ndjson")


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"items\.xlsx: the ending says no format: csv, tsv"):
        read(tmp_path, "x", name="items.xlsx")


def test_named_filters_stand_beside_the_catalogue(tmp_path: Path) -> None:
    asked = ('items.filters={ cheap = "price < 100", "for seats" = "category = \'seat\'" }',)
    record = read(tmp_path, CSV, *asked)
    named = pl.read_parquet(record.file("filters.parquet"))
    assert named.to_dict(as_series=False) == {
        "cheap": [True, False, False],  # the third has no price
        "for seats": [False, True, True],
    }
    assert "cheap" not in table(record).columns
    with pytest.raises(ConfigError, match=r"items\.filters\.cheap 'cost < 3' cannot be applied"):
        read(tmp_path, CSV, 'items.filters={ cheap = "cost < 3" }')


def test_named_filters_must_be_sql_and_need_a_catalogue() -> None:
    for filters, said in (
        ('{ cheap = "price <" }', r"items\.filters.*cheap = 'price <': no condition in SQL"),
        ('{ cheap = "" }', "no condition in SQL"),
        ('{ " " = "price < 3" }', "a filter needs a name"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_config("", [f"items.filters={filters}", 'items.path="items.csv"'])
    with pytest.raises(ConfigError, match=r"items\.filters needs a catalogue"):
        load_config("", ['items.filters={ cheap = "price < 3" }'])


def test_a_filter_must_be_sql_and_needs_a_catalogue() -> None:
    with pytest.raises(ConfigError, match=r"recommend\.filter.*no condition in SQL"):
        load_config("", ['recommend.filter="price <"', 'items.path="items.csv"'])
    with pytest.raises(ConfigError, match=r"recommend\.filter needs a catalogue.*items\.path"):
        load_config("", ['recommend.filter="price < 3"'])


def test_coverage_counts_each_id_once() -> None:
    found = coverage(pl.Series(["a", "b", "b", None]), pl.Series(["a", "a", "c", "d"]))
    assert found.to_dicts() == [
        {"of_log": 3, "of_catalogue": 2, "both": 1, "known_share": 1 / 3, "used_share": 0.5}
    ]
