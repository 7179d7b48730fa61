"""What the HTTP server answers, and what it refuses."""

import asyncio
import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from bigel import Recommender, __version__
from bigel.api import app as api
from bigel.api.app import MOST_BYTES, create_app
from bigel.api.asked import MOST_EXPLAINED, MOST_K
from bigel.api.champion import Follower, Served
from bigel.api.docs import docs_page
from bigel.config import parse_config
from bigel.lists import serving
from bigel.lists.serving import Candidates
from tests import fabricate
from tests.fabricate import BEHAVIORS, CONFIG, ITEMS, PAIRS
from tests.signals import timed


@pytest.fixture(scope="module", autouse=True)
def _own_home() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


LIMIT = "recommend.max_per_category"
FILTERS = {"cheap": "price < 25", "even": "price % 20 = 0", "none of them": "price > 1000"}


def followed(root: Path, user_ids: Any = None, filters: Any = None, **recommend: Any) -> Follower:
    workspace = fabricate.workspace_at(root)
    fabricate.register_one(workspace, user_ids=user_ids)
    tree = CONFIG.model_dump()
    if recommend:
        (root / "items.csv").write_text(
            "item_id,name,in_stock,price,category\n"
            + "".join(f"item {n},Thing {n},{n != 1},{10 * n},{n % 2}\n" for n in range(5))
        )
        named = {"path": str(root / "items.csv"), "filters": filters or {}}
        tree |= {"items": named, "recommend": recommend}
    return Follower(parse_config(tree), workspace)


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Follower:
    return followed(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def http(follower: Follower) -> TestClient:
    return TestClient(create_app(follower))


def items(answer: Any, behavior: str = "click") -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [one["item_id"] for one in answer.json()["lists"][behavior]["items"]]


@pytest.mark.parametrize("exclude", ["same", "any", "none"])
def test_lists_are_those_of_the_recommender(
    follower: Follower, http: TestClient, exclude: str
) -> None:
    answer = http.post("/lists", json={"user_id": 101, "k": 4, "exclude": exclude})
    served = follower.served.recommender
    assert list(answer.json()["lists"]) == list(BEHAVIORS)
    assert answer.json()["user_id"] == 101 and answer.json()["model"] == "models:/bigel/1"
    for k, name in enumerate(BEHAVIORS):
        expected = served.recommend(k, np.array([1]), 4, Candidates(exclude))
        found = answer.json()["lists"][name]
        assert found["source"] == "model"
        assert [(one["rank"], one["score"], one["name"]) for one in found["items"]] == [
            (rank, pytest.approx(float(score)), None)
            for rank, score in zip(expected.rank, expected.score, strict=True)
        ]
        assert items(answer, name) == served.item_ids[expected.item].tolist()


def test_without_a_policy_the_one_of_the_settings_counts(follower: Follower) -> None:
    each = replace(follower.served, exclude={"purchase": "none"})
    expected = replace(follower.served, exclude=["same", "none"])
    assert list(BEHAVIORS) == ["click", "purchase"]
    assert each.candidates(None).exclude == expected.exclude
    assert each.candidates("any").exclude == ["any", "any"]


def test_a_path_asks_for_the_same_as_a_body(http: TestClient) -> None:
    body = http.post("/lists", json={"user_id": 101, "k": 2, "behaviors": ["purchase"]})
    path = http.get("/users/101/lists", params={"k": 2, "behavior": "purchase"})
    assert path.json() == body.json() and list(path.json()["lists"]) == ["purchase"]


@pytest.mark.parametrize("user", [None, 999])
def test_a_visitor_gets_popular_items_and_after_a_click_her_own(
    http: TestClient, user: int | None
) -> None:
    first = http.post("/lists", json={"user_id": user})
    assert first.json()["lists"]["click"]["source"] == "popular"
    session = [{"item_id": "item 1", "behavior": "click"}]
    then = http.post("/lists", json={"user_id": user, "recent": session})
    assert then.json()["lists"]["click"]["source"] == "model"
    assert "item 1" in items(first) and "item 1" not in items(then)


def test_items_are_left_out_or_alone_by_request(http: TestClient) -> None:
    every = items(http.post("/lists", json={"exclude": "none"}))
    assert len(every) > 2
    left = items(http.post("/lists", json={"exclude_items": [every[0], "no such item"]}))
    assert left == every[1:]
    only = items(http.post("/lists", json={"only_items": [every[2], every[1], "no such item"]}))
    assert only == every[1:3]
    assert items(http.post("/lists", json={"only_items": []})) == []


def test_null_is_as_if_nothing_were_said(http: TestClient) -> None:
    fields = ("behaviors", "exclude", "recent", "exclude_items", "only_items", "filter")
    said = http.post("/lists", json={"user_id": 100, **dict.fromkeys(fields)})
    assert said.json() == http.post("/lists", json={"user_id": 100}).json() and items(said)


def test_a_history_is_what_the_model_knows(http: TestClient) -> None:
    found = http.get("/users/100/history").json()["history"]
    for name in BEHAVIORS:
        had = {f"item {i}" for part in PAIRS.values() for user, i in part[name] if user == 0}
        assert {one["item_id"] for one in found[name]} <= had
        assert {f"item {i}" for user, i in PAIRS["train"][name] if user == 0} <= {
            one["item_id"] for one in found[name]
        }
    missing = http.get("/users/999/history")
    assert missing.status_code == 404 and "999" in missing.json()["detail"]


def of_timed(place: Path) -> tuple[TestClient, Served]:
    """Serve a model of a log with times, which has neighbours."""
    recommender = serving.Recommender.load(timed.make(timed.log(), place).bundle())
    served = Served(recommender, (), (), "models:/m/1", "champion", False, None, 0.0)

    class Still:
        trouble = None

    still: Any = Still()
    still.served = served
    return TestClient(create_app(still)), served


def test_a_history_with_times_begins_with_the_latest(tmp_path: Path) -> None:
    http, served = of_timed(tmp_path)
    user = int(served.recommender.user_ids[3])
    rows = timed.log().filter(user_id=user)
    for name, had in http.get(f"/users/{user}/history").json()["history"].items():
        times = [one["at"] for one in had]
        assert times == sorted(times, reverse=True) and all(times)
        expected = set(rows.filter(behavior=name)["item_id"])
        assert {one["item_id"] for one in had} == expected
    assert http.get("/health").json()["knows_until"] is not None


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"user_id": "101"}, ["body", "user_id"], "give an integer"),
        ({"user_id": 1.5}, ["body", "user_id"], "valid"),
        ({"user_id": True}, ["body", "user_id"], "valid"),
        ({"user_id": 2**70}, ["body", "user_id"], "give an integer"),
        ({"behaviors": ["clik"]}, ["body", "behaviors", 0], "did you mean 'click'"),
        ({"k": 0}, ["body", "k"], "greater than or equal to 1"),
        ({"k": MOST_K + 1}, ["body", "k"], "less than or equal"),
        ({"exclude": "all"}, ["body", "exclude"], "'same', 'any' or 'none'"),
        ({"users": 3}, ["body", "users"], "Extra inputs"),
        ({"exclude_items": [3]}, ["body", "exclude_items", 0], "give a string"),
        ({"only_items": ["item 1", 3]}, ["body", "only_items", 1], "give a string"),
        ({"recent": [{"item_id": 1, "behavior": "click"}]}, ["body", "recent", 0, "item_id"],
         "give a string"),
        ({"recent": [{"item_id": "item 1", "behavior": "buy"}]},
         ["body", "recent", 0, "behavior"], "'buy' is not one of"),
        ({"recent": [{"item_id": "item 1"}]}, ["body", "recent", 0, "behavior"], "required"),
    ],
)  # fmt: skip
def test_a_bad_request_names_its_field(
    http: TestClient, body: dict[str, Any], where: list[Any], said: str
) -> None:
    answer = http.post("/lists", json=body)
    assert answer.status_code == 422
    problems = answer.json()["detail"]
    assert any(one["loc"][: len(where)] == where and said in one["msg"] for one in problems)


