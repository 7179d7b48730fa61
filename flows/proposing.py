"""The verb init: a first configuration for a log."""

from pathlib import Path
from typing import Annotated

import typer

from bigel.errors import ConfigError, DataError
from flows.places import check_file


def init(
    log: Annotated[str, typer.Argument(metavar="LOG", help="File, glob or folder of the log.")],
    out: Annotated[Path, typer.Option(help="TOML file to write; a new one.")] = Path("mine.toml"),
) -> None:
    """Look at a log's first rows and write a configuration for it, for you to read.

    It finds the columns of user, item, behavior and time, the unit of the times, and the behaviors
    in the order of the funnel, by volume. CSV, TSV, NDJSON and Parquet, also .gz and .zst. A file
    that is there is never overwritten.

    Example: bigel init logs/events.csv.gz && bigel run mine.toml
    """
    check_file("--out", out, (".toml",))
    if out.exists():
        raise ConfigError(f"--out {out}: is there already, and stays; name a new file")
    from bigel.ingest.propose import propose, proposed_toml
    from bigel.store.files import write_text

    found = propose(log)
    text, lines = proposed_toml(found, "bigel init")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    typer.echo(text)
    if found.missing:
        what = " and the ".join(found.missing)
        raise DataError(
            f"{log}: no column looks like the {what}, among {', '.join(map(repr, found.names))}; "
            f"edit line {lines['columns']} of {out} (where it says '?'), then: bigel run {out}"
        )
    typer.echo(f"wrote {out}; read it, then: bigel run {out}")
