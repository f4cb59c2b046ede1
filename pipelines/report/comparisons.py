"""A model's scores and others' of the same stays in, paired differences of their metrics out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines import challenge_scores
from pipelines.bootstrap import estimate
from pipelines.evaluate import has_utility, judged_rows, threshold_key
from pipelines.evaluation_config import EvaluationConfig
from pipelines.merged_rows import EXACT_ROWS, MakeStatistic, unit_statistic
from pipelines.metrics import Statistic, class_errors, discrimination, number_errors, probability_errors
from pipelines.paired import aligned
from pipelines.scores import StepScores

COMPARED = ("auroc", "auprc", "brier", "utility", "rmse", "mae", "r2")


@dataclass(frozen=True)
class Contender:
    """A model that another is compared with.

    Args:
        name: how it is called in the report.
        scores: of the same stays; None where it could not be scored.
        thresholds: its own, chosen on its calibration part.
        reason: why it is not compared.
    """

    name: str
    scores: StepScores | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def compare(
    mine: Contender, others: Sequence[Contender], task: TaskSpec, config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Every metric of the model less that of each other, both met by the same draws of patients.

    Args:
        mine: the model that is reported on.
        others: the models it is compared with.
        task: what all of them predict.
        config: how to draw.

    Returns:
        an entry for every other model: `with`, `draws`, and `outputs` with `{"value", "low", "high"}` by output and
        metric; or `undefined` with the reason.

    Raises:
        DataError: if the model has no scores.
    """
    if mine.scores is None:
        raise DataError(f"{mine.name} must have scores to be compared, got none; score the hold-out first")
    found: list[dict[str, Any]] = []
    for other in others:
        if other.scores is None:
            found.append({"with": other.name, "undefined": other.reason})
            continue
        scores = aligned(other.scores, mine.scores)
        rival = Contender(other.name, scores, other.thresholds)
        outputs = {name: _differences(mine, rival, task, k, config) for k, name in _compared_outputs(task)}
        found.append({"with": other.name, "draws": config.bootstrap, "outputs": outputs})
    return found


def _compared_outputs(task: TaskSpec) -> list[tuple[int, str]]:
    if task.kind is TargetKind.BINARY:
        return list(enumerate(task.output_names))
    return [(0, task.outcome)]


def _differences(
    mine: Contender, other: Contender, task: TaskSpec, output: int, config: EvaluationConfig
) -> dict[str, Any]:
    first, second = (patient_statistic(c, task, output) for c in (mine, other))

    def difference(weight: Floats) -> dict[str, Floats]:
        a, b = first(weight), second(weight)
        return {name: a[name] - b[name] for name in COMPARED if name in a and name in b}

    patients = int(mine.scores.patient_index.max()) + 1 if mine.scores is not None else 0
    found = estimate(difference, np.arange(patients), config.resampling)
    return {**found.metrics, **{name: {"undefined": reason} for name, reason in found.undefined.items()}}


def patient_statistic(contender: Contender, task: TaskSpec, output: int) -> Statistic:
    """A model's metrics of weights of all patients of the hold-out, (draws, patients)."""
    scores = contender.scores
    if scores is None:
        raise DataError(f"{contender.name} must have scores to be compared, got none; score the hold-out first")
    rows = judged_rows(scores, task, 0 if task.kind is TargetKind.MULTICLASS else output)
    patients = scores.patient_index
    unit, units = patients[scores.stay_of_step[rows]], int(patients.max()) + 1
    if task.kind is TargetKind.MULTICLASS:
        return _of_patients(class_errors(scores.label[rows, 0].astype(np.int64), scores.risk[rows]), unit)
    if task.kind is TargetKind.REGRESSION:
        return _of_patients(number_errors(scores.label[rows, output], scores.risk[rows, output]), unit)
    label, risk = scores.label[rows, output], scores.risk[rows, output]
    makers: tuple[MakeStatistic, ...] = (discrimination, probability_errors)
    parts = [_rows_statistic(make, label, risk, unit, units) for make in makers]
    parts += _utility(contender, scores, task, output)

    def statistic(weight: Floats) -> dict[str, Floats]:
        return {name: value for part in parts for name, value in part(weight).items()}

    return statistic


def _rows_statistic(make: MakeStatistic, label: Floats, risk: Floats, unit: Ints, units: int) -> Statistic:
    if len(label) <= EXACT_ROWS:
        return _of_patients(make(label, risk), unit)
    return unit_statistic(make, label, risk, unit, units)


def _of_patients(statistic: Statistic, unit: Ints) -> Statistic:
    return lambda weight: statistic(weight[:, unit])


def _utility(contender: Contender, scores: StepScores, task: TaskSpec, output: int) -> list[Statistic]:
    key = threshold_key("utility", task.output_names[output])
    if key not in contender.thresholds or not has_utility(scores, task):
        return []
    decisions = challenge_scores.hourly_decisions(scores, output)
    statistic = challenge_scores.utility(decisions, contender.thresholds[key])
    return [_of_patients(statistic, scores.patient_index[decisions.rows])]
