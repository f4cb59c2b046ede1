"""Two models' scores of one hold-out in, the difference of a metric with its interval out."""

from __future__ import annotations

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines.bootstrap import Resampling, draw_weights, interval
from pipelines.evaluate import judged_rows
from pipelines.metrics import Statistic, class_errors, discrimination, number_errors
from pipelines.scores import StepScores

METRICS = ("auroc", "auprc")
NUMBER_METRICS = ("rmse", "mae", "r2")


def paired_difference(
    scores_a: StepScores,
    scores_b: StepScores,
    metric: str,
    *,
    task: TaskSpec,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    output: int = 0,
) -> dict[str, float]:
    """`metric` of the first model less that of the second, both met by the same draws of patients.

    The two may have been scored on different grids: what must agree is the stays and their patients.

    Args:
        scores_a: of the challenger.
        scores_b: of the champion, on the same stays in any order.
        metric: `auroc` or `auprc`, macro averages for several classes; `rmse`, `mae` or `r2` of a number.
        task: what both predict.
        level: of the interval.
        draws: number of bootstrap samples.
        seed: of the draws.
        output: which output is compared (binary tasks with several horizons).

    Returns:
        `value`, `low` and `high`.

    Raises:
        DataError: if the stays differ, the metric is another, or the hold-out does not define it.
    """
    known = NUMBER_METRICS if task.kind is TargetKind.REGRESSION else METRICS
    if metric not in known:
        raise DataError(
            f"metric must be one of {', '.join(known)} for kind '{task.kind}', got {metric!r}; compare another metric"
        )
    other = aligned(scores_b, scores_a)
    resampling = Resampling(draws, level, seed)
    sides = []
    for scores in (scores_a, other):
        statistic, patient_of_row = _side(scores, task, output)
        sides.append(_draws(statistic, metric, patient_of_row, scores.patient_index, resampling))
    (value_a, drawn_a), (value_b, drawn_b) = sides
    entry = interval(metric, value_a - value_b, drawn_a - drawn_b, level)
    if entry is None:
        raise DataError(f"scores must hold both classes to compare {metric}, got one alone; use a larger hold-out")
    return {name: float(entry[name]) for name in ("value", "low", "high")}


def aligned(scores: StepScores, like: StepScores) -> StepScores:
    """The scores in the order of the other's stays.

    Raises:
        DataError: if the stays or their patients are others.
    """
    position = {stay: i for i, stay in enumerate(scores.stay_id)}
    same = len(position) == len(like) and all(stay in position for stay in like.stay_id)
    order = [position[stay] for stay in like.stay_id] if same else []
    if not same or tuple(scores.patient_id[i] for i in order) != like.patient_id:
        raise DataError(
            f"scores_b must hold the stays and patients of scores_a ({len(like)}), got others ({len(scores)}); "
            "score both models on one hold-out"
        )
    return scores.select(order)


def _side(scores: StepScores, task: TaskSpec, output: int) -> tuple[Statistic, Ints]:
    rows = judged_rows(scores, task, 0 if task.kind is TargetKind.MULTICLASS else output)
    patient = scores.patient_index[scores.stay_of_step[rows]]
    if task.kind is TargetKind.MULTICLASS:
        return class_errors(scores.label[rows, 0].astype(np.int64), scores.risk[rows]), patient
    if task.kind is TargetKind.REGRESSION:
        return number_errors(scores.label[rows, output], scores.risk[rows, output]), patient
    return discrimination(scores.label[rows, output], scores.risk[rows, output]), patient


def _draws(
    statistic: Statistic, metric: str, row_patient: Ints, all_patients: Ints, resampling: Resampling
) -> tuple[float, Floats]:
    """The metric on all rows and on every draw; the draws are of all patients, so that both sides share them."""
    value = float(statistic(np.ones((1, len(row_patient))))[metric][0])
    weights = draw_weights(row_patient, int(all_patients.max(initial=-1)) + 1, resampling)
    return value, np.concatenate([statistic(weight)[metric] for weight in weights])
