import logging
from pathlib import Path
from typing import Any

import pytest

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.sources import find_sources


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(path: Path | str, **settings: Any) -> list[tuple[str, str, str | None, str | None]]:
    sources = find_sources(DataConfig(path=str(path), **settings), Path("unused")).sources
    return [(s.name, s.format, s.split, s.behavior) for s in sources]


def test_a_folder_is_read_with_its_subfolders_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jsonl.zst", "a/2.csv.gz", "a/1.tsv", "c.parquet", "_old/x.csv", ".x.csv")
    assert found(tmp_path) == [
        ("a/1.tsv", "tsv", None, None),
        ("a/2.csv.gz", "csv", None, None),
        ("b.jsonl.zst", "ndjson", None, None),
        ("c.parquet", "parquet", None, None),
    ]


def test_a_glob_chooses_files_and_names_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "day1/x.csv", "day2/x.csv", "day2/y.tsv")
    assert [f[0] for f in found(tmp_path / "day*" / "*.csv")] == ["day1/x.csv", "day2/x.csv"]
    assert [f[0] for f in found(f"{tmp_path}/**/*.tsv")] == ["day2/y.tsv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "log[1].csv", "log1.csv")
    assert [f[0] for f in found(tmp_path / "log[1].csv")] == ["log[1].csv"]


@pytest.mark.parametrize("path", ["", "*"])
def test_a_stated_format_takes_all_files_whatever_their_ending(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "part-00000", "part-00001.csv", "notes.txt", "000000_0.gz", "a.json")
    (tmp_path / "_SUCCESS").touch()
    assert found(tmp_path / path, format="csv") == [
        (name, "csv", None, None)
        for name in ("000000_0.gz", "a.json", "notes.txt", "part-00000", "part-00001.csv")
    ]


def test_a_stated_format_takes_files_of_other_formats_only_by_themselves(tmp_path: Path) -> None:
    touch(tmp_path, "a.tsv", "b.tsv")
    assert [f[1] for f in found(tmp_path, format="csv")] == ["csv", "csv"]
    touch(tmp_path, "c.csv")
    with pytest.raises(DataError, match=r"a\.tsv, b\.tsv: not part of the log"):
        found(tmp_path, format="csv")


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("a.csv", "README.md"), {}),
        (("a.csv", "b.txt", "c/README.md"), {}),
        (("a.csv", "b.csv", "README.md"), {"behavior_by_file": {"*.csv": "click"}}),
        (("train.csv", "test.csv", "README.md"), {"format": "tables"}),
        (("click_train", "click_test", "README.md"), {"format": "pairs"}),
        (("click_train", "click_test", "README.md"), {"format": "lists"}),
    ],
)
def test_what_is_there_and_is_not_read_is_named(
    tmp_path: Path, names: tuple[str, ...], settings: Any
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=r"README\.md: not part of the log .*data\.ignore_files"):
        found(tmp_path, **settings)
    for name in names:
        if name.endswith(("txt", "md")):
            (tmp_path / name).write_text("")
    kept = found(tmp_path, **settings)
    for name in names:
        if name.endswith(("txt", "md")):
            (tmp_path / name).write_text("more")
    assert found(tmp_path, ignore_files=("*.txt", "README*"), **settings) == kept
    data = DataConfig(path=str(tmp_path), ignore_files=("*.txt", "README*"), **settings)
    left_out = find_sources(data, Path("unused")).left_out
    assert left_out == {n: "data.ignore_files" for n in names if n.endswith(("txt", "md"))}


def test_a_folder_may_be_ignored_by_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "old/b.csv", "old/deep/c.csv", "new/old.csv")
    assert [f[0] for f in found(tmp_path, ignore_files=("old",))] == ["a.csv", "new/old.csv"]


def test_ignoring_every_file_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    for path in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(DataError, match=r"data\.ignore_files leaves no file"):
            found(path, ignore_files=("*",))


def test_the_pairs_layout_reads_names(tmp_path: Path) -> None:
    touch(tmp_path, "add_to_cart_train.txt.gz", "click_val", "click_test")
    assert found(tmp_path, format="pairs") == [
        ("add_to_cart_train.txt.gz", "pairs", "train", "add_to_cart"),
        ("click_test", "pairs", "test", "click"),
        ("click_val", "pairs", "valid", "click"),
    ]


def test_the_tables_layout_needs_no_valid(tmp_path: Path) -> None:
    touch(tmp_path, "train.parquet", "test.csv")
    assert found(tmp_path, format="tables") == [
        ("test.csv", "csv", "test", None),
        ("train.parquet", "parquet", "train", None),
    ]


