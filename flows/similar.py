"""The verb similar: items near an item, or near each."""

from pathlib import Path
from typing import Annotated

import typer

from bigel.config import load_config
from bigel.errors import ConfigError
from flows import console
from flows.answer import answer
from flows.options import Json, ModelName, Place, Rules, Settings
from flows.places import check_file
from flows.show import called


def similar(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Its id in the log.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, help="Items at most, for each.")] = 10,
    behavior: Annotated[
        str | None, typer.Option(help="By what one behavior says; without it, by all together.")
    ] = None,
    json: Json = None,
    everything: Annotated[bool, typer.Option("--all", help="For every item, into --out.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Parquet: item_id, rank, similar_id, score.")
    ] = None,
    name: ModelName = None,
    source: Rules = "",
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Show the items most similar to an item, by the champion.

    Items are similar whose served states point the same way (the cosine), and, on a log with
    times, that the same users had. Items that nobody had yet have none. The rules of --config
    (catalogue, stock, filter, allow, deny, max_per_category, names) hold, as in lists.

    Example: bigel similar SKU-00123 -k 5 --behavior purchase --config mine.toml

    Example: bigel similar --all --out similar.parquet
    """
    if bool(item) == everything or (everything and out is None):
        raise ConfigError("say for which: an ITEM, or --all with --out FILE.parquet")
    if out is not None:
        check_file("--out", out, (".parquet",))
    config = load_config(source, settings or [])
    console.tell_begin(" ".join(["bigel similar", item or "--all"]), workspace)
    from bigel.recommender import Recommender
    from bigel.store.files import written_aside

    model = Recommender.champion(workspace, name, config)
    found = model.similar(None if everything else item, k, behavior)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(out) as aside:
            found.write_parquet(aside)
        told = f"wrote {out}: {found['item_id'].n_unique():,} items, {found.height:,} rows"
        counts = {"out": str(out), "items": found["item_id"].n_unique(), "rows": found.height}
        answer(counts, json, page=lambda: typer.echo(told))
        return
    rows = found.to_dicts()
    lines = [f"{row['rank']:>4}  {row['score']:.4f}  {called(row, 'similar_')}" for row in rows]
    answer(rows, json, page=lambda: typer.echo("".join(f"{line}\n" for line in lines), nl=False))
