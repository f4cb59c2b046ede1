"""Groups of stays in, the same few figures for each of them out; groups too small for a figure say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines.bootstrap import Estimates, estimate
from pipelines.evaluate import judged_rows
from pipelines.evaluation_config import EvaluationConfig
from pipelines.merged_rows import estimate_rows
from pipelines.metrics import Statistic, calibration_line, class_errors, discrimination, number_errors
from pipelines.scores import StepScores

Mask = NDArray[np.bool_]


def group_table(
    scores: StepScores, task: TaskSpec, output: int, groups: Mapping[str, Mask], config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Counts and figures of every group.

    Args:
        scores: of the hold-out.
        task: what was predicted.
        output: which output is judged; a multiclass task is judged over all classes.
        groups: (stays,) which stays belong to each, by its name; empty groups are left out.
        config: how to draw and what to hide.

    Returns:
        a group each: `group`, `stays`, `patients`, `events`, `metrics`, `undefined`, and `smallest` for the one of
        fewest stays; or `group` and `suppressed` for one of fewer than `config.min_group` stays.
    """
    rows = judged_rows(scores, task, 0 if task.kind is TargetKind.MULTICLASS else output)
    stay = scores.stay_of_step[rows]
    judged = np.zeros(len(scores), dtype=np.bool_)
    judged[stay] = True
    sizes = {name: int(np.sum(mask & judged)) for name, mask in groups.items()}
    table = []
    for name, mask in groups.items():
        if sizes[name] == 0:
            continue
        entry: dict[str, Any] = {"group": name, "smallest": sizes[name] == min(n for n in sizes.values() if n)}
        if sizes[name] < config.min_group:
            table.append({**entry, "suppressed": True})
            continue
        held = rows[mask[stay]]
        table.append({**entry, **_figures(scores, task, output, held, config)})
    return table


def _figures(scores: StepScores, task: TaskSpec, output: int, rows: Ints, config: EvaluationConfig) -> dict[str, Any]:
    stay = scores.stay_of_step[rows]
    stays, patient = np.unique(stay), scores.patient_index[stay]
    facts: dict[str, Any] = {"stays": len(stays), "patients": len(np.unique(patient))}
    if task.kind is TargetKind.BINARY:
        label, risk = scores.label[rows, output], scores.risk[rows, output]
        events = len(np.unique(stay[label > 0]))
        silent = len(np.unique(stay[label <= 0]))
        if min(events, silent) < config.min_group:
            reason = f"fewer than {config.min_group} stays with or without the event: too few for figures"
            return {**facts, "events": None, "metrics": {}, "undefined": {"all": reason}}
        found = binary_figures(label, risk, patient, config)
        return {**facts, "events": events, "metrics": found.metrics, "undefined": found.undefined}
    statistic = _other_statistic(scores, task, rows)
    found = estimate(statistic, patient, config.resampling)
    return {**facts, "events": None, "metrics": found.metrics, "undefined": found.undefined}


def binary_figures(label: Floats, risk: Floats, row_patient: Ints, config: EvaluationConfig) -> Estimates:
    """AUROC, AUPRC, calibration slope and intercept, observed over expected, Brier score and base rate."""
    found = Estimates()
    for make in (discrimination, calibration_line):
        found.merge(estimate_rows(make, label, risk, row_patient, config.resampling))
    patients, unit = np.unique(row_patient, return_inverse=True)
    columns = [np.ones(len(label)), label, risk, np.square(risk - label)]
    sums: Floats = np.stack([np.bincount(unit, c, minlength=len(patients)) for c in columns], axis=1).astype(float)
    found.merge(estimate(_ratios(sums), np.arange(len(patients)), config.resampling))
    return found


def _ratios(sums: Floats) -> Statistic:
    def statistic(weight: Floats) -> dict[str, Floats]:
        rows, observed, expected, squares = (weight @ sums).T
        nothing = np.full(len(rows), np.nan)
        return {
            "base_rate": observed / rows,
            "observed_over_expected": np.divide(observed, expected, out=nothing, where=expected > 0),
            "brier": squares / rows,
        }

    return statistic


def _other_statistic(scores: StepScores, task: TaskSpec, rows: Ints) -> Statistic:
    if task.kind is TargetKind.MULTICLASS:
        return class_errors(scores.label[rows, 0].astype(np.int64), scores.risk[rows])
    return number_errors(scores.label[rows, 0], scores.risk[rows, 0])
