"""NDJSON: quick parse and exact rules together give what the exact rules give alone."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from bigel.config import DataConfig
from bigel.ingest import careful, ndjson, pieces
from bigel.ingest.read import read_rows
from bigel.ingest.sources import Source
from tests.ingest.reference import judged, read_carefully

NAMES = {"user": "user", "item": "item", "behavior": "kind", "timestamp": "time"}
DATA = DataConfig(columns=NAMES, behaviors=("click", "buy"), time_min=0)
GOOD = b'{"user":3,"item":4,"kind":"click","time":6,"x":5}'
NESTED = GOOD[:-1] + b',"page":{"tags":["a",{"b":[1.5,null]}],"n":1e-5},"seen":[]}'
BOM = b"\xef\xbb\xbf"

# What a field may hold, as it stands in the file.
VALUES = [
    *(str(n) for n in (0, 7, -7, 2**53 + 1, 2**63, 2**64, 2**127, 2**128, -(2**128), 10**60)),
    *("-0", "-0.0", "1.0", "1.50", "12.5", "-2.5", "0.1e1", "1e3", "1E+3", "25e-1", "1e-7", "1e22"),
    *("1e16", "123456789012345678.5", "0.30000000000000004", "5e-324", "1e300", "1e400", "-1e400"),
    *("9007199254740991.0", "9007199254740993.0", "-9007199254740993.0", "9007199254740994E0"),
    *("true", "false", "null", '""', '" "', '" 7 "', '"7"', '"007"', '"-7"', '"+7"', '"7.0"'),
    *('"12.5"', '"true"', '"false"', '"null"', '"1e3"', '"NaN"', '"[7]"', '" {7}"', '"u7"'),
    *('"\\u0037"', '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\\ud83d"'),
    *('"\\ud83dx"', '"\\ude00"', '"\\ud83d\\ue000"', '"\\ud83d\\ud83d\\ude00"', '"\\\\ud83d"'),
    *('"\\u0000"', '"\\n"', '"\\/"', '"\\""', '"\\x"', '"\\u12"', '"\t"', '"\x7f"', '"\u2028"'),
    *("[]", "{}", "[7]", '["click"]', '["é"]', '{"a":1,"a":2}', "[1.5, 1.0]", "[[[]]]", "[1,]"),
    *("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "1e", "0x7", "tru", "'7'", "", "1 2"),
    *('"click"', '"buy"', '" buy"', '"CLICK"', "1511544070", "1511544070.123", '"2017-11-25"'),
]
SPACES = ["", "", "", " ", "\t", "\r", "  ", "\x0c", "\xa0"]
LINES = [
    *(b"", b" ", b"\t\r", b"\r", b"\x0c", b"5", b"null", b'"x"', b"[1]", b"{}", b"x^y", b"(", b"}"),
    *(BOM + GOOD, BOM, GOOD + b" " + GOOD, GOOD + b",", GOOD + b"x", GOOD + b"\x01", GOOD + b"\r"),
    *(GOOD + b"\r" + GOOD, GOOD[:-1], GOOD[1:], GOOD.replace(b'"', b"'"), b"  " + GOOD + b" \r"),
    *(GOOD[:-1] + b',"x":"\xff"}', b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf"),
    GOOD.replace(b"click", b"\xef\xbf\xbd"),
    *(b'{"user":' + b"[" * 200 + b"]" * 200 + b"}", b"[" * 3000, b'{"a":' * 3000, NESTED),
    *(NESTED[:-3], NESTED[:-1] + b',"n":[1' + b"0" * 60 + b"]}", GOOD[:-1] + b',"x":"\\ud83d"}'),
    GOOD[:-1] + b"".join(b',"k%d":%d' % (n, n) for n in range(40)) + b',"user":9}',
]  # fmt: skip


def source_of(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source(path, path.name, "ndjson")


def random_line(rng: random.Random) -> bytes:
    """A good line, an odd one, one of odd values, or one of these with some bytes changed."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice([GOOD, GOOD, NESTED])
    if kind < 0.5:
        return rng.choice(LINES)
    pairs = []
    for name in rng.sample(["user", "item", "kind", "time", "x", "us\\u0065r", "user"], 7):
        usual = {"user": "3", "item": '"i4"', "kind": '"buy"', "time": "6"}.get(name, "[null]")
        value = usual if rng.random() < 0.8 else rng.choice(VALUES)
        if rng.random() < 0.9:
            pairs.append(f'"{name}"{rng.choice(SPACES)}:{rng.choice(SPACES)}{value}')
    line = f"{rng.choice(SPACES)}{{{','.join(pairs)}}}{rng.choice(SPACES)}".encode()
    if kind < 0.9:
        return line
    place = rng.randrange(len(line) + 1)
    return (
        line[:place] + rng.choice([b"", b'"', b"\\", b"{", b"}", b",", b"\xff"]) + line[place + 1 :]
    )


OPTIONS: list[dict[str, Any]] = [
    {},
    {"null_values": ["7", "-7", "1e3"]},
    {"rename": {'["click"]': "click", '["é"]': "buy", "7": "buy", "true": "click"}},
    {"time_unit": "s", "ignore": ["buy"]},
    {"time_format": "%Y-%m-%d"},
    {"columns": {"user": "user", "item": "x", "behavior": "kind"}},
]


