"""Where a text file is cut, and which rows are read on the way."""

import gzip
from pathlib import Path

import pytest

from bigel.config import DataConfig
from bigel.ingest import pieces
from bigel.ingest.head import Layout
from bigel.ingest.pieces import Lines, Piece, read_pieces
from bigel.ingest.read import read_rows
from bigel.ingest.sources import Source
from tests.ingest.reference import judged, read_carefully


def pieces_of(
    folder: Path, content: bytes, header: bool = False, quoting: bool = True
) -> list[Piece]:
    path = folder / "a.csv"
    path.write_bytes(content)
    layout = Layout(
        separator=",",
        width=2,
        columns={"user_id": 0, "item_id": 1},
        header=header,
        quoting=quoting,
    )
    return list(read_pieces(Source(path, "a.csv", "csv"), layout, Lines()))


def test_plain_lines_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8)
    content = "1,2\n\né,4\r\n5,6".encode()
    for stored in (content, b"\xef\xbb\xbf" + content, gzip.compress(content)):
        found = pieces_of(tmp_path, stored)
        assert b"".join(piece.text for piece in found) == content
        assert all(piece.text.endswith(b"\n") for piece in found[:-1])
        assert sum(piece.apart.height for piece in found) == 0


def test_an_open_row_moves_to_the_next_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8)
    one, two = pieces_of(tmp_path, b'1,2\n3,"4\n\n5\n6"\n7,8\n')
    assert (one.text, one.apart.height) == (b"1,2\n", 0)
    assert two.text == b" \n \n \n \n7,8\n"
    assert two.apart.rows() == [(0, "3", "4\n\n5\n6", None, '3,"4\n\n5\n6"')]


def test_an_open_row_of_the_last_piece_is_refused_alone(tmp_path: Path) -> None:
    one, two = pieces_of(tmp_path, b'1,2\n3,"4\n5,6')
    assert (one.text, two.text) == (b"1,2\n", b" \n5,6\n")
    assert two.apart.rows() == [(0, None, None, "broken quotes", '3,"4')]


def test_lines_with_separators_in_quotes_are_pointed_out(tmp_path: Path) -> None:
    content = b'1,"2"\n1,"2,3"\n"","say ""x"""\n"1\r2","3"\n1,"\xff,"\n1,2\n'
    (piece,) = pieces_of(tmp_path, content)
    assert piece.quoted.tolist() == [1, 2, 3]
    assert piece.apart["row_number"].to_list() == [4]
    assert piece.text == content.replace(b'1,"\xff,"', b" ")


def test_quotes_without_a_meaning_need_no_care(tmp_path: Path) -> None:
    (piece,) = pieces_of(tmp_path, b'1,"2\n3\xff,4\n', quoting=False)
    assert piece.text == b'1,"2\n \n'
    assert piece.quoted.tolist() == []


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"user,item\n", b" \n1,2\n"),
        (b"\n \r\n\nuser,item\r\n", b"\n \r\n\n \n1,2\n"),
        (b'"user\nof us",item\n', b" \n \n1,2\n"),
        (b'user,"item\n', b" \n1,2\n"),
        (b'user,"item, or not"\n', b" \n1,2\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_header_is_the_first_row(
    header: bytes, text: bytes, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", size)
    found = pieces_of(tmp_path, header + b"1,2\n", header=True)
    assert b"".join(piece.text for piece in found) == text
    assert sum(piece.apart.height + len(piece.quoted) for piece in found) == 0


def test_a_header_that_is_all_there_is(tmp_path: Path) -> None:
    (piece,) = pieces_of(tmp_path, b"user,item", header=True)
    assert piece.text.strip() == b""
    assert pieces_of(tmp_path, b"", header=True) == []


def test_a_piece_may_start_like_a_compressed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"user,item,behavior\n1,2,click\n" + b'x^1,2,click\nx^1,"2",click\n' * 40)
    data = DataConfig(columns={"user": "user", "item": "item"}, time_min=0)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 30)
    source = Source(path, path.name, "csv")
    assert judged(list(read_rows(source, data))) == judged(read_carefully(source, data))
