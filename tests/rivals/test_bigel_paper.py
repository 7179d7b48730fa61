from dataclasses import replace

import pytest
import torch

from bigel.compare.fitting import code_of_model
from bigel.config import BigelPaperConfig, TrainConfig, load_config
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.rivals import bigel_paper
from bigel.train.bigel import bigel_learner
from tests.rivals.graph_checks import world_of
from tests.worlds import checkerboard, random_world

WORLD = world_of(random_world(0), dtype=torch.float32)


def test_it_is_bigel_with_free_vectors_and_nothing_beside_the_paper():
    learner = bigel_paper.learner(WORLD, BigelPaperConfig(dim=8), TrainConfig())
    names = set(dict(learner.model.named_parameters()))
    assert {name.split(".")[0] for name in names} == {
        "users", "items", "item_bias", "user_feedback", "item_feedback"
    }  # fmt: skip
    config = load_config("paper", ["model.dim=8"])
    twin = bigel_learner(WORLD.train, WORLD.graphs, config, WORLD.device, WORLD.seed)
    batch = twin.batches.draw()
    here, there = (one.loss(one.model, batch).total for one in (learner, twin))
    assert torch.equal(here, there)


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "bpr"}, {"temperature": (0.3,)}, {"layers": (1, 2, 3)}, {"global_layers": 1},
        {"alignment_weight": 0.1}, {"alignment_temperature": 0.7}, {"dim": 4},
    ],
)  # fmt: skip
def test_each_setting_counts(change):
    losses = []
    for settings in (BigelPaperConfig(), BigelPaperConfig(**change)):
        learner = bigel_paper.learner(WORLD, settings, TrainConfig())
        losses.append(learner.loss(learner.model, learner.batches.draw()).total.item())
    assert losses[0] != losses[1]


def test_settings_of_the_shipped_bigel_do_not_reach_it():
    losses = []
    for train in (TrainConfig(), TrainConfig(behavior_weights=(5.0,), alignment_weight=0.9)):
        learner = bigel_paper.learner(WORLD, BigelPaperConfig(), train)
        losses.append(learner.loss(learner.model, learner.batches.draw()).total.item())
    assert losses[0] == losses[1]


def test_its_code_is_that_of_bigel_and_no_other_rival_hangs_on_it():
    assert {"model/bigel.py", "train/objective.py"} <= set(code_of_model("bigel_paper"))
    assert "model/bigel.py" not in code_of_model("mule")
    assert "rivals/bigel_paper.py" not in {*code_of_model("bigel"), *code_of_model("als")}


def test_the_checkerboard_is_learned():
    train, held_out = checkerboard(20, behaviors=3)
    world = replace(world_of(train, dtype=torch.float32))
    settings = BigelPaperConfig(dim=8, batch_size=64, negatives=16)
    learner = bigel_paper.learner(world, settings, TrainConfig())
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        learner.loss(learner.model, learner.batches.draw()).total.backward()
        optimizer.step()
    scores = learner.scores(learner.model)
    figures = evaluate_split(scores, train, held_out, "published", (1,))
    assert min(figures[k]["hr@1"] for k in range(3)) >= 0.9


def test_layers_of_another_number_of_behaviors_are_refused():
    with pytest.raises(ConfigError, match=r"rivals\.bigel_paper\.layers has 2 values for 3"):
        load_config("jd", ["rivals.bigel_paper.layers=[1, 1]"])
