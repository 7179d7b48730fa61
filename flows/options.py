"""Arguments and options that several verbs of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

from bigel.config import PRESETS
from flows.answer import checked

Source = Annotated[
    str, typer.Argument(metavar="PRESET|FILE.toml", help=f"One of {', '.join(PRESETS)}, or a file.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable."),
]
Rules = Annotated[
    str,
    typer.Option(
        "--config", metavar="PRESET|FILE.toml", help="Settings: rules for items, the model's name."
    ),
]
Place = Annotated[
    Path, typer.Option("--workspace", help="Folder of all outputs and of mlruns/.", file_okay=False)
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE|-",
        callback=checked,
        help="Write the answer there as JSON; -: to standard output, and no page.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Alias or URI, for example champion or models:/bigel/3. Without it: the champion, "
        "or the challenger while there is no champion.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="Name of the registered model; as a rule not asked."),
]
