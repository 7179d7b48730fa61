"""What a training starts from: the champion's weights, or nothing, and then why.

The choice is made once for the same data, settings and code, and kept as a stage output. So a run
that is repeated, after its own promotion too, starts from where it started before.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from bigel import schema
from bigel.config import Config
from bigel.data.interactions import IntArray, Interactions
from bigel.errors import ConfigError, DataError
from bigel.schema import COLD, CONTENT, EARLIER
from bigel.store import Record, Workspace, file_digest, fingerprint, stage_key
from bigel.store.code import code_of
from bigel.tracking.bundle import SEEN_FILE, places
from bigel.tracking.gate import CHAMPION
from bigel.tracking.lookup import version_with
from bigel.tracking.resolve import Model, model_name, open_model
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
        with _opened(model, config, workspace) as champion:
            return _take(champion, split, config, out)

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


@contextlib.contextmanager
def _opened(model: str, config: Config, workspace: Workspace) -> Iterator[Model]:
    """Open the champion.

    Raises:
        UnreadableError: if that cannot be done.
    """
    with contextlib.ExitStack() as stack:
        try:
            champion = stack.enter_context(open_model(model, config, workspace))
        except (ConfigError, DataError) as error:
            raise UnreadableError(str(error)) from error
        yield champion


def _no_champion(config: Config, workspace: Workspace) -> str:
    """Return that there is no champion, "" if there is one."""
    home = home_of(workspace)
    if not home.exists():
        return "nothing is registered yet"
    client = home.connect()
    with home.explained():
        name = model_name(client, config)
        return "" if version_with(client, name, CHAMPION) else f"{name} has no champion yet"


def _cold(reason: str) -> dict[str, Any]:
    return {COLD: reason, "uri": "", CONTENT: ""}


def _take(champion: Model, split: Record, config: Config, out: Path) -> dict[str, Any]:
    if reason := _other_architecture(champion.facts, config):
        return _cold(f"{champion.uri} {reason}")
    matched = {
        inner: places(split.file(name), champion.folder / name, inner)
        for inner, name in ((schema.USER, schema.USERS_FILE), (schema.ITEM, schema.ITEMS_FILE))
    }
    users, items = (matched[inner][EARLIER].fill_null(-1).to_numpy() for inner in matched)
    if not (items >= 0).any():
        return _cold(f"{champion.uri} knows none of the items")
    learned, share = _learned(champion.folder, split, users, items)
    if reason := _drawn_anew(share):
        return _cold(f"{champion.uri} {reason}")
    shutil.copyfile(champion.folder / schema.WEIGHTS_FILE, out / schema.WEIGHTS_FILE)
    matched[schema.USER].write_parquet(out / schema.USERS_FILE)
    matched[schema.ITEM].write_parquet(out / schema.ITEMS_FILE)
    learned.write_parquet(out / schema.LEARNED_FILE)
    return {
        COLD: "",
        "uri": champion.uri,
        CONTENT: fingerprint(*(file_digest(path) for path in sorted(out.iterdir()))),
        "users": len(users),
        "items": len(items),
        "known_users": int((users >= 0).sum()),
        "known_items": int((items >= 0).sum()),
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


def _learned(
    folder: Path, split: Record, users: IntArray, items: IntArray
) -> tuple[pl.DataFrame, dict[str, float]]:
    """Return the held-out pairs that the champion was trained on, and validation's share of them.

    Args:
        folder: the champion's bundle.
        split: record of the split stage.
        users: the champion's inner id of each present user, -1 for a new one.
        items: the same for items.
    """
    seen = load_file(folder / SEEN_FILE)
    n_items = pl.scan_parquet(folder / schema.ITEMS_FILE).select(pl.len()).collect().item()
    frames, share = [], {}
    for name in (schema.VALID, schema.TEST):
        held_out = Interactions.load(split, name)
        for k, behavior in enumerate(held_out.behaviors):
            ours = held_out.of(k)
            user, item = users[ours[0]], items[ours[1]]
            of_train = seen[f"{k}.train"]
            rows = np.repeat(np.arange(len(seen[f"{k}.crow"]) - 1), np.diff(seen[f"{k}.crow"]))
            trained = (rows * n_items + seen[f"{k}.col"])[of_train]
            found = (user >= 0) & (item >= 0) & np.isin(user * n_items + item, trained)
            columns = {schema.USER: ours[0][found], schema.ITEM: ours[1][found]}
            frames.append(
                pl.DataFrame(columns).with_columns(pl.lit(k).alias(schema.BEHAVIOR_INDEX))
            )
            if name == schema.VALID and len(found):
                share[behavior] = float(found.mean())
    return pl.concat(frames), share


def _drawn_anew(share: dict[str, float]) -> str:
    """Return why validation would tell too little, "" if it does not."""
    high = {name: value for name, value in share.items() if value > MOST_LEARNED}
    listed = ", ".join(f"{value:.0%} of {name}" for name, value in high.items())
    return f"was trained on most of the validation pairs: {listed}" if high else ""
