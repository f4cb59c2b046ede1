"""Scores of stays that are not judged in, the thresholds at which alerts serve the Challenges best out."""

from __future__ import annotations

import numpy as np

from models.stay import Floats
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.challenge_scores import hourly_decisions
from pipelines.evaluate import has_utility, judged_rows, threshold_key
from pipelines.evaluation_config import EvaluationConfig
from pipelines.metrics import Ranking
from pipelines.scores import StepScores


def choose_thresholds(scores: StepScores, task: TaskSpec, config: EvaluationConfig | None = None) -> dict[str, float]:
    """Thresholds of every output of a binary task, by name (`threshold_key`).

    `event1` (scope `stay`) or `utility` (scope `step`, timed events) serves that score best, and
    `alert_rate_0.1` lets a tenth of the stays, or time steps, alert. A risk at or above alerts. What these
    stays cannot decide, having no event, has no threshold.

    Args:
        scores: of the calibration split; never of the stays that are judged afterwards.
        task: what was predicted.
        config: names the alert rates.
    """
    if task.kind is not TargetKind.BINARY:
        return {}
    settings = config or EvaluationConfig()
    chosen: dict[str, float] = {}
    for k, name in enumerate(task.output_names):
        rows = judged_rows(scores, task, k)
        label, risk = scores.label[rows, k], scores.risk[rows, k]
        if len(rows):
            for rate in settings.alert_rates:
                chosen[threshold_key(f"alert_rate_{rate:g}", name)] = float(np.quantile(risk, 1.0 - rate))
        if task.scope is LabelScope.STAY and np.any(label > 0):
            chosen[threshold_key("event1", name)] = best_event1_threshold(label, risk)
        elif has_utility(scores, task):
            decisions = hourly_decisions(scores, k)
            gain = decisions.if_alert - decisions.if_silent
            chosen[threshold_key("utility", name)] = best_gain_threshold(gain, decisions.risk)
    return chosen


def best_event1_threshold(label: Floats, risk: Floats) -> float:
    """The threshold at which the smaller one of sensitivity and positive predictivity is largest.

    Example:
        >>> best_event1_threshold(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.5, 0.9]))
        0.25
    """
    curves = Ranking.of(label, risk).curves(np.ones((1, len(label))))
    score = curves.caught[0, 1:] / np.maximum(curves.alerts[0, 1:], label.sum())
    return _between(risk, int(np.argmax(score)))


def best_gain_threshold(gain: Floats, risk: Floats) -> float:
    """The threshold above which the gains of alerting sum up to most; above every risk if none is worth it.

    Example:
        >>> best_gain_threshold(np.array([-0.05, 1.0, -0.05]), np.array([0.1, 0.5, 0.2]))
        0.35
    """
    total = Ranking.of(gain, risk).curves(np.ones((1, len(gain)))).caught[0]
    best = int(np.argmax(total))
    return float(np.nextafter(risk.max(), np.inf)) if best == 0 else _between(risk, best - 1)


def _between(risk: Floats, rank: int) -> float:
    """Midway between a distinct risk, counted from the highest, and the next lower one: robust to rounding."""
    distinct = np.unique(risk)[::-1]
    lower = distinct[min(rank + 1, len(distinct) - 1)]
    return float(0.5 * (distinct[rank] + lower))
