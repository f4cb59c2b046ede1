"""Watched time steps and thresholds in, hours from a stay's first alert to its event out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.stay import Floats
from pipelines.bootstrap import estimate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.metrics import Statistic
from pipelines.report.watch import Watch, first_alert_min
from pipelines.scores import MINUTES_PER_HOUR

QUARTILES = {"lower_quartile_h": 0.25, "median_h": 0.5, "upper_quartile_h": 0.75}


def lead_times(watch: Watch, thresholds: Mapping[str, float], config: EvaluationConfig) -> dict[str, Any]:
    """How long before their event stays were first alerted, at every threshold.

    The quartiles are those of the stays that were alerted; the share alerted early is one of all watched stays with
    a timed event.

    Args:
        watch: the watched steps.
        thresholds: by name, as of `pipelines.report.alerts`.
        config: what counts as early, and how to draw.

    Returns:
        `event_stays`, `early_h` and `points`: each with `name`, `threshold`, `alerted` (stays) and `metrics`; or
        `undefined` with the reason.
    """
    timed = watch.event & ~np.isnan(watch.onset_min)
    if not np.any(timed):
        return {"undefined": "the outcome has no time"}
    if timed.sum() < config.min_group:
        return {"undefined": f"needs {config.min_group} watched stays with a timed event"}
    points = []
    for name, threshold in thresholds.items():
        lead = ((watch.onset_min - first_alert_min(watch, threshold)) / MINUTES_PER_HOUR)[timed]
        alerted = int(np.sum(~np.isnan(lead)))
        point: dict[str, Any] = {"name": name, "threshold": threshold}
        if alerted < config.min_group:
            points.append({**point, "suppressed": True})
            continue
        found = estimate(lead_statistic(lead, config.lead_h), watch.patient[timed], config.resampling)
        points.append({**point, "alerted": alerted, "metrics": found.metrics, "undefined": found.undefined})
    return {"event_stays": int(timed.sum()), "early_h": config.lead_h, "points": points}


def lead_statistic(lead_h: Floats, early_h: float) -> Statistic:
    """Quartiles and share early, of weights of stays.

    Args:
        lead_h: (stays,) hours from first alert to event; NaN = never alerted.
        early_h: hours that count as early.
    """
    alerted = np.flatnonzero(~np.isnan(lead_h))
    order = alerted[np.argsort(lead_h[alerted], kind="stable")]
    ranked = lead_h[order]
    early = np.nan_to_num(lead_h, nan=-np.inf) >= early_h

    def statistic(weight: Floats) -> dict[str, Floats]:
        below = np.cumsum(weight[:, order], axis=1)
        total = below[:, -1:]
        found = {}
        for name, share in QUARTILES.items():
            place = np.argmax(below >= share * total, axis=1)
            found[name] = np.where(total[:, 0] > 0, ranked[place], np.nan)
        everyone = weight.sum(axis=1)
        found["share_early"] = np.divide(
            weight @ early, everyone, out=np.full(len(everyone), np.nan), where=everyone > 0
        )
        return found

    return statistic
