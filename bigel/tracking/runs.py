"""What MLflow's runs show: parameters, curves, metrics, files, the model; and families of runs.

A comparison, a back-test or a search is a family: a parent run with files, a child per member.
"""

import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from bigel import __version__, schema
from bigel.config import Config
from bigel.errors import hide_credentials
from bigel.store import MANIFEST, Record, Workspace
from bigel.tracking.store import home_of
from bigel.verdict import Verdict

MODEL_PATH = "model"  # of the model among a run's artifacts
BUNDLE = "bundle"  # of the bundle among the model's artifacts
DIGEST_DIGITS = 12  # of the data's fingerprint, as MLflow shows it
BATCH = 1_000  # most metrics that MLflow takes at once
PARAM_BATCH, PARAM_LENGTH = 100, 6_000  # what MLflow takes at most
FAMILY_TAG, PARENT_TAG = "bigel.family", "mlflow.parentRunId"
MOST_MEMBERS = 10_000
BEHAVIORS_TAG = "bigel.behaviors"  # JSON: their names
CONTRACTS_TAG = "bigel.contracts"  # JSON: hand-over to whether its contract passed
VERSIONS_TAG = "bigel.contract_versions"  # JSON: hand-over to version and digest of its contract
COMMIT_TAG = "mlflow.source.git.commit"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy")


def metric_name(*parts: str) -> str:
    """Join parts into a name that MLflow accepts (letters, digits, ``_-.: /``, no ``@``).

    >>> metric_name("test", "published", "add+cart", "ndcg@5")
    'test/published/add_2b_cart/ndcg_at_5'
    """

    def escape(match: re.Match[str]) -> str:
        return "_at_" if match[0] == "@" else f"_{ord(match[0]):x}_"

    return "/".join(re.sub(r"[^\w\- :]", escape, part) for part in parts)


def flatten(tree: Mapping[str, Any], *prefix: str) -> Iterator[tuple[str, float]]:
    """Yield (name, value) of every finite number in a tree of metrics.

    >>> list(flatten({"valid": {"click": {"ndcg@5": 0.5, "hr@5": None}}}))
    [('valid/click/ndcg_at_5', 0.5)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, *prefix, key)
        elif isinstance(value, int | float) and math.isfinite(value):
            yield metric_name(*prefix, key), float(value)


def flat_parameters(config: Config) -> dict[str, str]:
    """Return ``section.key`` to its value as text; tables of the user's own keys stay whole.

    The rivals' settings are left out: they are logged where a rival is trained.
    """
    parameters: dict[str, str] = {}
    for section, values in config.model_dump(mode="json", exclude={"rivals"}).items():
        for key, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            parameters[f"{section}.{key}"] = text[:PARAM_LENGTH]
    return parameters


def log_parameters(client: Any, run_id: str, config: Config) -> None:
    """Log the whole configuration, as parameters and as ``config.json``."""
    _log_params(client, run_id, flat_parameters(config))
    log_json(client, run_id, config.model_dump(mode="json"), "config.json")


def _log_params(client: Any, run_id: str, values: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    params = [Param(key, value) for key, value in values.items()]
    for start in range(0, len(params), PARAM_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAM_BATCH])


def log_curves(
    client: Any, run_id: str, history: Mapping[str, Any], cutoff: int, when: datetime
) -> None:
    """Log the loss of each step and each validation, under ``curve/``."""
    points: list[tuple[str, float, int]] = []
    for entry in history["steps"]:
        tree = {"loss": entry.get("loss")}
        points += [(*point, entry["step"]) for point in flatten(tree, "curve", "train")]
    for entry in history["validations"]:
        tree = {"mean": entry["mean"], **entry["ndcg"]}
        name = f"ndcg@{cutoff}"
        points += [(*point, entry["step"]) for point in flatten(tree, "curve", "valid", name)]
    log_metrics(client, run_id, points, when)


def log_metrics(
    client: Any, run_id: str, points: list[tuple[str, float, int]], when: datetime
) -> None:
    """Log (name, value, step) in as few requests as MLflow allows, as of a time."""
    from mlflow.entities import Metric

    time = milliseconds(when)
    metrics = [Metric(name, value, time, step) for name, value, step in points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def milliseconds(when: datetime) -> int:
    """Return a time as MLflow counts it.

    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC))
    2000
    """
    return int(when.timestamp() * 1000)


def log_evaluation(client: Any, run_id: str, evaluated: Record) -> None:
    """Log what the evaluation wrote: all figures as ``metrics.json``, and the plots."""
    for path in sorted(Path(evaluated.path).rglob("*")):
        folder = path.parent.relative_to(evaluated.path).as_posix()
        if path.suffix in {".json", ".png", ".svg"} and path.name != MANIFEST:
            client.log_artifact(run_id, str(path), None if folder == "." else folder)


def log_verdict(
    client: Any, run_id: str, verdict: Verdict, metrics: Mapping[str, Any], when: datetime
) -> None:
    """Log the figures of a verdict, and of the last night's lists, as the run's metrics.

    All others stand in ``metrics.json``.

    A metric that stands with this value is not logged again, so that a registration that was cut
    off leaves each once.
    """
    metric, lines = f"ndcg@{metrics[schema.HEADLINE]['cutoff']}", verdict.lines
    tree: dict[str, Any] = {"mean": {metric: verdict.mean}}
    for line in lines:
        of_line: dict[str, Any] = {metric: line.value, "users": line.users}
        for name, other in (("rule", line.rule), ("champion", line.champion)):
            if other is not None:
                of_line |= {name: other.value, f"above {name}": other.difference}
        tree[line.behavior] = of_line
    lists = {
        name: {metric: found.get(metric), "rule": {metric: found["rule"].get(metric)}}
        for name, found in metrics.get("realized", {}).items()
    }
    known = client.get_run(run_id).data.metrics
    figures = [*flatten(tree), *flatten(lists, "realized")]
    points = [(name, value, 0) for name, value in figures if known.get(name) != value]
    log_metrics(client, run_id, points, when)


def log_dataset(client: Any, run_id: str, split: Record, data: str, config: Config) -> None:
    """Log which data the run was made of: where they are, their digest, columns and sizes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    origin = hide_credentials(str(config.data.origin))
    profile = {name: split.counts[name] for name in ("users", "items", "method")}
    profile |= {part: split.counts[part] for part in schema.SPLITS}
    columns = [
        {"name": name, "type": "long", "required": True}
        for name in pl.read_parquet_schema(split.file(schema.split_file(schema.TRAIN)))
    ]
    dataset = Dataset(
        name=Path(origin).name or origin, digest=data[:DIGEST_DIGITS], source_type="bigel",
        source=json.dumps({"uri": origin}), schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile),
    )  # fmt: skip
    inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:  # another workspace logged the same data at the same moment
        if "unique constraint" not in str(error).lower():
            raise
        client.log_inputs(run_id, inputs)


