"""A configuration in; a registered version, promoted or refused with reasons, out: one whole training job.

The order: take the lease, prepare what is new, train (from the checkpoint of an interrupted job, if there is
one), evaluate, register, and promote through the gate. Everything, the gate's verdict included, is in one
MLflow run. Exit status: 0 promoted, 1 refused with a reason (bad data, gate not passed), 2 wrong usage,
3 another job holds the lease, 69 MLflow or the database did not answer, 70 crashed, 75 interrupted (run it
again: it goes on from its checkpoint).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from models.errors import ConfigError, SequelaError
from pipelines.config import RunConfig
from pipelines.fit import Interrupted
from pipelines.gate import GateRefusedError, GateVerdict
from pipelines.job_folder import JobFolder, JobProgress, job_key
from pipelines.lease import EXIT_INTERRUPTED, Lease
from pipelines.promote import Evidence, promote
from pipelines.publish import Publication
from pipelines.refresh import Refreshed, refresh_cohort, source_fingerprint
from pipelines.report.champion import rivals_of
from pipelines.retrain_config import RetrainConfig
from pipelines.settings import Settings
from pipelines.train import TrainedRun, train

Say = Callable[[str], None]
JOB_FILE = "job.json"


class JobInterruptedError(SequelaError):
    """Raised when a job was asked to stop; running it again continues it."""

    exit_status = EXIT_INTERRUPTED


@dataclass(frozen=True)
class JobResult:
    """What a finished job leaves.

    Args:
        run_id: its run in MLflow.
        version: the version that it registered.
        verdict: the gate's; the alias moved exactly if it passed.
        metrics: of the hold-out; empty where an interrupted job had registered already.
    """

    run_id: str
    version: int
    verdict: GateVerdict
    metrics: dict[str, Any]


@dataclass
class JobReport:
    """What happened when; goes to MLflow as JSON.

    Args:
        facts: plain values.
        stages: name, start and seconds of every stage.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage, also one that fails."""
        started, began = dt.datetime.now(dt.UTC), time.monotonic()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            seconds = round(time.monotonic() - began, 3)
            entry = {"stage": name, "started": started.isoformat(timespec="seconds"), "seconds": seconds}
            self.stages.append({**entry, "outcome": outcome})

    def to_plain(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**self.facts, "stages": self.stages}


def retrain(config: RunConfig, settings: Settings, *, progress: bool = False, say: Say = lambda _: None) -> JobResult:
    """Runs the job.

    Args:
        config: needs its `retrain` table.
        settings: where MLflow, the lease and interrupted jobs are.
        progress: show progress bars on standard error.
        say: receives lines for people.

    Raises:
        ConfigError: if the configuration has no `retrain` table.
        LeaseBusyError: if another job of this model runs, on this or another machine.
        JobInterruptedError: if SIGTERM came or the lease was lost; a checkpoint is kept.
        SequelaError: with the reason; it is in MLflow too, if that can be reached.
    """
    if config.retrain is None:
        raise ConfigError("config must hold a [retrain] table, got none; see docs/retraining.md")
    lease = Lease(settings.database_url, f"retrain:{config.name}", config.retrain.lease_s, on_lost=_ask_to_stop)
    with _stoppable(), lease:
        return _Job(config, config.retrain, settings, lease, progress=progress, say=say).run()


@dataclass
class _Job:
    """One job that holds its lease."""

    config: RunConfig
    retrain: RetrainConfig
    settings: Settings
    lease: Lease
    progress: bool
    say: Say

    def run(self) -> JobResult:
        self.folder = JobFolder(self.settings.cache / "jobs" / self.config.name)
        self.report = JobReport({"lease": self.lease.holder, "model": self.config.name})
        source, problem = self._source()
        reached = self.folder.begin(job_key(self.config, source))
        publication = Publication(
            self.config,
            self.settings,
            cohorts=[Path(self.retrain.cohort)],
            run_id=reached.run_id,
            tags={"sequela.job": "retrain", "sequela.outcome": "running", "sequela.source": source},
        )
        with publication:
            reached = replace(reached, run_id=publication.run_id)
            self.folder.note(reached)
            with self._recorded(publication):
                if problem is not None:
                    raise problem
                result = self._produce(publication, reached, source)
        self.folder.clear()
        return result

    def _source(self) -> tuple[str, SequelaError | None]:
        """The source's fingerprint, or why there is none: that too belongs in the run that is about to open."""
        try:
            with self.report.stage("fingerprint"):
                return source_fingerprint(self.retrain), None
        except SequelaError as problem:
            return "", problem

    @contextlib.contextmanager
    def _recorded(self, publication: Publication) -> Iterator[None]:
        """Leaves the report and the outcome in MLflow, however the job ends."""
        outcome = "failed"
        try:
            yield
            outcome = "promoted" if self.report.facts["promoted"] else "refused"
        except Interrupted as error:
            outcome = "interrupted"
            raise JobInterruptedError(str(error)) from error
        except SequelaError as error:
            status = getattr(error, "exit_status", 1)
            outcome = {1: "refused", EXIT_INTERRUPTED: "interrupted"}.get(status, "failed")
            if status == 1:
                self.folder.clear()  # the same again would be refused again: the next job is another one
            raise
        finally:
            publication.log_json(JOB_FILE, {**self.report.to_plain(), "outcome": outcome})
            publication.tag({"sequela.outcome": outcome})

    def _produce(self, publication: Publication, reached: JobProgress, source: str) -> JobResult:
        refreshed = self._refresh(source)
        trained = None
        if not reached.version:
            trained = self._train(refreshed, publication)
            self.lease.check()
            with self.report.stage("register"):
                reached = replace(reached, version=publication.register(trained))
            self.folder.note(reached)
        self.say(f"registered models:/{self.config.name}/{reached.version}, alias challenger")
        verdict = self._promote(reached.version, refreshed, trained)
        self.report.facts |= {"version": reached.version, "gate": verdict.to_plain(), "promoted": verdict.passed}
        return JobResult(publication.run_id, reached.version, verdict, trained.metrics if trained else {})

    def _refresh(self, source: str) -> Refreshed:
        with self.report.stage("prepare"):
            refreshed = refresh_cohort(self.retrain, source, progress=self.progress)
        cohort = refreshed.cohort
        self.report.facts |= {"source": source, "cohort": cohort.fingerprint, "cohort_reused": refreshed.reused}
        self.report.facts["prepare_report"] = cohort.report.lines()
        self.say(f"cohort {'unchanged' if refreshed.reused else 'prepared'}: {len(cohort.stays):,} stays")
        return refreshed

    def _train(self, refreshed: Refreshed, publication: Publication) -> TrainedRun:
        with self.report.stage("train"):
            try:
                return self._train_once(refreshed, publication)
            except ConfigError:
                if not self.folder.training.exists():
                    raise
                # A checkpoint that another release wrote cannot be continued: the job must not fail for ever.
                self.say("the checkpoint cannot be continued; training starts afresh")
                self.folder.clear_training()
                return self._train_once(refreshed, publication)

    def _train_once(self, refreshed: Refreshed, publication: Publication) -> TrainedRun:
        return train(
            [refreshed.cohort],
            self.config,
            folder=self.folder.training,
            resume=True,
            progress=self.progress,
            say=self.say,
            on_epoch=publication.log_epoch,
            rivals=rivals_of(self.config, self.settings),
            cache=self.settings.encoded,
        )

    def _promote(self, version: int, refreshed: Refreshed, trained: TrainedRun | None) -> GateVerdict:
        evidence = Evidence(cohort=refreshed.cohort, scores=trained.scores if trained else None, gate=self.retrain.gate)
        with self.report.stage("gate"):
            try:
                return promote(
                    self.config.name,
                    version,
                    settings=self.settings,
                    alias=self.retrain.alias,
                    evidence=evidence,
                    before_move=self.lease.check,
                )
            except GateRefusedError as refusal:
                return refusal.verdict


def _ask_to_stop() -> None:
    """Stops this process's job as SIGTERM would: with a checkpoint."""
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the job at once wherever no training runs; training has its own handler, which leaves a checkpoint.

    Only the main thread may set handlers; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the tidying up
        raise JobInterruptedError("job must not be stopped to end, got SIGTERM or lost its lease; run it again")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
