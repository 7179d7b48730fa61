"""Each stage as a Prefect task: a name, a time limit, and retries where a retry can help.

Reuse is the stage store's business, by content; Prefect's own cache is off. What passes between
tasks are records of a few hundred bytes, never frames or models.
"""

from collections.abc import Callable
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from bigel.compare import compare, contest
from bigel.contracts import accept, measure_drift, profile_log, validate
from bigel.errors import BigelError
from bigel.evaluate import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.recommend import recommend
from bigel.split import split
from bigel.tracking import log_family, register
from bigel.train import train

MINUTE = 60
HOUR = 60 * MINUTE


def is_transient(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Tell whether the failure may pass: an error of ours says so itself; a wrong program never."""
    try:
        state.result(raise_on_failure=True)
    except BigelError as error:
        return error.transient
    except (AssertionError, TypeError):
        return False
    except Exception:
        return True
    return False


def _stage(
    function: Callable[..., Any],
    *,
    tag: str,
    timeout: int,
    retries: int = 0,
    run_name: str | None = None,
) -> Any:
    name = function.__name__
    wrap: Any = task(
        name=name,
        task_run_name=run_name or name,
        tags={"bigel", tag},
        timeout_seconds=timeout,
        retries=retries,
        retry_delay_seconds=exponential_backoff(2) if retries else None,
        retry_jitter_factor=0.5 if retries else None,
        retry_condition_fn=is_transient if retries else None,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return wrap(function)


TASKS: dict[Callable[..., Any], Any] = {
    ingest: _stage(ingest, tag="data", timeout=4 * HOUR),
    validate: _stage(validate, tag="contract", timeout=HOUR, run_name="validate {handover}"),
    profile_log: _stage(profile_log, tag="contract", timeout=HOUR),
    measure_drift: _stage(measure_drift, tag="contract", timeout=HOUR),
    accept: _stage(accept, tag="contract", timeout=HOUR),
    split: _stage(split, tag="data", timeout=HOUR),
    build_graphs: _stage(build_graphs, tag="data", timeout=HOUR),
    train: _stage(train, tag="model", timeout=24 * HOUR),
    evaluate: _stage(evaluate, tag="model", timeout=4 * HOUR),
    register: _stage(register, tag="tracking", timeout=HOUR, retries=3),
    recommend: _stage(recommend, tag="serving", timeout=4 * HOUR, retries=3),
    contest: _stage(contest, tag="model", timeout=24 * HOUR, run_name="{contestant.label}"),
    compare: _stage(compare, tag="model", timeout=HOUR),
    log_family: _stage(log_family, tag="tracking", timeout=HOUR, retries=3),
}