def run_name(what: str, when: datetime) -> str:
    """Return what a run is called: what it is of, and when.

    >>> run_name("bigel", datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    'bigel 2026-01-02 03:04'
    """
    return f"{what} {when:%Y-%m-%d %H:%M}"


def seconds_of(record: Record) -> float:
    """Return how long an output took when it was made, 0 where its manifest does not tell."""
    place = record.file(MANIFEST)
    told = json.loads(place.read_text("utf-8")) if place.exists() else {}
    return float(told.get("seconds", 0))


def log_json(client: Any, run_id: str, value: Any, name: str) -> None:
    """Log a value as a JSON file."""
    client.log_text(run_id, json.dumps(value, indent=2, ensure_ascii=False, default=str), name)


def log_model(client: Any, run_id: str, bundle: Record) -> None:
    """Log the bundle with its code as a pyfunc model, after it answered its own example."""
    import mlflow.pyfunc

    from bigel.lists import serving

    example = _example(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        folder, named = Path(scratch) / MODEL_PATH, Path(scratch) / BUNDLE
        hidden = shutil.ignore_patterns(MANIFEST)
        shutil.copytree(bundle.path, named, ignore=hidden, copy_function=_linked)
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=shutil.copy(serving.__file__, scratch),
            artifacts={BUNDLE: str(named)},
            signature=_signature(bundle),
            input_example=example,
            pip_requirements=[f"{n}=={importlib.metadata.version(n)}" for n in REQUIREMENTS],
        )
        rights = (folder / "MLmodel").stat().st_mode  # of a new file; the bundle's may be others
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(rights)
        mlflow.pyfunc.load_model(str(folder)).predict(example)
        client.log_artifacts(run_id, str(folder), MODEL_PATH)


