"""Parts with their labels in, a refusal out where what is learnt or calibrated on them holds one class alone.

Without this check a run finds out at its calibration, after every member has been trained.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.calibration import CalibrationMethod
from models.errors import DataError
from models.stay import Floats
from models.task import TargetKind, TaskSpec
from models.uncertainty import Bools
from pipelines.calibrate import conformal_config, kept_apart
from pipelines.config import RunConfig
from pipelines.part_data import Dataset, PartData
from pipelines.split import Part
from pipelines.training_config import Monitor


def check_classes(data: Dataset, config: RunConfig) -> None:
    """Refuses labels of one class alone, of every output, wherever something is fitted or chosen on them.

    These are the training stays (of every fold, the ones outside it), the validation part where it chooses the epoch,
    and, where a calibration is fitted, the patients of the calibration part who are not kept apart for label sets.
    For a number one known value is enough.

    Raises:
        DataError: with the part, and what it holds alone.
    """
    for name, part, stays in _fitted_on(data, config):
        rows = np.repeat(stays, part.encoded.lengths)
        for k, output in enumerate(_targets(config.task)):
            _check(part.label[rows, k], f"{name} part", output, config.task)


def _fitted_on(data: Dataset, config: RunConfig) -> Iterator[tuple[str, PartData, Bools]]:
    """Name of a part, the part, and (stays,) which of its stays count."""
    train = data.parts[Part.TRAIN]
    if data.folds is None:
        yield "training", train, np.ones(len(train.index), dtype=np.bool_)
    for fold in range(config.ensemble.folds if data.folds is not None else 0):
        yield f"training (without fold {fold})", train, ~data.stays_left_out(fold)
    if config.training.monitor is not Monitor.LAST:
        validation = data.parts[Part.VALIDATION]
        yield "validation", validation, np.ones(len(validation.index), dtype=np.bool_)
    if config.calibration.method is not CalibrationMethod.NONE:
        settings = conformal_config(config.calibration, config.task)
        part = data.calibration
        yield "calibration", part, ~kept_apart(part.patient_id, settings, config.split.key)


def _targets(task: TaskSpec) -> tuple[str, ...]:
    """Name of every column of labels; of several classes one column holds all."""
    return task.output_names if task.kind is TargetKind.BINARY else (task.outcome,)


def _check(label: Floats, part: str, output: str, task: TaskSpec) -> None:
    values = np.unique(label[~np.isnan(label)])
    if len(values) >= (1 if task.kind is TargetKind.REGRESSION else 2):
        return
    found = "one class alone" if len(values) else "no label"
    if len(values) and task.kind is TargetKind.BINARY:
        found = "none without it" if values[0] else "none with it"
    wanted = {
        TargetKind.BINARY: f"stays with and without {output!r}",
        TargetKind.MULTICLASS: f"stays of several classes of {output!r}",
        TargetKind.REGRESSION: f"stays with a value of {output!r}",
    }[task.kind]
    raise DataError(
        f"{part} must hold {wanted}, got {found}; bring more patients, or change the split's shares or its key"
    )
