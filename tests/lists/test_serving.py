import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bigel.lists import serving
from bigel.lists.bundle import build_bundle
from bigel.lists.serving import Recommender, top_k
from bigel.store import Record, Workspace
from tests import fabricate

CLICK, PURCHASE = 0, 1


def bundle_at(root: Path, user_ids: Any = None) -> Record:
    workspace = Workspace(root)
    return build_bundle(*fabricate.bundle_inputs(workspace, user_ids), fabricate.CONFIG, workspace)


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return Recommender.load(bundle_at(tmp_path_factory.mktemp("bundle")).path)


def remembered(behavior: int, user: int, item: int, score: float) -> float:
    """Add up the funnel memory of one pair, over all splits."""
    has = [
        any((user, item) in pairs[name] for pairs in fabricate.PAIRS.values())
        for name in fabricate.BEHAVIORS
    ]
    if has[behavior] or not any(has):
        return 0.0
    tensors = fabricate.embeddings()
    weights = tensors["memory_weights"][behavior, sum(2**j for j, it in enumerate(has) if it)]
    inputs = [*tensors["memory_features"][behavior, :, item], score]
    return sum(float(w) * float(x) for w, x in zip(weights, inputs, strict=True))


def naive(behavior: int, user: int, k: int, exclude: str) -> tuple[list[int], list[float], bool]:
    """Score item by item, sort by (score falling, item)."""
    tensors = fabricate.embeddings()
    everything = [pairs for of_split in fabricate.PAIRS.values() for pairs in of_split.values()]
    known = any(u == user for pairs in everything for u, _ in pairs)
    scores = {}
    for item in range(fabricate.ITEMS):
        if known:
            dot = sum(
                float(a) * float(b)
                for a, b in zip(
                    tensors["user_emb"][behavior, user],
                    tensors["item_emb"][behavior, item],
                    strict=True,
                )
            )
            score = dot + float(tensors["item_bias"][behavior, item])
            score += float(tensors["item_trend"][behavior, item])
            scores[item] = score + remembered(behavior, user, item, score)
        else:
            name = fabricate.BEHAVIORS[behavior]
            count = sum(i == item for pairs in fabricate.PAIRS.values() for _, i in pairs[name])
            if count:
                scores[item] = float(count)
    for k_other, name in enumerate(fabricate.BEHAVIORS):
        if exclude == "any" or (exclude == "same" and k_other == behavior):
            for pairs in fabricate.PAIRS.values():
                for u, i in pairs[name]:
                    if u == user:
                        scores.pop(i, None)
    best = sorted(scores, key=lambda i: (-scores[i], i))[:k]
    return best, [scores[i] for i in best], not known


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 7, 255, 256, 257, 600, 1024])),
        elements=st.sampled_from([-np.inf, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0]),
    ),
    st.integers(1, 40),
)
@example(np.full((2, 512), -np.inf, np.float32), 3)
@example(np.zeros((3, 1024), np.float32), 40)
def test_top_k_is_a_full_sort_cut_off(scores: Any, k: int) -> None:
    k = min(k, scores.shape[1])
    row, rank, column, score = top_k(scores.copy(), k)
    assert (np.diff(row) >= 0).all()
    for b in range(len(scores)):
        order = [i for i in np.lexsort((np.arange(scores.shape[1]), -scores[b]))
                 if scores[b, i] > -np.inf][:k]  # fmt: skip
        mine = row == b
        assert column[mine].tolist() == order
        assert score[mine].tolist() == scores[b, order].tolist()
        assert rank[mine].tolist() == list(range(1, len(order) + 1))


@pytest.mark.parametrize("exclude", serving.EXCLUDE)
@pytest.mark.parametrize("behavior", [CLICK, PURCHASE])
@pytest.mark.parametrize("k", [1, 2, 4, 100])
def test_lists_are_those_of_a_naive_ranking(
    recommender: Recommender, behavior: int, k: int, exclude: str
) -> None:
    users = np.array([4, 0, 1, -1, 2, 3, 0])
    lists = recommender.recommend(behavior, users, k, serving.Candidates(exclude))
    for row, user in enumerate(users):
        mine = lists.row == row
        items, scores, popular = naive(behavior, user, k, exclude)
        assert lists.item[mine].tolist() == items
        assert lists.score[mine].tolist() == scores
        assert lists.rank[mine].tolist() == list(range(1, len(items) + 1))
        assert lists.popular[row] == popular


