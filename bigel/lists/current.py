"""Rules of a catalogue that keeps its contract, for whatever answers from a registered model.

A run checks the catalogue by the log's items, and shows a page of it; here it is checked by those
of the model that answers, between two runs, too.
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
from bigel.lists.rules import ItemRules, rules_of
from bigel.schema import ITEM_ID, ITEMS_FILE, NOW
from bigel.store import Workspace


def checked_rules(
    items: Path, config: Config, workspace: Workspace, moment: str | int = NOW
) -> ItemRules | None:
    """Return what may be listed of a model's items; None where nothing says so.

    Args: as of ``item_rules``; config: also ``contracts.folder``.

    Raises:
        ContractError: if the catalogue breaks a critical rule of its contract.
        BigelError: as ``item_rules`` and ``read_catalogue``.
    """
    catalogue = None
    if config.items.path:
        catalogue = read_catalogue(items, config, workspace, quiet=True)
        if wrong := broken("catalogue", catalogue, config, workspace):
            raise ContractError(
                f"items.path {config.items.path}: contract catalogue is broken, for the items "
                f"of this model: {wrong[0]}"
            )
    return rules_of(catalogue, items, config, moment)


def current_rules(
    item_ids: npt.NDArray[Any], config: Config, workspace: Workspace
) -> ItemRules | None:
    """Return the same of a loaded model, at this moment.

    Args:
        item_ids: of the model, in its order.
        config: as of ``checked_rules``.
        workspace: where the catalogue is stored.

    Raises:
        BigelError: as ``checked_rules``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        items = Path(scratch) / ITEMS_FILE
        pl.DataFrame({ITEM_ID: item_ids}).write_parquet(items)
        return checked_rules(items, config, workspace)
