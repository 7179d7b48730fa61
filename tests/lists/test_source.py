from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigel.config import Config
from bigel.errors import DataError, UnreachableError
from bigel.lists import source as lists
from bigel.store import Record, Workspace

AWAY, DAMAGED = UnreachableError("no answer"), DataError("the champion is damaged")
MADE = Record("recommend", "f" * 24, "/lists", False, 0.0)
LAST, NEW = "stored:the last champion", "stored:new"
TRAINED = Record("register", "new", "/bundle", False, 0.0, {"loses": False})


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
    [(LAST, TRAINED, lists.LAST_SEEN), (NEW, TRAINED, "the model just trained"),
     (LAST, None, lists.LAST_SEEN)],
)  # fmt: skip
def test_without_the_registry_the_rule_of_the_workspace_answers_the_same_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    last: str, trained: Record | None, origin: str,
) -> None:  # fmt: skip
    def rule(config: Config, workspace: Workspace, of_run: str | None) -> str:
        assert of_run == (trained and trained.fingerprint)
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


@pytest.mark.parametrize("waiting", [{}, {"waiting": "entry"}])
@pytest.mark.parametrize(("last", "loses"), [(NEW, True), (NEW, False), (LAST, True)])
def test_a_model_that_loses_does_not_answer_for_want_of_a_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    last: str, loses: bool, waiting: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(lists, "offline_model", lambda *_: last)
    step, trained = Asked(AWAY), replace(TRAINED, counts=waiting | {"loses": loses})
    lists.make_lists(Config(), Workspace(tmp_path), step, trained=trained)
    by_rule = last == NEW and loses
    assert step.calls[-1] == {"model": last} | ({"only_popular": True} if by_rule else {})
    assert len(step.calls) == (1 if waiting else 2)  # a registry that was away is not asked again
    assert ("loses to popularity" in caplog.text) == by_rule