def test_a_bad_path_and_a_long_body_are_refused(http: TestClient) -> None:
    answer = http.get("/users/abc/lists")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["path", "user"]
    assert http.get(f"/users/{10**25}/history").status_code == 422
    wrong = http.get("/users/101/lists", params={"behavior": "clik"})
    assert wrong.status_code == 422 and wrong.json()["detail"][0]["loc"] == ["query", "behavior"]
    wrong = http.get("/users/101/lists", params={"behaviour": "click"})
    assert wrong.status_code == 422 and "did you mean 'behavior'" in wrong.text
    assert http.get("/users/0101/lists").status_code == 422
    for body in ('{"user_id": NaN}', '{"k": 1e400}'):
        said = http.post("/lists", content=body, headers={"content-type": "application/json"})
        assert said.status_code == 422, body
    long = http.post("/lists", content=b" " * (MOST_BYTES + 1))
    assert long.status_code == 413 and "4,000,000 bytes" in long.json()["detail"]


@pytest.mark.parametrize("length", [{}, {"content-length": "10"}, {"content-length": "wrong"}])
def test_the_bytes_of_a_body_count_whatever_is_said_of_them(
    http: TestClient, length: dict[str, str]
) -> None:
    said = {"content-type": "application/json", "transfer-encoding": "chunked"} | length
    whole = b'{"user_id": 101}'.ljust(MOST_BYTES)
    fits = http.post("/lists", content=iter([whole[:9], whole[9:]]), headers=said)
    assert fits.status_code == 200 and fits.json()["user_id"] == 101
    long = http.post("/lists", content=iter([whole, b" "]), headers=said)
    assert long.status_code == 413
    assert long.json() == {"detail": "the body is longer than 4,000,000 bytes"}