def test_the_lists_layout_reads_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/click.txt", "pv.gz", "b_val.txt.gz", "b.train", "c-test", "train.txt")
    settings: Any = {"behaviors": ("click", "b"), "rename": {"pv": "click"}, "ignore": ("c",)}
    assert found(tmp_path, format="lists", **settings) == [
        ("a/click.txt", "lists", "train", "click"),
        ("b.train", "lists", "train", "b"),
        ("b_val.txt.gz", "lists", "valid", "b"),
        ("c-test", "lists", "test", "c"),
        ("pv.gz", "lists", "train", "pv"),
        ("train.txt", "lists", "train", "b"),
    ]


def test_files_give_their_behavior(tmp_path: Path) -> None:
    touch(tmp_path, "2024/clicks.dat", "buys.dat", "test.dat")
    by_file = {"clicks*": "click", "b?ys.dat": "purchase"}
    settings: Any = {"format": "csv", "behavior_by_file": by_file, "ignore_files": ("test*",)}
    assert found(tmp_path, **settings) == [
        ("2024/clicks.dat", "csv", None, "click"),
        ("buys.dat", "csv", None, "purchase"),
    ]
    settings |= {"behavior_by_file": {"2024/*": "click"}, "ignore_files": ("buys*", "test*")}
    folder = found(tmp_path, **settings)
    assert folder == [("2024/clicks.dat", "csv", None, "click")]


def test_files_give_their_behavior_in_the_pre_split_layouts(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{b}/{s}.csv" for b in ("view", "buy") for s in ("train", "test")))
    by_file = {"view/*": "click", "buy/*": "purchase"}
    expected = [("test", "purchase"), ("train", "purchase"), ("test", "click"), ("train", "click")]
    for layout in ("tables", "lists"):
        sources = found(tmp_path, format=layout, behavior_by_file=by_file)
        assert [source[2:] for source in sources] == expected
    touch(tmp_path / "pairs", "1_train", "1_test")
    sources = found(tmp_path / "pairs", format="pairs", behavior_by_file={"1_*": "click"})
    assert [source[2:] for source in sources] == [("test", "click"), ("train", "click")]


@pytest.mark.parametrize(
    ("by_file", "message"),
    [
        ({"*.dat": "click"}, r"a\.csv, b\.csv match no pattern of data\.behavior_by_file"),
        (
            {"*.csv": "click", "a*": "purchase"},
            r"gives a\.csv several behaviors \(click, purchase\)",
        ),
    ],
)
def test_patterns_that_do_not_part_the_files(
    tmp_path: Path, by_file: dict[str, str], message: str
) -> None:
    touch(tmp_path, "a.csv", "b.csv")
    with pytest.raises(DataError, match=message):
        found(tmp_path, behavior_by_file=by_file)


def test_endings_count_in_capitals_too(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "B.CSV", "c.Tsv.GZ", "d.PARQUET")
    kinds = [f[:2] for f in found(tmp_path)]
    assert kinds == [
        ("B.CSV", "csv"),
        ("a.csv", "csv"),
        ("c.Tsv.GZ", "tsv"),
        ("d.PARQUET", "parquet"),
    ]
    touch(tmp_path / "lists", "buy.TXT.GZ", "test.txt")
    assert found(tmp_path / "lists", format="lists", behaviors=("buy",)) == [
        ("buy.TXT.GZ", "lists", "train", "buy"),
        ("test.txt", "lists", "test", "buy"),
    ]


def test_names_that_differ_in_the_ending_alone_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(
        tmp_path,
        "1/a.csv",
        "1/a.CSV.gz",
        "1/b.parquet",
        "2/a.csv",
        "2/b.ndjson",
        "2/b.csv.zst",
    )
    with caplog.at_level(logging.WARNING):
        assert len(found(tmp_path)) == 6
    assert (
        "1/a.CSV.gz and 1/a.csv, 2/b.csv.zst and 2/b.ndjson count twice if they hold the same rows"
    ) in caplog.text


def test_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "log/a.csv")
    monkeypatch.chdir(tmp_path)
    for path in ("log", "log/a.csv", "l*/*.csv"):
        (source,) = find_sources(DataConfig(path=path), Path("unused")).sources
        assert source.path == tmp_path / "log" / "a.csv"
        assert source.name == "log/a.csv" if path == "l*/*.csv" else "a.csv"
