import json

from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.tracking.runs import flat_parameters, flatten, metric_name

PART = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(PART, PART)
def test_mlflow_accepts_every_behavior_name_and_none_collide(one: str, other: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    name = metric_name("test", "published", one, "ndcg@5")
    _validate_metric_name(name)
    assert name.count("/") == 3
    if one != other:
        assert name != metric_name("test", "published", other, "ndcg@5")


def test_values_that_are_not_finite_are_left_out() -> None:
    tree = {"a": {"x": float("nan"), "y": None, "z": float("inf"), "n": 3, "text": "t"}}
    assert dict(flatten(tree, "valid")) == {"valid/a/n": 3.0}


def test_parameters_name_every_field_once() -> None:
    config = parse_config({"data": {"rename": {"a/@b": "click"}}, "model": {"layers": [1, 2, 3]}})
    parameters = flat_parameters(config)
    assert parameters["model.layers"] == "[1, 2, 3]"
    assert json.loads(parameters["data.rename"]) == {"a/@b": "click"}
    assert parameters["recommend.exclude"] == "same"
    assert set(parameters) == {
        f"{section}.{key}"
        for section, values in config.model_dump(exclude={"rivals"}).items()
        for key in values
    }
