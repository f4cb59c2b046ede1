"""Scores of a hold-out and its stays' facts in, every section of a report beyond `pipelines.evaluate` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.bundle import DECISIONS
from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines.evaluate import judged_rows, threshold_key
from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.alerts import alert_figures
from pipelines.report.curves import curves
from pipelines.report.decision_curve import decision_curve
from pipelines.report.lead_time import lead_times
from pipelines.report.reliability import reliability
from pipelines.report.stay_facts import StayFacts
from pipelines.report.strata import missingness_figures
from pipelines.report.subgroups import subgroup_figures
from pipelines.report.watch import watch_of
from pipelines.scores import StepScores

NO_ALERTS = "alerts are defined for yes-or-no outcomes alone"


def report_sections(
    scores: StepScores, task: TaskSpec, facts: StayFacts, config: EvaluationConfig, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """`curves`, `decision_curve`, `reliability`, `alerts`, `lead_time`, `subgroups` and `missingness`, each by output.

    Args:
        scores: of the hold-out.
        task: what was predicted.
        facts: of the same stays, in the same order.
        config: what to report.
        thresholds: the model's, chosen on the calibration part (`pipelines.evaluate.threshold_key`).
    """
    found: dict[str, Any] = {"curves": {}, "decision_curve": {}, "reliability": {}, "alerts": {}, "lead_time": {}}
    for k, name in enumerate(task.output_names):
        if task.kind is not TargetKind.REGRESSION:
            label, risk, stay = judged_output(scores, task, k)
            patients = scores.patient_index
            found["curves"][name] = curves(label, risk, patients[stay], config)
            found["decision_curve"][name] = decision_curve(label, risk, patients[stay], config)
            found["reliability"][name] = reliability(label, risk, stay, patients, config)
        found["alerts"][name], found["lead_time"][name] = _alerts(scores, task, k, config, thresholds)
    judged = task.output_names if task.kind is TargetKind.BINARY else (task.outcome,)
    found["subgroups"] = {n: subgroup_figures(scores, task, k, facts, config) for k, n in enumerate(judged)}
    found["missingness"] = {
        n: missingness_figures(scores, task, k, facts.observations_per_hour, config) for k, n in enumerate(judged)
    }
    return found


def judged_output(scores: StepScores, task: TaskSpec, output: int) -> tuple[Floats, Floats, Ints]:
    """(rows,) labels, risks and stays that an output is judged on; of a class, against all others."""
    several = task.kind is TargetKind.MULTICLASS
    rows = judged_rows(scores, task, 0 if several else output)
    label = scores.label[rows, 0 if several else output]
    positive = (label == output).astype(np.float64) if several else label
    return positive, scores.risk[rows, output], scores.stay_of_step[rows]


def _alerts(
    scores: StepScores, task: TaskSpec, output: int, config: EvaluationConfig, thresholds: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    if task.kind is not TargetKind.BINARY:
        return {"undefined": NO_ALERTS}, {"undefined": NO_ALERTS}
    name = task.output_names[output]
    chosen = {
        f"threshold for {purpose}": thresholds[key]
        for purpose in DECISIONS
        if (key := threshold_key(purpose, name)) in thresholds
    }
    watch = watch_of(scores, output)
    alerts = alert_figures(watch, chosen, config)
    at = {point["name"]: point["threshold"] for point in alerts.get("points", [])}
    return alerts, lead_times(watch, at, config)
