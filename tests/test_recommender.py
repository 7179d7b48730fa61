"""`bigel.Recommender` beside what batch and the bundle say."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel import Recommender
from bigel.config import load_config, parse_config
from bigel.contracts.contract import contract_folder
from bigel.errors import ConfigError, ContractError, DataError, UnreachableError
from bigel.lists.bundle import build_bundle, parts_of
from bigel.lists.explain import explain
from bigel.lists.recommend import recommend
from bigel.store import Workspace
from tests import fabricate
from tests.signals.timed import Made, log, make
from tests.tracking.conftest import away


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(tmp_path_factory.mktemp("untimed"))
        fabricate.register_one(workspace)
    return workspace


@pytest.fixture(scope="module")
def untimed(home: Workspace) -> Recommender:
    return Recommender.load(
        build_bundle(*fabricate.bundle_inputs(home), fabricate.CONFIG, home).path
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(log(), tmp_path_factory.mktemp("timed"), "model.view=true", "train.members=2")


@pytest.fixture(scope="module")
def timed(made: Made) -> Recommender:
    return Recommender.load(made.bundle())


@pytest.fixture(params=["untimed", "timed"])
def either(request: pytest.FixtureRequest) -> Recommender:
    found: Recommender = request.getfixturevalue(request.param)
    return found


def test_lists_are_those_of_batch(home: Workspace) -> None:
    batch = pl.read_parquet(recommend(fabricate.CONFIG, home).file("recommendations.parquet"))
    champion = Recommender.champion(home.root)
    assert champion.recommend(k=3).equals(batch)
    assert (
        Recommender.champion(home.root, "bigel")
        .recommend([100], "click", 3)
        .equals(batch.filter(user_id=100, behavior="click"))
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings with a catalogue: item 2 is sold out, item 5 is not in it."""
    place = tmp_path_factory.mktemp("shop")
    rows = ["0,Lamp,light,true,5", "1,Desk,seat,true,50", "2,Chair,seat,false,20"]
    rows += ["3,Stool,seat,true,10", "4,Sofa,,true,900"]
    (place / "items.csv").write_text(
        "item_id,name,category,in_stock,price\n" + "".join(f"item {row}\n" for row in rows)
    )
    (place / "mine.toml").write_text(
        f"""
        [data]
        behaviors = ["click", "purchase"]
        [items]
        path = "{place}/items.csv"
        [recommend]
        k = 4
        exclude = {{ purchase = "none" }}
        filter = "price < 800"
        max_per_category = 1
        names = true
        """
    )
    return place


def test_under_rules_lists_are_those_of_batch_too(home: Workspace, shop: Path) -> None:
    config = load_config(str(shop / "mine.toml"))
    batch = pl.read_parquet(recommend(config, home).file("recommendations.parquet"))
    assert set(batch["item_id"]) == {"item 0", "item 1", "item 3"}
    champion = Recommender.champion(home.root, settings=shop / "mine.toml")
    assert champion.recommend().equals(batch)
    for same in (
        Recommender.registered("champion", home.root, settings=shop / "mine.toml"),
        Recommender.load(champion.folder, shop / "mine.toml"),
        Recommender.load(champion.folder).with_rules(str(shop / "mine.toml")),
        champion.with_rules({}).with_rules(config),
    ):
        assert same.recommend().equals(batch)
    strangers = champion.recommend([999], "click")
    assert strangers["item_id"].to_list() == ["item 1", "item 0"], "one of each category"
    assert strangers["item_name"].to_list() == ["Desk", "Lamp"]
    plain = champion.with_rules({})
    assert plain.recommend().equals(Recommender.champion(home.root).recommend())
    assert champion.recommend().equals(batch), "the first one is as it was"


