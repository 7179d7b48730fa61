"""From a log to a model in one call, without Prefect, a server or the registry."""

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pyarrow import ArrowException

from bigel import schema
from bigel.config import Columns, Config, load_config
from bigel.config.write import to_overrides
from bigel.errors import ConfigError, DataError
from bigel.ingest.propose import propose
from bigel.lists.bundle import build_bundle, load_bundle
from bigel.pipeline import run_pipeline
from bigel.quiet import hush
from bigel.recommender import Recommender
from bigel.state.embed import embed
from bigel.store import Record, Workspace

if TYPE_CHECKING:
    import pandas as pd

FRAME_FILE = "frame.parquet"
COLUMNS = ("user", "item", "behavior", "timestamp")
log = logging.getLogger(__name__)


def fit(
    log: "pl.DataFrame | pd.DataFrame | str | Path",
    behaviors: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    workspace: str | Path | None = None,
) -> Recommender:
    """Read, check, split, train, evaluate and embed a log; nothing is registered.

    Args:
        log: a polars or pandas frame with a row per event, or a preset or TOML file as of
            ``bigel run``.
        behaviors: the funnel, the target last; None: as the settings say, or of a frame as
            ``bigel init`` would propose it.
        columns: of the log, by "user", "item", "behavior" and "timestamp"; those of a frame that
            are not named are found by their names.
        settings: more, by section and key, for example {"train.max_steps": 100}.
        workspace: folder of all outputs; finished stages there are reused. None: a temporary one,
            removed with the model.

    Raises:
        ConfigError: on a wrong setting.
        ContractError: if the log breaks a contract.
        BigelError: whatever a stage raises.
    """
    hush()
    temporary = tempfile.mkdtemp(prefix="bigel-") if workspace is None else None
    try:
        with tempfile.TemporaryDirectory(prefix="bigel-frame-") as scratch:
            given = _given(behaviors, columns, settings)
            config = _config(log, given, Path(scratch))
            found = _fit(config, Workspace(temporary or workspace or "."))
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    if temporary is not None:
        shared = found._known  # by what ``with_rules`` makes of it
        weakref.finalize(shared, shutil.rmtree, temporary, ignore_errors=True)
    return found


def _fit(config: Config, workspace: Workspace) -> Recommender:
    with workspace.in_use():
        records = run_pipeline(config, workspace, "evaluate").records
        split, trained = records["split"], records["train"]
        embedded = embed(split, trained, config, workspace)
        bundle = build_bundle(split, trained, embedded, config, workspace)
        folder = Path(bundle.path)
        found = Recommender(load_bundle(folder), folder, _figures(records["evaluate"]))
        return found.with_rules(config, workspace.root)


def _given(
    behaviors: Sequence[str] | None,
    columns: Mapping[str, str] | None,
    settings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return all settings that were given, by section and key."""
    given = dict(settings or {})
    if isinstance(behaviors, str):
        raise ConfigError(f"behaviors = {behaviors!r}; give a list, the target last")
    given |= {} if behaviors is None else {"data.behaviors": list(behaviors)}
    return given | {f"data.columns.{name}": column for name, column in (columns or {}).items()}


def _config(log: Any, given: dict[str, Any], scratch: Path) -> Config:
    """Return the configuration of a log; a frame is written into scratch."""
    source = ""
    if isinstance(log, str | Path):
        source = str(log)
    else:
        path = scratch / FRAME_FILE
        _frame(log).write_parquet(path)
        given = _proposed(str(path), given) | given | {"data.path": str(path)}
    return load_config(source, ["run.progress=false", *to_overrides(given)])


def _proposed(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``bigel init`` would set, of what was not given.

    Raises:
        DataError: if it finds no column of users or items.
    """
    known = {name: given[key] for name in COLUMNS if (key := f"data.columns.{name}") in given}
    found = propose(path, Columns(**known), given.get("data.behaviors"))
    data = found.data
    if found.missing:
        names = ", ".join(map(repr, found.names))
        what = " and the ".join(found.missing)
        raise DataError(
            f"no column of the frame looks like the {what}, among {names}; give columns = "
            f"{{{found.missing[0]!r}: …}}"
        )
    guessed = (*COLUMNS, "time_of_day")
    proposed = {f"data.columns.{name}": getattr(data.columns, name) for name in guessed}
    for name in ("time_unit", "time_format"):
        proposed[f"data.{name}"] = getattr(data, name)
    if data.behavior_by_file:
        del proposed["data.columns.behavior"]
        proposed["data.behavior_by_file"] = _of_all_rows(data.behaviors, found.names, given)
    if data.wide:
        del proposed["data.columns.behavior"]
        proposed |= {"data.wide": data.wide, "data.wide_values": data.wide_values}
    if "data.behaviors" not in given:
        proposed |= {"data.behaviors": data.behaviors, "data.ignore": data.ignore}
        log.info("behaviors, the target last: %s", ", ".join(data.behaviors))
    return {key: value for key, value in proposed.items() if value}


def _of_all_rows(
    proposed: Sequence[str], names: Sequence[str], given: Mapping[str, Any]
) -> dict[str, str]:
    """Return the one behavior of all rows of a frame without a column of behaviors.

    Raises:
        DataError: if more than one was given.
    """
    behaviors = given.get("data.behaviors", proposed)
    if len(behaviors) > 1 and "data.behavior_by_file" not in given:
        raise DataError(
            f"behaviors = {list(behaviors)!r}, but no column of the frame looks like that of "
            f"behaviors, among {', '.join(map(repr, names))}; give columns = {{'behavior': …}}, or "
            "one behavior"
        )
    return {"*": next(iter(behaviors), "")}


def _frame(log: Any) -> pl.DataFrame:
    if isinstance(log, pl.DataFrame):
        return log
    try:
        return pl.DataFrame(pl.from_pandas(log))
    except (TypeError, ValueError, pl.exceptions.PolarsError, ArrowException) as error:
        raise DataError(
            f"log is a {type(log).__name__} that cannot be read ({error}); give a polars or pandas "
            "frame with one type per column, a preset or a .toml file"
        ) from None


def _figures(evaluated: Record) -> pl.DataFrame:
    """Return the metrics of an evaluation as rows."""
    metrics = json.loads(evaluated.file(schema.METRICS_FILE).read_text("utf-8"))
    popular = metrics["popularity"]
    rows = [
        (split, view, behavior, name, value, popular[split][view][behavior][name], figures["users"])
        for split in (schema.VALID, schema.TEST)
        for view, of_view in metrics[split].items()
        for behavior, figures in of_view.items()
        for name, value in figures.items()
        if name != "users"
    ]
    texts, numbers = ("split", "view", "behavior", "metric"), ("model", "popularity")
    types = [*((name, pl.String) for name in texts), *((name, pl.Float64) for name in numbers)]
    return pl.DataFrame(rows, orient="row", schema=[*types, ("users", pl.Int64)])
