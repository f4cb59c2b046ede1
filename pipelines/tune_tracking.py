"""A search in MLflow: one run for the study, and under it one for every trial with its values, epochs and end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import optuna

from models.errors import SequelaError
from pipelines.fit import Interrupted
from pipelines.settings import Settings
from pipelines.tracked_run import CONFIG_FILE, MAX_PARAM_CHARS, REASON_TAG
from pipelines.tracking import MlflowException, connect, mlflow, open_experiment, quiet, reached
from pipelines.tune_storage import Tally

logger = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"
STATE_TAG = "sequela.trial_state"
STUDY_TAG = "sequela.study"
RUN_ID = "run_id"
BEST_FILE = "best.toml"


class TrialEnd(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    LOST = "lost"


@dataclass
class StudyRuns:
    """The runs of one study.

    Args:
        settings: where MLflow is.
        study: its name.
        model: name of the model that is searched for.
        parent: the study's run; empty before `open`.
    """

    settings: Settings
    study: str
    model: str
    parent: str = ""

    def connect(self) -> None:
        """Makes ready to log under the study's run.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        with reached(), quiet():
            self.client = connect(self.settings)
            self._experiment = open_experiment(self.client, self.settings)

    def open(self, config: Mapping[str, Any], known: str = "") -> str:
        """Opens the study's run: a new one, or a known one again.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        self.connect()
        with reached(), quiet():
            self.parent = known
            if self.parent and self._known(self.parent):
                self.client.update_run(self.parent, status="RUNNING")
                return self.parent
            tags = {STUDY_TAG: self.study, "sequela.model": self.model}
            self.parent = self._create(f"{self.model} search", tags)
            self.client.log_dict(self.parent, dict(config), CONFIG_FILE)
            return self.parent

    @contextlib.contextmanager
    def trial(self, number: int, values: Mapping[str, Any]) -> Iterator[TrialRun]:
        """A trial's run; how the block ends decides how the run does."""
        with reached(), quiet():
            tags = {STUDY_TAG: self.study, PARENT_TAG: self.parent, "sequela.trial": str(number)}
            run = TrialRun(self.client, self._create(f"trial {number}", tags))
            params = {key: str(value)[:MAX_PARAM_CHARS] for key, value in values.items()}
            mlflow.log_params(params, run_id=run.run_id, synchronous=True)
        try:
            yield run
        except optuna.TrialPruned:
            run.end(TrialEnd.PRUNED)
            raise
        except (Interrupted, KeyboardInterrupt):
            run.end(TrialEnd.LOST)
            raise
        except BaseException as error:
            run.end(TrialEnd.FAILED, str(error) if isinstance(error, SequelaError) else type(error).__name__)
            raise
        run.end(TrialEnd.COMPLETE)

    def lost(self, trial: optuna.trial.FrozenTrial) -> None:
        """Ends the run of a trial whose process died."""
        if run_id := trial.user_attrs.get(RUN_ID):
            TrialRun(self.client, run_id).end(TrialEnd.LOST)

    def finish(self, tally: Tally, number: int, value: float, values: Mapping[str, Any], text: str) -> None:
        """Leaves the best trial and its configuration in the study's run, and ends it.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        counts = {"trials_complete": tally.complete, "trials_pruned": tally.pruned, "trials_failed": tally.failed}
        with reached(), quiet():
            figures = {"best_value": value, **{k: float(v) for k, v in counts.items()}}
            mlflow.log_metrics(figures, run_id=self.parent)
            self.client.set_tag(self.parent, "sequela.best_trial", str(number))
            for key, drawn in values.items():
                self.client.set_tag(self.parent, f"best.{key}", str(drawn))
            self.client.log_text(self.parent, text, BEST_FILE)
            self.client.set_terminated(self.parent, status="FINISHED")

    def stop(self, reason: str, *, killed: bool) -> None:
        """Ends the study's run without a result; one that cannot be reached is left as it is."""
        try:
            with reached(), quiet():
                self.client.set_tag(self.parent, REASON_TAG, reason)
                self.client.set_terminated(self.parent, status="KILLED" if killed else "FAILED")
        except SequelaError:
            logger.warning("the search's end could not be logged")

    def _known(self, run_id: str) -> bool:
        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        return str(self.client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id)


@dataclass
class TrialRun:
    """The run of one trial; what MLflow does not take now is warned of and does not end the trial.

    Args:
        client: MLflow's.
        run_id: of the run.
    """

    client: Any
    run_id: str

    def log(self, figures: Mapping[str, float], *, step: int) -> None:
        """Stores finite figures of an epoch or a fold."""
        finite = {k: float(v) for k, v in figures.items() if k != "epoch" and abs(float(v)) < float("inf")}
        with self._tolerated(), reached(), quiet():
            mlflow.log_metrics(finite, step=step, run_id=self.run_id)

    def value(self, value: float) -> None:
        """Stores the trial's final figure."""
        self.log({"value": value}, step=0)

    def end(self, end: TrialEnd, reason: str = "") -> None:
        """Ends the run with its state, and its reason where it failed."""
        status = {TrialEnd.FAILED: "FAILED", TrialEnd.LOST: "KILLED"}.get(end, "FINISHED")
        with self._tolerated(), reached(), quiet():
            self.client.set_tag(self.run_id, STATE_TAG, str(end))
            if reason:
                self.client.set_tag(self.run_id, REASON_TAG, reason)
            self.client.set_terminated(self.run_id, status=status)

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except SequelaError as error:
            logger.warning("a trial's figures could not be logged: %s", error)
