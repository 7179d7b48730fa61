from bigel.compare.plot import draw
from tests.compare.test_table import ROWS


def test_the_plot_names_contestants_and_says_what_its_lines_are(tmp_path):
    svg = draw(ROWS, 5, "valid", tmp_path / "c.png")
    for words in ("ours", "theirs", "buy", "NDCG@5, valid", "line: its 95 % interval"):
        assert words in svg
    assert (tmp_path / "c.png").stat().st_size > 0
