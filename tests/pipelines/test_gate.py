"""The gate refuses a worse, a badly calibrated, an undecidable and a damaged candidate, and says by which check."""

from dataclasses import replace

import numpy as np
import pytest

from models.errors import ConfigError
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.gate import GateCheck, GateRefusedError, GateVerdict, holdout_checks, paired_checks, same_task_check
from pipelines.retrain_config import GateConfig, RetrainConfig
from pipelines.scores import StepScores

TASK = TaskSpec("death")
HORIZONS = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0, 12.0))
CONFIG = GateConfig(bootstrap=200)


def _holdout(count=1500, *, outputs=1, steps=2, seed=3):
    """Stays whose true logit is known, each with `steps` steps; the label is drawn from the true risk."""
    rng = np.random.default_rng(seed)
    logit = np.repeat(rng.normal(-1.5, 1.5, size=(count, 1)), outputs, axis=1)
    label = (rng.random((count, outputs)) < _risk(logit)).astype(np.float64)
    return StepScores(
        stay_id=tuple(f"s{i}" for i in range(count)),
        patient_id=tuple(f"p{i // 2}" for i in range(count)),
        step_offsets=np.arange(0, count * steps + 1, steps),
        time_min=np.tile(np.arange(steps) * 60, count),
        logit=np.repeat(logit, steps, axis=0),
        risk=np.repeat(_risk(logit), steps, axis=0),
        label=np.repeat(label, steps, axis=0),
    )


def _risk(logit):
    return 1.0 / (1.0 + np.exp(-logit))


def _with_logit(scores, logit):
    return replace(scores, logit=logit, risk=_risk(logit))


def _failed(checks):
    return {check.name for check in checks if not check.passed}


def test_a_calibrated_candidate_with_enough_events_passes_without_a_champion():
    checks = holdout_checks(_holdout(), TASK, CONFIG)
    assert {c.name for c in checks} == {"events", "death/calibration_slope", "death/calibration_intercept"}
    assert _failed(checks) == set()


def test_a_candidate_as_good_as_the_champion_passes():
    scores = _holdout()
    checks = paired_checks(scores, scores, TASK, CONFIG)
    assert [c.name for c in checks] == ["death/auprc_difference_low", "death/auroc_difference_low"]
    assert _failed(checks) == set()
    assert all(c.value == 0.0 for c in checks)


def test_a_candidate_whose_lower_bound_falls_below_the_margin_is_refused():
    champion = _holdout()
    rng = np.random.default_rng(0)
    candidate = _with_logit(champion, champion.logit + rng.normal(0.0, 2.0, size=champion.logit.shape))
    checks = paired_checks(candidate, champion, TASK, CONFIG)
    assert _failed(checks) == {"death/auprc_difference_low", "death/auroc_difference_low"}
    assert all(c.value < -0.01 for c in checks)
    assert _failed(paired_checks(champion, candidate, TASK, CONFIG)) == set()


def test_the_margin_decides():
    champion = _holdout()
    rng = np.random.default_rng(0)
    candidate = _with_logit(champion, champion.logit + rng.normal(0.0, 2.0, size=champion.logit.shape))
    lenient = replace(CONFIG, auroc_margin=-1.0, auprc_margin=-1.0)
    assert _failed(paired_checks(candidate, champion, TASK, lenient)) == set()


def test_every_horizon_is_judged():
    scores = _holdout(outputs=2)
    names = {
        c.name for c in (*holdout_checks(scores, HORIZONS, CONFIG), *paired_checks(scores, scores, HORIZONS, CONFIG))
    }
    assert {"sepsis_6h/calibration_slope", "sepsis_12h/calibration_slope"} < names
    assert {"sepsis_6h/auroc_difference_low", "sepsis_12h/auprc_difference_low"} < names


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: 2.0 * x, {"death/calibration_slope"}),
        (lambda x: 0.5 * x, {"death/calibration_slope"}),
        (lambda x: x + 1.5, {"death/calibration_intercept"}),
    ],
    ids=["overconfident", "underconfident", "shifted"],
)
def test_a_candidate_that_is_not_calibrated_is_refused(change, expected):
    scores = _holdout()
    failed = _failed(holdout_checks(_with_logit(scores, change(scores.logit)), TASK, CONFIG))
    assert expected <= failed <= {"death/calibration_slope", "death/calibration_intercept"}


