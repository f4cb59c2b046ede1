"""Baselines on per-channel summaries: they learn, see no future, repeat themselves and serve every kind of task."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.encoded import Encoded
from models.errors import ConfigError, DataError
from models.stay import Stays
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.baselines import LINEAR, TREES, BaselinesConfig, fit_baselines
from pipelines.evaluate import evaluate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.labels import StayOutcomes, StepTargets
from pipelines.summaries import training_rows

QUICK = BaselinesConfig(trees=20, threads=1)
DEATH = TaskSpec("death")
HOURLY = TaskSpec("sepsis", scope=LabelScope.STEP)


@dataclass(frozen=True)
class Piece:
    """What a part of a dataset gives to baselines."""

    stays: Stays
    patient_id: tuple[str, ...]
    encoded: Encoded
    outcomes: StayOutcomes
    label: np.ndarray
    targets: StepTargets


def piece(stays, seed, *, kind=TargetKind.BINARY, prefix="s"):
    """Stays of 1 to 6 steps and 8 features, of which the first two tell the outcome, a little noisily."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, size=stays)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    told = rng.normal(size=(stays, 8))
    features = (np.repeat(told, lengths, axis=0) + rng.normal(size=(offsets[-1], 8)) * 0.1).astype(np.float32)
    signal = told[:, 0] + 0.5 * told[:, 1]
    outcome = {
        TargetKind.BINARY: (rng.random(stays) < 1 / (1 + np.exp(1 - 2 * signal))).astype(float),
        TargetKind.MULTICLASS: np.digitize(signal + rng.normal(size=stays) * 0.3, [-0.5, 0.5]).astype(float),
        TargetKind.REGRESSION: 10 + 3 * signal,
    }[kind]
    label = np.repeat(outcome, lengths)[:, None]
    mean, scale = (10.0, 3.0) if kind is TargetKind.REGRESSION else (0.0, 1.0)
    target = StepTargets(((label - mean) / scale).astype(np.float32), np.ones_like(label, dtype=np.float32))
    names = tuple(f"{prefix}{i}" for i in range(stays))
    empty = np.zeros(0)
    columns = Stays(
        names, np.full(stays, 600), np.zeros(stays + 1, int), empty, empty, empty, (), np.zeros((stays, 0)), ()
    )
    steps = np.concatenate([np.arange(1, n + 1) * 60 for n in lengths])
    untimed = StayOutcomes(outcome, np.full(stays, np.nan))
    return Piece(columns, names, Encoded(features, offsets, steps), untimed, label, target)


def pieces(kind=TargetKind.BINARY):
    return [piece(n, seed, kind=kind, prefix=f"{seed}-") for seed, n in enumerate((600, 300, 400))]


def test_both_learn_and_stand_in_the_same_table_as_the_network():
    train, calibration, test = pieces()
    found = fit_baselines(train, calibration, test, DEATH, QUICK)
    assert list(found) == [LINEAR, TREES]
    for scores in found.values():
        report = evaluate(scores.test, DEATH, EvaluationConfig(bootstrap=30, hours=(2.0,)))
        assert report["stays"] == 400
        assert report["metrics"]["auroc"]["low"] > 0.7
        assert report["metrics"]["calibration_slope"]["value"] == pytest.approx(1.0, abs=0.35)
        assert scores.calibration.stay_id == calibration.stays.stay_id


def test_the_hold_outs_labels_change_no_score():
    train, calibration, test = pieces()
    turned = Piece(test.stays, test.patient_id, test.encoded, test.outcomes, 1 - test.label, test.targets)
    first, second = (fit_baselines(train, calibration, t, DEATH, QUICK) for t in (test, turned))
    for name in first:
        assert np.array_equal(first[name].test.risk, second[name].test.risk)


def test_the_same_seed_gives_the_same_scores():
    first, second = (fit_baselines(*pieces(), HOURLY, BaselinesConfig(trees=20, max_rows=500)) for _ in range(2))
    for name in first:
        assert np.array_equal(first[name].test.logit, second[name].test.logit)


def test_a_score_at_a_step_reads_that_steps_row_alone():
    train, calibration, test = pieces()
    changed = test.encoded.features.copy()
    last = test.encoded.step_offsets[1:] - 1
    changed[last] += 5.0
    later = Encoded(changed, test.encoded.step_offsets, test.encoded.time_min)
    other = Piece(test.stays, test.patient_id, later, test.outcomes, test.label, test.targets)
    before = np.setdiff1d(np.arange(len(changed)), last)
    for name, scores in fit_baselines(train, calibration, test, DEATH, QUICK).items():
        moved = fit_baselines(train, calibration, other, DEATH, QUICK)[name]
        assert np.array_equal(scores.test.risk[before], moved.test.risk[before])
        assert not np.array_equal(scores.test.risk[last], moved.test.risk[last])


def test_a_stay_task_trains_on_last_rows_and_a_step_task_on_a_bounded_sample():
    train = pieces()[0]
    stay = training_rows(train, DEATH, target=0, limit=10_000, seed=0)
    assert (len(stay.target), stay.of) == (600, 600)
    assert np.array_equal(stay.features, train.encoded.features[train.encoded.step_offsets[1:] - 1])
    train.label[0] = np.nan
    step = training_rows(train, HOURLY, target=0, limit=300, seed=0)
    assert (len(step.target), step.of) == (300, len(train.label) - 1)


def test_several_classes_are_told_apart():
    task = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b", "c"))
    train, calibration, test = pieces(TargetKind.MULTICLASS)
    last = test.encoded.step_offsets[1:] - 1
    for scores in fit_baselines(train, calibration, test, task, QUICK).values():
        risk = scores.test.risk[last]
        assert risk.sum(axis=1) == pytest.approx(np.ones(len(risk)))
        assert roc_auc_score(test.label[last, 0].astype(int), risk, multi_class="ovr") > 0.7


def test_numbers_come_back_in_their_unit():
    task = TaskSpec("days", kind=TargetKind.REGRESSION)
    train, calibration, test = pieces(TargetKind.REGRESSION)
    last = test.encoded.step_offsets[1:] - 1
    found = fit_baselines(train, calibration, test, task, QUICK, mean=10.0, scale=3.0)
    for scores in found.values():
        error = scores.test.risk[last, 0] - test.label[last, 0]
        assert np.sqrt(np.mean(error**2)) < 0.75 * test.label[last, 0].std()


def test_a_training_part_of_one_class_is_refused():
    train, calibration, test = pieces()
    train.targets.value[:] = 0.0
    with pytest.raises(DataError, match="all 2 classes"):
        fit_baselines(train, calibration, test, DEATH, QUICK)


@pytest.mark.parametrize("settings", [{"trees": 0}, {"leaves": 1}, {"penalty": 0.0}, {"max_rows": 0}])
def test_settings_that_cannot_hold_are_refused(settings):
    with pytest.raises(ConfigError, match="must be"):
        BaselinesConfig(**settings)
