"""The embed stage: a model at a moment, as files that a bundle is made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigel.config import Config
from bigel.data.interactions import Interactions
from bigel.model import nearby
from bigel.model.nearby import Nearby
from bigel.schema import EMBEDDINGS_FILE, NOW, POPULARITY_FILE, SIGNALS_FILE
from bigel.signals import neighbours
from bigel.signals.recent import recent_demand
from bigel.signals.signals import Signals, split_columns
from bigel.state.moment import TREND, Learned, State, history_at, learned_of, state_at
from bigel.store import Record, Workspace
from bigel.store.code import code_of
from bigel.store.tensors import save_tensors

USERS_AT_A_TIME = 4_096


def embed(
    split: Record, trained: Record, config: Config, workspace: Workspace, moment: str | int = NOW
) -> Record:
    """Write what ranks at a moment; see ``write_state`` for the files.

    Args:
        split: record of the split stage.
        trained: record of the train stage.
        config: ``evaluate.select_cutoff`` chooses the half-life of popularity.
        workspace: where the stage is stored.
        moment: "valid", "test", "now" or Unix seconds, see ``state_at``.
    """
    return embed_learned(
        learned_of(trained), [trained.fingerprint], split, config, workspace, moment
    )


def embed_learned(
    learned: Learned, origin: list[str], split: Record, config: Config, workspace: Workspace,
    moment: str | int = NOW, fold: int | None = None,
) -> Record:  # fmt: skip
    """Write what ranks at a moment, as ``embed``.

    Args:
        learned: what a training left, in the split's numbers.
        origin: fingerprints of what was learned.
        split: as for ``embed``.
        config: as for ``embed``.
        workspace: as for ``embed``.
        moment: as for ``embed``.
        fold: of users, without whom the signals' weights were fitted; None: by those of all.
    """
    cutoff = config.evaluate.select_cutoff

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        state = state_at(learned, split, moment)
        if fold is not None:
            assert state.weights is not None
            state = replace(state, weights=state.weights[fold : fold + 1])
        facts = write_state(state, out, _popularity(state, split, moment, cutoff))
        return facts | {"moment": moment}

    return workspace.run_stage(
        "embed",
        inputs=[split.fingerprint, *origin],
        settings={"moment": moment, "cutoff": cutoff, "fold": fold},
        code=code_of(__name__),
        build=build,
    )


def write_state(state: State, out: Path, popularity: Tensor) -> dict[str, Any]:
    """Write a model at a moment; what a log without times does not have is left out.

    Files: ``embeddings.safetensors`` (user_emb, item_emb, item_bias; item_trend, an offset per
    item: the trend, or demand and age by their weights, -inf for an item that nobody had; the
    funnel memory), ``popularity.safetensors`` (popularity [K, I], what answers for a user without
    any event) and, where the log has times or a behavior keeps its neighbours,
    ``signals.safetensors`` (neighbours by item: crow, col, value; neighbour_weights [K, H]; with
    times also touch_weights [K, K, W], ``k.last`` and ``k.amounts`` of each of behavior k's pairs,
    ascending by user and item).

    Returns:
        facts for who ranks: "until", and the constants of the signals.
    """
    tensors = dict(state.graph.tensors())
    save_tensors(out / POPULARITY_FILE, {"popularity": popularity})
    if state.signals is None:
        if state.trend is not None:
            tensors[TREND] = state.trend
        if state.memory is not None:
            tensors |= state.memory.tensors()
        save_tensors(out / EMBEDDINGS_FILE, tensors)
        return {"signals": None if state.nearby is None else _write_nearby(state, out)}
    assert state.weights is not None
    signals, behaviors = state.signals, state.signals.behaviors
    parts = [split_columns(weights_C, len(behaviors)) for weights_C in state.weights[-1]]
    factor_K = torch.stack([part.graph[0] for part in parts])
    everybody = torch.split(torch.arange(state.pairs.n_users), USERS_AT_A_TIME)
    tensors["user_emb"] = torch.stack(
        [
            torch.cat([signals.vectors(part, k, users) for users in everybody])
            for k, part in enumerate(parts)
        ]
    )
    offsets = [signals.offset(part, k) for k, part in enumerate(parts)]
    tensors["item_bias"] = tensors["item_bias"] * factor_K[:, None]
    save_tensors(out / EMBEDDINGS_FILE, tensors | {TREND: torch.stack(offsets)})
    of_pairs: dict[str, Tensor] = {}
    for k, of_k in enumerate(signals.under):
        of_pairs[f"{k}.last"] = torch.from_numpy(of_k.last)
        of_pairs[f"{k}.amounts"] = torch.from_numpy(of_k.amounts)
    weights = {
        "neighbour_weights": torch.stack([part.neighbours for part in parts]),
        "touch_weights": torch.stack([part.touches for part in parts]),
    }
    save_tensors(out / SIGNALS_FILE, signals.neighbours.tensors() | weights | of_pairs)
    return {"signals": constants(signals)}


def _write_nearby(state: State, out: Path) -> dict[str, Any]:
    """Write the neighbours of a log without times; every item of a user counts alike."""
    assert state.nearby is not None
    tensors = Nearby.of(state.pairs).neighbours.tensors()
    weights = {"neighbour_weights": state.nearby[:, None].contiguous()}
    save_tensors(out / SIGNALS_FILE, tensors | weights)
    return {"until": None, "neighbour_half_lives": [None], "neighbour_small": nearby.SMALL}


def constants(signals: Signals) -> dict[str, Any]:
    """Return what a reader of ``signals.safetensors`` must know; None: no half-life."""
    return {
        "until": signals.until,
        "neighbour_half_lives": [None if np.isinf(h) else h for h in neighbours.HALF_LIVES],
        "neighbour_small": neighbours.SMALL,
    }


def _popularity(state: State, split: Record, moment: str | int, cutoff: int) -> Tensor:
    """Return (K, I) float32: demand lately, or users known to have the item where no times are."""
    if state.signals is None:
        return torch.from_numpy(users_per_item(state.pairs))
    wanted_KI, _ = recent_demand(history_at(split, moment), cutoff)
    return torch.from_numpy(wanted_KI).float()


def users_per_item(pairs: Interactions) -> np.ndarray:
    """Return how many users have each item under each behavior, (K, I) float32."""
    behaviors = range(len(pairs.behaviors))
    counts = [np.bincount(pairs.of(k)[1], minlength=pairs.n_items) for k in behaviors]
    return np.stack(counts).astype(np.float32)
