"""What is searched for each model: dotted keys of the configuration and their ranges."""

from collections.abc import Mapping

from bigel.tune.space import Between, Each, OneOf, Part, Space

LAYERS = Between(1, 4)
DROPOUT = OneOf((0.0, 0.25, 0.5, 0.7))
# What all models trained on pairs search, BiGEL among them. All defaults and presets lie inside.
SHARED: dict[str, Part] = {
    "learning_rate": Between(1e-4, 5e-2, log=True),
    "temperature": Each(Between(0.05, 1.0, log=True)),
    "objective": OneOf(("softmax", "bpr")),
    "negatives": OneOf((256, 512, 1_024, 2_048)),
    "negative_power": OneOf((0.0, 0.25, 0.5)),
    "item_bias": OneOf((True, False)),
    "max_steps": Between(100, 2_000, log=True),
    "dim": OneOf((64, 128)),
}


def _rival(name: str, **more: Part) -> dict[str, Part]:
    """Return what all rivals trained on pairs search, and more."""
    penalties = OneOf((0.0, 1e-5, 1e-4, 1e-3, 1e-2))  # BiGEL has none
    room = {**SHARED, "normalize": OneOf((True, False)), "l2": penalties, **more}
    return {f"rivals.{name}.{key}": part for key, part in room.items()}


def _graph_rival(name: str, layers: Part, **more: Part) -> dict[str, Part]:
    return _rival(name, layers=layers, edge_dropout=DROPOUT, **more)


def _bigel() -> dict[str, Part]:
    """Return what BiGEL searches; not its own view.

    That costs as trained, by which trials are pruned, and pays once calibrated.
    """
    of_model = ("temperature", "dim", "item_bias")
    shared = {
        f"{'model' if key in of_model else 'train'}.{key}": part for key, part in SHARED.items()
    }
    return {
        **shared,
        "model.layers": Each(LAYERS),
        "model.global_layers": LAYERS,
        "model.view": OneOf((True, False)),
        "model.view_layers": LAYERS,
        "train.alignment_weight": Between(0.0, 1.0),
        "train.edge_dropout": DROPOUT,
    }


def _bigel_paper() -> dict[str, Part]:
    more: dict[str, Part] = {"layers": Each(LAYERS), "global_layers": LAYERS}
    room = {**SHARED, **more, "edge_dropout": DROPOUT, "alignment_weight": Between(0.0, 1.0)}
    return {f"rivals.bigel_paper.{key}": part for key, part in room.items()}


HALF_LIVES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
PENALTY = Between(0.1, 3000.0, log=True)
SPACES: dict[str, Mapping[str, Part]] = {
    "bigel": _bigel(),
    "bigel_paper": _bigel_paper(),
    "bpr_mf": _rival("bpr_mf"),
    "ease": {"rivals.ease.penalty": PENALTY},
    "ease_per_behavior": {"rivals.ease_per_behavior.penalty": PENALTY},
    "item_knn": {
        "rivals.item_knn.similarity": OneOf(("bm25", "tfidf", "cosine")),
        "rivals.item_knn.weights": Each(Between(0.1, 10.0, log=True)),
        "rivals.item_knn.k1": Between(0.1, 100.0, log=True),
        "rivals.item_knn.b": Each(Between(0.0, 1.0)),
        "rivals.item_knn.neighbours": Each(Between(20, 1_000, log=True)),
        "rivals.item_knn.half_life": Each(OneOf(HALF_LIVES)),
    },
    "cascading_rank": {
        "rivals.cascading_rank.gamma": Each(Between(0.01, 0.98)),
        "rivals.cascading_rank.at_user": Each(OneOf((0.0, 0.25, 0.5, 0.75, 1.0))),
    },
    "als": {
        "rivals.als.weights": Each(Between(0.1, 10.0, log=True)),
        "rivals.als.dim": OneOf((64, 128, 256)),
        "rivals.als.alpha": Between(0.5, 200.0, log=True),
        "rivals.als.penalty": Between(1e-3, 300.0, log=True),
        "rivals.als.rounds": OneOf((5, 10, 15, 30)),
    },
    "recent_popularity": {"rivals.recent_popularity.half_life": Between(0.125, 64.0, log=True)},
    "lightgcn": _graph_rival("lightgcn", LAYERS),
    "lightgcn_per_behavior": _graph_rival("lightgcn_per_behavior", LAYERS),
    "lightgcn_shared": _graph_rival("lightgcn_shared", LAYERS),
    "crgcn": _graph_rival("crgcn", LAYERS),
    "mb_cgcn": _graph_rival("mb_cgcn", Each(Between(1, 5))),
    "mb_hgcn": _graph_rival("mb_hgcn", LAYERS),
    "mule": _graph_rival("mule", LAYERS, attention_layers=Between(1, 6)),
    "member": _graph_rival("member", LAYERS),
    "sasrec": _rival(
        "sasrec", length=OneOf((20, 50, 100, 200)), blocks=Between(1, 4), dropout=DROPOUT
    ),
    "bvae": {
        "rivals.bvae.learning_rate": Between(3e-4, 1e-2, log=True),
        "rivals.bvae.dropout": Between(0.2, 0.7),
        "rivals.bvae.kl_weight": Between(0.002, 1.0, log=True),
        "rivals.bvae.max_steps": Between(500, 6_000, log=True),
        "rivals.bvae.dim": OneOf((64, 100, 200)),
    },
}


def space_of(model: str, behaviors: int) -> Space:
    """Return a model's space with a key for each behavior where each has its own value.

    >>> sorted(key for key in space_of("bigel", 2) if "temperature" in key)
    ['model.temperature.0', 'model.temperature.1']
    """
    found: dict[str, Between | OneOf] = {}
    for key, part in SPACES[model].items():
        if isinstance(part, Each):
            found |= {f"{key}.{k}": part.part for k in range(behaviors)}
        else:
            found[key] = part
    return found
