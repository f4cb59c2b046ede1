"""Labels and risks in, net benefit over decision thresholds out, beside treating all and treating none.

Source: Vickers and Elkin 2006, Decision curve analysis: a novel method for evaluating prediction models.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.stay import Floats, Ints
from pipelines.bootstrap import estimate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.metrics import Statistic

HIGHEST = 0.99


def decision_curve(label: Floats, risk: Floats, row_patient: Ints, config: EvaluationConfig) -> dict[str, Any]:
    """Net benefit of acting at or above every threshold, with intervals over draws of patients.

    Args:
        label: (rows,) 0 or 1.
        risk: (rows,) 0 to 1.
        row_patient: (rows,) index of the patient of every row.
        config: range and number of thresholds, and how to draw.

    Returns:
        `base_rate` and `points`, each with `threshold` and, as `{"value", "low", "high"}`, `net_benefit`,
        `treat_all` and `gain` (over the better one of treating all and treating none); or `undefined` with the
        reason.
    """
    if not len(label) or not 0.0 < float(label.mean()) < 1.0:
        return {"undefined": "the rows must hold both classes for a decision curve"}
    base_rate = float(label.mean())
    thresholds = decision_thresholds(base_rate, config)
    patients, unit = np.unique(row_patient, return_inverse=True)
    statistic = net_benefit(label, risk, unit, len(patients), thresholds)
    found = estimate(statistic, np.arange(len(patients)), config.resampling).metrics
    names = ("net_benefit", "treat_all", "gain")
    points = [
        {"threshold": float(t), **{name: found[f"{name}/{j}"] for name in names}} for j, t in enumerate(thresholds)
    ]
    return {"base_rate": base_rate, "points": points}


def decision_thresholds(base_rate: float, config: EvaluationConfig) -> Floats:
    """(points,) ascending thresholds: the configured range, or one around the base rate.

    Example:
        >>> decision_thresholds(0.1, EvaluationConfig(decision_points=3)).round(3).tolist()
        [0.01, 0.205, 0.4]
    """
    low, high = config.decision_range or (0.1 * base_rate, min(4.0 * base_rate, HIGHEST))
    return np.linspace(low, high, config.decision_points)


def net_benefit(label: Floats, risk: Floats, unit: Ints, units: int, thresholds: Floats) -> Statistic:
    """`true positives / n - false positives / n * t / (1 - t)` at every threshold, of weights of units.

    Args:
        label: (rows,) 0 or 1.
        risk: (rows,) 0 to 1; at or above a threshold is acted on.
        unit: (rows,) to which unit, for example patient, a row belongs.
        units: how many there are.
        thresholds: (points,) ascending, between 0 and 1.
    """
    odds = thresholds / (1.0 - thresholds)
    reached = np.searchsorted(thresholds, risk, side="right")
    acted = _at_or_above(reached, np.ones(len(risk)), unit, units, len(thresholds))
    caught = _at_or_above(reached, label, unit, units, len(thresholds))
    rows = np.bincount(unit, minlength=units).astype(np.float64)
    positives = np.bincount(unit, label, minlength=units)

    def statistic(weight: Floats) -> dict[str, Floats]:
        total = (weight @ rows)[:, None]
        true = weight @ caught
        model = (true - (weight @ acted - true) * odds) / total
        prevalence = (weight @ positives)[:, None] / total
        everyone = prevalence - (1.0 - prevalence) * odds
        tables = {"net_benefit": model, "treat_all": everyone, "gain": model - np.maximum(everyone, 0.0)}
        return {f"{name}/{j}": table[:, j] for name, table in tables.items() for j in range(len(thresholds))}

    return statistic


def _at_or_above(reached: Ints, value: Floats, unit: Ints, units: int, points: int) -> Floats:
    """(units, points) sums of the rows whose risk reaches each threshold."""
    table = np.bincount(unit * (points + 1) + reached, value, minlength=units * (points + 1))
    held = table.reshape(units, points + 1)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.ascontiguousarray(held[:, 1:])
