import pytest
import torch
from markupsafe import Markup


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny products lose more to the hand-over between threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_drawing(monkeypatch):
    """Reports without their drawings, which take most of the time."""
    names = ("curves", "behaviors", "activity", "coverage")
    plots = dict.fromkeys(names, Markup("<svg></svg>"))
    monkeypatch.setattr("bigel.evaluate.report._draw", lambda *_: plots)
