"""Two models' scores of one hold-out in, a verdict out: every check with its value and its bound.

A candidate passes if it is not worse than the champion by more than a margin (lower bound of the paired
difference), the hold-out holds enough events, its risks are calibrated, and its artifact is what was
registered. Without a champion only the other checks stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import load_artifact
from models.errors import ArtifactError, DataError, RefusedError
from models.scorer import Scorer
from models.stay import Floats
from models.task import TargetKind, TaskSpec
from pipelines.evaluate import count_events, judged_rows
from pipelines.metrics import calibration_line, number_errors
from pipelines.paired import paired_difference
from pipelines.retrain_config import GateConfig
from pipelines.scores import StepScores


@dataclass(frozen=True)
class GateCheck:
    """One question and its answer.

    Args:
        name: what was asked.
        passed: whether it holds.
        value: what was found; None where it could not be computed.
        bound: what was asked for, in words.
        note: what else a reader should know.
    """

    name: str
    passed: bool
    value: float | None
    bound: str
    note: str = ""

    def line(self) -> str:
        """The check in words."""
        found = "not defined" if self.value is None else f"{self.value:.4g}"
        words = f"{self.name} {found} ({self.bound})"
        return f"{words}: {self.note}" if self.note else words


@dataclass(frozen=True)
class GateVerdict:
    """Every check of a candidate.

    Args:
        candidate: address of the version that was judged.
        champion: address of the version it was compared with; None without one.
        checks: all of them, passed or not.
    """

    candidate: str
    champion: str | None
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """The verdict in one line."""
        failed = [check.line() for check in self.checks if not check.passed]
        against = f"compared with {self.champion}" if self.champion else "no champion to compare with"
        if failed:
            return f"refused, {against}: " + "; ".join(failed)
        return f"passed all {len(self.checks)} checks, {against}"

    def to_plain(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "passed": self.passed,
            "summary": self.summary,
            "candidate": self.candidate,
            "champion": self.champion,
            "checks": [
                {"name": c.name, "passed": c.passed, "value": c.value, "bound": c.bound, "note": c.note}
                for c in self.checks
            ],
        }


class GateRefusedError(RefusedError):
    """Raised when a version does not pass the gate; it stays what it was.

    Args:
        verdict: every check.
    """

    def __init__(self, verdict: GateVerdict) -> None:
        self.verdict = verdict
        super().__init__(
            f"{verdict.candidate} must pass the gate, got: {verdict.summary}; "
            "it stays challenger, train it on more or other data"
        )


def load_checked(folder: Path, digest: str) -> tuple[Scorer | None, GateCheck]:
    """The model in a folder, and whether its digests and golden scores hold; None where they do not."""
    bound = "digests and golden scores hold"
    try:
        return load_artifact(folder, expected_digest=digest), GateCheck("artifact", True, 1.0, bound)
    except ArtifactError as error:
        return None, GateCheck("artifact", False, 0.0, bound, str(error))


def holdout_checks(candidate: StepScores, task: TaskSpec, config: GateConfig) -> tuple[GateCheck, ...]:
    """Whether the hold-out can tell, and whether the candidate is calibrated on it."""
    events = count_events(candidate, task)
    enough = GateCheck("events", events >= config.min_events, events, f"at least {config.min_events}")
    return (enough, *_calibration_checks(candidate, task, config))


def paired_checks(
    candidate: StepScores, champion: StepScores, task: TaskSpec, config: GateConfig
) -> tuple[GateCheck, ...]:
    """Whether the candidate is not worse than the champion, by the paired difference of every output."""
    if task.kind is TargetKind.REGRESSION:
        return (_paired_error(candidate, champion, task, config),)
    outputs = task.output_names if task.kind is TargetKind.BINARY else (task.outcome,)
    margins = {"auprc": config.auprc_margin, "auroc": config.auroc_margin}
    return tuple(
        _paired_check(candidate, champion, task, config, metric=metric, margin=margin, output=k, name=name)
        for k, name in enumerate(outputs)
        for metric, margin in margins.items()
    )


def same_task_check(candidate: TaskSpec, champion: TaskSpec) -> GateCheck:
    """Whether two models predict the same, so that a comparison means something."""
    facts = ("outcome", "kind", "scope", "horizons_h", "after_event", "classes")
    differing = [name for name in facts if getattr(candidate, name) != getattr(champion, name)]
    note = f"task.{', task.'.join(differing)} differ; register it under another name" if differing else ""
    return GateCheck("same_task", not differing, float(not differing), "candidate and champion predict the same", note)


def _paired_check(
    candidate: StepScores,
    champion: StepScores,
    task: TaskSpec,
    config: GateConfig,
    *,
    metric: str,
    margin: float,
    output: int,
    name: str,
) -> GateCheck:
    title, bound = f"{name}/{metric}_difference_low", f"at least {margin:g}"
    try:
        found = paired_difference(
            candidate,
            champion,
            metric,
            task=task,
            level=config.level,
            draws=config.bootstrap,
            seed=config.seed,
            output=output,
        )
    except DataError as error:
        return GateCheck(title, False, None, bound, str(error))
    note = f"difference {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
    return GateCheck(title, found["low"] >= margin, found["low"], bound, note)


def _paired_error(candidate: StepScores, champion: StepScores, task: TaskSpec, config: GateConfig) -> GateCheck:
    """For a number: the upper bound of the difference in error, as a share of the champion's error."""
    name, bound = f"{task.outcome}/rmse_increase_high", f"at most {config.rmse_margin:g} of the champion's"
    try:
        found = paired_difference(
            candidate, champion, "rmse", task=task, level=config.level, draws=config.bootstrap, seed=config.seed
        )
    except DataError as error:
        return GateCheck(name, False, None, bound, str(error))
    rows = judged_rows(champion, task, 0)
    error_of = number_errors(champion.label[rows, 0], champion.risk[rows, 0])(np.ones((1, len(rows))))["rmse"][0]
    share = found["high"] / float(error_of) if error_of > 0 else np.inf * np.sign(found["high"])
    share = 0.0 if np.isnan(share) else float(share)
    return GateCheck(name, share <= config.rmse_margin, share, bound)