def test_worked_by_hand(recommender: Recommender) -> None:
    unknown = recommender.recommend(CLICK, np.array([-1]), 3)
    assert (unknown.item.tolist(), unknown.score.tolist()) == ([1, 2, 0], [4, 2, 1])
    everyone = recommender.recommend(CLICK, np.array([4, -1]), 3, only_popular=True)
    assert everyone.item.tolist() == [2, 0, 5, 1, 2, 0]  # user 4 clicked item 1, in test only
    assert everyone.popular.tolist() == [True, True]
    assert recommender.recommend(PURCHASE, np.array([-1]), 9).item.tolist() == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    users=st.lists(st.integers(-1, fabricate.USERS - 1), min_size=1, max_size=12),
    cells=st.integers(1, 60),
    exclude=st.sampled_from(serving.EXCLUDE),
    data=st.data(),
)
def test_the_size_of_a_block_changes_nothing(
    recommender: Recommender, users: list[int], cells: int, exclude: str, data: st.DataObject
) -> None:
    k = np.array(data.draw(st.lists(st.integers(1, 8), min_size=len(users), max_size=len(users))))
    whole = recommender.recommend(CLICK, np.array(users), k, serving.Candidates(exclude))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "SCORES_AT_A_TIME", cells)
        parts = recommender.recommend(CLICK, np.array(users), k, serving.Candidates(exclude))
    for name in ("row", "rank", "item", "score", "popular"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert all((whole.row == row).sum() <= k[row] for row in range(len(users)))


@pytest.mark.parametrize("at_once,sizes", [(1, [2, 2, 2, 1]), (3, [3, 3, 1]), (9, [7])])
def test_memory_is_bounded_by_blocks(
    recommender: Recommender, monkeypatch, at_once: int, sizes: list[int]
) -> None:
    seen: list[tuple[int, ...]] = []

    def spy(scores: Any, k: int) -> Any:
        seen.append(scores.shape)
        return top_k(scores, k)

    monkeypatch.setattr(serving, "top_k", spy)
    monkeypatch.setattr(serving, "SCORES_AT_A_TIME", 2 * fabricate.ITEMS)
    monkeypatch.setattr(serving, "USERS_AT_A_TIME", at_once)
    recommender.recommend(CLICK, np.array([0, 1, 2, 3, 0, 1, 2]), 2)
    assert sorted(shape[0] for shape in seen) == sorted(sizes)  # threads take blocks as they come


def test_no_requests_give_no_lists(recommender: Recommender) -> None:
    lists = recommender.recommend(CLICK, np.empty(0, np.int64), 3)
    assert len(lists.row) == len(lists.item) == len(lists.popular) == 0


def test_a_bundle_of_another_format_is_refused(tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path)
    facts = json.loads(bundle.file("model.json").read_text())
    bundle.file("model.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(ValueError, match="bundle format 99, this code reads 6"):
        Recommender.load(bundle.path)


# --- the MLflow model


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a registered model's folder, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(tmp_path_factory.mktemp("w"))
        fabricate.register_one(workspace)
    copy = tmp_path_factory.mktemp("elsewhere") / "model"
    shutil.move(next(workspace.mlruns.rglob("artifacts/model")), copy)
    shutil.rmtree(workspace.root)
    return copy


@pytest.fixture(scope="module")
def model(artifact: Path) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(artifact))


@pytest.fixture(scope="module")
def of_strings(tmp_path_factory: pytest.TempPathFactory) -> serving.TopK:
    """A model whose user ids are strings, without MLflow's own checks around it."""
    served = serving.TopK()
    ids = ["a", "007", "x y", "é", "7"]
    served.recommender = Recommender.load(bundle_at(tmp_path_factory.mktemp("s"), ids).path)
    return served


def test_a_loaded_model_has_made_what_a_first_session_would_wait_for(artifact: Path) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(artifact)).unwrap_python_model()
    assert {"_usual_length", "offset"} <= set(vars(loaded.recommender))


def test_the_model_answers_for_user_behavior_and_k(model: Any) -> None:
    frame = pd.DataFrame(
        {"user_id": [100, 999, 100, 104], "behavior": ["purchase", "click", "click", "click"],
         "k": [2, 2, 1, 3]}
    )  # fmt: skip
    answer = model.predict(frame)
    expected = []
    for user_id, behavior, k in frame.itertuples(index=False):
        user = user_id - 100 if user_id < 900 else -1
        items, scores, popular = naive(fabricate.BEHAVIORS.index(behavior), user, int(k), "same")
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1):
            source = "popular" if popular else "model"
            expected.append((user_id, behavior, rank, f"item {item}", score, source))
    assert list(answer.columns) == ["user_id", "behavior", "rank", "item_id", "score", "source"]
    assert list(answer.itertuples(index=False, name=None)) == expected
    assert (answer["rank"].dtype, answer["score"].dtype) == (np.int32, np.float32)


