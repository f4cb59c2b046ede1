"""Parts of a split in, scores of a logistic regression and of boosted trees out, to stand beside the network's.

Both read per-channel summaries of a stay so far (`pipelines.summaries`), are calibrated on the calibration
part as the network is, and read no notes. Their settings are fixed: nothing is tuned on any part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.errors import ConfigError, DataError
from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from pipelines.scores import MINUTES_PER_HOUR, StepScores
from pipelines.summaries import LabelledPart, Summaries, training_rows

LINEAR = "logistic_regression"
TREES = "lightgbm"
# Rows whose logits are computed at once: bounds the memory of a memory-mapped part.
_BLOCK = 50_000

Predictor = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class BaselinesConfig:
    """The models that stand beside the network.

    Args:
        enabled: whether they are fitted.
        max_rows: of a label an hour, at most this many rows are trained on.
        penalty: L2 penalty of the linear model, a row of the rarest class (of a number: a row); features are
            standardised.
        trees: number of trees.
        learning_rate: of the trees.
        leaves: of a tree.
        threads: CPU threads.
    """

    enabled: bool = True
    max_rows: int = 60_000
    penalty: float = 0.1
    trees: int = 200
    learning_rate: float = 0.05
    leaves: int = 15
    threads: int = 2

    def __post_init__(self) -> None:
        """Refuses settings that cannot hold."""
        if min(self.max_rows, self.trees, self.threads) < 1 or self.leaves < 2 or self.penalty <= 0:
            raise ConfigError(
                "baselines.max_rows, trees and threads must be at least 1, leaves at least 2 and penalty above 0, got "
                f"{self.max_rows}, {self.trees}, {self.threads}, {self.leaves} and {self.penalty}; correct them"
            )


_Fit = Callable[[Summaries, TaskSpec, BaselinesConfig, int], Predictor]


@dataclass(frozen=True)
class BaselineScores:
    """Scores of one baseline on the stays to calibrate on and on the hold-out."""

    calibration: StepScores
    test: StepScores


def fit_baselines(
    train: LabelledPart,
    calibration: LabelledPart,
    test: LabelledPart,
    task: TaskSpec,
    config: BaselinesConfig,
    *,
    seed: int = 0,
    mean: float = 0.0,
    scale: float = 1.0,
    folds: Ints | None = None,
) -> dict[str, BaselineScores]:
    """Fits both baselines on the training part and scores every time step of the other two.

    With folds the training part is what logits become risks on: each fold's are those of a fit without it, and the
    hold-out's are those of a fit on all.

    Args:
        train: what is learnt from.
        calibration: what logits become risks on.
        test: the hold-out.
        task: what is predicted.
        config: settings.
        seed: of the row sample and the trees.
        mean: of a regression target over the training part.
        scale: its standard deviation.
        folds: (n,) of the training stays, where the part to calibrate on is the training part.

    Raises:
        DataError: if the training part does not hold every class.
    """
    found = {}
    for name, fit in ((LINEAR, _fit_linear), (TREES, _fit_trees)):
        predictors = _fit_targets(fit, train, task, config, seed)
        own = _logits(predictors, calibration) if folds is None else _crossed(fit, train, task, config, seed, folds)
        logits = [own, _logits(predictors, test)]
        fitted = Calibration.fit(
            logits[0],
            calibration.label,
            time_h=_hours(calibration),
            stay_index=np.repeat(np.arange(len(calibration.encoded)), calibration.encoded.lengths),
            kind=task.kind,
            scope=task.scope,
            mean=mean,
            scale=scale,
        )
        scores = [part_scores(part, z, fitted) for part, z in zip((calibration, test), logits, strict=True)]
        found[name] = BaselineScores(*scores)
    return found


def _crossed(fit: _Fit, train: LabelledPart, task: TaskSpec, config: BaselinesConfig, seed: int, folds: Ints) -> Floats:
    """(steps, outputs) logits of every training stay, by a fit that never saw its fold."""
    logits = np.zeros((len(train.label), task.outputs))
    for fold in np.unique(folds):
        predictors = _fit_targets(fit, train, task, config, seed, stays=folds != fold)
        rows = np.flatnonzero(np.repeat(folds == fold, train.encoded.lengths))
        logits[rows] = _logits(predictors, train, rows)
    return logits


def _fit_targets(
    fit: _Fit,
    train: LabelledPart,
    task: TaskSpec,
    config: BaselinesConfig,
    seed: int,
    *,
    stays: NDArray[np.bool_] | None = None,
) -> list[Predictor]:
    predictors = []
    for k in range(task.targets):
        rows = training_rows(train, task, target=k, limit=config.max_rows, seed=seed, stays=stays)
        check_classes(rows, task, remedy="set baselines.enabled = false")
        predictors.append(fit(rows, task, config, seed))
    return predictors


def check_classes(rows: Summaries, task: TaskSpec, *, remedy: str) -> None:
    """Refuses rows that do not hold every class.

    Raises:
        DataError: with the remedy beside that of more stays.
    """
    classes = max(len(task.classes), 2)
    if task.kind is not TargetKind.REGRESSION and len(np.unique(rows.target)) < classes:
        raise DataError(
            f"training part must hold all {classes} classes, got {len(np.unique(rows.target))}; "
            f"train on more stays or {remedy}"
        )


def _fit_linear(rows: Summaries, task: TaskSpec, config: BaselinesConfig, _seed: int) -> Predictor:
    from sklearn.linear_model import LogisticRegression, Ridge  # slow to import, and needed here alone

    if task.kind is TargetKind.REGRESSION:
        ridge = Ridge(alpha=config.penalty * len(rows.target)).fit(rows.features, rows.target)
        return lambda features: np.asarray(ridge.predict(features), dtype=np.float64)[:, None]
    inverse = 1.0 / (config.penalty * np.unique(rows.target, return_counts=True)[1].min())
    model = LogisticRegression(C=inverse, max_iter=2000).fit(rows.features.astype(np.float64), rows.target)
    return lambda features: _columns(model.decision_function(features.astype(np.float64)))


def _fit_trees(rows: Summaries, task: TaskSpec, config: BaselinesConfig, seed: int) -> Predictor:
    model = fit_booster(rows, task, config, seed)
    return lambda features: _columns(np.asarray(model.predict(features, raw_score=True)))


def fit_booster(rows: Summaries, task: TaskSpec, config: BaselinesConfig, seed: int) -> Any:
    """LightGBM's booster of one target, or of all classes; rows weigh as they say."""
    import lightgbm  # slow to import, and needed here alone

    objective = {TargetKind.BINARY: "binary", TargetKind.MULTICLASS: "multiclass", TargetKind.REGRESSION: "l2"}
    settings = {
        "objective": objective[task.kind],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": max(5, min(50, len(rows.target) // rows.rows_a_stay // 20)) * rows.rows_a_stay,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "num_threads": config.threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        # Summaries are smooth: a quarter of the default bins costs nothing and takes a third of the time.
        "max_bin": 63,
        "verbosity": -1,
    }
    if task.kind is TargetKind.MULTICLASS:
        settings["num_class"] = len(task.classes)
    table = lightgbm.Dataset(rows.features, rows.target, weight=rows.weight)
    return lightgbm.train(settings, table, num_boost_round=config.trees)


def _columns(value: NDArray[Any]) -> Floats:
    logit = np.asarray(value, dtype=np.float64)
    return logit[:, None] if logit.ndim == 1 else logit


def _logits(predictors: list[Predictor], part: LabelledPart, rows: Ints | None = None) -> Floats:
    features = part.encoded.features
    chosen = np.arange(len(features)) if rows is None else rows
    blocks = (features[chosen[start : start + _BLOCK]] for start in range(0, len(chosen), _BLOCK))
    return np.concatenate([np.concatenate([p(block) for p in predictors], axis=1) for block in blocks])


def _hours(part: LabelledPart) -> Floats:
    return part.encoded.time_min / MINUTES_PER_HOUR


def part_scores(part: LabelledPart, logit: Floats, calibration: Calibration) -> StepScores:
    """Calibrated scores of a part's time steps beside their labels."""
    return StepScores(
        stay_id=part.stays.stay_id,
        patient_id=part.patient_id,
        step_offsets=part.encoded.step_offsets,
        time_min=part.encoded.time_min,
        logit=logit,
        risk=calibration.apply(logit, _hours(part)),
        label=part.label,
        onset_min=part.outcomes.time_min,
    )
