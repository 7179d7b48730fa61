"""Lists written as of valid and test reach the figures of the report, scored by a naive script."""

import json
import math

import polars as pl
import pytest

from bigel.evaluate.stage import evaluate
from bigel.lists.bundle import build_bundle
from bigel.lists.recommend import recommend
from bigel.state.embed import embed
from tests.signals.timed import DAY, NAMES, START, Made, log, make

K = 5
LATE = [
    (100 + n, item, name, START + day * DAY - 3_600 - n)
    for day in (16, 18, 20) for n in range(3 * day, 3 * day + 5) for item in (n % 30, 29)
    for name in NAMES
]  # fmt: skip
WITHOUT_TIMES = ('data.columns.timestamp=""', 'split.method="leave_one_out"')


@pytest.fixture(scope="module", params=["times", "no times"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a log with users who come in its last days, taken through the stages."""
    rows = pl.concat([log(), pl.DataFrame(LATE, orient="row", schema=log().schema)])
    if request.param == "times":
        return make(rows, tmp_path_factory.mktemp("as_of"))
    rows = rows.drop("timestamp")
    return make(rows, tmp_path_factory.mktemp("as_of"), *WITHOUT_TIMES)


def written(made: Made, moment: str) -> pl.DataFrame:
    embedded = embed(made.split, made.trained, made.config, made.workspace)
    bundle = build_bundle(made.split, made.trained, embedded, made.config, made.workspace)
    model = f"stored:{bundle.fingerprint}"
    record = recommend(made.config, made.workspace, model, split=made.split, moment=moment)
    return pl.read_parquet(record.file("recommendations.parquet"))


def held_out(made: Made, moment: str) -> dict[tuple[int, str], set[int]]:
    """Return what each user did in the held-out part, by external ids."""
    rows = pl.read_parquet(made.split.file(f"{moment}.parquet"))
    for inner in ("user", "item"):
        rows = rows.join(pl.read_parquet(made.split.file(f"{inner}s.parquet")), on=inner)
    found: dict[tuple[int, str], set[int]] = {}
    for user, item, at in rows.select("user_id", "item_id", "behavior_index").iter_rows():
        found.setdefault((user, NAMES[at]), set()).add(item)
    return found


@pytest.mark.parametrize("moment", ["valid", "test"])
def test_written_lists_reach_the_reported_figures(made: Made, moment: str) -> None:
    place = evaluate(made.split, made.trained, made.config, made.workspace)
    reported = json.loads(place.file("metrics.json").read_text())[moment]["published"]
    lists = {
        (user, name): own.sort("rank")["item_id"].head(K).to_list()
        for (user, name), own in written(made, moment).group_by("user_id", "behavior")
    }
    for name in NAMES:
        values = []
        for (user, behavior), chosen in held_out(made, moment).items():
            if behavior == name:
                gains = enumerate(lists[user, name], start=2)
                gain = sum(1 / math.log2(at) for at, item in gains if item in chosen)
                values.append(gain / sum(1 / math.log2(r + 2) for r in range(min(K, len(chosen)))))
        assert len(values) == reported[name]["users"] > 10
        assert sum(values) / len(values) == pytest.approx(reported[name][f"ndcg@{K}"], abs=1e-6)


def test_validation_lists_go_by_weights_that_do_not_know_the_user(made: Made) -> None:
    written(made, "valid")
    stages = made.workspace.artifacts / "stages" / "embed"
    manifests = [json.loads((one / "manifest.json").read_text()) for one in stages.iterdir()]
    folds = {one["settings"]["fold"] for one in manifests if one["settings"]["moment"] == "valid"}
    assert folds == ({None, 0, 1, 2} if "signals" in made.trained.counts else {None})
