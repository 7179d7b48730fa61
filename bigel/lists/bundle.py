"""The bundle: everything that answering a request takes, in safetensors, Parquet and JSON."""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from bigel import __version__, schema
from bigel.config import Config
from bigel.data.interactions import IntArray, Interactions, with_learned
from bigel.data.weight import NONE, summed_column
from bigel.errors import DataError, WorkspaceError
from bigel.quiet import hush
from bigel.store import FINGERPRINT, MANIFEST, Record, Workspace, fingerprint, write_json
from bigel.store.code import code_of

if TYPE_CHECKING:
    from bigel.lists.serving import Recommender
    from bigel.state.moment import Learned

APART = ("bigel.state.embed",)  # make or find inputs
FORMAT = 6  # of the files; the reader in serving.py knows the same number
MODEL_FILE = "model.json"
SEEN_FILE = "seen.safetensors"
TREND = "item_trend"
EVENTS = "events"  # interactions that a user is known to have; 0: popular items answer
TRAINED, VALID = "train", "valid"  # which known pairs the weights were trained on, or chosen by
LEARNED = ("architecture", "model", "members", "weight", "seed")  # of the train stage's counts


def build_bundle(
    split: Record, trained: Record, embedded: Record, config: Config, workspace: Workspace
) -> Record:
    """Write what the served model needs; no setting changes it.

    Files: ``model.json``, ``users.parquet`` (user_id, events), ``items.parquet`` (item_id), those
    of the embed stage (``bigel.state.embed``), ``seen.safetensors`` (each user's items per
    behavior at the moment of the embed stage: what a person did is no news to them; and
    ``k.train``, whether the weights were trained on it, by this training or one that it started
    from, and ``k.valid``, whether it was validation, which the gate asks), ``weights.safetensors``
    (what the model is embedded anew from, and a later training may start from; ranking does not
    read it).

    Raises:
        WorkspaceError: if the embeddings are not finite.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        facts: dict[str, Any] = {"trained": trained.fingerprint}
        if trained.file(schema.WEIGHTS_FILE).exists():
            shutil.copyfile(trained.file(schema.WEIGHTS_FILE), out / schema.WEIGHTS_FILE)
            facts |= {name: trained.counts[name] for name in LEARNED}
            facts["parts"] = parts_of(facts)
        learned = with_learned(Interactions.load(split, schema.TRAIN), trained)
        valid = Interactions.load(split, schema.VALID)
        return _write(out, split, embedded, facts, {TRAINED: learned, VALID: valid})

    return workspace.run_stage(
        "bundle",
        inputs=[split.fingerprint, trained.fingerprint, embedded.fingerprint],
        settings={"format": FORMAT},
        code=code_of(__name__, apart=APART),
        build=build,
    )


def refresh_bundle(
    folder: Path, facts: dict[str, Any], split: Record, config: Config, workspace: Workspace,
    moment: str | int = schema.NOW, fold: int | None = None,
) -> Record:  # fmt: skip
    """Embed a registered model anew, over the pairs of a later log, and write the bundle of it.

    Its learned tables go by external id; users and items that came since are made of their pairs.

    Args:
        folder: of the registered bundle.
        facts: what ``model.json`` there says.
        split: record of the present log.
        config: as for ``bigel.embed.embed``.
        workspace: where the result is stored.
        moment: of the present log.
        fold: as for ``embed_learned``.

    Raises:
        DataError: if the model has other behaviors than the log, or came without its weights.
    """
    from bigel.state.embed import embed_learned  # torch takes seconds to import

    learned = learned_by(folder, facts, split)
    origin = facts["files"][MODEL_FILE]
    embedded = embed_learned(learned, [origin], split, config, workspace, moment, fold)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        kept = {name: facts[name] for name in ("trained", "behaviors")}
        return _write(out, split, embedded, kept | {"parts": parts_of(facts)}, {})

    return workspace.run_stage(
        "refresh",
        inputs=[split.fingerprint, embedded.fingerprint, origin],
        settings={"format": FORMAT},
        code=code_of(__name__, apart=APART),
        build=build,
    )


def parts_of(facts: dict[str, Any]) -> list[str]:
    """Return whose the columns of the embeddings are, in parts of equal width.

    >>> parts_of({"model": {"view": True, "own_view": False}, "members": 2})
    ['graph', 'views', 'graph', 'views']
    """
    model = facts["model"]
    views = bool(model["view"]) + bool(model["own_view"])
    return ["graph", *["views"] * views] * int(facts["members"])


def learned_by(folder: Path, facts: dict[str, Any], split: Record) -> "Learned":
    """Return what a registered model learned, in the numbers of a split.

    Raises:
        DataError: if the model has other behaviors than the log, weighs pairs by a column that the
            log was not read by, or came without its weights.
    """
    from bigel.state.moment import Learned  # torch takes seconds to import

    ours, theirs = list(split.counts[schema.TRAIN]), list(facts["behaviors"])
    if set(ours) != set(theirs):
        raise DataError(
            f"a bundle has the behaviors {', '.join(theirs)}, the data {', '.join(ours)}"
        )
    if "model" not in facts:
        raise DataError(f"the bundle at {folder} came without the weights to embed it anew")
    if (weight := facts.get("weight", NONE)) != NONE:
        summed_column(weight, split.counts.get(schema.WEIGHT))
    with _readable(folder):
        users, items = (places_of(folder, split, inner) for inner in (schema.USER, schema.ITEM))
        return Learned.load(folder / schema.WEIGHTS_FILE, facts).placed(users, items)


def places_of(folder: Path, split: Record, inner: str) -> IntArray:
    """Return the bundle's number of each present "user" or "item", -1 for a new one."""
    name = {schema.USER: schema.USERS_FILE, schema.ITEM: schema.ITEMS_FILE}[inner]
    found = places(split.file(name), folder / name, inner)[schema.EARLIER].fill_null(-1)
    numbers: IntArray = found.to_numpy(writable=True)
    return numbers