def _calibration_checks(scores: StepScores, task: TaskSpec, config: GateConfig) -> list[GateCheck]:
    checks = []
    for name, label, risk in _judged(scores, task):
        low, high = config.slope
        if task.kind is TargetKind.REGRESSION:
            slope, intercept = _number_line(label, risk), 0.0
        else:
            line = calibration_line(label, risk)(np.ones((1, len(label)))) if len(label) else {}
            slope, intercept = (float(line[f"calibration_{k}"][0]) if line else np.nan for k in ("slope", "intercept"))
        checks.append(_within(f"{name}/calibration_slope", slope, low, high))
        if task.kind is not TargetKind.REGRESSION:
            limit = config.max_intercept
            checks.append(_within(f"{name}/calibration_intercept", intercept, -limit, limit))
    return checks


def _judged(scores: StepScores, task: TaskSpec) -> list[tuple[str, Floats, Floats]]:
    """Name, labels and risks of every output; all classes together for several classes."""
    if task.kind is TargetKind.MULTICLASS:
        rows = judged_rows(scores, task, 0)
        truth = scores.label[rows, :1] == np.arange(task.outputs)
        return [(task.outcome, truth.astype(np.float64).ravel(), scores.risk[rows].ravel())]
    found = []
    for k, name in enumerate(task.output_names):
        rows = judged_rows(scores, task, k)
        found.append((name, scores.label[rows, k], scores.risk[rows, k]))
    return found


def _number_line(label: Floats, predicted: Floats) -> float:
    """Slope of the least-squares line of the label over the predicted number; NaN where nothing varies."""
    spread = predicted - predicted.mean() if len(predicted) else predicted
    total = float(spread @ spread)
    return float(spread @ label) / total if total > 0 else np.nan


def _within(name: str, value: float, low: float, high: float) -> GateCheck:
    found = float(value) if np.isfinite(value) else None
    return GateCheck(name, found is not None and low <= found <= high, found, f"within {low:g} and {high:g}")