def test_too_few_events_are_refused_with_their_number():
    checks = holdout_checks(_holdout(40), TASK, CONFIG)
    events = next(c for c in checks if c.name == "events")
    assert not events.passed
    assert events.value < 50
    assert events.bound == "at least 50"


def test_a_hold_out_of_one_class_is_refused_and_not_defined():
    scores = _holdout(60)
    alive = replace(scores, label=np.zeros_like(scores.label))
    checks = (*holdout_checks(alive, TASK, CONFIG), *paired_checks(alive, alive, TASK, CONFIG))
    assert all(not c.passed for c in checks)
    assert {c.value for c in checks if c.name != "events"} == {None}


def test_models_of_other_tasks_are_not_compared():
    assert same_task_check(TASK, replace(TASK, description="in other words")).passed
    other = same_task_check(TASK, TaskSpec("readmission"))
    assert not other.passed
    assert "task.outcome" in other.note


def test_several_classes_are_judged_together():
    task = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b", "c"))
    rng = np.random.default_rng(1)
    logit = rng.normal(size=(900, 3))
    risk = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    label = np.array([rng.choice(3, p=p) for p in risk], dtype=np.float64)[:, None]
    ids = tuple(str(i) for i in range(900))
    scores = StepScores(ids, ids, np.arange(901), np.zeros(900, dtype=np.int64), logit, risk, label)
    assert _failed((*holdout_checks(scores, task, CONFIG), *paired_checks(scores, scores, task, CONFIG))) == set()


def test_a_number_is_judged_by_its_error():
    task = TaskSpec("los", kind=TargetKind.REGRESSION, unit="d")
    rng = np.random.default_rng(1)
    truth = rng.normal(5.0, 2.0, size=(600, 1))
    ids = tuple(str(i) for i in range(600))
    good = StepScores(
        ids, ids, np.arange(601), np.zeros(600, dtype=np.int64), truth, truth, truth + rng.normal(size=truth.shape)
    )
    bad = replace(good, risk=good.risk + rng.normal(size=truth.shape))
    assert _failed((*holdout_checks(good, task, CONFIG), *paired_checks(good, good, task, CONFIG))) == set()
    assert _failed(paired_checks(bad, good, task, CONFIG)) == {"los/rmse_increase_high"}
    assert _failed(paired_checks(good, bad, task, CONFIG)) == set()


def test_the_verdict_names_every_check_that_failed_and_its_bound():
    checks = (
        GateCheck("events", False, 12.0, "at least 50"),
        GateCheck("death/calibration_slope", True, 1.0, "within 0.8 and 1.25"),
        GateCheck("artifact", False, None, "digests and golden scores hold", "weights differ"),
    )
    verdict = GateVerdict("models:/icu/4", "models:/icu/3", checks)
    assert not verdict.passed
    assert verdict.summary == (
        "refused, compared with models:/icu/3: events 12 (at least 50); "
        "artifact not defined (digests and golden scores hold): weights differ"
    )
    assert verdict.to_plain()["checks"][0] == {
        "name": "events",
        "passed": False,
        "value": 12.0,
        "bound": "at least 50",
        "note": "",
    }
    assert "models:/icu/4 must pass the gate" in str(GateRefusedError(verdict))


def test_a_verdict_whose_checks_all_hold_passes():
    verdict = GateVerdict("models:/icu/1", None, (GateCheck("events", True, 60.0, "at least 50"),))
    assert verdict.passed
    assert verdict.summary == "passed all 1 checks, no champion to compare with"


@pytest.mark.parametrize(
    "changes",
    [
        {"auroc_margin": -2.0},
        {"auprc_margin": float("nan")},
        {"min_events": 0},
        {"bootstrap": 10},
        {"slope": (1.1, 1.2)},
        {"slope": (0.8, 0.9)},
        {"level": 1.0},
        {"rmse_margin": -0.1},
        {"max_intercept": 0.0},
    ],
)
def test_limits_that_cannot_hold_are_refused(changes):
    with pytest.raises(ConfigError, match=r"retrain\.gate"):
        GateConfig(**changes)


@pytest.mark.parametrize(
    "changes", [{"source": ""}, {"cohort": ""}, {"alias": "challenger"}, {"alias": "a b"}, {"lease_s": 0.5}]
)
def test_a_job_that_cannot_run_is_refused(changes):
    with pytest.raises(ConfigError, match="retrain"):
        RetrainConfig(**{"source": "synthetic", "cohort": "cohorts/a", **changes})