def test_k_is_optional_and_exclude_is_a_parameter(model: Any) -> None:
    frame = pd.DataFrame({"user_id": [100], "behavior": ["click"]})
    for params, exclude in (
        (None, "same"),
        ({"exclude": "any"}, "any"),
        ({"exclude": "none"}, "none"),
    ):
        answer = model.predict(frame, params=params)
        items = naive(CLICK, 0, 20, exclude)[0]
        assert answer["item_id"].tolist() == [f"item {i}" for i in items]


def test_asked_twice_it_answers_twice_each_with_its_k(model: Any) -> None:
    frame = pd.DataFrame({"user_id": [100, 101, 100, 100], "behavior": "click", "k": [1, 1, 2, 1]})
    answer = model.predict(frame)
    expected = [[100, 1], [101, 1], [100, 1], [100, 2], [100, 1]]
    assert answer[["user_id", "rank"]].to_numpy().tolist() == expected


def test_the_example_and_the_signature_come_with_it(model: Any) -> None:
    signature = model.metadata.signature
    assert signature.inputs is None  # else MLflow would cast and drop before the model sees it
    assert [param.name for param in signature.params.params] == ["exclude"]
    assert signature.outputs.input_names() == [*serving.COLUMNS]
    example = model.input_example
    assert tuple(example.columns) == serving.FIELDS
    assert example["behavior"].tolist() == ["click", "purchase"]
    assert example["exclude_items"].tolist() == [["item 0"], ["item 0"]]
    assert set(model.predict(example)["user_id"]) == {100}


@pytest.mark.parametrize(
    ("columns", "params", "message"),
    [
        ({"behavior": ["view"]}, None, r"behavior, row 0 .*'view'; give one of click, purchase"),
        ({"behavior": [None]}, None, "behavior, row 0 .* give one of click, purchase"),
        ({"k": [-3]}, None, r"k, row 0 .*: -3; give an integer from 1"),
        ({"k": [0]}, None, r"k, row 0 .*: 0; give an integer from 1"),
        ({"user_id": ["abc"]}, None, "user_id"),
        ({"user_id": [1.5]}, None, "user_id"),
        ({"k": ["many"]}, None, "k"),
        ({"recent": ["item 1"]}, None, "recent"),
        (
            {"recent": [[{"item_id": "item 1", "behavior": "view"}]]},
            None,
            r"recent, row 0 .*'view'; give one of click, purchase",
        ),
        ({"exclude_items": [[3]]}, None, "exclude_items"),
        ({}, {"exclude": "some"}, r"exclude = 'some'; give one of same, any, none"),
    ],
)
def test_bad_requests_are_refused_by_name(
    model: Any, columns: dict[str, Any], params: dict[str, str] | None, message: str
) -> None:
    from mlflow.exceptions import MlflowException

    good = {"user_id": [100], "behavior": ["click"], "k": [3]}
    with pytest.raises(MlflowException, match=message) as refused:
        model.predict(pd.DataFrame(good | columns), params=params)
    assert refused.value.get_http_status_code() == 400


def test_a_missing_column_is_named(model: Any) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="behavior"):
        model.predict(pd.DataFrame({"user_id": [100]}))
    with pytest.raises(MlflowException, match="no column behavior: give user_id, behavior"):
        model.unwrap_python_model().predict(None, pd.DataFrame({"user_id": [100]}))


@pytest.mark.parametrize("bad", [7, None, np.nan])
def test_string_ids_are_strings(of_strings: serving.TopK, bad: Any) -> None:
    from mlflow.exceptions import MlflowException

    frame = pd.DataFrame({"user_id": ["a", bad], "behavior": "click"}, dtype=object)
    with pytest.raises(MlflowException, match=r"user_id, row 1 .* give a string"):
        of_strings.predict(None, frame)


def test_string_ids_are_matched_exactly(of_strings: serving.TopK) -> None:
    frame = pd.DataFrame({"user_id": ["007", "07", "x y"], "behavior": "click", "k": 1})
    answer = of_strings.predict(None, frame)
    assert answer["user_id"].tolist() == ["007", "07", "x y"]
    assert answer["source"].tolist() == ["model", "popular", "model"]