@pytest.mark.parametrize("seed", range(60))
def test_the_two_readers_agree_on_any_lines(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    lines = [GOOD, *(random_line(rng) for _ in range(rng.randrange(60)))]
    content = rng.choice([b"", BOM]) + rng.choice([b"\n", b"\r\n", b"\n\n"]).join(lines)
    content += rng.choice([b"", b"\n"])
    pack = rng.choice([bytes, gzip.compress, lambda text: pa.compress(text, "zstd", asbytes=True)])
    source = source_of(tmp_path / "log.ndjson", pack(content))
    data = DataConfig(**{**DATA.model_dump(), **rng.choice(OPTIONS)})
    exact = judged(read_carefully(source, data))
    for piece in (rng.choice([1, 7]), rng.randrange(30, 600), 1 << 24):
        monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
        frames = list(read_rows(source, data))
        assert judged(frames) == exact
        numbers = [frame.filter(pl.col("reason").is_not_null())["row_number"] for frame in frames]
        assert pl.concat(numbers).is_sorted()


@pytest.fixture
def given_to_the_rules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that were read one by one."""
    lines: list[str] = []

    def read(line: careful.Line, columns: dict[str, str]) -> careful.Row:
        lines.append(line[0])
        return careful.object_row(line, columns)

    monkeypatch.setattr(ndjson, "object_row", read)
    return lines


@pytest.mark.parametrize(
    "odd",
    [
        GOOD[:-1],
        NESTED[:-1],
        b"5",
        GOOD + b" " + GOOD,
        BOM + GOOD,
        b"x^y",
        GOOD.replace(b"click", b"\xff"),
        GOOD.replace(b"3", b"[3]"),
        GOOD.replace(b"4", b'{"id":4}'),
        GOOD.replace(b"3", b"3.5"),
        GOOD.replace(b"3", b'"3.5"'),
        GOOD.replace(b"4", b"true"),
        GOOD.replace(b'"click"', b'["click"]'),
        GOOD.replace(b"click", b"\\ud83d"),
        GOOD.replace(b"click", b"\\ud83d\\ue000"),
        GOOD.replace(b"click", b"\\ud83d\\ud700"),
        GOOD.replace(b"5", b"1e400"),
        GOOD.replace(b"3", b"9007199254740993.0"),
        GOOD.replace(b"4", b"-9.007199254740993e15"),
    ],
)
@pytest.mark.parametrize("good", [GOOD, GOOD.replace(b"3", b'"u3"'), NESTED])
@pytest.mark.parametrize("piece", [1000, 1 << 24])
def test_an_odd_line_costs_only_itself_the_quick_parse(
    odd: bytes,
    good: bytes,
    piece: int,
    given_to_the_rules: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [*[good] * 100, odd, *[good] * 99, odd]
    source = source_of(tmp_path / "log.ndjson", b"\n".join(lines))
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece)
    rows = judged(list(read_rows(source, DATA)))
    assert given_to_the_rules == [odd.decode(errors="replace")] * 2
    assert rows == judged(read_carefully(source, DATA))
    assert len(rows) == 201


def test_a_clean_log_needs_no_rules(given_to_the_rules: list[str], tmp_path: Path) -> None:
    emoji = GOOD.replace(b"5", rb'"\ud83d\uDE00 \u00e9 \\"')
    huge = GOOD.replace(b"6", b"6.5").replace(b"3", b"18446744073709551617")
    hashed = huge.replace(b'"x":5', b'"x":"5e7.12345678901234567.5"')
    lines = [GOOD, b"", emoji, b" " + NESTED + b"\r", huge, hashed, GOOD.replace(b"click", b"off")]
    source = source_of(tmp_path / "log.ndjson", b"\n".join(lines))
    rows = judged(list(read_rows(source, DATA)))
    assert rows == judged(read_carefully(source, DATA))
    assert rows[0] == (6, "unknown behavior", lines[-1].decode())  # the line as it is
    assert given_to_the_rules == []


def test_a_line_that_seems_to_be_an_object_sends_its_piece_through_the_rules(
    given_to_the_rules: list[str], tmp_path: Path
) -> None:
    """polars finds such a number too large, its JSONPath does not."""
    large = GOOD.replace(b"5", b"[1" + b"0" * 60 + b"]")
    source = source_of(tmp_path / "log.ndjson", b"\n".join([GOOD, large, GOOD, b""]))
    rows = judged(list(read_rows(source, DATA)))
    assert [row[0] for row in rows] == [1, 2, 3]
    assert len(given_to_the_rules) == 3


def test_rows_of_many_pieces_are_numbered_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10)
    lines = [json.dumps({"user": n, "item": -n, "kind": "buy", "time": 1}) for n in range(50)]
    source = source_of(tmp_path / "log.ndjson", "\n\n".join(lines).encode())
    rows = judged(list(read_rows(source, DATA)))
    assert [row[:3] for row in rows] == [(n + 1, str(n), str(-n)) for n in range(50)]
