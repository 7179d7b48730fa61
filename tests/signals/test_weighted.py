"""``data.weight`` from training to the bundle that is embedded anew tonight."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from bigel.errors import DataError
from bigel.lists.bundle import learned_by, load_bundle, read_facts, refresh_bundle
from bigel.schema import MOMENTS
from bigel.state.moment import learned_of, pairs_at, state_at
from bigel.train import job
from tests.signals.timed import Made, log, make, split_of

LOG = 'data.weight="log"'
TIMELESS = ('data.columns.timestamp=""', "train.refit=true")


@pytest.fixture(scope="module", params=["times", "no times"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    frame = log() if request.param == "times" else log().drop("timestamp")
    more = () if request.param == "times" else TIMELESS
    return make(frame, tmp_path_factory.mktemp("weighted"), LOG, *more)


def test_a_model_keeps_the_rule_that_it_learned_by(made: Made) -> None:
    assert made.trained.counts["weight"] == learned_of(made.trained).weight == "log"
    own = made.bundle()
    assert read_facts(own)["weight"] == "log"
    assert learned_by(own, read_facts(own), made.split).weight == "log"


@pytest.mark.parametrize("moment", ["valid", "test", "now"])
def test_its_states_are_those_of_the_weighted_graph(made: Made, moment: str) -> None:
    learned = learned_of(made.trained)
    state = state_at(learned, made.split, moment)
    other = state_at(replace(learned, weight="none"), made.split, moment)
    assert not torch.allclose(state.graph.user_emb, other.graph.user_emb, atol=1e-3)


def test_before_test_the_graph_is_that_of_training(made: Made) -> None:
    """The embeddings that a training leaves were made over the graph stage's file."""
    learned = learned_of(made.trained)
    state = state_at(learned, made.split, "valid")
    stored = load_file(made.trained.file("embeddings.safetensors"))
    trained = torch.bincount(torch.from_numpy(state.pairs.users), minlength=1) > 0
    found = state.graph.user_emb[:, : len(trained)][:, trained]
    torch.testing.assert_close(found, stored["user_emb"][:, : len(trained)][:, trained])


def test_tonight_a_champion_is_embedded_by_its_own_rule_whatever_the_settings_say(
    made: Made, tmp_path: Path
) -> None:
    own = made.bundle()
    timed = MOMENTS in made.split.counts
    frame, more = (log(), ()) if timed else (log().drop("timestamp"), TIMELESS)
    config, workspace, later = split_of(frame, tmp_path, *more)
    assert config.data.weight == "none"
    again = Path(refresh_bundle(own, read_facts(own), later, config, workspace).path)
    one, two = load_bundle(own), load_bundle(again)
    for name in ("user_emb", "item_emb"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_a_model_of_a_column_is_embedded_by_it_or_says_why_not(tmp_path: Path) -> None:
    frame = log().with_columns(seconds=pl.int_range(pl.len()) % 7)
    made = make(frame, tmp_path / "made", 'data.weight="seconds"')
    own = made.bundle()
    facts = read_facts(own)
    assert facts["weight"] == "seconds"
    config, workspace, later = split_of(frame, tmp_path / "later", 'data.weight="seconds"')
    again = load_bundle(Path(refresh_bundle(own, facts, later, config, workspace).path))
    np.testing.assert_array_equal(again.user_emb, load_bundle(own).user_emb)
    config, workspace, other = split_of(frame, tmp_path / "other")
    with pytest.raises(DataError, match=r"'seconds'.*set data\.weight = 'seconds', or train"):
        refresh_bundle(own, facts, other, config, workspace)


def test_what_is_trained_once_more_hears_weighted_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = job.build_all
    monkeypatch.setattr(
        job, "build_all", lambda frame, *size: built.append(frame) or build(frame, *size)
    )
    again = make(log().drop("timestamp"), tmp_path, LOG, *TIMELESS)
    expected = pairs_at(again.split, "refit", "log").frame()
    (found,) = built
    assert found["weight"].max() > 1
    assert_frame_equal(found, expected, check_row_order=False)


def test_a_bundle_of_an_older_version_weighs_all_pairs_alike(made: Made) -> None:
    own = made.bundle()
    facts = {name: value for name, value in read_facts(own).items() if name != "weight"}
    assert learned_by(own, facts, made.split).weight == "none"
