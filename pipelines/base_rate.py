"""The best constant answer: targets of all time steps in, their sums and the head's first bias out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from models.cut import read_rows
from models.errors import DataError
from models.stay import Floats
from models.streaming import StreamingNetwork
from models.task import TargetKind, TaskSpec
from pipelines.labels import StepTargets

_STEPS_AT_ONCE = 65536


@dataclass(frozen=True)
class TargetSums:
    """Sums over all time steps.

    Args:
        weight: (targets,) supervised weight.
        value: (targets,) weighted sum of the values.
        classes: (classes,) supervised weight of every class; empty for other kinds.
    """

    weight: Floats
    value: Floats
    classes: Floats

    @staticmethod
    def of(targets: StepTargets, task: TaskSpec) -> TargetSums:
        """Adds up in blocks, so that memory does not grow with the number of steps.

        Raises:
            DataError: if nothing is supervised.
        """
        weight, value = np.zeros(task.targets), np.zeros(task.targets)
        classes = np.zeros(len(task.classes))
        for begin in range(0, len(targets.value), _STEPS_AT_ONCE):
            end = min(begin + _STEPS_AT_ONCE, len(targets.value))
            values, weights = (read_rows(a, begin, end).astype(np.float64) for a in (targets.value, targets.weight))
            weight += weights.sum(axis=0)
            value += (values * weights).sum(axis=0)
            if task.kind is TargetKind.MULTICLASS:
                classes += np.bincount(values[:, 0].astype(np.int64), weights[:, 0], minlength=len(classes))
        if not weight.any():
            raise DataError(
                "targets must supervise at least one step of the training stays, got none; give them labels"
            )
        return TargetSums(weight, value, classes)


def set_output_bias(network: StreamingNetwork, sums: TargetSums, task: TaskSpec, *, positive_weight: float) -> None:
    """Sets the head's bias to the best constant answer, so that training does not spend steps on the base rate."""
    match task.kind:
        case TargetKind.REGRESSION:
            bias = sums.value / np.maximum(sums.weight, 1e-12)
        case TargetKind.BINARY:
            bias = np.log((sums.value * positive_weight + 0.5) / (sums.weight - sums.value + 0.5))
        case TargetKind.MULTICLASS:
            bias = np.log((sums.classes + 0.5) / (sums.classes.sum() + 0.5 * len(sums.classes)))
    with torch.no_grad():
        cast("torch.Tensor", network.head.bias).copy_(torch.from_numpy(bias))
