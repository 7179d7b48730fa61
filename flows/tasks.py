"""Each stage as a Prefect task: a name, a time limit, and retries of what may pass by itself.

Reuse is the stage store's business, by content; Prefect's own cache is off. What passes between
tasks are records of a few hundred bytes, never frames or models.
"""

import random
from collections.abc import Callable
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.task_engine import TaskRunTimeoutError

from bigel.backtest import rehearse, score_bigel, score_guest, score_rules, sum_up_nights
from bigel.compare import compare, contest
from bigel.config import Config
from bigel.contracts import accept, measure_drift, profile_log, validate
from bigel.data.catalogue import read_catalogue
from bigel.data.split import split
from bigel.evaluate.stage import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.lists.bundle import build_bundle
from bigel.lists.preview import preview
from bigel.lists.recommend import recommend
from bigel.realized import measure_realized, rank_recent
from bigel.retry import delays, is_transient
from bigel.state.embed import embed
from bigel.tracking import choose_start, keep_family, keep_for_sync, log_family, register
from bigel.train import train
from flows.notify import name_stage

MINUTE = 60
HOUR = 60 * MINUTE


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether to retry a failure; a stage that ran out of time is not run again."""
    try:
        state.result(raise_on_failure=True)
    except TaskRunTimeoutError:
        return False
    except Exception as error:
        return is_transient(error)
    return False


def _stage(
    function: Callable[..., Any], *, tag: str, timeout: int, run_name: str | None = None
) -> Any:
    name = function.__name__
    wrap: Any = task(
        name=name,
        task_run_name=run_name or name,
        tags={"bigel", tag},
        timeout_seconds=timeout,
        retry_condition_fn=may_pass,
        on_failure=[name_stage],
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return wrap(function)


TASKS: dict[Callable[..., Any], Any] = {
    ingest: _stage(ingest, tag="data", timeout=4 * HOUR),
    validate: _stage(validate, tag="contract", timeout=HOUR, run_name="validate {handover}"),
    profile_log: _stage(profile_log, tag="contract", timeout=HOUR),
    measure_drift: _stage(measure_drift, tag="contract", timeout=HOUR),
    measure_realized: _stage(measure_realized, tag="contract", timeout=HOUR),
    accept: _stage(accept, tag="contract", timeout=HOUR),
    split: _stage(split, tag="data", timeout=HOUR),
    read_catalogue: _stage(read_catalogue, tag="data", timeout=HOUR),
    build_graphs: _stage(build_graphs, tag="data", timeout=HOUR),
    choose_start: _stage(choose_start, tag="tracking", timeout=HOUR),
    train: _stage(train, tag="model", timeout=24 * HOUR),
    evaluate: _stage(evaluate, tag="model", timeout=4 * HOUR),
    embed: _stage(embed, tag="model", timeout=HOUR),
    build_bundle: _stage(build_bundle, tag="model", timeout=HOUR),
    preview: _stage(preview, tag="model", timeout=HOUR),
    register: _stage(register, tag="tracking", timeout=HOUR),
    keep_for_sync: _stage(keep_for_sync, tag="tracking", timeout=HOUR),
    recommend: _stage(recommend, tag="serving", timeout=4 * HOUR),
    rank_recent: _stage(rank_recent, tag="serving", timeout=HOUR),
    contest: _stage(contest, tag="model", timeout=24 * HOUR, run_name="{contestant.label}"),
    compare: _stage(compare, tag="model", timeout=HOUR),
    rehearse: _stage(rehearse, tag="model", timeout=HOUR),
    score_rules: _stage(score_rules, tag="model", timeout=HOUR),
    score_bigel: _stage(score_bigel, tag="model", timeout=HOUR),
    score_guest: _stage(
        score_guest, tag="model", timeout=24 * HOUR, run_name="score {contestant.label}"
    ),
    sum_up_nights: _stage(sum_up_nights, tag="model", timeout=HOUR),
    keep_family: _stage(keep_family, tag="tracking", timeout=HOUR),
    log_family: _stage(log_family, tag="tracking", timeout=HOUR),
}


def steps(config: Config, generator: random.Random | None = None) -> Callable[..., Any]:
    """Return what turns a stage function into its task, with the retries of the configuration.

    Args:
        config: ``run.retries`` and ``run.retry_seconds``.
        generator: gives the jitter; None: one of this call's own.
    """
    jitter = generator or random.Random()

    def retried(stage: Any) -> Any:
        pauses = delays(config.run.retries, config.run.retry_seconds, jitter)
        return stage.with_options(retries=len(pauses), retry_delay_seconds=pauses)

    def step(function: Callable[..., Any]) -> Any:
        return retried(TASKS[function])

    return step
