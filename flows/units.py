"""A unit of work as a Prefect task. Workers import this module, so it imports little."""

from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.task_engine import TaskRunTimeoutError

from bigel.engine import make_elsewhere
from bigel.retry import is_transient


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether to retry a failure; a stage that ran out of time is not run again."""
    try:
        state.result(raise_on_failure=True)
    except TaskRunTimeoutError:
        return False
    except Exception as error:
        return is_transient(error)
    return False


UNIT: Any = task(
    name="unit",
    task_run_name="{unit.label}",
    tags={"unit"},  # no time limit of its own: it could not interrupt a worker's thread
    retry_condition_fn=may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)(make_elsewhere)