def test_rules_given_by_key_know_the_models_behaviors(untimed: Recommender, shop: Path) -> None:
    asked = {"items.path": str(shop / "items.csv"), "recommend.exclude": {"purchase": "none"}}
    ruled = untimed.with_rules(asked)
    expected = untimed.recommend(100, "purchase", exclude="none")["item_id"].to_list()
    kept = [item for item in expected if item not in ("item 2", "item 5")]
    assert ruled.recommend(100, "purchase")["item_id"].to_list() == kept
    assert "item_name" not in ruled.recommend(100).columns
    with pytest.raises(ConfigError, match="did you mean 'recommend"):
        untimed.with_rules({"recomend.deny": "x"})
    name = {"tracking.model_name": "bigle"}
    with pytest.raises(ConfigError, match="Registered models: bigel"):
        Recommender.champion(untimed.folder.parents[3], settings=asked | name)


def test_similar_items_and_reasons_obey_the_rules(home: Workspace, shop: Path) -> None:
    plain, ruled = (
        Recommender.champion(home.root, settings=settings)
        for settings in (None, shop / "mine.toml")
    )
    categories = {"item 0": "light", "item 1": "seat", "item 3": "seat"}
    for item in plain.items:
        expected: list[str] = []
        for near in plain.similar(item)["similar_id"]:
            taken = {categories[one] for one in expected}
            if near in categories and categories[near] not in taken:
                expected.append(near)
        found = ruled.similar(item)
        assert found["similar_id"].to_list() == expected, item
        assert found["rank"].to_list() == list(range(1, len(expected) + 1))
    assert found.columns[-1] == "similar_name"
    allowed = [ruled.explain(100, item).allowed for item in ruled.items]
    assert allowed == [True, True, False, True, False, False]
    assert plain.explain(100, "item 2").allowed


@pytest.mark.parametrize("user", [100, 101, 999])
@pytest.mark.parametrize("behavior", ["click", "purchase"])
def test_a_reason_names_what_the_limit_per_category_passes_over(
    home: Workspace, shop: Path, user: int, behavior: str
) -> None:
    limited = Recommender.champion(home.root, settings=shop / "mine.toml")
    no_limit = load_config(str(shop / "mine.toml"), ["recommend.max_per_category=0"])
    whole = limited.with_rules(no_limit)
    listed = [set(one.recommend(user, behavior)["item_id"]) for one in (whole, limited)]
    passed = {one for one in limited.items if limited.explain(user, one, behavior).passed_over}
    assert passed == listed[0] - listed[1] and passed <= {"item 1", "item 3"}
    assert not any(whole.explain(user, one, behavior).passed_over for one in whole.items)


def test_a_catalogue_that_breaks_its_contract_is_refused(
    untimed: Recommender, tmp_path: Path
) -> None:
    """Two of the six items of the model: fewer than the contract asks for."""
    (tmp_path / "items.csv").write_text("item_id\nitem 0\nitem 3\nitem 77\n")
    with pytest.raises(ContractError, match=r"known_share >= 0\.5\): 0\.333333"):
        untimed.with_rules({"items.path": str(tmp_path / "items.csv")})
    folder = tmp_path / "contracts"
    shutil.copytree(contract_folder(""), folder)
    said = (folder / "catalogue.toml").read_text()
    lower = said.replace("min_known_share = 0.5", "min_known_share = 0.3")
    (folder / "catalogue.toml").write_text(lower)
    asked = {"items.path": str(tmp_path / "items.csv"), "contracts.folder": str(folder)}
    found = untimed.with_rules(asked).recommend(exclude="none")
    assert set(found["item_id"]) == {"item 0", "item 3"}


