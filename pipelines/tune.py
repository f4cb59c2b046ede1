"""Cohorts and a configuration with a space in; the best configuration found, as a TOML file, out.

Only the training and validation parts are ever read: the calibration part and the hold-out stay untouched for the
run that trains the chosen configuration.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna

from models.errors import RefusedError, SequelaError
from models.record import to_plain
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.fit import Interrupted
from pipelines.labels import task_outcomes
from pipelines.notes_scan import scan_notes
from pipelines.progress import Progress
from pipelines.toml_text import to_toml
from pipelines.tune_data import fold_indices
from pipelines.tune_objective import check_metric
from pipelines.tune_space import Space
from pipelines.tune_storage import REASON, Tally, study_reached
from pipelines.tune_tracking import RUN_ID, StudyRuns
from pipelines.tune_worker import WAIT_S, Say, Search, join, read_cohorts, stoppable, work

# Settings that change no trial's value.
NO_INPUTS = ("baselines", "cache", "calibration", "evaluation", "identifiers", "retrain", "threads", "tune")


class WorkersEndedError(SequelaError):
    """Raised when no worker of a search ended well.

    Args:
        statuses: of their processes.
    """

    def __init__(self, statuses: Sequence[int]) -> None:
        self.exit_status = max(1, statuses[0])
        super().__init__(
            f"search must have a worker that ends well, got exit status {sorted(set(statuses))} of all "
            f"{len(statuses)}; see their messages above, and run the command again"
        )


@dataclass(frozen=True)
class Found:
    """What a search leaves.

    Args:
        study: its name.
        tally: how its trials ended.
        trial: number of the best trial.
        metric: what it was judged by.
        value: its figure.
        params: the values that it drew.
        text: the best configuration as TOML.
        run_id: the study's run in MLflow.
    """

    study: str
    tally: Tally
    trial: int
    metric: str
    value: float
    params: dict[str, Any]
    text: str
    run_id: str


def tune(search: Search, *, progress: bool = False, say: Say = lambda _: None) -> Found:
    """Searches until enough trials are done; a study that exists is gone on with.

    Args:
        search: what is searched; its inputs are filled in here.
        progress: show a bar on standard error.
        say: receives lines for people.

    Raises:
        ConfigError: if the space or the configuration does not hold; before any trial.
        DataError: if the cohort does not have what the task needs; before any trial.
        RefusedError: if the study was made from other inputs, or no trial ended with a value.
        Interrupted: if SIGTERM came.
        TrackingError: if MLflow cannot be reached.
        DatabaseUnreachableError: if the study's database cannot be reached.
    """
    space = search.space()
    config = space.config({})
    check_metric(config)
    cohort = read_cohorts(search.cohorts)
    task_outcomes(cohort, config.task)
    fold_indices(cohort, config)
    search = replace(search, inputs=_inputs(config, space, cohort))
    say(f"cohort {cohort.fingerprint[:23]}: {len(cohort.stays):,} stays, {len(space.parameters)} keys to search")
    scan_notes(cohort, config, say)
    runs = StudyRuns(search.settings, search.study, config.name)
    with study_reached(), stoppable():
        study = join(search, config, runs)
        study.set_user_attr(RUN_ID, runs.open(search.plain, study.user_attrs.get(RUN_ID, "")))
        try:
            _run(search, config, study, progress=progress)
            return _found(study, space, config, runs)
        except SequelaError as error:
            runs.stop(str(error), killed=isinstance(error, Interrupted))
            raise


def _inputs(config: RunConfig, space: Space, cohort: Cohort) -> dict[str, str]:
    """Digest of everything that decides a trial's value, by what it is."""
    deciding = {name: value for name, value in to_plain(config).items() if name not in NO_INPUTS}
    judged = {"metric": str(config.tune.metric), "folds": config.tune.folds}
    return {
        "cohort": cohort.fingerprint,
        "configuration": _digest(deciding | judged),
        "space": _digest(space.to_plain()),
    }


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _run(search: Search, config: RunConfig, study: optuna.Study, *, progress: bool) -> None:
    with Progress("trials", total=config.tune.trials, unit="trial", show=progress) as bar:

        def show() -> None:
            bar.to(min(Tally.of(study).done, config.tune.trials), _best_note(study, config))

        show()
        if search.processes == 1:
            work(search, show)
        else:
            _run_workers(search, show)


def _best_note(study: optuna.Study, config: RunConfig) -> str:
    best = _best(study)
    return "" if best is None else f"best {config.tune.metric} {best.value:.4f}"


def _best(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    return study.best_trial if Tally.of(study).complete else None


def _run_workers(search: Search, show: Callable[[], None]) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work_in_process, args=(search,)) for _ in range(search.processes)]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(WAIT_S)
            show()
    finally:
        _end(workers)
    failed = [worker.exitcode for worker in workers if worker.exitcode]
    if len(failed) == len(workers):
        raise WorkersEndedError(failed)


def _work_in_process(search: Search) -> None:
    """What a worker process runs: its reason goes to standard error, and its end is a status."""
    try:
        with stoppable():
            work(search)
    except SequelaError as error:
        sys.stderr.write(f"sequela: a worker ended: {error}\n")
        raise SystemExit(int(getattr(error, "exit_status", 1))) from None


def _end(workers: Sequence[BaseProcess]) -> None:
    """Asks what still runs to stop, so that its trial is queued again, and waits for it."""
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    for worker in workers:
        if worker.pid is not None:
            worker.join()


def _found(study: optuna.Study, space: Space, config: RunConfig, runs: StudyRuns) -> Found:
    tally, best = Tally.of(study), _best(study)
    if best is None or best.value is None:
        reasons = [t.user_attrs[REASON] for t in study.get_trials(deepcopy=False) if REASON in t.user_attrs]
        last = f"the last: {reasons[-1]}" if reasons else "raise --timeout"
        raise RefusedError(f"search must have a trial that ends with a value, got {tally.failed} failed ones; {last}")
    values = space.values(best.params)
    return conclude(space, config, runs, tally, best.number, float(best.value), values)


def conclude(
    space: Space,
    config: RunConfig,
    runs: StudyRuns,
    tally: Tally,
    number: int,
    value: float,
    values: Mapping[str, Any],
) -> Found:
    """Writes the best configuration, and ends the study's run with it."""
    judged = "validation part" if config.tune.folds == 1 else f"{config.tune.folds} folds"
    header = f"# sequela tune: study {json.dumps(runs.study)}, trial {number}: {config.tune.metric} {value!r} on the "
    text = f"{header}{judged}\n{to_toml(space.merged(values))}"
    runs.finish(tally, number, value, values, text)
    return Found(runs.study, tally, number, str(config.tune.metric), value, dict(values), text, runs.parent)


def write_config(text: str, out: Path) -> None:
    """Writes the file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        beside.chmod(0o644)  # mkstemp's 0o600 would hide it from the users of the service
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
