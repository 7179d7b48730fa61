"""The way of a search: data once, the trials, the best settings as a preset, MLflow."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.pipeline import Step, plain, run_pipeline
from bigel.store import Workspace
from bigel.tracking import log_family
from bigel.tune.study import check_request, tune


def run_search(
    model: str, trials: int, config: Config, workspace: Workspace, step: Step[Any] = plain,
    minutes: float = math.inf, on_best: Callable[[Path], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run or go on with a search; return its summary, JSON values only.

    Args:
        model: a key of ``SPACES``.
        trials: finished trials after which the search ends.
        config: the resolved configuration.
        workspace: where data, study and MLflow are.
        step: wraps each stage function before it is called.
        minutes: no trial begins once the finished ones took so long together.
        on_best: as of ``tune``.

    Raises:
        ConfigError: on what ``check_request`` refuses, or run.ranks.
        BigelError: whatever a stage raises.
    """
    started = time.perf_counter()
    check_request(model, trials, minutes)
    config.run.refuse_ranks("bigel tune")
    records = run_pipeline(config, workspace, "graph", step).records
    found = tune(
        model, trials, records["split"], records["graph"], config, workspace, minutes, on_best
    )
    members = {
        f"trial {trial['number']}": {
            "settings": {"state": trial["state"], **trial["settings"]},
            "metrics": {"valid": {"mean": trial["value"]}},
        }
        for trial in found["trials"]
    }
    files = [found["preset"], found["study"]]
    key = Path(found["study"]).parent.name
    run_id = log_family("tune", key, files, members, config, workspace)
    seconds = round(time.perf_counter() - started, 2)
    return {"status": "ok", "seconds": seconds, "mlflow_run": run_id, **found}
