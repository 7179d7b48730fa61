"""The verbs of a registered model's life: models, promote, rollback."""

from pathlib import Path
from typing import Annotated

import typer

from bigel.config import load_config
from bigel.store import Workspace
from flows import console
from flows.answer import answer
from flows.options import Json, Place, Settings
from flows.running import retried

Start = Annotated[
    str, typer.Option("--config", metavar="PRESET|FILE.toml", help="Settings to start from.")
]


def models(
    last: Annotated[int, typer.Option(min=1, max=10_000, help="Versions to show.")] = 20,
    source: Start = "",
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """List the registered versions, newest first, and say who is champion and why.

    Example: bigel models --last 5 --json models.json
    """
    config = load_config(source, settings or [])
    console.tell_begin("bigel models", workspace)
    from bigel.tracking import list_versions

    found = retried(config)(list_versions)(config, Workspace(workspace), last)
    answer(found, json, page=lambda: console.print_models(found))


def promote(
    version: Annotated[
        str, typer.Argument(metavar="VERSION|ALIAS", help="For example 3 or challenger.")
    ],
    why: Annotated[str, typer.Option(help="The reason; it is kept with the version.")],
    source: Start = "",
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Make a version champion by hand; the champion until now becomes previous.

    Example: bigel promote challenger --why "won the test on the site"
    """
    config = load_config(source, settings or [])
    console.tell_begin(f"bigel promote {version}", workspace)
    from bigel.tracking import promote as promote_version

    outcome = retried(config)(promote_version)(version, why, config, Workspace(workspace))
    answer(outcome, json, page=lambda: console.print_promotion(outcome))


def rollback(
    why: Annotated[
        str, typer.Option(help="The reason; it is kept with both versions.")
    ] = "rolled back by hand",
    source: Start = "",
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Make the previous champion champion again; the present one becomes challenger.

    Example: bigel rollback --why "complaints about the purchase lists"
    """
    config = load_config(source, settings or [])
    console.tell_begin("bigel rollback", workspace)
    from bigel.tracking import rollback as roll_back

    outcome = retried(config)(roll_back)(why, config, Workspace(workspace))
    answer(outcome, json, page=lambda: console.print_promotion(outcome))
