"""The paired difference: same draws for both models, any order of stays, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.errors import DataError
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.evaluate import evaluate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.paired import paired_difference
from pipelines.scores import StepScores

TASK = TaskSpec("death")


def holdout(noise, stays=400, seed=0):
    """Two steps a stay; the noise decides how good the model is."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, size=stays)
    label = np.repeat((rng.random(stays) < 1 / (1 + np.exp(-truth))).astype(float), 2)[:, None]
    logit = np.repeat(truth + np.random.default_rng(seed + 1).normal(size=stays) * noise, 2)[:, None]
    names = tuple(f"s{i}" for i in range(stays))
    patients = tuple(f"p{i // 2}" for i in range(stays))
    time_min = np.tile([60, 120], stays)
    return StepScores(names, patients, np.arange(stays + 1) * 2, time_min, logit, 1 / (1 + np.exp(-logit)), label)


@pytest.mark.parametrize(("metric", "reference"), [("auroc", roc_auc_score), ("auprc", average_precision_score)])
def test_the_value_is_the_difference_of_the_metrics(metric, reference):
    good, poor = holdout(0.1), holdout(2.0)
    last = slice(1, None, 2)
    found = paired_difference(good, poor, metric, task=TASK, draws=200)
    expected = reference(good.label[last, 0], good.risk[last, 0]) - reference(poor.label[last, 0], poor.risk[last, 0])
    assert found["value"] == pytest.approx(expected)
    assert 0 < found["low"] < found["value"] < found["high"]


def test_a_model_differs_from_itself_by_nothing_at_all():
    scores = holdout(1.0)
    assert paired_difference(scores, scores, "auroc", task=TASK, draws=50) == {"value": 0, "low": 0, "high": 0}


def test_pairing_narrows_the_interval_of_two_models_alike():
    one = holdout(1.0)
    other = replace(one, risk=one.risk * 0.98 + 0.02 * np.random.default_rng(5).random(one.risk.shape))
    found = paired_difference(one, other, "auroc", task=TASK, draws=300)
    alone = evaluate(one, TASK, EvaluationConfig(bootstrap=300, hours=()))["metrics"]["auroc"]
    assert found["high"] - found["low"] < 0.3 * (alone["high"] - alone["low"])


def test_the_order_of_stays_does_not_matter():
    good, poor = holdout(0.1), holdout(2.0)
    turned = poor.select(np.arange(400)[::-1])
    straight = paired_difference(good, poor, "auprc", task=TASK, draws=100)
    assert paired_difference(good, turned, "auprc", task=TASK, draws=100) == pytest.approx(straight)


def test_models_on_different_grids_are_compared_stay_by_stay():
    good = holdout(0.1)
    rows = good.last_rows
    coarse = StepScores(
        good.stay_id,
        good.patient_id,
        np.arange(401),
        good.time_min[rows],
        good.logit[rows],
        good.risk[rows],
        good.label[rows],
    )
    assert paired_difference(good, coarse, "auroc", task=TASK, draws=50) == {"value": 0, "low": 0, "high": 0}


def test_step_tasks_and_several_classes_are_compared_too():
    good, poor = holdout(0.1), holdout(2.0)
    step = TaskSpec("death", scope=LabelScope.STEP)
    assert paired_difference(good, poor, "auroc", task=step, draws=50)["low"] > 0
    classes = TaskSpec("death", kind=TargetKind.MULTICLASS, classes=("no", "yes"))
    both = [
        replace(s, logit=np.hstack([-s.logit, s.logit]), risk=np.hstack([1 - s.risk, s.risk])) for s in (good, poor)
    ]
    macro = paired_difference(*both, "auroc", task=classes, draws=50)
    assert macro == pytest.approx(paired_difference(good, poor, "auroc", task=TASK, draws=50))


def test_errors_of_predicted_numbers_are_compared():
    days = TaskSpec("days", kind=TargetKind.REGRESSION)
    scores = holdout(1.0)
    worse = replace(scores, risk=scores.risk + 1.0)
    found = paired_difference(scores, worse, "rmse", task=days, draws=50)
    assert found["low"] <= found["value"] <= found["high"] < 0
    assert paired_difference(worse, scores, "mae", task=days, draws=50)["low"] > 0


def test_other_stays_or_other_patients_are_refused():
    scores = holdout(1.0)
    with pytest.raises(DataError, match="one hold-out"):
        paired_difference(scores, scores.select(np.arange(399)), "auroc", task=TASK)
    renamed = replace(scores, patient_id=scores.stay_id)
    with pytest.raises(DataError, match="one hold-out"):
        paired_difference(scores, renamed, "auroc", task=TASK)


def test_other_metrics_numbers_and_one_class_are_refused():
    scores = holdout(1.0)
    with pytest.raises(DataError, match="metric must be one of"):
        paired_difference(scores, scores, "brier", task=TASK)
    with pytest.raises(DataError, match="metric must be one of"):
        paired_difference(scores, scores, "auroc", task=TaskSpec("days", kind=TargetKind.REGRESSION))
    with pytest.raises(DataError, match="both classes"):
        paired_difference(replace(scores, label=scores.label * 0), scores, "auroc", task=TASK, draws=30)
