"""Figures of a network on the validation stays, every stay scored: loss and discrimination of one epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from models.encoded import Encoded
from models.errors import DataError
from models.forward import score_logits
from models.network import RecurrentNetwork
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.labels import StepTargets
from pipelines.objective import Objective
from pipelines.training_config import Monitor, RegressionLoss

_STEPS_AT_ONCE = 65536


def validate(
    network: RecurrentNetwork,
    encoded: Encoded,
    targets: StepTargets,
    *,
    objective: Objective,
    task: TaskSpec,
    monitor: Monitor,
    truncation_length: int = 64,
) -> dict[str, float]:
    """`validation_loss`, and the monitored discrimination where that is not the loss.

    The loss is averaged over the supervised weight. Discrimination is that of a stay's last step for a label
    a stay, and of all supervised steps for a label a step; several outputs are averaged.

    Raises:
        DataError: if nothing is supervised, or discrimination is asked for where one class alone occurs.
    """
    logits = score_logits(network, encoded, truncation_length=truncation_length)
    figures = {str(Monitor.LOSS): _loss(logits, targets, objective)}
    if monitor is not Monitor.LOSS:
        figures[str(monitor)] = _discrimination(logits, encoded, targets, task, monitor)
    return figures


def _loss(logits: NDArray[Any], targets: StepTargets, objective: Objective) -> float:
    total, amount = 0.0, 0.0
    for begin in range(0, len(logits), _STEPS_AT_ONCE):
        part = slice(begin, begin + _STEPS_AT_ONCE)
        losses = objective.each(torch.from_numpy(logits[part]), torch.from_numpy(np.array(targets.value[part])))
        weight = np.asarray(targets.weight[part], dtype=np.float64)
        total += float(np.where(weight > 0, losses.numpy() * weight, 0.0).sum())
        amount += float(weight.sum())
    if amount == 0:
        raise DataError("targets must supervise at least one step of the validation stays, got none; give them labels")
    root = objective.kind is TargetKind.REGRESSION and objective.regression_loss is RegressionLoss.RMSE
    return math.sqrt(total / amount) if root else total / amount


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
