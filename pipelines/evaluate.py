"""Scored time steps of a hold-out in, a JSON-ready report of metrics with intervals out; no stay is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import ConfigError
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines import challenge_scores, metrics
from pipelines.bootstrap import Estimates, Resampling, estimate
from pipelines.scores import StepScores


@dataclass(frozen=True)
class EvaluationConfig:
    """What is reported, and how its intervals are made.

    Args:
        bootstrap: number of draws of patients.
        hours: hours into the stay at which risks are evaluated too.
        alert_rates: shares of stays (or time steps) that alert, for the sensitivities.
        level: of the intervals.
        seed: of the draws.
    """

    bootstrap: int = 1000
    hours: tuple[float, ...] = (6.0, 12.0, 24.0, 48.0)
    alert_rates: tuple[float, ...] = (0.05, 0.1, 0.2)
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses settings that cannot hold."""
        Resampling(self.bootstrap, self.level, self.seed)
        if any(not 0.0 < rate < 1.0 for rate in self.alert_rates) or any(hour <= 0 for hour in self.hours):
            raise ConfigError(
                f"evaluation.alert_rates must lie between 0 and 1 and evaluation.hours above 0, got "
                f"{list(self.alert_rates)} and {list(self.hours)}; correct them"
            )

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.bootstrap, self.level, self.seed)


