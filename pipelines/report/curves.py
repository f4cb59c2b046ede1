"""Labels and risks in, ROC and precision-recall curves at fixed places out, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.stay import Floats, Ints
from pipelines.evaluation_config import EvaluationConfig
from pipelines.merged_rows import estimate_rows
from pipelines.metrics import Ranking, Statistic

FALSE_POSITIVE_RATES = np.linspace(0.0, 1.0, 41)
RECALLS = np.linspace(0.025, 1.0, 40)


def curves(label: Floats, risk: Floats, row_patient: Ints, config: EvaluationConfig) -> dict[str, Any]:
    """Sensitivity at fixed false positive rates, precision at fixed recalls.

    Returns:
        `roc` and `precision_recall`: points with `at` and `{"value", "low", "high"}`; or `undefined` with the reason.
    """
    found = estimate_rows(curve_statistic, label, risk, row_patient, config.resampling).metrics
    places = {"roc": FALSE_POSITIVE_RATES, "precision_recall": RECALLS}
    if any(f"{name}/{j}" not in found for name, at in places.items() for j in range(len(at))):
        return {"undefined": "the rows must hold both classes for these curves"}
    return {name: [{"at": float(x), **found[f"{name}/{j}"]} for j, x in enumerate(at)] for name, at in places.items()}


def curve_statistic(label: Floats, risk: Floats) -> Statistic:
    """Both curves at fixed places, of weights of rows.

    Between two thresholds rows alert in proportion, so that precision is interpolated as counts are.

    Source: Davis and Goadrich 2006, The relationship between precision-recall and ROC curves, section 4.
    """
    ranking = Ranking.of(label, risk)

    def statistic(weight: Floats) -> dict[str, Floats]:
        counts = ranking.curves(weight)
        roc = np.full((len(weight), len(FALSE_POSITIVE_RATES)), np.nan)
        precision = np.full((len(weight), len(RECALLS)), np.nan)
        for i, (caught, alerts) in enumerate(zip(counts.caught, counts.alerts, strict=True)):
            false = alerts - caught
            if caught[-1] > 0 and false[-1] > 0:
                roc[i] = np.interp(FALSE_POSITIVE_RATES * false[-1], false, caught) / caught[-1]
                wanted = RECALLS * caught[-1]
                precision[i] = wanted / np.interp(wanted, caught, alerts)
        tables = {"roc": roc, "precision_recall": precision}
        return {f"{name}/{j}": table[:, j] for name, table in tables.items() for j in range(table.shape[1])}

    return statistic
