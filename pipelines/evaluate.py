"""Scored time steps of a hold-out in, a JSON-ready report of metrics with intervals out; no stay is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines import challenge_scores, metrics
from pipelines.bootstrap import Estimates, estimate
from pipelines.cautions import few_events
from pipelines.evaluation_config import EvaluationConfig
from pipelines.merged_rows import MakeStatistic, estimate_rows
from pipelines.scores import StepScores


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
        not define, with the reason), `cautions` (what a reader must not take from the figures; a metric that rests on
        fewer than `config.min_events` patients of a kind holds `few_events` too), `disclaimer`.
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
        "cautions": judge.cautions,
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
        self.cautions: list[str] = []

    def output(self, k: int) -> Estimates:
        """Metrics of one output; of a class, against all others."""
        target = 0 if self.task.kind is TargetKind.MULTICLASS else k
        found = Estimates()
        for suffix, rows in self._occasions(target):
            if self.task.kind is TargetKind.REGRESSION:
                errors = metrics.number_errors(self.scores.label[rows, k], self.scores.risk[rows, k])
                self._add(found, errors, rows, suffix)
            else:
                self._add_probabilities(found, rows, k, suffix)
        if self.task.kind is TargetKind.BINARY:
            self._add_challenge_scores(found, k)
        self._warn(found, k, target)
        return found

    def classes(self) -> Estimates:
        """Metrics over all classes of a multiclass task."""
        found = Estimates()
        for suffix, rows in self._occasions(0):
            label = self.scores.label[rows, 0].astype(np.int64)
            self._add(found, metrics.class_errors(label, self.scores.risk[rows]), rows, suffix)
        for k in range(len(self.task.classes)):
            self._mark(found, k, 0)
        return found

    def _warn(self, found: Estimates, k: int, target: int) -> None:
        """Adds a caution where the output is judged on too few patients, and marks what is."""
        rows = judged_rows(self.scores, self.task, target)
        if few := few_events(self._kinds(rows, k), self.config.min_events):
            self.cautions.append(f"{self.task.output_names[k]}: {few}")
        self._mark(found, k, target)

    def _mark(self, found: Estimates, k: int, target: int) -> None:
        """Sets `few_events` in metrics of hours and of the whole that rest on too few patients."""
        suffixes = [f"_at_{hour:g}h" for hour in self.config.hours]
        for suffix, rows in self._occasions(target):
            if few_events(self._kinds(rows, k), self.config.min_events):
                for name, entry in found.metrics.items():
                    if name.endswith(suffix) if suffix else not name.endswith(tuple(suffixes)):
                        entry["few_events"] = True

    def _kinds(self, rows: Ints, k: int) -> tuple[int, ...]:
        """Patients of these rows with the event and without it; of a number all of them."""
        patient = self.patient_of_step[rows]
        if self.task.kind is TargetKind.REGRESSION:
            return (len(np.unique(patient)),)
        positive = self._positive(rows, k) > 0
        return tuple(len(np.unique(patient[kind])) for kind in (positive, ~positive))

    def _occasions(self, target: int) -> Iterator[tuple[str, Ints]]:
        """Suffix of the metrics' names and rows: where the task is judged, then at every hour."""
        yield "", judged_rows(self.scores, self.task, target)
        for hour in self.config.hours:
            yield f"_at_{hour:g}h", _with_label(self.scores, self.scores.rows_at(hour), target)

    def _add(self, found: Estimates, statistic: metrics.Statistic, rows: Ints, suffix: str = "") -> None:
        self._merge(found, estimate(statistic, self.patient_of_step[rows], self.config.resampling), rows, suffix)

    def _add_probabilities(self, found: Estimates, rows: Ints, k: int, suffix: str) -> None:
        alert_rates = () if suffix else self.config.alert_rates
        label, risk = self._positive(rows, k), self.scores.risk[rows, k]
        makers: tuple[MakeStatistic, ...] = (
            partial(metrics.discrimination, alert_rates=alert_rates),
            metrics.probability_errors,
            metrics.calibration_line,
        )
        for make in makers:
            estimates = estimate_rows(make, label, risk, self.patient_of_step[rows], self.config.resampling)
            self._merge(found, estimates, rows, suffix)

    def _merge(self, found: Estimates, estimates: Estimates, rows: Ints, suffix: str) -> None:
        found.merge(estimates, suffix=suffix, **({"stays": len(rows)} if suffix else {}))

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
