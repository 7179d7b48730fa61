"""The verbs of the stage store: store list, store show, store gc."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bigel.store import Workspace
from bigel.store import housekeeping as store
from flows.answer import answer
from flows.options import Json, Place

app = typer.Typer(
    no_args_is_help=True,
    help="What the stages wrote: list it, look at one output, remove what is not needed.",
)


@app.command(name="list")
def list_outputs(workspace: Place = Path(), json: Json = None) -> None:
    """List all stored outputs, last used first.

    Example: bigel store list --json outputs.json
    """
    outputs = store.inventory(Workspace(workspace))
    table = Table(title=f"{len(outputs)} outputs, {_bytes(sum(o.size for o in outputs))}")
    for name in ("stage", "fingerprint", "size", "last used (UTC)", "made in"):
        table.add_column(name, justify="right" if name in ("size", "made in") else "left")
    for output in outputs:
        used = f"{output.used:%Y-%m-%d %H:%M}"
        seconds = f"{output.manifest['seconds']:.1f} s"
        table.add_row(output.stage, output.fingerprint[:8], _bytes(output.size), used, seconds)
    listed = [_described(output) for output in outputs]
    answer(listed, json, page=lambda: Console(highlight=False).print(table))


@app.command()
def show(
    fingerprint: Annotated[str, typer.Argument(help="The fingerprint, or its start.")],
    workspace: Place = Path(),
) -> None:
    """Show one output: its files and their columns or tensors, counts, settings, versions, and what
    it was made from.

    Example: bigel store show 5c69c5
    """
    place = Workspace(workspace)
    output = store.find(place, fingerprint)
    console = Console(highlight=False)
    console.print(f"{output.stage} {output.fingerprint}, {_bytes(output.size)}", soft_wrap=True)
    console.print(escape(str(output.path)), soft_wrap=True)
    for parent in store.parents(output, store.inventory(place)):
        console.print(f"made from  {parent.stage} {parent.fingerprint[:8]}")
    for part in ("counts", "settings", "versions", "files"):
        for key, value in output.manifest[part].items():
            console.print(escape(f"{part:<9}  {key} = {value}"), soft_wrap=True)
    for name, schema in output.manifest["schema"].items():
        console.print(escape(f"schema     {name}: {_held(schema)}"), soft_wrap=True)


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=0, help="Last used outputs of each stage to keep.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Remove outputs that nothing needs, leftovers of killed runs, and checkpoints of trainings
    that nobody went on with for a week.

    Kept are the last used outputs of each stage, whatever any registered model was made of, the
    run that drift is measured from, the lists published last, and everything that these were
    made from. Refused while a run uses the workspace.

    Example: bigel store gc --keep 2 --dry-run
    """
    from bigel.contracts import needed_profiles
    from bigel.realized import needed_lists
    from bigel.tracking import needed_fingerprints

    place = Workspace(workspace)

    def needed() -> set[str]:
        return needed_fingerprints(place) | needed_profiles(place) | needed_lists(place)

    found = store.collect(place, keep, needed, dry_run)
    done = "would remove" if dry_run else "removed"
    lines = [f"{done} {path}" for path in (*found["removed"], *found["leftovers"])]
    lines += [f"{_bytes(found['freed'])} {'would be free' if dry_run else 'freed'}"]
    answer(found, json, page=lambda: print("\n".join(lines)))


def _described(output: store.Output) -> dict[str, object]:
    return {
        "stage": output.stage,
        "fingerprint": output.fingerprint,
        "path": str(output.path),
        "bytes": output.size,
        "used": output.used.isoformat(),
        "counts": output.manifest["counts"],
    }


def _held(schema: dict[str, Any]) -> str:
    """Return what a file holds in one line."""
    if "tensors" in schema:
        shapes = {name: (one["dtype"], one["shape"]) for name, one in schema["tensors"].items()}
        return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in shapes.items())
    columns = ", ".join(f"{name} {kind}" for name, kind in schema["columns"].items())
    return f"{schema['rows']:,} rows of {columns}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
