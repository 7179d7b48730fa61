"""What a training starts from: the champion's weights, or nothing, and then why.

The choice is made once for the same data, settings and code, and kept as a stage output. So a run
that is repeated, after its own promotion too, starts from where it started before.
"""

import contextlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.data.interactions import Interactions
from bigel.errors import ConfigError, DataError
from bigel.lists.bundle import places, trained_on
from bigel.schema import COLD, CONTENT, EARLIER
from bigel.store import Record, Workspace, file_digest, fingerprint, stage_key
from bigel.store.code import code_of
from bigel.tracking.gate import CHAMPION
from bigel.tracking.models import Model, model_name, open_model
from bigel.tracking.registry import Registered
from bigel.tracking.store import home_of

MOST_LEARNED = 0.5  # share of a behavior's validation pairs that the champion may have learned
log = logging.getLogger(__name__)


def choose_start(
    split: Record, graph: Record, config: Config, workspace: Workspace, model: str = CHAMPION
) -> Record:
    """Return the champion's weights for a training, or the reason to start cold.

    The record's folder holds ``weights.safetensors``, ``users.parquet`` and ``items.parquet``
    (present inner id, and ``earlier``: the champion's, null for a new one) and
    ``learned.parquet`` (present validation and test pairs that the weights were trained on);
    nothing where training starts cold. A reason that may pass (the champion's artifacts cannot be
    read) is not stored, and the record's folder is empty. Counts: cold (the reason, "" if it is
    not), uri, content, known_users, known_items.

    Args:
        split: the split stage's record.
        graph: the graph stage's record.
        config: the whole configuration.
        workspace: holds the choice.
        model: reference of the champion; other than the alias where the registry is away.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    from bigel.train import identity  # torch takes seconds to import

    known = identity(split, graph, config)
    settings = known["settings"] | {"model_name": config.tracking.model_name}
    code = code_of(__name__)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        if model == CHAMPION and (reason := _no_champion(config, workspace)):
            return _cold(reason)
        try:
            champion = opened.enter_context(open_model(model, config, workspace))
        except (ConfigError, DataError) as error:
            raise UnreadableError(str(error)) from error
        return _take(champion, split, config, out)

    with contextlib.ExitStack() as opened:
        try:
            record = workspace.run_stage(
                "start", inputs=known["inputs"], settings=settings, code=code, build=build
            )
        except UnreadableError as error:  # it may be mended: do not store
            key = stage_key("start", known["inputs"], settings, code)
            empty = str(workspace.scratch / key)
            record = Record("start", key, empty, False, 0.0, _cold(str(error)))
    if record.counts[COLD]:
        log.warning("training starts cold: %s", record.counts[COLD])
    else:
        log.info(
            "training starts from %(uri)s, which knows %(known_users)d of %(users)d users and "
            "%(known_items)d of %(items)d items",
            record.counts,
        )
    return record


class UnreadableError(DataError):
    """There is a champion, but it cannot be read now."""


def _no_champion(config: Config, workspace: Workspace) -> str:
    """Return that there is no champion, "" if there is one."""
    home = home_of(workspace)
    if not home.exists():
        return "nothing is registered yet"
    client = home.connect()
    with home.explained():
        name = model_name(client, config)
        return "" if Registered(client, name).champion else f"{name} has no champion yet"


def _cold(reason: str) -> dict[str, Any]:
    return {COLD: reason, "uri": "", CONTENT: ""}


def _take(champion: Model, split: Record, config: Config, out: Path) -> dict[str, Any]:
    if reason := _other_architecture(champion.facts, config):
        return _cold(f"{champion.uri} {reason}")
    files = {schema.USER: schema.USERS_FILE, schema.ITEM: schema.ITEMS_FILE}
    matched = {
        inner: places(split.file(name), champion.folder / name, inner)
        for inner, name in files.items()
    }
    known = {inner: int(found[EARLIER].count()) for inner, found in matched.items()}
    if not known[schema.ITEM]:
        return _cold(f"{champion.uri} knows none of the items")
    learned, share = _learned(champion, split)
    if reason := _drawn_anew(share):
        return _cold(f"{champion.uri} {reason}")
    shutil.copyfile(champion.folder / schema.WEIGHTS_FILE, out / schema.WEIGHTS_FILE)
    for inner, name in files.items():
        matched[inner].write_parquet(out / name)
    learned.write_parquet(out / schema.LEARNED_FILE)
    return {
        COLD: "",
        "uri": champion.uri,
        CONTENT: fingerprint(*(file_digest(path) for path in sorted(out.iterdir()))),
        "users": len(matched[schema.USER]),
        "items": len(matched[schema.ITEM]),
        "known_users": known[schema.USER],
        "known_items": known[schema.ITEM],
        "learned": len(learned),
    }


def _other_architecture(facts: dict[str, Any], config: Config) -> str:
    """Return what hinders taking the weights over, "" if nothing."""
    from bigel.train.start import architecture

    theirs, ours = facts.get("architecture"), architecture(config)
    if theirs is None:
        return "was registered without its weights, by an older version"
    was, now = (
        {key: json.dumps(one[key]) if key in one else "unknown" for key in {**theirs, **ours}}
        for one in (theirs, ours)
    )
    differing = [f"{key} {was[key]}, now {now[key]}" for key in was if was[key] != now[key]]
    return f"has another architecture ({'; '.join(differing)})" if differing else ""


def _learned(champion: Model, split: Record) -> tuple[pl.DataFrame, dict[str, float]]:
    """Return the held-out pairs that the champion was trained on, and validation's share of them
    by behavior.
    """
    frames, share = [], {}
    for name in (schema.VALID, schema.TEST):
        held_out = Interactions.load(split, name)
        trained = trained_on(champion.folder, champion.facts, split, held_out)
        for k, behavior in enumerate(held_out.behaviors):
            of_k = held_out.behavior_index == k
            found = held_out.only(trained & of_k)
            columns = {schema.USER: found.users, schema.ITEM: found.items}
            frames.append(
                pl.DataFrame(columns).with_columns(pl.lit(k).alias(schema.BEHAVIOR_INDEX))
            )
            if name == schema.VALID and of_k.any():
                share[behavior] = float(trained[of_k].mean())
    return pl.concat(frames), share


def _drawn_anew(share: dict[str, float]) -> str:
    """Return why validation would tell too little, "" if it does not."""
    high = {name: value for name, value in share.items() if value > MOST_LEARNED}
    listed = ", ".join(f"{value:.0%} of {name}" for name, value in high.items())
    return f"was trained on most of the validation pairs: {listed}" if high else ""
