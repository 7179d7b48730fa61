"""The search itself: Optuna proposes, the training loop answers, hopeless trials end early."""

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bigel import progress, schema
from bigel.compare.contestants import CLOSED, choose
from bigel.compare.fitting import CHOOSES, code_of_model, learner_of
from bigel.config import CALIBRATION, Config
from bigel.config.write import short_toml
from bigel.data.interactions import Interactions
from bigel.errors import ConfigError, TrainingError, nearest
from bigel.model.scores import Scores
from bigel.rivals.base import World
from bigel.store import Record, Workspace, code_digest, fingerprint, write_text
from bigel.store.code import code_of
from bigel.store.locks import take_lock
from bigel.train.calibration import calibrate
from bigel.train.loop import Trainer, Validation, choose_device, use_threads, validate
from bigel.tune.space import apply, present, suggest
from bigel.tune.spaces import SPACES, space_of

TENTHS = 10  # points of a trial's way at which it is judged
STARTUP = 5  # trials before any is pruned, and before proposals follow the results
MOST_FAILURES = 5  # trials in a row that may fail before the search gives up
PRESET_FILE = "best.toml"
ERROR = "error"  # attribute of a trial whose training failed
# The room is told apart, the rest by the model.
APART = (CHOOSES, "bigel.compare.fitting", "bigel.tune.spaces")
log = logging.getLogger(__name__)


def check_request(model: str, trials: int, minutes: float) -> None:
    """Refuse what cannot be searched, before anything is read.

    Raises:
        ConfigError: on an unknown model, fewer than one trial, or no time.
    """
    if model not in SPACES:
        raise ConfigError(f"there is nothing to tune for {model!r}{nearest(model, list(SPACES))}")
    if trials < 1:
        raise ConfigError(f"--trials {trials}: at least 1")
    if not minutes > 0:
        raise ConfigError(f"--minutes {minutes:g}: more than 0")


