"""LightGBM with a search budget of its own: a training's parts in, settings found on folds of them and scores out.

The search reads what the networks read at a time step and sees no judged stay: it divides the patients of the
training, validation and calibration parts into folds. The trees themselves are fitted on the training part alone, and
their calibration on the calibration part, as the networks' are; with `ensemble.folds` everyone before the hold-out is
the training part, and the trees are calibrated fold by fold, as the networks are.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import optuna
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from models.calibration import Calibration
from models.encoded import Encoded
from models.stay import Floats, Ints
from models.task import LabelScope, TaskSpec
from pipelines.baselines import BaselineScores, part_scores
from pipelines.calibrate import fit_calibration, with_calibration
from pipelines.config import RunConfig
from pipelines.part_data import Dataset, PartData
from pipelines.split import Part, patient_fraction
from pipelines.summaries import training_rows

FOLDS = 5
_BLOCK = 50_000
_FIXED = {
    "objective": "binary",
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    "deterministic": True,
    "force_col_wise": True,
    # Folds are binned once for all trials, whatever min_data_in_leaf a trial has.
    "feature_pre_filter": False,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Found:
    """The best settings of a search.

    Args:
        settings: LightGBM's.
        rounds: number of trees.
        trials: configurations that were tried, the baseline's own the first of them.
        auroc: mean over the folds.
        auprc: likewise.
        baseline: the same two figures of the baseline's own settings.
        seconds: that the search took.
    """

    settings: dict[str, float]
    rounds: int
    trials: int
    auroc: float
    auprc: float
    baseline: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class _Fold:
    train: lightgbm.Dataset
    features: Any
    label: Floats


def search(data: Dataset, config: RunConfig, trials: int, *, title: str) -> Found:
    """Tries so many configurations; the best has the highest sum of AUROC and AUPRC, each a mean over the folds.

    Args:
        data: the encoded parts of a division; the hold-out is not read.
        config: of the run.
        trials: configurations, one at least.
        title: begins the progress lines.
    """
    began = time.monotonic()
    folds, stays = _folds(data, config)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(_baseline(config, stays))

    def objective(trial: optuna.Trial) -> float:
        settings, rounds = _suggested(trial)
        found = np.mean([_judge(fold, settings, rounds, config) for fold in folds], axis=0)
        trial.set_user_attr("figures", {"auroc": float(found[0]), "auprc": float(found[1])})
        place = f"{title}: trees, configuration {trial.number + 1} of {trials}"
        print(f"{place}: AUROC {found[0]:.4f}, AUPRC {found[1]:.4f}", file=sys.stderr, flush=True)
        return float(found.sum())

    study.optimize(objective, n_trials=trials)
    best, first = study.best_trial, study.trials[0].user_attrs["figures"]
    settings, rounds = _suggested(optuna.trial.FixedTrial(best.params))
    seconds = time.monotonic() - began
    return Found(settings, rounds, len(study.trials), **best.user_attrs["figures"], baseline=first, seconds=seconds)


def searched_trees(data: Dataset, config: RunConfig, found: Found) -> BaselineScores:
    """Fits the found settings on the training part; scores the stays to calibrate on and the hold-out, calibrated."""
    task = config.task
    train, calibration, test = data.parts[Part.TRAIN], data.calibration, data.parts[Part.TEST]

    def fit(stays: NDArray[np.bool_] | None = None) -> lightgbm.Booster:
        limit = config.baselines.max_rows
        rows = training_rows(train, task, target=0, limit=limit, seed=config.seed, stays=stays)
        table = lightgbm.Dataset(rows.features, rows.target)
        return lightgbm.train(_settings(found.settings, config), table, num_boost_round=found.rounds)

    booster = fit()
    logits = _logits(booster, calibration.encoded)
    for fold in range(config.ensemble.folds):
        left = data.stays_left_out(fold)
        steps = np.repeat(left, calibration.encoded.lengths)
        logits[steps] = _logits(fit(~left), calibration.encoded.select(np.flatnonzero(left)))
    raw = part_scores(calibration, logits, Calibration.identity(task.kind, 1))
    fitted = fit_calibration(raw, task, config.calibration, key=config.split.key)
    return BaselineScores(with_calibration(raw, fitted), part_scores(test, _logits(booster, test.encoded), fitted))


def _suggested(trial: optuna.trial.BaseTrial) -> tuple[dict[str, float], int]:
    settings = {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 200, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.05, 1.0, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.01, 100.0, log=True),
    }
    return settings, trial.suggest_int("rounds", 50, 1000, log=True)


def _baseline(config: RunConfig, rows: int) -> dict[str, float]:
    """The settings of `pipelines.baselines`, as a trial."""
    return {
        "learning_rate": config.baselines.learning_rate,
        "num_leaves": config.baselines.leaves,
        "min_data_in_leaf": max(5, min(50, rows // 20)),
        "feature_fraction": 0.3,
        "lambda_l2": 1.0,
        "rounds": config.baselines.trees,
    }


def _settings(found: dict[str, float], config: RunConfig) -> dict[str, Any]:
    return {**_FIXED, **found, "seed": config.seed, "num_threads": config.baselines.threads}


def _folds(data: Dataset, config: RunConfig) -> tuple[list[_Fold], int]:
    """The patients who are not judged in folds, each with the others as its training side; and the number of rows."""
    wanted = [Part.TRAIN]
    if not config.ensemble.folds:
        # The calibration part may hold the validation part.
        wanted += [Part.CALIBRATION] + [Part.VALIDATION] * (not config.calibration.include_validation)
    parts = [data.parts[part] for part in wanted]
    picked = [_labelled(part, config.task) for part in parts]
    share = min(1.0, config.baselines.max_rows / sum(len(rows) for rows in picked))
    random = np.random.default_rng(0)
    kept = [np.sort(random.choice(rows, round(share * len(rows)), replace=False)) for rows in picked]
    features = np.concatenate([part.encoded.features[rows] for part, rows in zip(parts, kept, strict=True)])
    label = np.concatenate([part.label[rows, 0] for part, rows in zip(parts, kept, strict=True)])
    fold = np.concatenate([_fold_of(part)[rows] for part, rows in zip(parts, kept, strict=True)])
    found = []
    for k in range(FOLDS):
        table = lightgbm.Dataset(features[fold != k], label[fold != k], params=_FIXED, free_raw_data=False)
        found.append(_Fold(table, features[fold == k], label[fold == k]))
    return found, len(label)


def _labelled(part: PartData, task: TaskSpec) -> Ints:
    """Rows that a baseline may learn from: every labelled stay's last, or every labelled one."""
    rows = part.encoded.step_offsets[1:] - 1 if task.scope is LabelScope.STAY else np.arange(len(part.label))
    return np.asarray(rows[~np.isnan(part.label[rows, 0])], dtype=np.int64)


def _fold_of(part: PartData) -> Ints:
    """(steps,) the fold of every time step's patient."""
    fold = np.array([int(patient_fraction("tree-search", p) * FOLDS) for p in part.patient_id], dtype=np.int64)
    return np.repeat(fold, part.encoded.lengths)


def _judge(fold: _Fold, settings: dict[str, float], rounds: int, config: RunConfig) -> tuple[float, float]:
    booster = lightgbm.train({**_settings(settings, config), "seed": 0}, fold.train, num_boost_round=rounds)
    risk = np.asarray(booster.predict(fold.features))
    return float(roc_auc_score(fold.label, risk)), float(average_precision_score(fold.label, risk))


def _logits(booster: lightgbm.Booster, encoded: Encoded) -> Floats:
    """(steps, 1) of every time step, block by block as features may lie on disk."""
    features = encoded.features
    blocks = [features[start : start + _BLOCK] for start in range(0, len(features), _BLOCK)]
    return np.concatenate([np.asarray(booster.predict(b, raw_score=True)) for b in blocks])[:, None].astype(np.float64)