def places(present: Path, earlier: Path, inner: str) -> pl.DataFrame:
    """Return present inner id and a bundle's, matched by external id."""
    column = f"{inner}_id"
    ours = pl.read_parquet(present).sort(inner).select(inner, column)
    theirs = pl.read_parquet(earlier).select(column).with_row_index(schema.EARLIER)
    if ours.schema[column] != theirs.schema[column]:  # numbers, until an id came that is none
        ours, theirs = (ids.with_columns(pl.col(column).cast(pl.String)) for ids in (ours, theirs))
    joined = ours.join(theirs, on=column, how="left", maintain_order="left")
    return joined.select(inner, pl.col(schema.EARLIER).cast(pl.Int64))


def _write(
    out: Path, split: Record, embedded: Record, facts: dict[str, Any],
    fitted: Mapping[str, Interactions],
) -> dict[str, Any]:  # fmt: skip
    """Write a bundle but for its weights; ``fitted``: as of ``seen_pairs``."""
    from torch import from_numpy  # it takes seconds to import

    from bigel.state.moment import pairs_at
    from bigel.store.tensors import save_tensors

    moment = embedded.counts.get("moment", schema.NOW)
    pairs = pairs_at(split, moment)
    if "behaviors" in facts:
        pairs = pairs.in_order(facts["behaviors"])
    dim = _embedding_size(embedded.file(schema.EMBEDDINGS_FILE))
    for name in (schema.EMBEDDINGS_FILE, schema.POPULARITY_FILE, schema.SIGNALS_FILE):
        if embedded.file(name).exists():
            shutil.copyfile(embedded.file(name), out / name)
    events = np.bincount(pairs.users, minlength=pairs.n_users).astype(np.uint32)
    pl.read_parquet(split.file(schema.USERS_FILE)).sort(schema.USER).select(
        schema.USER_ID, pl.Series(EVENTS, events)
    ).write_parquet(out / schema.USERS_FILE)
    pl.read_parquet(split.file(schema.ITEMS_FILE)).sort(schema.ITEM).select(
        schema.ITEM_ID
    ).write_parquet(out / schema.ITEMS_FILE)
    seen = {name: from_numpy(array) for name, array in seen_pairs(pairs, fitted).items()}
    save_tensors(out / SEEN_FILE, seen)
    facts = {
        "format": FORMAT,
        "behaviors": list(pairs.behaviors),
        "users": pairs.n_users,
        "items": pairs.n_items,
        "dim": dim,
        "data": data_fingerprint(split),
        "moment": moment,
        "signals": embedded.counts.get("signals"),
        "bigel": __version__,
    } | facts
    write_facts(out, facts)
    return {"users": pairs.n_users, "items": pairs.n_items, "data": facts["data"]}


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write ``model.json`` with the checksums of itself and of all files beside it."""
    hush()  # before the import brings MLflow along
    from bigel.lists.serving import digests

    names = [path.name for path in folder.iterdir() if path.name not in (MODEL_FILE, MANIFEST)]
    write_json(folder / MODEL_FILE, facts | {"files": digests(folder, facts, names)})


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` says of a bundle, after all checksums were found to hold.

    Raises:
        DataError: if it is damaged, or of another format.
    """
    from bigel.lists import serving

    with _readable(folder):
        return serving.read_facts(folder)