def tune(
    model: str, trials: int, split: Record, graph: Record, config: Config, workspace: Workspace,
    minutes: float = math.inf, on_best: Callable[[Path], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Search a model's settings until so many trials are finished; a killed search goes on.

    A trial's value is the validation mean over behaviors of NDCG at ``evaluate.select_cutoff`` of
    one member, calibrated as ``bigel compare`` does, each user by what was fitted without the user.
    Test is not read. The first trial is the configuration as far as the space holds it. Pruning, by
    validations of the model as trained: from half of its own steps on, at each tenth, a trial whose
    best validation so far is below the median of the others at the same tenth ends; so a long
    schedule is not judged by a short one's pace. A trial validates at most ``MOST_VALIDATIONS``
    times, so patience, too, goes by its own pace. Each proposal hangs on the seed and the trials
    before it alone, so a search that was stopped and one that was not are the same.

    Args:
        model: a key of ``SPACES``.
        trials: finished trials (pruned and failed ones count) after which the search ends.
        split: record of the split stage.
        graph: record of the graph stage.
        config: resolved; what is not searched stays as it is.
        workspace: the study lies in ``artifacts/tune/<fingerprint>/``.
        minutes: once the finished trials took so long, no other begins; the first always does.
        on_best: called after each trial, and at the end, with the preset of the best settings so
            far, where a trial could be trained.

    Returns:
        "model", "cutoff", "best" (value, number, settings by dotted key), "trials" (number from 1,
        state, value, settings, seconds), "preset" (path of the best settings as TOML), "study"
        (path).

    Raises:
        ConfigError: on what ``check_request`` refuses, or no validation users.
        TrainingError: if one trial after the other fails, or all.
        WorkspaceError: if another process works on this search.
    """
    check_request(model, trials, minutes)
    world, valid = World.load(split, graph, config), Interactions.held_out(split, schema.VALID)
    if len(valid) == 0:
        raise ConfigError("no user has a validation item, so settings cannot be compared")
    folder = workspace.artifacts / "tune" / _study_key(model, split, graph, config)
    folder.mkdir(parents=True, exist_ok=True)
    metric = f"mean valid NDCG@{config.evaluate.select_cutoff}, calibrated,"
    with _alone(folder), use_threads(config.run.threads), progress.during(f"tune {model}"):
        study = _open_study(folder, model, config)
        while (done := len(_finished(study))) < trials and _seconds(study) < 60 * minutes:
            progress.at(f"{done} of {trials} trials, {metric} {_best_value(study)}", done / trials)
            with progress.during(f"trial {done + 1}"):
                _run_trial(study, done, model, config, world, valid, folder)
            _report(study, done + 1, trials, metric)
            _keep_best(study, config, folder, on_best)
        _keep_best(study, config, folder, on_best)
    return _summary(study, model, config, folder)


def _keep_best(
    study: optuna.Study, config: Config, folder: Path, on_best: Callable[[Path], None] | None
) -> None:
    """Write the best settings so far as a preset, if a trial could be trained, and hand it on."""
    complete = [trial for trial in _finished(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        return
    best = max(complete, key=lambda trial: trial.value or 0.0)
    write_text(folder / PRESET_FILE, short_toml(apply(config, best.params)))
    if on_best is not None:
        on_best(folder / PRESET_FILE)


def _summary(study: optuna.Study, model: str, config: Config, folder: Path) -> dict[str, Any]:
    """Return what ``tune`` returns."""
    finished = _finished(study)
    trials = [_described(number, trial) for number, trial in enumerate(finished, 1)]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        raise TrainingError(
            f"no trial of {len(trials)} could be trained; the last: "
            f"{finished[-1].user_attrs[ERROR]}; or allow more trials, whose settings are others"
        )
    best = max(complete, key=lambda trial: trial["value"])
    return {
        "model": model,
        "cutoff": config.evaluate.select_cutoff,
        "best": {key: best[key] for key in ("value", "number", "settings")},
        "trials": trials,
        "preset": str(folder / PRESET_FILE),
        "study": str(folder / "study.log"),
    }


def _study_key(model: str, split: Record, graph: Record, config: Config) -> str:
    """Return what a study depends on: another search never goes on with its trials."""
    (contestant,) = choose(config, [model])
    space = {key: repr(part) for key, part in SPACES[model].items()}
    device = choose_device(config.run.device).type
    calibration = config.model.model_dump(mode="json", include=CALIBRATION)
    of_trial = contestant.of_model, contestant.of_train, config.evaluate.selection, calibration
    code = code_digest({*code_of(__name__, apart=APART), *code_of_model(model)})
    return fingerprint(model, split.fingerprint, graph.fingerprint, of_trial, space, device, code)


def _alone(folder: Path) -> contextlib.ExitStack:
    busy = f"another process works on the search in {folder}"
    return take_lock(folder / ".lock", busy, 0)


def _open_study(folder: Path, model: str, config: Config) -> optuna.Study:
    """Open or create the study; a trial that a stopped search left running is run again."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))),
        study_name=model,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=TENTHS // 2),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    if not study.trials:
        study.enqueue_trial(present(config, space_of(model, len(config.data.behaviors))))
    return study


def _run_trial(
    study: optuna.Study, done: int, model: str, config: Config, world: World,
    valid: Interactions, folder: Path,
) -> None:  # fmt: skip
    """Ask for settings, train, tell the value; an interrupt leaves the trial to be run again."""
    seed = config.train.seed + done
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    trial = study.ask()
    settings = suggest(trial, space_of(model, len(config.data.behaviors)))
    scratch = folder / f"trial-{fingerprint(settings)}"
    try:
        value = _measure(trial, model, apply(config, settings), world, valid, scratch)
        study.tell(trial, value)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except TrainingError as error:
        trial.set_user_attr(ERROR, str(error))
        study.tell(trial, state=TrialState.FAIL)
        last = _finished(study)[-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and all(one.state == TrialState.FAIL for one in last):
            raise TrainingError(
                f"{MOST_FAILURES} trials in a row failed; the last: {error}"
            ) from error
    shutil.rmtree(scratch, ignore_errors=True)


def _measure(
    trial: optuna.Trial, model: str, config: Config, world: World, valid: Interactions,
    scratch: Path,
) -> float:  # fmt: skip
    """Train one trial and return its calibrated validation mean.

    Raises:
        optuna.TrialPruned: when it falls behind the others.
    """
    (contestant,) = choose(config, [model])
    if model in CLOSED:
        return calibrated_mean(
            CLOSED[model](world, contestant.settings), world.train, valid, config
        )
    learner = learner_of(contestant, world)(world.seed)
    trainer = Trainer(learner, world.train, valid, contestant.config, world.device)

    told: set[int] = set()

    def watch(_: Validation | None = None) -> None:
        history = trainer.history["validations"]  # with those before the checkpoint gone on from
        for tenth, value in by_tenths(history, contestant.config.train.max_steps).items():
            if tenth not in told:
                trial.report(value, tenth)
                told.add(tenth)
        if trial.should_prune():
            raise optuna.TrialPruned

    trainer.fit(scratch, watch)
    watch()  # where the last checkpoint was gone on from, nothing was validated
    return calibrated_mean(
        learner.ranked(trainer.scores(), world.train), world.train, valid, config
    )


def calibrated_mean(
    scores: Scores, train: Interactions, valid: Interactions, config: Config
) -> float:
    """Return the mean over behaviors of NDCG of valid, as ``bigel compare`` calibrates a model."""
    progress.at("calibrating")
    found = calibrate(scores, train, valid, config.model, config.evaluate, config.train.seed)
    return float(validate(found.cross_fitted(scores, train), train, valid, config)["mean"])


def by_tenths(validations: Sequence[Validation], max_steps: int) -> dict[int, float]:
    """Return the best mean so far when each tenth of the way was first reached.

    >>> by_tenths([{"step": 5, "mean": 0.2}, {"step": 10, "mean": 0.1}], 20)
    {2: 0.2, 5: 0.2}
    """
    found: dict[int, float] = {}
    best = 0.0
    for one in validations:
        best = max(best, one["mean"] or 0.0)
        found.setdefault(TENTHS * one["step"] // max_steps, best)
    return found


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count, not those that were cut off."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs
    ]


def _seconds(study: optuna.Study) -> float:
    """Return how long the finished trials took together."""
    lengths = (trial.duration for trial in _finished(study))
    return sum(length.total_seconds() for length in lengths if length is not None)


def _best_value(study: optuna.Study) -> str:
    complete = [t.value for t in _finished(study) if t.state == TrialState.COMPLETE]
    values = [value for value in complete if value is not None]
    return f"best {max(values):.4f}" if values else "best none yet"


def _report(study: optuna.Study, done: int, trials: int, metric: str) -> None:
    last = _finished(study)[-1]
    value = last.state.name.lower() if last.value is None else f"{metric} {last.value:.4f}"
    log.info("trial %d of %d: %s; %s", done, trials, value, _best_value(study))


def _described(number: int, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "settings": trial.params,
        "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
    }
