"""The rules as they stand now, for a model that answers a person or a server.

A run checks the catalogue by its contract before it makes lists; whoever asks between two runs asks
here, and gets rules of a catalogue that keeps it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
import polars as pl

from bigel.config import Config
from bigel.contracts import broken
from bigel.data.catalogue import read_catalogue
from bigel.errors import ContractError
from bigel.lists.rules import ItemRules, item_rules
from bigel.schema import ITEM_ID, ITEMS_FILE
from bigel.store import Workspace


def current_rules(
    item_ids: npt.NDArray[Any], config: Config, workspace: Workspace
) -> ItemRules | None:
    """Return what may be listed of a model's items at this moment; None where nothing says so.

    Args:
        item_ids: of the model, in its order.
        config: as of ``item_rules``, and ``contracts.folder``.
        workspace: where the catalogue is stored.

    Raises:
        ContractError: if the catalogue breaks a critical rule of its contract.
        BigelError: as ``item_rules`` and ``read_catalogue``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        items = Path(scratch) / ITEMS_FILE
        pl.DataFrame({ITEM_ID: item_ids}).write_parquet(items)
        if config.items.path:
            catalogue = read_catalogue(items, config, workspace, quiet=True)
            if wrong := broken("catalogue", catalogue, config, workspace):
                raise ContractError(
                    f"items.path {config.items.path}: contract catalogue is broken, for the items "
                    f"of this model: {wrong[0]}"
                )
        return item_rules(items, config, workspace)