def evaluate(
    scores: StepScores,
    task: TaskSpec,
    config: EvaluationConfig | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Metrics of a hold-out, each `{"value", "low", "high"}`.

    A task of scope `stay` is judged at every stay's last time step, one of scope `step` at all supervised
    steps together; both also at each of `config.hours`, over the stays that last as long (`stays` says how
    many). Event 1 and the utility need thresholds that were chosen on other stays.

    Args:
        scores: of the hold-out.
        task: what was predicted.
        config: what to report.
        thresholds: from `pipelines.thresholds.choose_thresholds` on the calibration split.

    Returns:
        `stays`, `patients`, `events`, `unlabelled_stays`, `metrics` (of the first output, or over all
        classes), `outputs` (metrics of every output by its name), `undefined` (metrics that these stays do
        not define, with the reason), `disclaimer`.
    """
    settings = config or EvaluationConfig()
    judge = _Judge(scores, task, settings, dict(thresholds or {}))
    outputs = {name: judge.output(k) for k, name in enumerate(task.output_names)}
    whole = judge.classes() if task.kind is TargetKind.MULTICLASS else next(iter(outputs.values()))
    undefined = {f"{name}/{metric}": why for name, found in outputs.items() for metric, why in found.undefined.items()}
    return {
        "stays": len(scores),
        "patients": len(set(scores.patient_id)),
        "events": count_events(scores, task),
        "unlabelled_stays": int(np.sum(~_labelled(scores))),
        "metrics": whole.metrics,
        "outputs": {name: found.metrics for name, found in outputs.items()},
        "undefined": {**undefined, **(whole.undefined if task.kind is TargetKind.MULTICLASS else {})},
        "disclaimer": f"{DISCLAIMER_EN} {DISCLAIMER_JA}",
    }


def threshold_key(purpose: str, output: str) -> str:
    """Name of a threshold: what it serves, of which output.

    Example:
        >>> threshold_key("utility", "sepsis_6h")
        'sepsis_6h/utility'
    """
    return f"{output}/{purpose}"


def has_utility(scores: StepScores, task: TaskSpec) -> bool:
    """Whether the utility of 2019 means something: a label an hour, and a time for every event."""
    if task.kind is not TargetKind.BINARY or task.scope is not LabelScope.STEP or scores.onset_min is None:
        return False
    timed = ~np.isnan(scores.onset_min)
    positive = np.logical_or.reduceat(np.any(scores.label > 0, axis=1), scores.step_offsets[:-1])
    return bool(np.any(timed)) and bool(np.all(timed[positive]))


def count_events(scores: StepScores, task: TaskSpec) -> int:
    """Stays with the event; of several classes those outside the commonest; for a number all that have one."""
    if task.kind is TargetKind.REGRESSION:
        return int(np.sum(_labelled(scores)))
    if task.kind is TargetKind.MULTICLASS:
        label = scores.label[judged_rows(scores, task, 0), 0].astype(np.int64)
        return len(label) - int(np.bincount(label).max(initial=0))
    positive = np.any(scores.label > 0, axis=1)
    return int(np.sum(np.logical_or.reduceat(positive, scores.step_offsets[:-1])))


def judged_rows(scores: StepScores, task: TaskSpec, target: int) -> Ints:
    """Rows on which a target is judged: every stay's last step, or every step; those that hold a label."""
    rows = scores.last_rows if task.scope is LabelScope.STAY else np.arange(len(scores.label), dtype=np.int64)
    return _with_label(scores, rows, target)


def _with_label(scores: StepScores, rows: Ints, target: int) -> Ints:
    return np.asarray(rows[~np.isnan(scores.label[rows, target])])


def _labelled(scores: StepScores) -> np.ndarray[Any, np.dtype[np.bool_]]:
    known = np.any(~np.isnan(scores.label), axis=1)
    return np.asarray(np.logical_or.reduceat(known, scores.step_offsets[:-1]), dtype=np.bool_)


class _Judge:
    """One hold-out, judged output by output."""

    def __init__(
        self, scores: StepScores, task: TaskSpec, config: EvaluationConfig, thresholds: dict[str, float]
    ) -> None:
        self.scores = scores
        self.task = task
        self.config = config
        self.thresholds = thresholds
        self.patient_of_step = scores.patient_index[scores.stay_of_step]

    def output(self, k: int) -> Estimates:
        """Metrics of one output; of a class, against all others."""
        target = 0 if self.task.kind is TargetKind.MULTICLASS else k
        found = Estimates()
        for suffix, rows in self._occasions(target):
            alert_rates = () if suffix else self.config.alert_rates
            for statistic in self._statistics(rows, k, alert_rates):
                self._add(found, statistic, rows, suffix)
        if self.task.kind is TargetKind.BINARY:
            self._add_challenge_scores(found, k)
        return found

    def classes(self) -> Estimates:
        """Metrics over all classes of a multiclass task."""
        found = Estimates()
        for suffix, rows in self._occasions(0):
            label = self.scores.label[rows, 0].astype(np.int64)
            self._add(found, metrics.class_errors(label, self.scores.risk[rows]), rows, suffix)
        return found

    def _occasions(self, target: int) -> Iterator[tuple[str, Ints]]:
        """Suffix of the metrics' names and rows: where the task is judged, then at every hour."""
        yield "", judged_rows(self.scores, self.task, target)
        for hour in self.config.hours:
            yield f"_at_{hour:g}h", _with_label(self.scores, self.scores.rows_at(hour), target)

    def _add(self, found: Estimates, statistic: metrics.Statistic, rows: Ints, suffix: str = "") -> None:
        estimates = estimate(statistic, self.patient_of_step[rows], self.config.resampling)
        found.merge(estimates, suffix=suffix, **({"stays": len(rows)} if suffix else {}))

    def _statistics(self, rows: Ints, k: int, alert_rates: tuple[float, ...]) -> list[metrics.Statistic]:
        risk = self.scores.risk[rows, k]
        if self.task.kind is TargetKind.REGRESSION:
            return [metrics.number_errors(self.scores.label[rows, k], risk)]
        label = self._positive(rows, k)
        return [
            metrics.discrimination(label, risk, alert_rates),
            metrics.probability_errors(label, risk),
            metrics.calibration_line(label, risk),
        ]

    def _positive(self, rows: Ints, k: int) -> Floats:
        if self.task.kind is TargetKind.MULTICLASS:
            return np.asarray(self.scores.label[rows, 0] == k, dtype=np.float64)
        return np.asarray(self.scores.label[rows, k])

    def _add_challenge_scores(self, found: Estimates, k: int) -> None:
        name = self.task.output_names[k]
        if self.task.scope is LabelScope.STAY:
            rows = judged_rows(self.scores, self.task, k)
            label, risk = self.scores.label[rows, k], self.scores.risk[rows, k]
            self._add(found, challenge_scores.event2(label, risk), rows)
            if (key := threshold_key("event1", name)) in self.thresholds:
                alert = (risk >= self.thresholds[key]).astype(np.float64)
                self._add(found, challenge_scores.event1(label, alert), rows)
        elif has_utility(self.scores, self.task) and (key := threshold_key("utility", name)) in self.thresholds:
            decisions = challenge_scores.hourly_decisions(self.scores, k)
            statistic = challenge_scores.utility(decisions, self.thresholds[key])
            found.merge(estimate(statistic, self.scores.patient_index[decisions.rows], self.config.resampling))