def test_ids_that_no_model_knows_are_passed_over(model: Any, of_strings: serving.TopK) -> None:
    for served, user in ((model.unwrap_python_model(), 10**18), (of_strings, "")):
        frame = pd.DataFrame({"user_id": [user], "behavior": ["click"], "k": [2]})
        frame["recent"] = [[{"item_id": "", "behavior": "purchase"}]]
        answer = served.predict(None, frame)
        assert answer["user_id"].tolist() == [user, user]
        assert answer["item_id"].tolist() == ["item 1", "item 2"]
        assert answer["source"].tolist() == ["popular", "popular"]


def test_only_behaviors_that_are_asked_are_ranked(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[int] = []
    whole = Recommender.recommend

    def spy(self: Recommender, behavior: int, *more: Any) -> Any:
        ranked.append(behavior)
        return whole(self, behavior, *more)

    monkeypatch.setattr(type(model.unwrap_python_model().recommender), "recommend", spy)
    model.predict(pd.DataFrame({"user_id": [100, 101], "behavior": "purchase"}))
    assert ranked == [PURCHASE]


def test_no_rows_give_no_rows(of_strings: serving.TopK) -> None:
    answer = of_strings.predict(None, pd.DataFrame({"user_id": [], "behavior": []}, dtype=object))
    assert answer.empty
    assert list(answer.columns) == ["user_id", "behavior", "rank", "item_id", "score", "source"]


def test_many_threads_get_their_own_answers(model: Any) -> None:
    wrong: list[int] = []

    def ask(user: int) -> None:
        frame = pd.DataFrame({"user_id": [100 + user], "behavior": ["click"]})
        expected = [f"item {i}" for i in naive(CLICK, user, 20, "same")[0]]
        for _ in range(5):
            if model.predict(frame)["item_id"].tolist() != expected:
                wrong.append(user)

    threads = [threading.Thread(target=ask, args=(user,)) for user in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_scoring_server_answers_and_refuses(model: Any) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    with TestClient(init(model)) as server:
        request = {
            "dataframe_records": [{"user_id": 999, "behavior": "click", "k": 1}],
            "params": {"exclude": "any"},
        }
        answer = server.post("/invocations", json=request)
        assert answer.json()["predictions"] == [
            {"user_id": 999, "behavior": "click", "rank": 1, "item_id": "item 1", "score": 4.0,
             "source": "popular"}
        ]  # fmt: skip
        request["dataframe_records"][0]["behavior"] = "view"
        refused = server.post("/invocations", json=request)
        assert refused.status_code == 400
        assert "give one of click, purchase" in refused.json()["message"]


def ask(model: Any, user: int, behavior: str, **more: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": [user], "behavior": [behavior], "k": [9]})
    for name, value in more.items():
        frame[name] = [value]
    return model.predict(frame)


def test_excluded_items_are_left_out_and_unknown_ones_passed_over(model: Any) -> None:
    before = ask(model, 100, "click")["item_id"].tolist()
    after = ask(model, 100, "click", exclude_items=[before[0], "no such item"])
    assert after["item_id"].tolist() == before[1:]


def test_a_recent_event_counts_as_seen(model: Any) -> None:
    first = ask(model, 100, "click")["item_id"][0]
    event = {"item_id": first, "behavior": "click"}
    assert first not in ask(model, 100, "click", recent=[event])["item_id"].tolist()
    purchase = {"item_id": first, "behavior": "purchase"}
    assert first in ask(model, 100, "click", recent=[purchase])["item_id"].tolist()


def test_nothing_recent_changes_nothing(model: Any) -> None:
    unknown = [{"item_id": "no such item", "behavior": "click"}]
    for recent in ([], unknown):
        pd.testing.assert_frame_equal(ask(model, 100, "click", recent=recent),
                                      ask(model, 100, "click"))  # fmt: skip


def test_an_unknown_user_with_a_session_gets_the_model(model: Any) -> None:
    assert set(ask(model, 999, "click")["source"]) == {"popular"}
    answer = ask(model, 999, "click", recent=[{"item_id": "item 1", "behavior": "purchase"}])
    assert set(answer["source"]) == {"model"}


def session_of(events: list[tuple[int, int, int]]) -> serving.Session:
    columns = np.array(events, dtype=np.int64).reshape(-1, 3).T
    return serving.Session(*columns, *(np.empty(0, np.int64) for _ in range(4)))


def test_the_session_moves_a_user_as_if_its_items_had_been_known(
    recommender: Recommender,
) -> None:
    last_unknown = np.arange(fabricate.USERS) < fabricate.USERS - 1
    recommender = replace(recommender, events=recommender.events * last_unknown)
    users = np.array([0, -1, 1])
    session = session_of([(0, CLICK, 2), (0, PURCHASE, 3), (1, CLICK, 4)])
    found = recommender._vectors(PURCHASE, users, session)
    emb, items = recommender.user_emb[PURCHASE], recommender.item_emb[PURCHASE]

    def unit(x: Any) -> Any:
        return x / np.linalg.norm(x)

    events = int(recommender.events[0])
    direction = events * unit(emb[0]) + unit(items[2]) + unit(items[3])
    expected = [np.linalg.norm(emb[0]) * unit(direction)]
    trained = emb[recommender.events > 0]
    expected += [np.linalg.norm(trained, axis=1).mean() * unit(items[4]), emb[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_session_is_the_same_as_having_seen_it(tmp_path: Path) -> None:
    """Mask and memory take a recent event as they take one of the log."""
    recommender = Recommender.load(bundle_at(tmp_path).path)
    frozen = replace(recommender, user_emb=recommender.user_emb.copy())
    crow, col = recommender.seen[CLICK]
    new = next(i for i in range(fabricate.ITEMS) if i not in col[crow[0] : crow[1]])
    place = int(np.searchsorted(col[crow[0] : crow[1]], new))
    more = (crow + (np.arange(len(crow)) > 0), np.insert(col, place, new))
    logged = replace(frozen, seen=(more, recommender.seen[PURCHASE]))
    # No direction but the user's own: the session must not move the vector here.
    still = replace(frozen, item_emb=np.zeros_like(frozen.item_emb))
    logged = replace(logged, item_emb=still.item_emb)
    users, session = np.array([0]), session_of([(0, CLICK, new)])
    for behavior in (CLICK, PURCHASE):
        for exclude in ("same", "any"):
            one = still.recommend(behavior, users, 9, serving.Candidates(exclude), session)
            other = logged.recommend(behavior, users, 9, serving.Candidates(exclude))
            assert one.item.tolist() == other.item.tolist()
            np.testing.assert_allclose(one.score, other.score, rtol=1e-5)


def test_company_and_order_of_requests_change_nothing(recommender: Recommender) -> None:
    users = np.array([0, 1, 2, -1])
    session = session_of([(0, CLICK, 2), (2, PURCHASE, 1), (3, CLICK, 0), (3, CLICK, 4)])
    everyone = recommender.recommend(CLICK, users, 4, session=session)
    for at in range(4):
        alone = recommender.recommend(
            CLICK, users[at : at + 1], 4, session=session.of(np.array([at]), 4)
        )
        mine = everyone.row == at
        assert alone.item.tolist() == everyone.item[mine].tolist()
        np.testing.assert_allclose(alone.score, everyone.score[mine], rtol=1e-5)


def test_a_request_with_a_session_over_http(model: Any) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    record = {"user_id": 999, "behavior": "click", "k": 2, "exclude_items": ["item 0"],
              "recent": [{"item_id": "item 1", "behavior": "click"}]}  # fmt: skip
    with TestClient(init(model)) as server:
        answer = server.post("/invocations", json={"dataframe_records": [record]})
        rows = answer.json()["predictions"]
        assert [row["source"] for row in rows] == ["model", "model"]
        assert not {"item 0", "item 1"} & {row["item_id"] for row in rows}
        for bad in ("x", [{"item_id": "item 1"}], [{"item_id": 3, "behavior": "click"}]):
            refused = server.post(
                "/invocations", json={"dataframe_records": [record | {"recent": bad}]}
            )
            assert refused.status_code == 400, bad
            assert "Traceback" not in refused.text


ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"bigel", "flows", "tests", "torch", "polars", "prefect"}:
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refuse())
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.DataFrame({"user_id": [100, 999], "behavior": ["purchase", "click"], "k": [2, 1]})
print(model.predict(frame).to_json(orient="records"))
print(sys.modules[type(model.unwrap_python_model()).__module__].__file__)
"""


def test_the_artifact_alone_answers(artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(artifact)],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, code = done.stdout.splitlines()
    assert Path(code) == artifact / "serving.py"
    items = naive(PURCHASE, 0, 2, "same")[0]
    assert [row["item_id"] for row in json.loads(answer)] == [
        *(f"item {i}" for i in items),
        "item 1",
    ]
    assert [row["source"] for row in json.loads(answer)] == ["model"] * len(items) + ["popular"]
    assert list(tmp_path.iterdir()) == [script]
