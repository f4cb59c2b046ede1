"""A trial's values in, its figure on stays that its network was not fitted on out; reported as it is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from models.errors import ConfigError, DataError, RefusedError
from models.stay import Floats
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.config import RunConfig
from pipelines.fit import Launch
from pipelines.members import fit_member
from pipelines.part_data import PartData
from pipelines.split import Part
from pipelines.tune_config import TuneMetric
from pipelines.tune_data import FoldStore

# Where a trial stands: the epoch (of one fold) or the number of folds done, its figure there, and the epoch's row.
Report = Callable[[int, float, Mapping[str, float]], None]


@dataclass(frozen=True)
class Judge:
    """Figures of logits, without any weight of the training's loss.

    Args:
        metric: what is measured.
        task: the task.
        label: (steps, targets) in the outcome's own units; NaN = not supervised.
        steps: indices of the steps that count: the last of each stay for a label a stay.
        scale: mean and standard deviation of a regression target; (0, 1) otherwise.
    """

    metric: TuneMetric
    task: TaskSpec
    label: Floats
    steps: slice | NDArray[np.int64]
    scale: tuple[float, float]

    @classmethod
    def of(cls, part: PartData, config: RunConfig, scale: tuple[float, float]) -> Judge:
        """The judge of these stays."""
        last = part.encoded.step_offsets[1:] - 1
        steps = last if config.task.scope is LabelScope.STAY else slice(None)
        return cls(config.tune.metric, config.task, part.label, steps, scale)

    @property
    def name(self) -> str:
        """Name of the figure in an epoch's row."""
        return f"tune_{self.metric}"

    def __call__(self, logits: NDArray[np.float32]) -> dict[str, float]:
        """The figure of (steps, outputs) logits; the mean over several outputs.

        Raises:
            DataError: if nothing is supervised, or one class alone occurs where two must be told apart.
        """
        label, logit = self.label[self.steps], logits[self.steps].astype(np.float64)
        if self.task.kind is TargetKind.MULTICLASS:
            known = ~np.isnan(label[:, 0])
            return {self.name: self._of_classes(label[known, 0].astype(int), logit[known])}
        values = []
        for column in range(self.task.outputs):
            known = ~np.isnan(label[:, column])
            values.append(self._of_output(label[known, column], logit[known, column]))
        return {self.name: float(np.mean(values))}

    def _of_output(self, label: Floats, logit: Floats) -> float:
        if len(label) == 0:
            raise DataError("validation stays must have labels, got none; give more stays or lower tune.folds")
        if self.metric is TuneMetric.RMSE:
            mean, deviation = self.scale
            return float(np.sqrt(np.mean((logit * deviation + mean - label) ** 2)))
        if self.metric is TuneMetric.LOG_LOSS:
            return float(np.mean(np.logaddexp(0.0, logit) - label * logit))
        return self._discrimination(label > 0, logit)

    def _of_classes(self, label: NDArray[np.int64], logit: Floats) -> float:
        if len(label) == 0:
            raise DataError("validation stays must have labels, got none; give more stays or lower tune.folds")
        if self.metric is TuneMetric.LOG_LOSS:
            total = np.logaddexp.reduce(logit, axis=1)
            return float(np.mean(total - logit[np.arange(len(label)), label]))
        return float(np.mean([self._discrimination(label == c, logit[:, c]) for c in range(logit.shape[1])]))

    def _discrimination(self, label: NDArray[np.bool_], logit: Floats) -> float:
        if label.all() or not label.any():
            raise DataError(
                f"tune.metric must be log_loss where the validation stays hold one class alone, got {self.metric}; "
                "change it, lower tune.folds or give more stays"
            )
        measure = roc_auc_score if self.metric is TuneMetric.AUROC else average_precision_score
        return float(measure(label, logit))


def check_metric(config: RunConfig) -> None:
    """Refuses a figure that the task does not have, and a validation part that is to be calibrated on.

    Raises:
        ConfigError: with what to set instead.
    """
    number = config.task.kind is TargetKind.REGRESSION
    if number is not (config.tune.metric is TuneMetric.RMSE):
        expected = "rmse" if number else "auprc, auroc or log_loss"
        raise ConfigError(
            f"tune.metric must be {expected} for a task of kind '{config.task.kind}', got {config.tune.metric}; set it"
        )
    if config.calibration.include_validation:
        raise ConfigError(
            "calibration.include_validation must be false for a search, got true; a part that chose the configuration "
            "is not fit to calibrate on"
        )


def trial_value(
    config: RunConfig, store: FoldStore, *, folder: Path, report: Report, launch: Launch | None = None
) -> float:
    """Fits a network a fold and gives the mean of their figures, each at its best epoch.

    The network is the first of the run's ensemble, pre-trained where the run pre-trains.

    Args:
        config: of the trial.
        store: what it is fitted and judged on.
        folder: receives checkpoints; removed at the end.
        report: told where the trial stands; ends the trial by raising.
        launch: how the training processes are started; on this machine where left out.

    Raises:
        RefusedError: if the figure is no number.
        SequelaError: if the training does.
    """
    values: list[float] = []
    folds = store.folds(config)
    try:
        for number, encoded in enumerate(folds):
            inside = folder / str(number)
            inside.mkdir(parents=True)
            data = store.targets(encoded, config, inside)
            judge = Judge.of(data.parts[Part.VALIDATION], config, data.scale)

            def on_epoch(row: dict[str, float], name: str = judge.name) -> None:
                if len(folds) == 1:
                    report(int(row["epoch"]), row[name], row)

            fit = fit_member(data, config, 0, inside, each=on_epoch, measure=judge, launch=launch)
            values.append(fit.history[fit.best_epoch][judge.name])
            if len(folds) > 1:
                mean = float(np.mean(values))
                report(number + 1, mean, {judge.name: mean, f"{judge.name}_fold": values[-1]})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        raise RefusedError(f"{config.tune.metric} must be a finite number, got {mean}; lower training.learning_rate")
    return mean
