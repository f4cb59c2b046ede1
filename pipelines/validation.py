"""Figures of a network on the validation stays, every stay scored: loss and discrimination of one epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from models.cut import gather
from models.encoded import Encoded
from models.errors import DataError
from models.forward import score_chunks
from models.streaming import StreamingNetwork
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.labels import StepTargets
from pipelines.objective import Objective
from pipelines.training_config import Monitor, RegressionLoss

# (steps, outputs) logits of all validation steps, end to end, to further figures of an epoch.
Measure = Callable[[NDArray[np.float32]], Mapping[str, float]]


def validate(
    network: StreamingNetwork,
    encoded: Encoded,
    targets: StepTargets,
    *,
    objective: Objective,
    task: TaskSpec,
    monitor: Monitor,
    truncation_length: int = 64,
    measure: Measure | None = None,
) -> dict[str, float]:
    """`validation_loss`, and the monitored discrimination where that is not the loss.

    The loss is averaged over the supervised weight. Discrimination is that of a stay's last step for a label
    a stay, and of all supervised steps for a label a step; several outputs are averaged. What `measure` finds
    is added.

    Raises:
        DataError: if nothing is supervised, or discrimination is asked for where one class alone occurs.
    """
    figures = _Figures(objective)
    discriminates = monitor in (Monitor.AUROC, Monitor.AUPRC)
    wanted = discriminates or measure is not None
    kept = np.zeros((len(encoded.time_min), task.outputs), dtype=np.float32) if wanted else None
    for cut, logits in score_chunks(network, encoded, truncation_length=truncation_length):
        figures.add(logits, gather(targets.value, cut), gather(targets.weight, cut))
        if kept is not None:
            step, valid = cut.steps()
            kept[step[valid]] = logits[valid]
    found = {str(Monitor.LOSS): figures.loss()}
    if kept is not None and discriminates:
        found[str(monitor)] = _discrimination(kept, encoded, targets, task, monitor)
    if kept is not None and measure is not None:
        found |= measure(kept)
    return found


class _Figures:
    """Running sums of the loss, so that memory does not grow with the stays."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.total = self.amount = 0.0

    def add(self, logits: NDArray[Any], value: NDArray[Any], weight: NDArray[Any]) -> None:
        """Adds a chunk's (batch, time, ...) logits with its targets; padding has no weight."""
        losses = self.objective.each(torch.from_numpy(logits), torch.from_numpy(value)).numpy()
        self.total += float(np.where(weight > 0, losses * weight, 0.0).sum(dtype=np.float64))
        self.amount += float(weight.sum(dtype=np.float64))

    def loss(self) -> float:
        """Loss over the supervised weight."""
        if self.amount == 0:
            raise DataError(
                "targets must supervise at least one step of the validation stays, got none; give them labels"
            )
        mean = self.total / self.amount
        objective = self.objective
        root = objective.kind is TargetKind.REGRESSION and objective.regression_loss is RegressionLoss.RMSE
        return math.sqrt(mean) if root else mean


def _discrimination(
    logits: NDArray[Any], encoded: Encoded, targets: StepTargets, task: TaskSpec, monitor: Monitor
) -> float:
    measure = roc_auc_score if monitor is Monitor.AUROC else average_precision_score
    steps = slice(None) if task.scope is LabelScope.STEP else encoded.step_offsets[1:] - 1
    values = []
    for column in range(task.outputs):
        target = min(column, task.targets - 1)
        known = targets.weight[steps][:, target] > 0
        label = targets.value[steps][known, target]
        label = label == column if task.kind is TargetKind.MULTICLASS else label > 0
        if label.all() or not label.any():
            raise DataError(
                f"monitor must be validation_loss where the validation stays hold one class alone, got {monitor}; "
                "change training.monitor or give more stays"
            )
        values.append(float(measure(label, logits[steps][known, column])))
    return float(np.mean(values))
