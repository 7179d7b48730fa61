"""A look at the lists of a model that nobody has registered yet.

The gate promotes no model whose lists break the contract of recommendations, so a sample of them
is written and checked before it decides.
"""

from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.lists.recommend import Request, write_lists
from bigel.lists.rules import item_rules
from bigel.store import Record, Workspace
from bigel.store.code import code_of

APART = (
    "bigel.tracking.models",
    "bigel.tracking.store",
    "bigel.state.embed",
    "bigel.lists.current",
)  # make or find inputs
SAMPLE = 4_096  # users, at most, spread evenly over all


def preview(bundle: Record, config: Config, workspace: Workspace) -> Record:
    """Write the lists that a newly trained model gives a sample of its users.

    Args:
        bundle: record of ``bigel.lists.bundle.build_bundle``.
        config: ``recommend`` and ``items`` say what is listed.
        workspace: holds the output.

    Returns:
        a record with the files and counts of ``recommend``, without a model.
    """
    chosen = config.recommend
    rules = item_rules(bundle.file(schema.ITEMS_FILE), config, workspace)
    request = Request(list(config.data.behaviors), chosen.k, chosen.exclude, rules=rules)

    def build(place: Path, scratch: Path) -> dict[str, Any]:
        known = pl.read_parquet(bundle.file(schema.USERS_FILE))[schema.USER_ID]
        asked = known.gather_every(-(-len(known) // SAMPLE))
        return write_lists(place, Path(bundle.path), asked, request)

    return workspace.run_stage(
        "preview",
        inputs=[bundle.fingerprint],
        settings={"sample": SAMPLE, **request.settings()},
        code=code_of(__name__, apart=APART),
        build=build,
    )
