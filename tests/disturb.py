"""Runs of the pipeline that are disturbed at a chosen moment: ``python -m tests.disturb``.

Reads one attempt per line from standard input as JSON, answers each with a line of JSON. Every
attempt is a process of its own, forked after the slow imports. A moment is the n-th event of a
stage: a file or folder of the workspace that Python is about to write, rename or remove, a
training step, a fit of the calibration. Where an earlier attempt got further, it is the first event
of the next stage. "how" says what happens then: "kill" sends SIGKILL to the process, "full" lets
this write and all later ones fail as on a full disk, "" only counts.
"""

import functools
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any

WRITES = {"os.rename", "os.mkdir", "os.remove", "os.link", "shutil.copyfile"}
CREATES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ALLOCATES = {"open", "os.mkdir", "shutil.copyfile"}  # what a full disk refuses

# Stages in their order; calibration happens inside training.
STAGES = (
    *("ingest", "validate raw_log", "profile_log", "validate interactions", "measure_drift"),
    *("validate drift", "measure_realized", "validate realized", "split", "validate split"),
    *("build_graphs", "choose_start", "train", "weigh", "accept", "evaluate", "embed"),
    *("build_bundle", "preview", "validate preview", "register", "recommend"),
    *("validate recommendations", "rank_recent"),
)
ORDER = {stage: place for place, stage in enumerate(STAGES)}
ORDER["weigh"] = ORDER["train"]
SLOW_TO_IMPORT = (
    *("bigel.contracts.page", "bigel.evaluate.report"),
    *("bigel.pipeline", "bigel.lists.serving", "bigel.tracking.side_by_side", "matplotlib.pyplot"),
    *("torch._dynamo", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"),
    *("mlflow.store.model_registry.sqlalchemy_store", "mlflow.models", "mlflow.artifacts"),
)


class Disturbance:
    """Counts the events of each stage and strikes at one of them."""

    def __init__(self, attempt: dict[str, Any]) -> None:
        self.root = str(Path(attempt["workspace"]).resolve())
        self.stage, self.at, self.how = attempt["stage"], attempt["at"], attempt["how"]
        self.now = ["start"]
        self.counts: Counter[str] = Counter()
        self.full = False

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.within(function.__name__, function)

    def within(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            self.now.append(validated(*given) if stage == "validate" else stage)
            try:
                return function(*given, **named)
            finally:
                self.now.pop()

        return call

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            self.happens("call", "")
            return function(*given, **named)

        return call

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            wanted = bool(flags & CREATES) if mode is None else not set(mode).isdisjoint("wxa+")
        else:
            path, wanted = arguments[0] if arguments else None, event in WRITES
        if wanted and isinstance(path, str | Path) and self.root in str(path):
            self.happens(event, str(path))

    def happens(self, event: str, path: str) -> None:
        stage = self.now[-1]
        self.counts[stage] += 1
        target = ORDER.get(self.stage, len(ORDER))
        struck = (stage, self.counts[stage]) == (self.stage, self.at)
        struck = struck or ORDER.get(stage, 0) > target
        if struck and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.full = self.full or (struck and self.how == "full")
        if self.full and event in ALLOCATES:
            raise OSError(ENOSPC, "No space left on device", path)


def validated(handover: str, record: Any, *_: Any) -> str:
    """Name a validation; lists are checked twice, of the preview and of all users."""
    return f"validate {'preview' if record.stage == 'preview' else handover}"


def run(attempt: dict[str, Any]) -> dict[str, Any]:
    from bigel import pipeline, train
    from bigel.config import load_config
    from bigel.signals import weighing
    from bigel.store import Workspace
    from bigel.tracking import runs
    from bigel.train import loop
    from tests.tracking.conftest import log_bundle

    disturbance = Disturbance(attempt)
    replaced: Any = train
    replaced.weigh_signals = disturbance.within("weigh", train.weigh_signals)
    replaced = weighing
    replaced.fit = disturbance.counted(weighing.fit)
    replaced = runs
    replaced.log_model = log_bundle  # cut off in every place by tests of the registry
    replaced = loop.Trainer
    replaced._take_step = disturbance.counted(loop.Trainer._take_step)
    config = load_config(attempt["source"], attempt.get("settings", []))
    sys.addaudithook(disturbance.audit)
    try:
        summary = pipeline.run_and_summarize(
            config, Workspace(attempt["workspace"]), step=disturbance.step
        )
        return {"summary": summary, "events": disturbance.counts}
    except Exception as error:
        return {"error": type(error).__name__, "said": str(error)}


def work(attempt: dict[str, Any], answer: Path) -> None:
    """Run one attempt in this process and end it."""
    logging.basicConfig(filename=attempt["log"], filemode="w", level=logging.INFO, force=True)
    found = run(attempt)
    os.write(os.open(answer, os.O_WRONLY | os.O_CREAT), json.dumps(found, default=str).encode())
    os._exit(0)


def main() -> None:
    from flows.environment import set_defaults

    set_defaults()
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    from bigel.contracts import gx_pages, page

    for templates in (gx_pages.view().env, page.templates()):  # compiled here, once for all forks
        for name in templates.list_templates(extensions=["j2"]):
            templates.get_template(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    for number, line in enumerate(sys.stdin):
        attempt = json.loads(line)
        answer = Path(attempt["log"]).with_name(f"answer-{number}.json")
        child = os.fork()
        if child == 0:
            work(attempt, answer)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = json.loads(answer.read_text()) if answer.exists() else {}
        print(json.dumps(found | {"code": status}), flush=True)


if __name__ == "__main__":
    main()
