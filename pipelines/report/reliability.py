"""Labels and risks in, the table of a reliability diagram out: observed frequency by tenth of risk, and a histogram."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.stay import Floats, Ints
from pipelines.bootstrap import estimate, with_exact_end
from pipelines.evaluation_config import EvaluationConfig

GROUPS = 10
BARS = 20


def reliability(
    label: Floats, risk: Floats, row_stay: Ints, patient_of_stay: Ints, config: EvaluationConfig
) -> dict[str, Any]:
    """Observed and expected frequency in groups of rows of like risk, and how often each risk is given.

    Rows of equal risk share a group. What fewer than `config.min_group` stays make up is `suppressed`.

    Args:
        label: (rows,) 0 or 1.
        risk: (rows,) 0 to 1.
        row_stay: (rows,) index of the stay of every row.
        patient_of_stay: (stays,) index of the patient of every stay.
        config: how to draw and what to hide.

    Returns:
        `groups`, each with `rows`, `stays`, `mean_risk` and `observed` (`{"value", "low", "high"}`), and
        `histogram`, each bar with `from`, `to`, `with_event` and `without_event`.
    """
    if not len(label):
        return {"groups": [], "histogram": []}
    edges = np.unique(np.quantile(risk, np.arange(1, GROUPS) / GROUPS))
    _, group = np.unique(np.searchsorted(edges, risk, side="right"), return_inverse=True)
    groups = int(group.max()) + 1
    patients, unit = np.unique(patient_of_stay[row_stay], return_inverse=True)
    shape, cell = (len(patients), groups), unit * groups + group
    rows = np.bincount(cell, minlength=len(patients) * groups).reshape(shape).astype(np.float64)
    events = np.bincount(cell, label, minlength=len(patients) * groups).reshape(shape)

    def observed(weight: Floats) -> dict[str, Floats]:
        total = weight @ rows
        share = np.divide(weight @ events, total, out=np.full(total.shape, np.nan), where=total > 0)
        return {str(j): share[:, j] for j in range(groups)}

    found = estimate(observed, np.arange(len(patients)), config.resampling).metrics
    table: list[dict[str, Any]] = []
    for j in range(groups):
        held = group == j
        stays = len(np.unique(row_stay[held]))
        if stays < config.min_group or str(j) not in found:
            table.append({"suppressed": True})
            continue
        facts = {"rows": int(held.sum()), "stays": stays, "mean_risk": float(risk[held].mean())}
        observers = len(np.unique(patient_of_stay[row_stay[held]]))
        table.append({**facts, "observed": with_exact_end(found[str(j)], observers, config.level)})
    return {"groups": table, "histogram": _histogram(label, risk, row_stay, config.min_group)}


def _histogram(label: Floats, risk: Floats, row_stay: Ints, min_group: int) -> list[dict[str, Any]]:
    top = min(1.0, float(np.ceil(risk.max() * BARS) / BARS)) or 1.0
    edges = np.linspace(0.0, top, BARS + 1)
    bar = np.clip(np.searchsorted(edges, risk, side="right") - 1, 0, BARS - 1)
    bars: list[dict[str, Any]] = []
    for j in range(BARS):
        held = bar == j
        shown: dict[str, Any] = {"from": float(edges[j]), "to": float(edges[j + 1])}
        if 0 < len(np.unique(row_stay[held])) < min_group:
            bars.append({**shown, "suppressed": True})
            continue
        positives = int(label[held].sum())
        bars.append({**shown, "with_event": positives, "without_event": int(held.sum()) - positives})
    return bars
