"""Requests through MLflow's own scoring app, in process: what a client sends is what is judged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import fabricate

GOOD = {"user_id": 100, "behavior": "click"}  # has items 0 and 1 (train) and 2 (valid)
HUGE = 2**63


def scoring_app(root: Path, user_ids: Any = None) -> Any:
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(root)
        fabricate.register_one(workspace, user_ids=user_ids)
        (place,) = workspace.mlruns.rglob("artifacts/model")
        return TestClient(init(mlflow.pyfunc.load_model(str(place))))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with scoring_app(tmp_path_factory.mktemp("numbers")) as client:
        yield client


@pytest.fixture(scope="module")
def app_of_strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with scoring_app(tmp_path_factory.mktemp("strings"), ["a", "007", "x y", "é", "7"]) as client:
        yield client


def refusal(app: Any, *records: Any, **more: Any) -> str:
    refused = app.post("/invocations", json={"dataframe_records": list(records), **more})
    assert refused.status_code == 400, refused.text
    assert "Traceback" not in refused.text
    return str(refused.json()["message"])


def items(app: Any, *records: Any, **more: Any) -> dict[tuple[Any, str], list[str]]:
    answer = app.post("/invocations", json={"dataframe_records": list(records), **more})
    assert answer.status_code == 200, answer.text
    found: dict[tuple[Any, str], list[str]] = {}
    for row in answer.json()["predictions"]:
        found.setdefault((row["user_id"], row["behavior"]), []).append(row["item_id"])
    return found


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"user_id": 100.9}, "user_id, row 1 (from 0): 100.9; give an integer"),
        ({"user_id": HUGE}, f"user_id, row 1 (from 0): {HUGE}; give an integer"),
        ({"user_id": 1e19}, "user_id, row 1 (from 0): 1e+19; give an integer"),
        ({"user_id": False}, "user_id, row 1 (from 0): False; give an integer"),
        ({"user_id": "100"}, "user_id, row 1 (from 0): '100'; give an integer"),
        ({"user_id": None}, "user_id, row 1 (from 0): nan; give an integer"),
        ({"user_id": [100]}, "user_id, row 1 (from 0): [100]; give an integer"),
        ({"behavior": None}, "behavior, row 1 (from 0): nan; give one of click, purchase"),
        ({"behavior": 0}, "behavior, row 1 (from 0): 0; give one of click, purchase"),
        ({"behavior": ["click"]}, "behavior, row 1 (from 0): ['click']; give one of"),
        ({"k": 2.9}, "k, row 1 (from 0): 2.9; give an integer from 1"),
        ({"k": True}, "k, row 1 (from 0): True; give an integer from 1"),
        ({"k": 0}, "k, row 1 (from 0): 0; give an integer from 1"),
        ({"k": -1}, "k, row 1 (from 0): -1; give an integer from 1"),
        ({"k": HUGE}, f"k, row 1 (from 0): {HUGE}; give an integer from 1"),
        ({"k": 1e300}, "k, row 1 (from 0): 1e+300; give an integer from 1"),
        ({"k": "3"}, "k, row 1 (from 0): '3'; give an integer from 1"),
        ({"recent": "item 1"}, "recent, row 1 (from 0): 'item 1'; give a list"),
        ({"recent": [1]}, 'recent, row 1 (from 0): 1; give {"item_id": …, "behavior": …}'),
        ({"recent": [{"item_id": "item 1"}]}, "recent, row 1 (from 0): {'item_id': 'item 1'}"),
        (
            {"recent": [{"item_id": 1, "behavior": "click"}]},
            "recent, row 1 (from 0): 1; give a string",
        ),
        ({"exclude_items": "item 1"}, "exclude_items, row 1 (from 0): 'item 1'; give a list"),
        ({"exclude_items": [1]}, "exclude_items, row 1 (from 0): 1; give a string"),
        ({"exclude_items": [None]}, "exclude_items, row 1 (from 0): None; give a string"),
        ({"only_items": [1]}, "only_items, row 1 (from 0): 1; give a string"),
    ],
    ids=str,
)
@pytest.mark.parametrize("with_good", [True, False])
def test_a_wrong_value_is_refused_with_its_field_and_row(
    app: Any, wrong: dict[str, Any], said: str, with_good: bool
) -> None:
    """Beside a good record, and in both of two, since pandas types a column by all its values."""
    good = GOOD | {"k": 3}
    first = good if with_good else good | wrong
    if not with_good:
        said = said.replace("row 1", "row 0").replace("nan", "None")
    assert said in refusal(app, first, good | wrong)


@pytest.mark.parametrize(
    ("name", "value", "lacking"),
    [
        ("k", 3, 5),
        ("recent", [{"item_id": "item 3", "behavior": "click"}], None),
        ("exclude_items", ["item 3"], None),
        ("only_items", ["item 3"], None),
    ],
)
@pytest.mark.parametrize("gap", ["absent", "null"])
def test_each_record_may_leave_each_optional_field_out(
    app: Any, name: str, value: Any, lacking: Any, gap: str
) -> None:
    ask = {"user_id": 100, "behavior": "purchase"}
    other = {"user_id": 101, "behavior": "purchase"}
    given, left = ask | {name: value}, other | ({name: None} if gap == "null" else {})
    together = items(app, given, left)
    assert together == items(app, given) | items(app, other) == items(app, left, given)
    if name == "k":
        assert [len(found) for found in together.values()] == [3, lacking - 1]


def test_null_everywhere_is_the_default(app: Any) -> None:
    gaps = {"k": None, "recent": None, "exclude_items": None, "only_items": None}
    assert items(app, GOOD | gaps, GOOD | gaps | {"user_id": 101}) == items(
        app, GOOD, GOOD | {"user_id": 101}
    )


@pytest.mark.parametrize("name", ["exclude", "Recent", "exclude_item", "K", ""])
def test_an_unknown_field_is_refused_even_in_one_record(app: Any, name: str) -> None:
    said = refusal(app, GOOD, GOOD | {name: ["item 3"]})
    assert f"unknown or repeated column {name!r}" in said
    assert "if you like, k, recent, exclude_items, only_items" in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_records": []}, "no column user_id"),
        ({"dataframe_records": [{"user_id": 100}]}, "no column behavior"),
        ({"dataframe_split": {"data": [[100, "click"]]}}, "unknown or repeated column 0"),
        (
            {"dataframe_split": {"columns": ["user_id", "behavior", "k", "k"],
                                 "data": [[100, "click", 1, 2]]}},
            "unknown or repeated column 'k'",
        ),
        ({"inputs": {"user_id": [100], "behavior": ["click"]}}, "give dataframe_records"),
        ({"instances": [GOOD]}, "give dataframe_records"),
        ({"dataframe_records": [GOOD], "params": {"exclude": "some"}}, "exclude = 'some'"),
        ({"dataframe_records": [GOOD], "params": {"exclude": 1}}, "exclude"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_shape_is_refused(app: Any, body: dict[str, Any], said: str) -> None:
    refused = app.post("/invocations", json=body)
    assert refused.status_code == 400, refused.text
    assert said in refused.json()["message"]
    assert "Traceback" not in refused.text


def test_what_mlflow_drops_before_the_model_sees_it(app: Any) -> None:
    """docs/security.md tells so: unknown params and keys beside dataframe_records."""
    plain = items(app, GOOD)
    assert items(app, GOOD, params={"exclud": "none"}) == plain
    assert items(app, GOOD, exclude_items=["item 3"]) == plain
    assert items(app, GOOD, params={"exclude": "none"}) != plain


@pytest.mark.parametrize("wrong", [7, 7.0, True, None, ["a"]])
def test_ids_of_strings_are_strings(app_of_strings: Any, wrong: Any) -> None:
    record = {"user_id": wrong, "behavior": "click"}
    good = {"user_id": "7", "behavior": "click"}
    assert "user_id, row 1 (from 0)" in refusal(app_of_strings, good, record)
    assert "user_id, row 0 (from 0)" in refusal(app_of_strings, record)


def test_ids_at_the_ends_of_64_bits_are_answered_as_they_are(app: Any) -> None:
    for user in (2**63 - 1, -(2**63), 0):
        assert list(items(app, GOOD | {"user_id": user})) == [(user, "click")]
    mixed = items(app, *(GOOD | {"user_id": user} for user in (2**53 + 1, -5)))
    assert list(mixed) == [(2**53 + 1, "click"), (-5, "click")]
