"""The same stays' risks before and after in, differences of figures of calibration and ranking with intervals out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines.bootstrap import Resampling, draw_weights, interval
from pipelines.cautions import RANKING
from pipelines.evaluate import judged_rows
from pipelines.metrics import (
    Statistic,
    calibration_line,
    class_errors,
    discrimination,
    number_errors,
    probability_errors,
)
from pipelines.scores import StepScores

COMPARED: tuple[str, ...] = ("brier", "log_loss", "ece", "rmse", "mae", *RANKING)
_SMALLEST = 1e-12


def paired_calibration(
    after: StepScores, before: StepScores, task: TaskSpec, resampling: Resampling
) -> dict[str, dict[str, float]]:
    """After less before, the same draws of patients meeting both.

    `brier`, `log_loss` and `ece`, and the distances of slope and intercept from 1 and 0: for all of them below 0 is
    better. `auroc` and `auprc`, for which above 0 is better: a calibration that follows the time in the stay may rank
    scores of unequal hours anew. For several classes `log_loss`, `brier` and both of ranking, for a number `rmse` and
    `mae`. Of several outputs the first.

    Args:
        after: with the new calibration.
        before: the same steps with the old one.
        task: what is predicted.
        resampling: how to draw.

    Returns:
        `{"value", "low", "high"}` by metric; one that the hold-out does not define is absent.
    """
    rows = judged_rows(after, task, 0)
    patient = after.patient_index[after.stay_of_step[rows]]
    drawn = []
    for scores in (after, before):
        statistics = list(_statistics(scores, rows, task))
        whole = _values(statistics, np.ones((1, len(rows))))
        draws = [_values(statistics, w) for w in draw_weights(patient, int(after.patient_index.max()) + 1, resampling)]
        drawn.append((whole, {name: np.concatenate([d[name] for d in draws]) for name in whole}))
    (value, draws_after), (value_before, draws_before) = drawn
    found = {}
    for name in value:
        # A difference adds nothing up, so its interval is that of any other figure.
        difference = float(value[name][0] - value_before[name][0])
        entry = interval(f"{name}_difference", difference, draws_after[name] - draws_before[name], resampling.level)
        if entry is not None:
            found[name] = {key: float(entry[key]) for key in ("value", "low", "high")}
    return found


def _statistics(scores: StepScores, rows: Ints, task: TaskSpec) -> Iterator[Statistic]:
    label, risk = scores.label[rows, 0], scores.risk[rows, 0]
    if task.kind is TargetKind.MULTICLASS:
        yield class_errors(label.astype(np.int64), scores.risk[rows])
    elif task.kind is TargetKind.REGRESSION:
        yield number_errors(label, risk)
    else:
        yield probability_errors(label, risk)
        yield _log_loss(label, risk)
        yield calibration_line(label, risk)
        yield discrimination(label, risk)


def _log_loss(label: Floats, risk: Floats) -> Statistic:
    loss = -np.log(np.maximum(np.where(label > 0, risk, 1.0 - risk), _SMALLEST))
    return lambda weight: {"log_loss": weight @ loss / weight.sum(axis=1)}


def _values(statistics: list[Statistic], weight: Floats) -> dict[str, Floats]:
    found = {name: values for statistic in statistics for name, values in statistic(weight).items()}
    compared: dict[str, Floats] = {name: found[name] for name in COMPARED if name in found}
    if "calibration_slope" in found:
        compared["calibration_slope_distance"] = np.abs(found["calibration_slope"] - 1.0)
        compared["calibration_intercept_distance"] = np.abs(found["calibration_intercept"])
    return compared
