"""Logits and labels of the calibration part in, risks' calibration and the rule by which labels are named out."""

from __future__ import annotations

import numpy as np

from models.calibration import Calibration
from models.stay import Floats
from models.task import TargetKind
from models.text.task import TextTask, TextTaskKind
from pipelines.text.config import TextCalibrationConfig

_EVEN = 0.5


def fit_calibration(
    logits: Floats, label: Floats, groups: list[int], task: TextTask, config: TextCalibrationConfig
) -> Calibration:
    """The calibration of (documents, labels) logits, to which the classes' frequencies were added.

    Args:
        logits: of the calibration part.
        label: (documents, targets) class index, or 0 and 1.
        groups: number of every document's group.
        task: what was predicted.
        config: the method.
    """
    kind = TargetKind.BINARY if task.kind is TextTaskKind.MULTILABEL else TargetKind.MULTICLASS
    rows = np.arange(len(logits), dtype=np.int64)
    return Calibration.fit(
        logits,
        label,
        time_h=np.zeros(len(logits)),
        stay_index=rows,
        kind=kind,
        method=config.method,
        patient_index=np.array(groups, dtype=np.int64),
    )


def balanced_decision(calibration: Calibration, shift: Floats) -> tuple[float, ...]:
    """What takes the classes' frequencies out of the logarithm of the risks again.

    The class that is named is then the one that would be likeliest if all were equally common: what a mean over
    classes, such as macro-F1, asks for.
    """
    none = np.zeros(1)
    moved = calibration.line(np.zeros((1, len(shift))), none) - calibration.line(shift[None], none)
    return tuple(float(v) for v in moved[0])


def best_thresholds(risk: Floats, label: Floats) -> tuple[float, ...]:
    """The risk at which each label's F1 on the calibration part is highest; one half where it does not occur."""
    found = []
    for column in range(risk.shape[1]):
        order = np.argsort(-risk[:, column], kind="stable")
        held = label[order, column]
        if not held.any():
            found.append(_EVEN)
            continue
        f1 = 2.0 * np.cumsum(held) / (np.arange(1, len(held) + 1) + held.sum())
        best = int(np.argmax(f1))
        below = risk[order[best + 1], column] if best + 1 < len(order) else 0.0
        # Half-way to the next document, so that a hair's breadth does not decide.
        found.append(float((risk[order[best], column] + below) / 2.0))
    return tuple(found)
