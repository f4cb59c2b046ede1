"""A search in, its share of trials done out: what each process of a search runs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from models.errors import ConfigError, DataError, RefusedError
from pipelines.cohort import Cohort, concat_cohorts, read_cohort
from pipelines.config import RunConfig
from pipelines.fit import Interrupted
from pipelines.settings import Settings
from pipelines.threads import torch_threads
from pipelines.tune_data import FoldStore, encoded_folder
from pipelines.tune_objective import trial_value
from pipelines.tune_space import Space
from pipelines.tune_storage import (
    BEGUN,
    REASON,
    LostTrials,
    Tally,
    open_storage,
    open_study,
    requeue,
    study_reached,
)
from pipelines.tune_tracking import RUN_ID, StudyRuns

WAIT_S = 0.5
Say = Callable[[str], None]


class TrialFailedError(Exception):
    """Raised when a trial's values do not train; the search goes on."""


@dataclass(frozen=True)
class Search:
    """Everything that a process needs to take part.

    Args:
        plain: the run's tables.
        cohorts: folders of the cohorts.
        folder: working folder.
        study: name of the study.
        storage: address of its database.
        settings: where MLflow is.
        inputs: digest of everything that decides a trial's value, by what it is.
        timeout_s: no trial begins later than so many seconds after the start; None = no limit.
        processes: how many share this machine.
    """

    plain: Mapping[str, Any]
    cohorts: Sequence[Path]
    folder: Path
    study: str
    storage: str
    settings: Settings
    inputs: Mapping[str, str]
    timeout_s: float | None = None
    processes: int = 1

    def space(self) -> Space:
        """What is searched."""
        return Space.of(self.plain)


@dataclass
class Worker:
    """One process's part in a study.

    Args:
        search: what is searched.
        space: its space.
        config: the run's own configuration.
        study: the study.
        runs: its runs in MLflow.
        store: the encoded stays.
        on_trial: called after every trial.
    """

    search: Search
    space: Space
    config: RunConfig
    study: optuna.Study
    runs: StudyRuns
    store: FoldStore
    on_trial: Callable[[], None] = lambda: None
    _number: int | None = None

    def work(self) -> None:
        """Does trials until enough are done, too many have failed, or the time is over.

        Raises:
            Interrupted: if SIGTERM came; the trial is queued again.
        """
        self._lost = LostTrials(self.study, 3.0 * self.config.tune.heartbeat_s)
        deadline = time.monotonic() + (self.search.timeout_s or float("inf"))
        while time.monotonic() < deadline and not self._enough():
            tally = Tally.of(self.study)
            if not tally.waiting and tally.done + tally.running >= self.config.tune.trials:
                time.sleep(WAIT_S)  # those that run may yet fail or die
                continue
            self._number = None
            try:
                self.study.optimize(self._objective, n_trials=1, catch=(TrialFailedError,))
            except (Interrupted, KeyboardInterrupt):
                self._queue_again()
                raise
            self.on_trial()

    def _queue_again(self) -> None:
        if self._number is not None:
            requeue(lambda _: None)(self.study, self.study.get_trials()[self._number])

    def _enough(self) -> bool:
        _check_parent()
        self._lost.find()
        tally = Tally.of(self.study)
        return max(tally.done, tally.failed) >= self.config.tune.trials

    def _objective(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(BEGUN, True)
        self._number = trial.number
        values = self.space.draw(trial)
        with self.runs.trial(trial.number, values) as run:
            trial.set_user_attr(RUN_ID, run.run_id)

            def report(step: int, value: float, row: Mapping[str, float]) -> None:
                run.log(row, step=step)
                trial.report(value, step)
                _check_parent()
                if trial.should_prune():
                    raise optuna.TrialPruned

            try:
                config = self.space.config(values)
                folder = self.store.folder / f"trial-{trial.number}"
                value = trial_value(config, self.store, folder=folder, report=report)
            except (ConfigError, DataError, RefusedError, torch.OutOfMemoryError) as error:
                reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else str(error)
                trial.set_user_attr(REASON, reason)
                raise TrialFailedError(reason) from error
            run.value(value)
            return value


def work(search: Search, on_trial: Callable[[], None] = lambda: None) -> None:
    """Takes part in a study from its beginning or where it stands."""
    space = search.space()
    config = space.config({})
    threads = _threads(config, search.processes)
    runs = StudyRuns(search.settings, search.study, config.name)
    with study_reached(), encoded_folder(search.folder) as folder, torch_threads(threads):
        study = join(search, config, runs)
        runs.parent = study.user_attrs[RUN_ID]
        runs.connect()
        store = FoldStore(read_cohorts(search.cohorts), folder)
        Worker(search, space, config, study, runs, store, on_trial).work()


def join(search: Search, config: RunConfig, runs: StudyRuns) -> optuna.Study:
    """Opens the study.

    Raises:
        RefusedError: if it was made from other inputs.
        DatabaseUnreachableError: if its database does not answer.
    """
    storage = open_storage(search.storage, config.tune, runs.lost)
    resource = config.training.max_epochs if config.tune.folds == 1 else config.tune.folds
    return open_study(storage, search.study, config.tune, search.inputs, resource=resource)


def read_cohorts(folders: Sequence[Path]) -> Cohort:
    """One cohort of all folders.

    Raises:
        DataError: if one cannot be read, or two share stays.
    """
    cohorts = [read_cohort(path) for path in folders]
    return concat_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]


def _threads(config: RunConfig, processes: int) -> int:
    """Processes that share a machine share its cores; 0 = all of them."""
    return config.threads or (0 if processes == 1 else max(1, (os.cpu_count() or 1) // processes))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends the search by an error, so that it tidies up; a training stops at its next step by itself.

    Only the main thread may set handlers; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the tidying up
        raise Interrupted("search must not be stopped to end, got SIGTERM; run the command again to go on")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_parent() -> None:
    """A worker does not outlive the search that started it."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise Interrupted("search must be alive while its workers run, got one that ended; run the command again")