def test_while_the_registry_is_away_the_last_champion_answers(
    home: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = Recommender.champion(home.root).recommend()
    with away():
        assert Recommender.champion(home.root).recommend().equals(expected)
        with pytest.raises(UnreachableError):
            Recommender.champion(fabricate.workspace_at(tmp_path).root)
    assert "the last champion that was seen here answers" in caplog.text


def test_while_the_registry_is_away_a_champion_of_any_name_answers(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    config = parse_config(
        fabricate.CONFIG.model_dump(exclude_unset=True) | {"tracking": {"model_name": "shop"}}
    )
    fabricate.register_one(workspace, config=config)
    expected = Recommender.champion(workspace.root).recommend()
    with away():
        assert Recommender.champion(workspace.root).recommend().equals(expected)
        assert Recommender.champion(workspace.root, "shop").recommend().equals(expected)
        with pytest.raises(UnreachableError):
            Recommender.champion(workspace.root, "bigel")


def test_ids_come_in_any_shape(untimed: Recommender) -> None:
    expected = untimed.recommend([100, 101], "click", 2)
    for same in ([100, 101, 100], ("100", "101"), np.array([100, 101]), pl.Series([100, 101]),
                 pl.Series([100, 101]).to_pandas()):  # fmt: skip
        assert untimed.recommend(same, "click", 2).equals(expected)
    assert untimed.recommend(100, "click", 2).equals(expected.filter(user_id=100))
    assert untimed.recommend([100, 101], "click", np.int64(2)).equals(expected)
    assert untimed.similar("item 1", np.int32(2)).equals(untimed.similar("item 1", 2))
    assert untimed.explain([100], ["item 1"]).parts == untimed.explain(100, "item 1").parts


def test_a_user_unknown_gets_what_is_popular(untimed: Recommender) -> None:
    frame = untimed.recommend([999, 100], "click", 3)
    assert frame.filter(user_id=999)["item_id"].to_list() == ["item 1", "item 2", "item 0"]
    assert frame.filter(user_id=999)["source"].unique().to_list() == ["popular"]
    assert frame.filter(user_id=100)["source"].unique().to_list() == ["model"]


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (lambda r: r.recommend(100, "purchse"), ConfigError, "did you mean 'purchase'"),
        (lambda r: r.recommend(100, k=0), ConfigError, "k = 0; give an integer from 1"),
        (lambda r: r.recommend(100, k=True), ConfigError, "k = True"),
        (lambda r: r.recommend(100, k=np.True_), ConfigError, "give an integer from 1"),
        (lambda r: r.recommend(100, k=2.0), ConfigError, "k = 2.0"),
        (lambda r: r.recommend(b"d"), DataError, "users: ids are Binary"),
        (lambda r: r.recommend(bytearray(b"d")), DataError, "users: ids are Object"),
        (lambda r: r.recommend([b"d"]), DataError, "users: ids are Binary"),
        (lambda r: r.explain([100, 101], ["item 1", "item 2"]), DataError, "user: 2 ids; give one"),
        (lambda r: r.explain(100, ["item 1", "item 2"]), DataError, "item: 2 ids; give one"),
        (lambda r: r.history([100, 101]), DataError, "user: 2 ids; give one"),
        (lambda r: r.recommend(100, exclude="sme"), ConfigError, "did you mean 'same'"),
        (lambda r: r.recommend([]), DataError, "users: no ids"),
        (lambda r: r.recommend([100, None]), DataError, "users, row 2: the id is null"),
        (lambda r: r.recommend([1.5]), DataError, "users: ids are Float64"),
        (lambda r: r.recommend([1, "a"]), DataError, "all integers or all text"),
        (lambda r: r.similar("itm 1"), DataError, "'itm 1' is not .* did you mean 'item 1'"),
        (lambda r: r.similar(behavior="clik"), ConfigError, "did you mean 'click'"),
        (lambda r: r.explain(100, "item 99"), DataError, "did you mean 'item"),
        (lambda r: r.explain(None, "item 1"), DataError, "user, row 1: the id is null"),
        (lambda r: r.evaluate(), ConfigError, "read, not fitted"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(
    untimed: Recommender, asked: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        asked(untimed)


def test_a_folder_without_a_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no model\.json there"):
        Recommender.load(tmp_path)
    with pytest.raises(ConfigError, match=r"no model|Nothing is registered"):
        Recommender.champion(tmp_path)


def test_a_saved_model_answers_alike(timed: Recommender, tmp_path: Path) -> None:
    again = Recommender.load(timed.save(tmp_path / "kept"))
    assert again.recommend().equals(timed.recommend())
    with pytest.raises(ConfigError, match="is there already"):
        timed.save(tmp_path / "kept")


@pytest.mark.parametrize("exclude", ["same", "none"])
def test_the_parts_add_up_to_every_served_score(either: Recommender, exclude: str) -> None:
    names = set()
    for user in [*either.users[:6], 999]:
        served = either.recommend([user], k=100, exclude=exclude)
        for behavior, item, score, source in served.select(
            "behavior", "item_id", "score", "source"
        ).iter_rows():
            found = either.explain(user, item, behavior)
            assert sum(found.parts.values()) == found.score == score
            assert found.source == source
            assert (behavior in found.has) <= (exclude == "none")
            names |= found.parts.keys()
    has = {"views", "neighbours"} if either._served.signals else set()
    assert names == {"graph", "demand", "memory", "popularity", *has}


def test_many_items_are_explained_as_each_alone(either: Recommender) -> None:
    """To the bit, and in the order asked, whatever else is asked for."""
    served = either._served
    items = np.random.default_rng(1).permutation(len(served.item_ids))
    for behavior, user, rule in itertools.product((0, 1), (0, 3, -1), (False, True)):
        many = explain(served, behavior, user, items, rule)
        alone = [explain(served, behavior, user, items[at : at + 1], rule)[0] for at in items]
        assert [vars(many[at]) for at in items] == [vars(one) for one in alone]
    assert explain(served, 0, 3, items[:0]) == []


def test_a_known_user_without_events_is_answered_by_popularity(untimed: Recommender) -> None:
    events = untimed._served.events.copy()
    events[0] = 0
    new = Recommender(replace(untimed._served, events=events), untimed.folder)
    served = new.recommend([100], "click", k=1)
    found = new.explain(100, served["item_id"][0], "click")
    assert found.source == served["source"][0] == "popular"
    assert found.parts == {"popularity": served["score"][0]}
    by_rule = Recommender(untimed._served, untimed.folder, only_popular=True)
    found = by_rule.explain(100, "item 1")
    assert (found.source, found.has) == ("popular", ["click"])  # the rule leaves it out as well
    assert "item 1" not in by_rule.recommend(100, "click")["item_id"]
    assert by_rule.recommend(100)["source"].unique().to_list() == ["popular"]


def test_parts_worked_by_hand(untimed: Recommender) -> None:
    """User 100 clicked item 1 and did not buy it: the tensors as drawn, number 0 and 1."""
    tensors = fabricate.embeddings()
    graph = float(tensors["user_emb"][1, 0] @ tensors["item_emb"][1, 1])
    demand = float(tensors["item_bias"][1, 1] + tensors["item_trend"][1, 1])
    weights, features = tensors["memory_weights"][1, 1], tensors["memory_features"][1, :, 1]
    memory = float(weights @ [*features, graph + demand])
    found = untimed.explain(100, "item 1", "purchase")  # clicked, not bought
    assert found.parts == {"graph": graph, "demand": demand, "memory": memory}
    assert (found.has, found.neighbours) == (["click"], [])


def test_neighbours_share_what_they_brought(timed: Recommender, made: Made) -> None:
    touched = log().group_by("user_id").agg(pl.col("item_id").unique())
    of_user = dict(touched.iter_rows())
    served = timed.recommend(exclude="none", k=5)
    asked = served.filter(pl.col("rank") == 5)
    some = 0
    for user, behavior, item in asked.select("user_id", "behavior", "item_id").iter_rows():
        found = timed.explain(user, item, behavior)
        total = sum(value for _, value in found.neighbours)
        assert total == pytest.approx(found.parts["neighbours"], rel=1e-4, abs=1e-5)
        assert {one for one, _ in found.neighbours} <= set(of_user[user]) - {item}
        some += bool(found.neighbours)
    assert some


def test_views_are_told_apart_by_the_columns_they_have(timed: Recommender) -> None:
    served = timed._served
    assert served.facts["parts"] == ["graph", "views"] * 2
    user, item = int(timed.users[3]), int(timed.items[4])
    halves = (served.user_emb[1, 3] * served.item_emb[1, 4]).reshape(4, -1).sum(axis=1)
    found = timed.explain(user, item, "buy")
    assert found.parts["views"] == pytest.approx(halves[[1, 3]].sum(), rel=1e-5)
    assert found.parts["graph"] == pytest.approx(halves[[0, 2]].sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("view", "own_view", "members", "parts"),
    [(False, False, 1, ["graph"]), (True, True, 1, ["graph", "views", "views"])],
)
def test_parts_of_a_model(view: bool, own_view: bool, members: int, parts: list[str]) -> None:
    model = {"view": view, "own_view": own_view}
    assert parts_of({"model": model, "members": members}) == parts


def naive_similar(served: Any, item: int, behaviors: list[int]) -> dict[int, float]:
    """Score item by item."""
    found = {}
    for other in range(len(served.item_ids)):
        if other == item or not any(np.isfinite(served.offset[k, other]) for k in behaviors):
            continue
        cosines = []
        for k in behaviors:
            a, b = (served.item_emb[k, at].astype(np.float64) for at in (item, other))
            length = np.linalg.norm(a) * np.linalg.norm(b)
            cosines.append(a @ b / length if length else 0.0)
        found[other] = sum(cosines) / len(cosines)
        if served.signals is not None and served.signals.times is not None:
            found[other] += served.signals.near.toarray()[item, other]
    return found


@pytest.mark.parametrize("behavior", [None, 0, 1])
def test_similar_items_are_those_of_a_naive_ranking(
    either: Recommender, behavior: int | None
) -> None:
    served = either._served
    chosen = [0, 1] if behavior is None else [behavior]
    name = None if behavior is None else either.behaviors[behavior]
    whole = either.similar(k=4, behavior=name)
    for at, item in enumerate(either.items):
        expected = naive_similar(served, at, chosen)
        mine = whole.filter(item_id=item)
        assert mine["rank"].to_list() == [1, 2, 3, 4]
        best = sorted(expected.values(), reverse=True)[:4]
        assert mine["score"].to_list() == pytest.approx(best, abs=1e-5)
        inner = [either.items.to_list().index(one) for one in mine["similar_id"]]
        assert [expected[one] for one in inner] == pytest.approx(best, abs=1e-5)
        assert either.similar(item, 4, name)["similar_id"].equals(mine["similar_id"])


def test_an_item_that_nobody_had_is_similar_to_none(untimed: Recommender) -> None:
    served = untimed._served
    served.item_trend[:, 2] = -np.inf
    served.__dict__.pop("offset", None)
    try:
        assert "item 2" not in untimed.similar(k=9)["similar_id"]
        assert untimed.similar("item 2").is_empty()
        assert untimed.explain(100, "item 2").score == -np.inf
    finally:
        served.item_trend[:, 2] = fabricate.embeddings()["item_trend"][:, 2]
        served.__dict__.pop("offset", None)


def test_exported_vectors_multiply_to_the_scores_of_their_parts(
    either: Recommender, tmp_path: Path
) -> None:
    users, items = map(pl.read_parquet, either.export(tmp_path / "vectors"))
    assert users.columns == ["user_id", "behavior", "embedding"]
    for behavior in either.behaviors:
        of_user = users.filter(user_id=either.users[1], behavior=behavior)["embedding"].to_numpy()
        of_items = items.filter(behavior=behavior)
        products = of_items["embedding"].to_numpy() @ of_user[0]
        for item, product in zip(of_items["item_id"], products, strict=True):
            parts = either.explain(either.users[1], item, behavior).parts
            known = sum(parts.get(name, 0) for name in ("graph", "views", "demand"))
            assert product == pytest.approx(known, rel=1e-4, abs=1e-4)
