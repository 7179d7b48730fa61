"""Small questions to MLflow's registry that have "there is none" as an answer."""

from datetime import UTC, datetime
from typing import Any

from bigel.tracking.tags import BUNDLE_TAG, MADE_TAG

ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # INVALID: no such alias


def find_version(client: Any, name: str, bundle: str) -> Any:
    """Return the oldest version made of this bundle, or None."""
    found = client.search_model_versions(f"{named(name)} and tags.`{BUNDLE_TAG}`='{bundle}'")
    return min(found, key=lambda version: int(version.version), default=None)


def version_with(client: Any, name: str, alias: str) -> Any:
    """Return the version that has an alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, str(found.version))
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def find_number(client: Any, name: str, number: int) -> Any:
    """Return a version by its number, None if it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def made_at(version: Any) -> datetime:
    """Return when the run of a version ended; when it was registered, if no gate told."""
    if MADE_TAG in version.tags:
        return datetime.fromisoformat(version.tags[MADE_TAG])
    return datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)


def run_of(client: Any, version: Any) -> Any:
    """Return the run that made a version; None if it has none or it was deleted."""
    run = _run(client, version.run_id) if version.run_id else None
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def tags_of_run(client: Any, run_id: str) -> dict[str, str]:
    """Return a run's tags, of a deleted run too; none if it was removed for good."""
    run = _run(client, run_id)
    return {} if run is None else dict(run.data.tags)


def _run(client: Any, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def aliases_of(client: Any, name: str) -> dict[str, int]:
    """Return every alias of a registered model and its version; empty if there is no such model."""
    found = client.search_registered_models(named(name))
    return {alias: int(number) for model in found for alias, number in model.aliases.items()}


def named(name: str) -> str:
    """Return MLflow's filter by a model's name.

    >>> named("shop's")
    "name='shop''s'"
    """
    quoted = name.replace("'", "''")
    return f"name='{quoted}'"
