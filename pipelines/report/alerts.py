"""Watched time steps in, alerts per patient-day, sensitivity and predictive value at fixed burdens out.

Source: the silence after an alarm follows Hyland et al. 2020, Early prediction of circulatory failure in the
intensive care unit using machine learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.stay import Floats
from pipelines.bootstrap import estimate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.metrics import Statistic
from pipelines.report.watch import Watch, alert_steps
from pipelines.scores import MINUTES_PER_HOUR


def alert_figures(watch: Watch, chosen: Mapping[str, float], config: EvaluationConfig) -> dict[str, Any]:
    """Figures at every burden of the configuration, and at thresholds chosen on other stays.

    Args:
        watch: the watched steps.
        chosen: thresholds from the calibration part, by what they serve.
        config: burdens, silence and how to draw.

    Returns:
        `watched_stays`, `watched_events`, `patient_days`, `events_before_first_score`, `silence_h`, and `points`:
        each with `name`, `threshold`, and `metrics` of `{"value", "low", "high"}`; or `undefined` with the reason.
    """
    days = float(watch.days.sum())
    facts: dict[str, Any] = {
        "watched_stays": len(watch),
        "watched_events": int(watch.event.sum()),
        "patient_days": days,
        "events_before_first_score": watch.too_early,
        "silence_h": config.alert_silence_h,
    }
    if days <= 0.0 or min(facts["watched_events"], len(watch) - facts["watched_events"]) < config.min_group:
        return {**facts, "undefined": f"needs {config.min_group} watched stays with and without the event"}
    silence = round(config.alert_silence_h * MINUTES_PER_HOUR)
    named: dict[str, tuple[float, float | None]] = {name: (at, None) for name, at in chosen.items()}
    for allowed in config.alert_burdens:
        named[f"{allowed:g} alerts per patient-day"] = (threshold_at_burden(watch, allowed, silence), allowed)
    points = []
    for name, (threshold, burden) in named.items():
        found = estimate(_statistic(watch, threshold, silence), watch.patient, config.resampling)
        points.append(
            {
                "name": name,
                "burden": burden,
                "threshold": threshold,
                "metrics": found.metrics,
                "undefined": found.undefined,
            }
        )
    return {**facts, "points": points}


def threshold_at_burden(watch: Watch, burden: float, silence_min: int) -> float:
    """The lowest threshold that gives at most so many alerts per patient-day; above every risk if none does.

    Labels play no part in it.
    """
    allowed = burden * float(watch.days.sum())
    distinct = np.unique(watch.risk)
    low, high = 0, len(distinct)
    while low < high:
        middle = (low + high) // 2
        if len(alert_steps(watch, float(distinct[middle]), silence_min)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return float(distinct[low]) if low < len(distinct) else float(np.nextafter(distinct[-1], np.inf))


def _statistic(watch: Watch, threshold: float, silence_min: int) -> Statistic:
    """Of weights of stays; the threshold is held, so that burden and yield vary together."""
    steps = alert_steps(watch, threshold, silence_min)
    stays = len(watch)
    alerts = np.bincount(watch.stay[steps], minlength=stays).astype(np.float64)
    true = np.bincount(watch.stay[steps], watch.positive[steps], minlength=stays)
    event = watch.event.astype(np.float64)
    caught = event * (true > 0)
    early_or_not = event * (alerts > 0)

    def statistic(weight: Floats) -> dict[str, Floats]:
        events, given = weight @ event, weight @ alerts
        return {
            "alerts_per_patient_day": _share(given, weight @ watch.days),
            "sensitivity": _share(weight @ caught, events),
            "events_alerted_any_time_before": _share(weight @ early_or_not, events),
            "ppv": _share(weight @ true, given),
            "stays_alerted": _share(weight @ (alerts > 0), weight.sum(axis=1)),
        }

    return statistic


def _share(above: Floats, below: Floats) -> Floats:
    share: Floats = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return share
