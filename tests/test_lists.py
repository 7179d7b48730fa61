from pathlib import Path
from typing import Any

import pytest

from bigel import lists
from bigel.config import Config
from bigel.errors import DataError, UnreachableError
from bigel.workspace import Record, Workspace

AWAY, DAMAGED = UnreachableError("no answer"), DataError("the champion is damaged")
MADE = Record("recommend", "f" * 24, "/lists", False, 0.0)
LAST, NEW = "stored:the last champion", "stored:new"


class Asked:
    """A ``step`` whose function notes what it was asked; without a named model it fails."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, list[dict[str, Any]]()

    def __call__(self, function: Any) -> Any:
        assert function is lists.recommend

        def call(config: Config, workspace: Workspace, **asked: Any) -> Record:
            self.calls.append(asked)
            if asked["model"] in (None, "champion"):
                raise self.error
            return MADE

        return call


@pytest.mark.parametrize(
    ("last", "trained", "origin"),
    [(LAST, "new", "the last champion that was seen"), (NEW, "new", "the model just trained"),
     (LAST, None, "the last champion that was seen")],
)  # fmt: skip
def test_without_the_registry_the_rule_of_the_workspace_answers_the_same_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    last: str, trained: str | None, origin: str,
) -> None:  # fmt: skip
    def rule(config: Config, workspace: Workspace, of_run: str | None) -> str:
        assert of_run == trained
        return last

    monkeypatch.setattr(lists, "offline_model", rule)
    step = Asked(AWAY)
    made = lists.make_lists(Config(), Workspace(tmp_path), step, trained=trained, users=["7"])
    assert made is MADE
    assert step.calls == [{"model": None, "users": ["7"]}, {"model": last, "users": ["7"]}]
    assert caplog.messages == [f"no answer; lists come from {origin}"]


@pytest.mark.parametrize(
    ("error", "model", "last"),
    [(AWAY, "champion", LAST), (AWAY, None, None), (DAMAGED, None, LAST)],
)
def test_no_other_model_answers_for_a_named_or_a_damaged_one_or_where_none_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Exception, model: str | None, last: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(lists, "offline_model", lambda *_: last)
    step = Asked(error)
    with pytest.raises(type(error), match=str(error)):
        lists.make_lists(Config(), Workspace(tmp_path), step, model)
    assert step.calls == [{"model": model}]
