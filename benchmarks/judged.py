"""Scores of judged stays in; figures with intervals, paired differences, and what Event 2 is by chance alone out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.stay import Floats
from models.task import LabelScope, TaskSpec
from pipelines import challenge_scores
from pipelines.bootstrap import Resampling, draw_weights, estimate, interval
from pipelines.evaluate import evaluate, judged_rows, threshold_key
from pipelines.evaluation_config import EvaluationConfig
from pipelines.metrics import Statistic, discrimination
from pipelines.scores import StepScores

SHOWN = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept", "event1", "event2", "utility")
REDRAWS = 1000
_COLUMNS = ("time_min", "logit", "risk", "label")
# Each figure on all rows, and on every draw of the patients.
_Drawn = dict[str, tuple[float, Floats]]


@dataclass(frozen=True)
class Contender:
    """A model's scores of the judged stays.

    Args:
        scores: of every time step.
        threshold: (stays,) risk at or above which there is an alert; chosen on stays that the model is not judged on.
    """

    scores: StepScores
    threshold: Floats

    @classmethod
    def of(cls, scores: StepScores, thresholds: Mapping[str, float], task: TaskSpec) -> Contender:
        """With the threshold of the Challenge that the task's scope belongs to."""
        purpose = "event1" if task.scope is LabelScope.STAY else "utility"
        chosen = thresholds[threshold_key(purpose, task.output_names[0])]
        return cls(scores, np.full(len(scores), chosen))


def figures(contender: Contender, task: TaskSpec, settings: EvaluationConfig) -> dict[str, Any]:
    """Every figure with its interval over draws of patients; of a label a stay also Event 2 by chance alone."""
    scores = contender.scores
    report = evaluate(scores, task, replace(settings, hours=(), alert_rates=()))
    statistic, patient = _at_threshold(contender, task)
    known = report["metrics"] | estimate(statistic, patient, settings.resampling).metrics
    found: dict[str, Any] = {
        "stays": report["stays"],
        "events": report["events"],
        "metrics": {name: known[name] for name in SHOWN if name in known},
    }
    if task.scope is LabelScope.STAY:
        found["event2_redrawn"] = event2_redrawn(scores.risk[judged_rows(scores, task, 0), 0])
    return found


def event2_redrawn(risk: Floats, *, draws: int = REDRAWS, seed: int = 0) -> dict[str, float]:
    """Event 2 of a model whose risks are exactly right: outcomes are drawn from the risks themselves.

    Args:
        risk: (stays,) of the model.
        draws: how often the outcomes are drawn.
        seed: of the draws.

    Returns:
        `median` and `p95`, the 95th percentile: a calibrated model lies above it once in twenty times.
    """
    random, one = np.random.default_rng(seed), np.ones((1, len(risk)))
    labels = ((random.random(len(risk)) < risk).astype(np.float64) for _ in range(draws))
    values = np.array([challenge_scores.event2(label, risk)(one)["event2"][0] for label in labels])
    median, high = np.quantile(values, [0.5, 0.95])
    return {"median": float(median), "p95": float(high)}


def differences(
    contenders: Mapping[str, Contender], pairs: Sequence[tuple[str, str]], task: TaskSpec, resampling: Resampling
) -> list[dict[str, Any]]:
    """The first model's figure less the second's, both met by the same draws of patients.

    Args:
        contenders: by name, all of the same stays.
        pairs: names; a pair of which a model is not there is left out.
        task: what was predicted.
        resampling: how to draw.
    """
    drawn = {name: _drawn(contender, task, resampling) for name, contender in contenders.items()}
    return _gaps(drawn, pairs, resampling.level)


def mean_of_folds(
    folds: Sequence[Mapping[str, Contender]], pairs: Sequence[tuple[str, str]], task: TaskSpec, resampling: Resampling
) -> dict[str, Any]:
    """Every model's figures within each fold, averaged: the folds' calibrations are not held against each other.

    Args:
        folds: every fold's contenders by name.
        pairs: as of `differences`.
        task: what was predicted.
        resampling: how to draw; each fold's patients are drawn on their own.

    Returns:
        `models` and `differences`.
    """
    by_fold = [
        {
            name: _drawn(contender, task, replace(resampling, seed=resampling.seed + k))
            for name, contender in fold.items()
        }
        for k, fold in enumerate(folds)
    ]
    drawn: dict[str, _Drawn] = {}
    for name, of_first in by_fold[0].items():
        sides = {metric: [fold[name][metric] for fold in by_fold] for metric in of_first}
        drawn[name] = {
            m: (float(np.mean([v for v, _ in s])), np.mean([d for _, d in s], axis=0)) for m, s in sides.items()
        }
    models = {}
    for name, found in drawn.items():
        metrics = {
            metric: interval(metric, value, values, resampling.level) for metric, (value, values) in found.items()
        }
        models[name] = {"stays": sum(len(fold[name].scores) for fold in folds), "metrics": metrics}
    return {"models": models, "differences": _gaps(drawn, pairs, resampling.level)}


