"""The verb of the outbox: sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigel.errors import BigelError, UnreachableError
from bigel.store import Workspace
from flows import console
from flows.answer import answer
from flows.options import Json, Place
from flows.running import retried

if TYPE_CHECKING:
    from bigel.tracking.outbox import Entry


def sync(workspace: Place = Path(), json: Json = None) -> None:
    """Deliver runs that the tracking store has not got, the oldest first; the gate decides then.

    Runs and comparisons that end while MLflow does not answer are kept in the workspace. Delivering
    twice makes one run and one version. What cannot be delivered stays, and the exit code is 1.

    Example: bigel sync --workspace /data/bigel
    """
    place = Workspace(workspace)
    console.tell_begin("bigel sync", place.root)
    with place.in_use():
        done = deliver_all(place)
    answer(done, json, page=lambda: console.print_sync(done))
    if done["waiting"]:
        raise BigelError(f"{len(done['waiting'])} of the runs still wait; nothing of them is lost")


def deliver_all(place: Workspace) -> dict[str, Any]:
    """Deliver one entry after the other; where the store does not answer, the rest waits.

    Returns:
        "delivered" (counts of ``outbox.deliver`` and "entry") and "waiting" ("entry" and "why").
    """
    from bigel.tracking import outbox

    delivered: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    away = ""
    for name in outbox.names_waiting(place):
        try:
            if not away:
                delivered.append(_deliver(outbox.entry(place, name), place) | {"entry": name})
                continue
        except UnreachableError as error:
            away = str(error)
        except BigelError as error:
            waiting.append({"entry": name, "why": str(error)})
            continue
        waiting.append({"entry": name, "why": away})
    return {"delivered": delivered, "waiting": waiting}


def _deliver(entry: "Entry", place: Workspace) -> dict[str, Any]:
    from bigel.tracking import outbox

    delivered: dict[str, Any] = retried(entry.config)(outbox.deliver)(entry, place)
    return delivered