def test_a_body_is_not_read_beyond_the_limit(http: TestClient) -> None:
    sent, taken = [], []

    async def receive() -> dict[str, Any]:
        taken.append(1)
        part = b" " * (MOST_BYTES // 4)
        return {"type": "http.request", "body": part, "more_body": len(taken) < 8}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-length", b"10"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/lists", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1"}
    asyncio.run(http.app(scope, receive, send))
    assert (sent[0]["status"], len(taken)) == (413, 5)


def test_ids_of_text_are_text_in_a_path_too(tmp_path: Path) -> None:
    names = ["007", "7", "a b", "é", "x/y"]
    http = TestClient(create_app(followed(tmp_path, names)))
    for name in ("007", "7", "a b", "é", "x/y"):
        answer = http.get(f"/users/{name}/lists")
        assert answer.json()["user_id"] == name
        assert answer.json() == http.post("/lists", json={"user_id": name}).json()
    refused = http.post("/lists", json={"user_id": 7})
    assert refused.status_code == 422 and "give a string" in refused.text


def test_rules_and_names_of_the_catalogue_hold(tmp_path: Path) -> None:
    http = TestClient(create_app(followed(tmp_path, names=True, k=6)))
    found = http.post("/lists", json={"exclude": "none"}).json()["lists"]["click"]["items"]
    assert {one["item_id"] for one in found} <= {f"item {n}" for n in (0, 2, 3, 4)}
    assert [one["name"] for one in found] == [f"Thing {one['item_id'][-1]}" for one in found]
    near = http.get("/items/item 0/similar", params={"k": 6}).json()["items"]
    assert {one["item_id"] for one in near} == {"item 2", "item 3", "item 4"}
    said = http.get("/version").json()["not_listed"]
    assert said == {"not in stock": 1, "not in the catalogue": 1}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Item n costs 10 n; item 1 is not in stock, item 5 not in the catalogue."""
    root = tmp_path_factory.mktemp("shop")
    return TestClient(create_app(followed(root, filters=FILTERS, names=True, k=6)))


@pytest.mark.parametrize(
    ("chosen", "passes"), [("cheap", (0, 2)), ("even", (0, 2, 4)), ("none of them", ())]
)
def test_a_request_may_choose_a_filter_of_the_settings(
    shop: TestClient, chosen: str, passes: tuple[int, ...]
) -> None:
    """What passes is what the lists without it have, in their order."""
    expected = {f"item {n}" for n in passes}
    for body in ({"exclude": "none"}, {"user_id": 101, "exclude": "none"}):
        whole = shop.post("/lists", json=body)
        found = shop.post("/lists", json=body | {"filter": chosen})
        for name in BEHAVIORS:
            kept = [item for item in items(whole, name) if item in expected]
            assert items(found, name) == kept
            assert set(kept) == expected or not body.get("user_id")
    by_path = shop.get("/users/101/lists", params={"filter": chosen, "k": 6})
    by_body = shop.post("/lists", json={"user_id": 101, "k": 6, "filter": chosen})
    assert by_path.json() == by_body.json()
    near = shop.get("/items/item 3/similar", params={"filter": chosen}).json()["items"]
    assert {one["item_id"] for one in near} == expected
    assert shop.get("/version").json()["filters"] == list(FILTERS)


def test_a_list_that_rules_make_short_says_why(shop: TestClient, http: TestClient) -> None:
    def not_listed(client: TestClient, **body: Any) -> Any:
        answer = client.post("/lists", json={"user_id": 101, "exclude": "none", **body})
        lists = answer.json()["lists"].values()
        assert all(len(one["items"]) == body["k"] for one in lists) == (body["k"] == 1)
        return answer.json()["not_listed"]

    assert not_listed(shop, k=1) is None and not_listed(http, k=9) is None
    whole = shop.get("/version").json()["not_listed"]
    assert not_listed(shop, k=9) == whole and sum(whole.values()) > 0
    chosen = not_listed(shop, k=9, filter="cheap")
    assert chosen.pop("items.filters.cheap") > 0 and chosen == whole


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The same shop, with one item of the even ones in a list and one of the odd ones."""
    root = tmp_path_factory.mktemp("limited")
    return TestClient(create_app(followed(root, filters=FILTERS, max_per_category=1, k=6)))


def passed_over(
    shop: TestClient, limited: TestClient, asked: dict[str, Any]
) -> dict[str, set[str]]:
    """Return what the limit takes out of each list of a request."""
    whole, found = (http.post("/lists", json=asked | {"k": 6}) for http in (shop, limited))
    return {name: set(items(whole, name)) - set(items(found, name)) for name in BEHAVIORS}


@pytest.mark.parametrize("user", [100, 101, 999])
@pytest.mark.parametrize("more", [{}, {"filter": "even"}, {"exclude_items": ["item 0"]}])
def test_a_list_that_the_limit_per_category_makes_short_says_so(
    shop: TestClient, limited: TestClient, user: int, more: dict[str, Any]
) -> None:
    asked = {"user_id": user, "k": 6} | more
    said = shop.post("/lists", json=asked).json()["not_listed"]
    passed = set.union(*passed_over(shop, limited, asked).values())
    said |= {LIMIT: len(passed)} if passed else {}
    assert limited.post("/lists", json=asked).json()["not_listed"] == said


@pytest.mark.parametrize("user", [100, 101, 999])
def test_a_reason_says_what_the_limit_per_category_passes_over(
    shop: TestClient, limited: TestClient, user: int
) -> None:
    passed = passed_over(shop, limited, {"user_id": user})
    assert any(passed.values())
    every = {"item": [f"item {n}" for n in range(ITEMS)]}
    for name, expected in passed.items():
        answer = limited.get(f"/users/{user}/explain", params=every | {"behavior": name})
        found = {one["item_id"] for one in answer.json()["items"] if one["passed_over"]}
        assert found == expected


def test_only_short_lists_count_for_the_limit(limited: TestClient) -> None:
    """User 102 could be given items 0, 2, 3 and 4 for a click, 2, 3 and 4 to buy."""
    full = limited.post("/lists", json={"user_id": 102, "k": 2})
    assert full.json()["not_listed"] is None
    bought = {"item_id": "item 3", "behavior": "purchase"}
    found = limited.post("/lists", json={"user_id": 102, "k": 2, "recent": [bought]})
    assert [len(items(found, name)) for name in BEHAVIORS] == [2, 1]
    assert found.json()["not_listed"][LIMIT] == 1


def test_an_unknown_filter_is_refused_with_the_known_ones(
    shop: TestClient, http: TestClient
) -> None:
    known = "'cheep' is not one of cheap, even, none of them; did you mean 'cheap'?"
    for source, answer in (
        ("body", shop.post("/lists", json={"filter": "cheep"})),
        ("query", shop.get("/users/101/lists", params={"filter": "cheep"})),
        ("query", shop.get("/items/item 1/similar", params={"filter": "cheep"})),
    ):
        assert answer.status_code == 422
        (told,) = answer.json()["detail"]
        assert told["loc"] == [source, "filter"] and told["msg"] == known
    answer = http.post("/lists", json={"filter": "cheap"})
    assert answer.status_code == 422 and "the settings name none in items.filters" in answer.text


@pytest.mark.parametrize("behavior", [None, *BEHAVIORS])
def test_reasons_are_those_of_python_and_add_up(
    follower: Follower, http: TestClient, behavior: str | None
) -> None:
    python = Recommender(follower.served.recommender, Path())
    asked = {"item": [f"item {n}" for n in range(ITEMS)]}
    asked |= {} if behavior is None else {"behavior": [behavior]}
    for user in (100, 101, 999):
        found = http.get(f"/users/{user}/explain", params=asked).json()
        assert (found["user_id"], found["behavior"]) == (user, behavior or BEHAVIORS[-1])
        assert [one["item_id"] for one in found["items"]] == asked["item"]
        for one in found["items"]:
            expected = python.explain(user, one["item_id"], behavior)
            told = {name: one[name] for name in ("source", "has", "allowed")}
            assert told == {name: getattr(expected, name) for name in told}
            finite = {part: value for part, value in expected.parts.items() if np.isfinite(value)}
            assert one["parts"] == finite
            if one["score"] is not None:
                assert sum(one["parts"].values()) == one["score"] == expected.score
            else:
                assert expected.score == -np.inf
    sources = {one["source"] for one in found["items"]}
    assert sources == {"popular"}


def test_a_reason_names_what_rules_say_and_what_brought_it(
    shop: TestClient, tmp_path: Path
) -> None:
    told = shop.get("/users/100/explain", params={"item": ["item 1", "item 2"]}).json()["items"]
    assert [(one["allowed"], one["name"]) for one in told] == [
        (False, "Thing 1"),
        (True, "Thing 2"),
    ]
    timed_http, served = of_timed(tmp_path)
    user = int(served.recommender.user_ids[3])
    lists = timed_http.get(f"/users/{user}/lists", params={"k": 3, "behavior": "view"}).json()
    listed = lists["lists"]["view"]["items"]
    params = {"item": [one["item_id"] for one in listed], "behavior": "view"}
    reasons = timed_http.get(f"/users/{user}/explain", params=params).json()["items"]
    python = Recommender(served.recommender, Path())
    for one, found in zip(listed, reasons, strict=True):
        assert found["score"] == pytest.approx(one["score"], rel=1e-6)
        expected = python.explain(user, one["item_id"], "view").neighbours
        near = [(brought["item_id"], brought["value"]) for brought in found["neighbours"]]
        assert near == expected
    assert any(one["neighbours"] for one in reasons)


def test_the_catalogue_is_ranked_once_for_all_items_to_explain(
    follower: Follower, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked, terms = [], serving.Recommender.terms

    def noted(*given: Any) -> Any:
        ranked.append(given)
        return terms(*given)

    monkeypatch.setattr(serving.Recommender, "terms", noted)
    asked = {"item": [f"item {n}" for n in range(ITEMS)]}
    assert len(http.get("/users/100/explain", params=asked).json()["items"]) == ITEMS
    assert len(ranked) == 1


def test_a_bad_question_for_reasons_is_told(http: TestClient) -> None:
    def ask(**params: Any) -> Any:
        return http.get("/users/100/explain", params=params)

    for answer, where, said in (
        (ask(), ["query", "item"], "required"),
        (ask(item="item 1", behavior="clik"), ["query", "behavior"], "did you mean 'click'"),
        (ask(item="item 1", behaviour="click"), ["query", "behaviour"], "no parameter"),
        (ask(item=["item 1"] * (MOST_EXPLAINED + 1)), ["query", "item"], "at most 100"),
    ):
        assert answer.status_code == 422
        problems = answer.json()["detail"]
        assert any(one["loc"] == where and said in one["msg"] for one in problems), problems
    missing = ask(item=["item 1", "item 99"])
    assert missing.status_code == 404 and "'item 99'" in missing.json()["detail"]
    wrong = http.get("/users/x1/explain", params={"item": "item 1"})
    assert wrong.status_code == 422 and "ids are integers" in wrong.text


@pytest.mark.parametrize("behavior", [None, *BEHAVIORS])
def test_similar_items_are_those_of_the_model(
    follower: Follower, http: TestClient, behavior: str | None
) -> None:
    from bigel.lists.similar import similar

    at = None if behavior is None else BEHAVIORS.index(behavior)
    served = follower.served.recommender
    _, _, expected, score = similar(served, np.array([1]), 3, at)
    params = {"k": 3} | ({} if behavior is None else {"behavior": behavior})
    answer = http.get("/items/item 1/similar", params=params).json()
    assert [one["item_id"] for one in answer["items"]] == served.item_ids[expected].tolist()
    assert [one["score"] for one in answer["items"]] == pytest.approx(score.tolist())
    assert http.get("/items/item 9/similar").status_code == 404
    wrong = http.get("/items/item 1/similar", params={"behavior": "clik"})
    assert wrong.status_code == 422 and "did you mean 'click'" in wrong.text


def test_the_server_says_what_answers(http: TestClient) -> None:
    health = http.get("/health").json()
    assert (health["status"], health["why"], health["model"]) == ("ok", None, "models:/bigel/1")
    assert health["knows_until"] is None
    version = http.get("/version").json()
    assert version["bigel"] == __version__ and version["behaviors"] == list(BEHAVIORS)
    assert (version["users"], version["items"]) == (fabricate.USERS, ITEMS)
    paths = http.get("/openapi.json").json()["paths"]
    assert {path.replace(":path", "") for path in paths} == {
        "/health", "/version", "/lists", "/users/{user}/lists", "/users/{user}/history",
        "/users/{user}/explain", "/items/{item}/similar",
    }  # fmt: skip


def test_the_page_of_what_may_be_asked_loads_nothing_and_leaves_nothing_out(
    http: TestClient,
) -> None:
    page, schema = http.get("/docs"), http.get("/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html")
    text = page.text.replace('<link rel="icon" href="data:,">', "")
    assert not re.search(r"<script|<link|<img|@import|src=", text)
    assert set(re.findall(r'href="([^#"][^"]*)"', text)) == {"openapi.json"}
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            shown = path.replace(":path", "")
            assert f"<code>{method.upper()} {shown}</code>" in text
            for given in one.get("parameters", []):
                assert f"<code>{given['name']}</code>" in text
    shapes = schema["components"]["schemas"]
    assert anchors == shapes.keys() - {"HTTPValidationError", "ValidationError"}
    fields = {name for shape in anchors for name in shapes[shape].get("properties", {})}
    assert {f"<code>{name}</code>" for name in fields} <= set(re.findall("<code>.*?</code>", text))
    assert "Length of each list, at most; from 1 to 1,000; default 20" in text
    assert http.get("/redoc").status_code == 404
    for code in ("422", "404", "413"):
        assert code in text


def test_the_page_of_what_may_be_asked_is_made_once(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def noted(*given: Any) -> str:
        made.append(given)
        return docs_page(*given)

    monkeypatch.setattr(api, "docs_page", noted)
    application = create_app(follower)
    for address in ("http://shop:8090", "https://lists.shop"):
        there = TestClient(application, base_url=address)
        commands = re.findall("curl .*", there.get("/docs").text)
        assert len(commands) == 2
        for command in map(html.unescape, commands):
            _, url, *_ = shlex.split(command)
            assert url.startswith(f"{address}/") and ("?" not in url or f"'{url}'" in command)
            assert there.get(url.removeprefix(address)).status_code in (200, 405, 422)
    assert len(made) == 1
    strange = TestClient(application, headers={"host": "<b>'$(x)'"}).get("/docs").text
    assert "<b>" not in strange and "$(x)" not in strange