def stored_bundle(key: str, workspace: Workspace) -> tuple[Path, dict[str, Any]] | None:
    """Return a bundle of the stage store and its facts; None if none is whole, of our format."""
    record = workspace.stored("bundle", key) if FINGERPRINT.fullmatch(key) else None
    if record is None:
        return None
    folder = Path(record.path)
    try:
        return folder, read_facts(folder)
    except DataError:
        return None


def load_bundle(folder: Path) -> "Recommender":
    """Read a bundle to rank with.

    Raises:
        DataError: if it is damaged, or of another format.
    """
    from bigel.lists.serving import Recommender

    with _readable(folder):
        return Recommender.load(folder)


def known_to(folder: Path) -> tuple[list[str], pl.Series]:
    """Return the behaviors and the user ids of a bundle, without the rest.

    Raises:
        DataError: if it is damaged.
    """
    with _readable(folder):
        facts = json.loads((folder / MODEL_FILE).read_text("utf-8"))
        return list(facts["behaviors"]), pl.read_parquet(folder / schema.USERS_FILE)[schema.USER_ID]


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    wrong = (ValueError, KeyError, TypeError, OSError, SafetensorError, pl.exceptions.PolarsError)
    try:
        yield
    except wrong as error:
        raise DataError(f"the bundle at {folder} cannot be read: {error}") from error


def data_fingerprint(split: Record) -> str:
    """Return the digest of the split's files: the same digest, the same data and hold-outs."""
    manifest = json.loads(split.file(MANIFEST).read_text("utf-8"))
    return fingerprint(manifest["files"])


def _embedding_size(path: Path) -> int:
    """Return the embedding size D.

    Raises:
        WorkspaceError: if a tensor holds values that are not finite.
    """
    with safe_open(path, framework="numpy") as tensors:
        names = list(tensors.keys())
        for name in names:
            values = tensors.get_tensor(name)
            good = np.isfinite(values)
            if name == TREND:
                good |= np.isneginf(values)  # an item that nobody had
            if not good.all():
                raise WorkspaceError(
                    f"{path}: {name} holds values that are not finite; train again with a lower "
                    "train.learning_rate"
                )
        return int(tensors.get_slice("user_emb").get_shape()[-1])


def trained_on(
    folder: Path, facts: dict[str, Any], split: Record, asked: Interactions,
    parts: Collection[str] = (TRAINED,),
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Tell which of some pairs, in the numbers of a split, a bundle's weights were trained on.

    A new draw of the split makes them, and a training that started from an earlier model.

    Args:
        folder: of the bundle.
        facts: what ``model.json`` there says.
        split: record of the split.
        asked: the pairs.
        parts: of what the weights were fitted to, any of them counts.

    Raises:
        DataError: if the bundle does not tell.
    """
    seen = load_file(folder / SEEN_FILE)
    users, items = (places_of(folder, split, inner) for inner in (schema.USER, schema.ITEM))
    trained = np.zeros(len(asked), dtype=bool)
    for k, name in enumerate(facts["behaviors"]):
        if f"{k}.{TRAINED}" not in seen:
            raise DataError("its bundle does not tell which pairs it was trained on")
        rows = np.repeat(np.arange(facts["users"]), np.diff(seen[f"{k}.crow"]))
        marked = [seen[key] for part in parts if (key := f"{k}.{part}") in seen]
        learned = (rows * facts["items"] + seen[f"{k}.col"])[np.any(marked, axis=0)]
        mine = np.flatnonzero(asked.behavior_index == asked.behaviors.index(name))
        user, item = users[asked.users[mine]], items[asked.items[mine]]
        known = (user >= 0) & (item >= 0)
        trained[mine] = known & np.isin(user * facts["items"] + item, learned)
    return trained


def seen_pairs(
    log: Interactions, fitted: Mapping[str, Interactions]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return each behavior's user-by-item CSR, items ascending in a row.

    Keys: ``k.crow`` (int64, [U + 1]), ``k.col`` (int32), and for each of ``fitted`` by its name
    ``k.<name>`` (bool): whether the pair is one of it.
    """
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for k in range(len(log.behaviors)):
        keys = _keys(log, k)
        rows, columns = np.divmod(keys, max(1, log.n_items))
        crow = np.zeros(log.n_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=log.n_users), out=crow[1:])
        tensors |= {f"{k}.crow": crow, f"{k}.col": columns.astype(np.int32)}
        for name, pairs in fitted.items():
            tensors[f"{k}.{name}"] = np.isin(keys, _keys(pairs, k), assume_unique=True)
    return tensors


def _keys(log: Interactions, k: int) -> IntArray:
    """Return ``user * I + item`` of one behavior's pairs, ascending."""
    users, items = log.of(k)
    return np.sort(users * log.n_items + items)