def pooled(folds: Sequence[Contender]) -> Contender:
    """The folds' stays together, each with the risk and the threshold that its own fold's model gave it."""
    all_scores = [fold.scores for fold in folds]
    steps = np.concatenate([np.diff(s.step_offsets) for s in all_scores])
    scores = StepScores(
        stay_id=tuple(i for s in all_scores for i in s.stay_id),
        patient_id=tuple(i for s in all_scores for i in s.patient_id),
        step_offsets=np.concatenate([[0], np.cumsum(steps)]).astype(np.int64),
        **{name: np.concatenate([getattr(s, name) for s in all_scores]) for name in _COLUMNS},
    )
    return Contender(scores, np.concatenate([fold.threshold for fold in folds]))


def write_last_steps(contenders: Mapping[str, Contender], path: Path) -> None:
    """Keeps every model's score of every stay's last step, on which a label a stay is judged."""
    columns: dict[str, Any] = {}
    for number, (name, contender) in enumerate(contenders.items()):
        scores, last = contender.scores, contender.scores.last_rows
        columns |= {f"{number}.{column}": getattr(scores, column)[last] for column in _COLUMNS}
        columns |= {f"{number}.name": name, f"{number}.threshold": contender.threshold}
        columns |= {f"{number}.stay_id": np.array(scores.stay_id), f"{number}.patient_id": np.array(scores.patient_id)}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part.npz")
    np.savez(beside, **columns)
    beside.replace(path)


def read_last_steps(path: Path) -> dict[str, Contender]:
    """What `write_last_steps` kept, as stays of one step."""
    with np.load(path) as kept:
        numbers = sorted({int(name.partition(".")[0]) for name in kept.files})
        return {str(kept[f"{n}.name"]): _one_step(kept, n) for n in numbers}


def _one_step(kept: Any, number: int) -> Contender:
    stay_id = tuple(str(i) for i in kept[f"{number}.stay_id"])
    scores = StepScores(
        stay_id=stay_id,
        patient_id=tuple(str(i) for i in kept[f"{number}.patient_id"]),
        step_offsets=np.arange(len(stay_id) + 1, dtype=np.int64),
        **{column: kept[f"{number}.{column}"] for column in _COLUMNS},
    )
    return Contender(scores, kept[f"{number}.threshold"])


def _gaps(drawn: Mapping[str, _Drawn], pairs: Sequence[tuple[str, str]], level: float) -> list[dict[str, Any]]:
    found = []
    for a, b in pairs:
        if a not in drawn or b not in drawn:
            continue
        metrics = {}
        for name, (value, values) in drawn[a].items():
            other, others = drawn[b][name]
            metrics[name] = interval(name, value - other, values - others, level)
        found.append({"of": a, "less": b, "metrics": metrics})
    return found


def _drawn(contender: Contender, task: TaskSpec, resampling: Resampling) -> _Drawn:
    """Each figure on all rows, and on every draw; draws are of all patients, so that every model shares them."""
    scores = contender.scores
    found: _Drawn = {}
    rows = judged_rows(scores, task, 0)
    label, risk, stay = scores.label[rows, 0], scores.risk[rows, 0], scores.stay_of_step[rows]
    ranked = (discrimination(label, risk), scores.patient_index[stay])
    for statistic, patient in (ranked, _at_threshold(contender, task)):
        blocks = [statistic(w) for w in draw_weights(patient, int(scores.patient_index.max()) + 1, resampling)]
        for name, value in statistic(np.ones((1, len(patient)))).items():
            found[name] = (float(value[0]), np.concatenate([block[name] for block in blocks]))
    return found


def _at_threshold(contender: Contender, task: TaskSpec) -> tuple[Statistic, Any]:
    """The Challenge's score of the alerts, and the patient of every row that it weighs."""
    scores = contender.scores
    if task.scope is LabelScope.STAY:
        rows = judged_rows(scores, task, 0)
        stay = scores.stay_of_step[rows]
        alert = (scores.risk[rows, 0] >= contender.threshold[stay]).astype(np.float64)
        return challenge_scores.event1(scores.label[rows, 0], alert), scores.patient_index[stay]
    decisions = challenge_scores.hourly_decisions(scores, 0)
    threshold = contender.threshold[decisions.rows][decisions.stay]
    # One threshold a decision: models of several folds alert at their own.
    relative = replace(decisions, risk=decisions.risk - threshold)
    return challenge_scores.utility(relative, 0.0), scores.patient_index[decisions.rows]
