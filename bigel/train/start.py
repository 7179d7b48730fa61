"""Where training starts: afresh, or from the weights of an earlier model.

What an earlier model knows goes by external id, so that new users and items may have pushed every
inner id aside. Rows of known ids are taken over. New ones keep the draw of a cold start (a bias of
0): measured beside the mean of the known rows and a draw of their spread (docs/decisions.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bigel.config import CALIBRATION, Config
from bigel.data.interactions import IntArray
from bigel.schema import (
    COLD,
    EARLIER,
    ITEM,
    ITEMS_FILE,
    USER,
    USERS_FILE,
    WEIGHTS_FILE,
)
from bigel.store import Record

ID_AXES = {  # of BiGEL's weights
    "items": (ITEM, 0), "users": (USER, 0), "item_bias": (ITEM, 1),
    "global_view.items": (ITEM, 1), "global_view.item_bias": (ITEM, 1),
    "own_view.items": (ITEM, 1), "own_view.item_bias": (ITEM, 1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Start:
    """The weights of an earlier model.

    Args:
        weights: its best weights, by "<member>.<name>" where there are several members.
        places: of "user" and "item": inner id of the earlier model for each present one, -1 for
            a new one, shape (U,) and (I,).
    """

    weights: dict[str, Tensor]
    places: dict[str, IntArray]

    @classmethod
    def load(cls, record: Record | None) -> "Start | None":
        """Read the record of a start stage; None where training starts afresh."""
        if record is None or record.counts[COLD]:
            return None
        places = {
            inner: pl.read_parquet(record.file(name)).sort(inner)[EARLIER].fill_null(-1).to_numpy()
            for inner, name in ((USER, USERS_FILE), (ITEM, ITEMS_FILE))
        }
        return cls(load_file(record.file(WEIGHTS_FILE)), places)

    @torch.no_grad()
    def begin(self, model: nn.Module, prefix: str) -> None:
        """Overwrite a new model's weights by the earlier ones.

        Args:
            model: of the earlier one's architecture, with its initial draw.
            prefix: of its names in ``weights``.
        """
        for name, weight in model.named_parameters():
            earlier = self.weights[prefix + name].to(weight)
            if name not in ID_AXES:
                weight.copy_(earlier)
                continue
            inner, axis = ID_AXES[name]
            places = torch.from_numpy(self.places[inner].astype(np.int64)).to(weight.device)
            known = torch.nonzero(places >= 0)[:, 0]
            weight.index_copy_(axis, known, earlier.index_select(axis, places[known]))


def architecture(config: Config) -> dict[str, Any]:
    """Return what two models must have in common so that weights can be taken over.

    Of ω only which behaviors have an own view at all: no weight depends on how loud it is.
    """
    behaviors = config.data.behaviors
    return {
        "behaviors": list(behaviors),
        **config.model.model_dump(mode="json", exclude={*CALIBRATION, "own_view_weight"}),
        "own_view_behaviors": config.model.own_view_behaviors(len(behaviors)),
        "members": config.train.members,
    }
