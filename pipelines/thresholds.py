"""Scores of stays that are not judged in, the thresholds at which alerts serve the Challenges best out."""

from __future__ import annotations

import numpy as np

from models.stay import Floats
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.challenge_scores import hourly_decisions
from pipelines.metrics import Ranking
from pipelines.scores import StepScores


def threshold_key(metric: str, output: str) -> str:
    """Name of a threshold: what it serves, of which output.

    Example:
        >>> threshold_key("utility", "sepsis_6h")
        'sepsis_6h/utility'
    """
    return f"{output}/{metric}"


def choose_thresholds(scores: StepScores, task: TaskSpec) -> dict[str, float]:
    """The best threshold of every output for Event 1 (scope `stay`) or the utility (scope `step`, timed events).

    A risk at or above the threshold alerts. An output whose stays hold no event gets none.

    Args:
        scores: of the calibration split; never of the stays that are judged afterwards.
        task: what was predicted; only binary tasks have thresholds.
    """
    if task.kind is not TargetKind.BINARY:
        return {}
    chosen: dict[str, float | None] = {}
    for k, name in enumerate(task.output_names):
        if task.scope is LabelScope.STAY:
            rows = scores.last_rows[~np.isnan(scores.label[scores.last_rows, k])]
            threshold = best_event1_threshold(scores.label[rows, k], scores.risk[rows, k])
            chosen[threshold_key("event1", name)] = threshold
        elif scores.onset_min is not None and not np.all(np.isnan(scores.onset_min)):
            decisions = hourly_decisions(scores, k)
            gain = decisions.if_alert - decisions.if_silent
            chosen[threshold_key("utility", name)] = best_gain_threshold(gain, decisions.risk)
    return {key: threshold for key, threshold in chosen.items() if threshold is not None}


def best_event1_threshold(label: Floats, risk: Floats) -> float | None:
    """The threshold of the largest smaller one of sensitivity and positive predictivity; None without an event.

    Example:
        >>> best_event1_threshold(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.5, 0.9]))
        0.25
    """
    if not np.any(label > 0):
        return None
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