def _linked(source: str, target: str) -> None:
    """Give a file another name, or copy it to another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def log_family(
    kind: str,
    key: str,
    files: Sequence[str],
    members: Mapping[str, Mapping[str, Any]],
    config: Config,
    workspace: Workspace,
) -> str:
    """Log a family of runs; return the parent's run id.

    What stands is not logged again: a call that was cut off is finished by the next, and a family
    that has grown gets its new members. Two workspaces that log one family at the same time may
    each log a member.

    Args:
        kind: "compare", "backtest" or "tune"; the experiment is ``bigel-<kind>`` unless
            ``tracking`` names one.
        key: what the family is known by.
        files: artifacts of the parent.
        members: by label "settings" (parameters) and "metrics" (a tree of numbers).
        config: logged as the parent's parameters.
        workspace: holds the tracking store, unless the environment says otherwise.
    """
    home = home_of(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        experiment = home.experiment(client, config.tracking.experiment or f"bigel-{kind}")
        known = client.search_runs([experiment], f"tags.`{FAMILY_TAG}` = '{key}'")
        tags = {FAMILY_TAG: key, **environment_tags()}
        name = run_name(kind, datetime.now(UTC))
        parent = known[0] if known else client.create_run(experiment, tags=tags, run_name=name)
        run_id = str(parent.info.run_id)
        children = f"tags.`{PARENT_TAG}` = '{run_id}'"
        found = client.search_runs([experiment], children, max_results=MOST_MEMBERS)
        logged = {run.info.run_name: run for run in found}
        done = {label for label, run in logged.items() if run.info.status == "FINISHED"}
        if parent.info.status == "FINISHED" and members.keys() <= done:
            return run_id
        if not known:
            log_parameters(client, run_id, config)
        for label in (label for label in members if label not in done):
            run = logged.get(label) or client.create_run(
                experiment, tags={PARENT_TAG: run_id}, run_name=label
            )
            _log_member(client, run.info, members[label])
        for file in filter(os.path.exists, files):
            client.log_artifact(run_id, file)
        client.set_terminated(run_id, "FINISHED")
        return run_id


def _log_member(client: Any, info: Any, member: Mapping[str, Any]) -> None:
    """Log a member as of its run's start, so that what a call that was cut off left stands once."""
    settings = member["settings"].items()
    texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in settings}
    _log_params(client, info.run_id, texts)
    points = [(name, value, 0) for name, value in flatten(member["metrics"])]
    log_metrics(client, info.run_id, points, datetime.fromtimestamp(info.start_time / 1000, UTC))
    client.set_terminated(info.run_id, "FINISHED")


def environment_tags() -> dict[str, str]:
    """Return the versions, and the git commit of the code if there is one."""
    tags = {f"version.{n}": importlib.metadata.version(n) for n in ("mlflow", "torch", "polars")}
    tags |= {"version.bigel": __version__, "mlflow.source.name": "bigel"}
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return tags
    return tags | {COMMIT_TAG: commit.stdout.strip()}


def _signature(bundle: Record) -> Any:
    """Return parameters and answer; the input has no schema, for the model checks it itself.

    With one, MLflow would cast (user 1.9 to 1) and drop unknown columns before the model sees them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    from bigel.lists.serving import EXCLUDE

    user, item = (
        "long" if pl.read_parquet_schema(bundle.file(name))[column].is_integer() else "string"
        for name, column in (
            (schema.USERS_FILE, schema.USER_ID),
            (schema.ITEMS_FILE, schema.ITEM_ID),
        )
    )
    return ModelSignature(
        outputs=Schema(
            [
                ColSpec(user, schema.USER_ID),
                ColSpec("string", schema.BEHAVIOR),
                ColSpec("integer", schema.RANK),
                ColSpec(item, schema.ITEM_ID),
                ColSpec("float", schema.SCORE),
                ColSpec("string", schema.SOURCE),
            ]
        ),
        params=ParamSchema([ParamSpec("exclude", "string", EXCLUDE[0])]),
    )


def example_of(bundle: Record) -> dict[str, Any]:
    """Return the simplest request that a bundle answers."""
    facts = json.loads(bundle.file("model.json").read_text("utf-8"))
    user = pl.read_parquet(bundle.file(schema.USERS_FILE), n_rows=1)[schema.USER_ID][0]
    return {"user_id": user, "behavior": facts["behaviors"][-1], "k": 5}


def _example(bundle: Record) -> Any:
    """Return one request per behavior, of the first user, with every optional field."""
    import pandas as pd

    facts = json.loads(bundle.file("model.json").read_text("utf-8"))
    user = pl.read_parquet(bundle.file(schema.USERS_FILE), n_rows=1)[schema.USER_ID][0]
    item = pl.read_parquet(bundle.file(schema.ITEMS_FILE), n_rows=1)[schema.ITEM_ID][0]
    return pd.DataFrame(
        {
            "user_id": user,
            "behavior": name,
            "k": 5,
            "recent": [{"item_id": item, "behavior": name}],
            "exclude_items": [item],
            "only_items": None,
        }
        for name in facts["behaviors"]
    )
