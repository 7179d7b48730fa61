"""What a new model's lists are checked on before the gate sees it."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts import validate
from bigel.errors import ContractError
from bigel.lists import preview as module
from bigel.lists.bundle import build_bundle
from bigel.lists.preview import preview
from bigel.lists.recommend import recommend
from bigel.store import Record, Workspace
from tests.fabricate import CONFIG, bundle_inputs, register_one, workspace_at


def lists_of(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("recommendations.parquet"))


def previewed(workspace: Workspace) -> Record:
    return preview(build_bundle(*bundle_inputs(workspace), CONFIG, workspace), CONFIG, workspace)


def test_the_lists_are_those_that_the_registered_model_gives(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = previewed(workspace)
    assert validate("recommendations", record, CONFIG, workspace)["success"]
    register_one(workspace)
    assert lists_of(record).equals(lists_of(recommend(CONFIG, workspace)))
    assert previewed(workspace).reused


@pytest.mark.parametrize(("sample", "users"), [(2, [100, 103]), (3, [100, 102, 104]), (5, None)])
def test_a_sample_is_spread_over_all_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int, users: list[int] | None
) -> None:
    monkeypatch.setattr(module, "SAMPLE", sample)
    record = previewed(Workspace(tmp_path))
    expected = users or list(range(100, 105))
    assert lists_of(record)["user_id"].unique().sort().to_list() == expected
    assert record.counts["users"] == len(expected) <= sample


def test_lists_that_show_what_was_seen_break_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen items that the model forgets to leave out: user 100 has item 0 under both behaviors."""
    from bigel.lists.serving import Candidates, Recommender

    rank = Recommender.recommend_each

    def forgetful(
        self: Recommender, behaviors: object, users: object, k: int, candidates: object, **more: Any
    ) -> object:
        return rank(self, behaviors, users, k, Candidates("none"), **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Recommender, "recommend_each", forgetful)
    workspace = Workspace(tmp_path)
    record = previewed(workspace)
    with pytest.raises(ContractError, match="seen items are left out") as caught:
        validate("recommendations", record, CONFIG, workspace)
    assert caught.value.result is not None
    assert caught.value.result["handover"] == "recommendations"
