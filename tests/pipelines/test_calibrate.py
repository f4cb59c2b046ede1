"""Calibration and uncertainty of a part: who is kept apart, which step counts, and that weighted events do no harm."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.calibration import CalibrationMethod
from models.errors import ConfigError, DataError
from models.record import from_plain
from models.task import LabelScope, TargetKind, TaskSpec
from models.uncertainty import Uncertainty
from pipelines.bootstrap import Resampling
from pipelines.calibrate import candidate_steps, fit_calibration, fit_uncertainty, kept_apart, with_calibration
from pipelines.calibration_config import CalibrationConfig
from pipelines.config import RunConfig
from pipelines.evaluate import evaluate
from pipelines.scores import StepScores
from pipelines.sources.simulator import simulate
from pipelines.train import train
from pipelines.uncertainty_figures import expected_coverage, uncertainty_figures, with_uncertainty
from tests.pipelines.small_line import TINY

STAY = TaskSpec("died")
STEP = TaskSpec("ill", scope=LabelScope.STEP)
LEVELS = (0.8, 0.9)
CONFIG = CalibrationConfig(conformal_share=0.4, conformal_levels=LEVELS)


def scores(patients, seed, *, steps=4, task=STAY, stays=1):
    """Stays whose risk grows with a hidden truth; with a label of the step, some steps of a stay are positive."""
    rng = np.random.default_rng(seed)
    n = patients * stays
    truth = np.repeat(rng.normal(-1.5, 1.5, n), steps) + rng.normal(0, 0.3, n * steps)
    drawn = (rng.random(n * steps) < 1 / (1 + np.exp(-truth))).astype(float)
    label = drawn if task is STEP else np.repeat(drawn[::steps], steps)
    return StepScores(
        stay_id=tuple(f"s{seed}-{i}" for i in range(n)),
        patient_id=tuple(f"p{seed}-{i // stays}" for i in range(n)),
        step_offsets=np.arange(n + 1) * steps,
        time_min=np.tile(np.arange(1, steps + 1) * 60, n),
        logit=2 * truth[:, None] + 1,
        risk=np.full((n * steps, 1), 0.5),
        label=label[:, None],
    )


def test_the_share_is_kept_apart_by_patient_whatever_the_order_and_the_others():
    patients = [f"p{i}" for i in range(4000) for _ in range(2)]
    apart = kept_apart(patients, CONFIG, "k")
    assert apart.mean() == pytest.approx(0.4, abs=0.03)
    assert np.array_equal(apart[::2], apart[1::2])
    assert np.array_equal(kept_apart(patients[::-1], CONFIG, "k"), apart[::-1])
    assert np.array_equal(kept_apart(patients[:100], CONFIG, "k"), apart[:100])
    other = kept_apart(patients, CONFIG, "other")
    assert 0.4 < np.mean(other == apart) < 0.65


def test_a_share_of_no_patient_or_of_all_has_an_interval_all_the_same():
    part = scores(400, 6)
    fitted = fit_calibration(part, STAY, CONFIG, key="k")
    served = with_calibration(part, fitted)
    uncertainty = fit_uncertainty(served, STAY, CONFIG, key="k")
    figures = uncertainty_figures(served, STAY, uncertainty, Resampling(200), key="k")["died"].metrics
    neither = figures["neither_share_0.9"]
    assert neither["value"] == neither["low"] == 0.0
    assert neither["high"] == pytest.approx(1 - 0.025 ** (1 / 400))
    covered = figures["conformal_coverage_event_0.9"]
    assert 0 < covered["low"] < covered["value"] < covered["high"] < 1


def test_auto_leaves_out_what_has_no_intercept_where_the_level_of_the_logits_is_another():
    config = replace(CONFIG, method=CalibrationMethod.AUTO)
    given = scores(1500, 5)
    given = replace(given, logit=(given.logit - 1) / 2)
    assert fit_calibration(given, STAY, config, key="k").method is CalibrationMethod.TEMPERATURE
    fitted = fit_calibration(given, STAY, config, key="k", shifted=True)
    assert fitted.method is CalibrationMethod.PLATT
    assert [c.method for c in fitted.compared] == ["platt", "beta", "isotonic"]


def test_calibration_and_label_sets_have_patients_of_their_own():
    given = scores(400, 1)
    apart = np.repeat(kept_apart(given.patient_id, CONFIG, "k"), 4)
    fitted = fit_calibration(given, STAY, CONFIG, key="k")
    known = with_calibration(given, fitted)
    uncertainty = fit_uncertainty(known, STAY, CONFIG, key="k")
    # What those who are kept apart had does not reach the calibration, and the other way round.
    swapped = replace(given, label=np.where(apart[:, None], 1 - given.label, given.label))
    assert fit_calibration(swapped, STAY, CONFIG, key="k") == fitted
    turned = replace(known, label=np.where(apart[:, None], known.label, 1 - known.label))
    assert fit_uncertainty(turned, STAY, CONFIG, key="k") == uncertainty
    assert sum(uncertainty.sets[0].patients) == apart[::4].sum()


def test_without_a_share_everybody_calibrates_and_nothing_is_promised():
    given = scores(100, 2)
    config = CalibrationConfig(conformal_share=0.0)
    fitted = fit_calibration(given, STAY, config, key="k")
    assert fit_uncertainty(given, STAY, config, key="k") is None
    assert fitted != fit_calibration(given, STAY, CONFIG, key="k")


def test_of_a_number_nobody_is_kept_apart():
    task = TaskSpec("days", TargetKind.REGRESSION)
    given = scores(60, 3)
    assert fit_uncertainty(given, task, CONFIG, key="k") is None
    everybody = fit_calibration(given, task, CalibrationConfig(conformal_share=0.0), key="k")
    assert fit_calibration(given, task, CONFIG, key="k") == everybody


def test_a_share_that_nobody_falls_into_is_refused():
    given = scores(3, 4)
    with pytest.raises(DataError, match="conformal_share = 0"):
        fit_uncertainty(given, STAY, CalibrationConfig(conformal_share=1e-9), key="k")


def test_which_step_counts_does_not_depend_on_labels_or_risks():
    given = scores(50, 5, task=STEP)
    other = replace(given, label=1 - given.label, risk=given.risk / 2)
    first, second = (candidate_steps(s, STEP, "k") for s in (given, other))
    assert np.array_equal(first.order, second.order)
    assert len(np.unique(first.order)) == 200
    last = candidate_steps(given, STAY, "k")
    assert np.array_equal(last.rows, given.last_rows)


@pytest.mark.parametrize("task", [STAY, STEP])
def test_on_a_hold_out_each_class_is_covered_as_promised(task):
    held = {True: [], False: []}
    for seed in range(25):
        part = scores(500, 100 + seed, task=task, stays=2)
        fitted = fit_calibration(part, task, CONFIG, key="k")
        uncertainty = fit_uncertainty(with_calibration(part, fitted), task, CONFIG, key="k")
        holdout = with_calibration(scores(500, 500 + seed, task=task, stays=2), fitted)
        found = uncertainty_figures(holdout, task, uncertainty, Resampling(20), key="k")[task.outcome].metrics
        for event, name in ((True, "event"), (False, "no_event")):
            held[event].append([found[f"conformal_coverage_{name}_{level:g}"]["value"] for level in LEVELS])
        assert found["abstain_share_0.9"]["value"] >= found["abstain_share_0.8"]["value"]
        assert 0 < found["interval_width"]["value"] < 0.5
    for values in held.values():
        error = 4 * np.std(values, axis=0) / np.sqrt(len(values))
        assert np.all(np.mean(values, axis=0) >= np.array(LEVELS) - error)
        assert np.all(np.mean(values, axis=0) <= np.array(LEVELS) + 0.02 + error)


@pytest.mark.parametrize("folds", [2, 4])
def test_where_one_member_calibrates_and_the_mean_of_all_is_served_no_class_is_covered_less_on_average(folds):
    covered = {"event": [], "no_event": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        part, fresh = scores(500, 1000 + seed), scores(500, 2000 + seed)
        # What members err by is their own: of one where it never saw the patient, of their mean in new patients.
        own, mean = (np.repeat(rng.normal(0, e, (500, 1)), 4, axis=0) for e in (1.5, 1.5 / np.sqrt(folds)))
        part, fresh = replace(part, logit=part.logit + own), replace(fresh, logit=fresh.logit + mean)
        fitted = fit_calibration(part, STAY, CONFIG, key="k")
        uncertainty = fit_uncertainty(with_calibration(part, fitted), STAY, CONFIG, key="k")
        inside = uncertainty.label_sets(with_calibration(fresh, fitted).risk[fresh.last_rows])[:, 0]
        died = fresh.label[fresh.last_rows, 0] == 1
        covered["event"].append(inside[died, :, 1].mean(axis=0))
        covered["no_event"].append(inside[~died, :, 0].mean(axis=0))
    for values in covered.values():
        error = 4 * np.std(values, axis=0) / np.sqrt(len(values))
        assert np.all(np.mean(values, axis=0) >= np.array(LEVELS) - error)


def test_the_coverage_of_one_model_lies_where_its_number_of_calibration_patients_lets_expect():
    within, means = [], []
    for seed in range(400):
        # Risks that are uniform in a class, so that what a bound covers in all new patients is the bound itself.
        rng = np.random.default_rng(seed)
        fitted = Uncertainty.fit(
            rng.random((120, 1)),
            (np.arange(120) < 40)[:, None].astype(float),
            patient_index=np.arange(120),
            order=np.zeros(120),
            levels=(0.9,),
        )
        (event,), no_event = fitted.sets[0].positive_from[0], fitted.sets[0].negative_to[0]
        expected = [expected_coverage(0.9, n, share=0.9) for n in fitted.sets[0].patients]
        found = (no_event, 1 - event)
        within.append([e["low"] <= c <= e["high"] for e, c in zip(expected, found, strict=True)])
        means.append([c - e["value"] for e, c in zip(expected, found, strict=True)])
    assert np.mean(within, axis=0) == pytest.approx([0.9, 0.9], abs=0.06)
    assert np.mean(means, axis=0) == pytest.approx([0, 0], abs=0.01)


def test_of_too_few_patients_for_a_level_all_are_expected_to_be_covered():
    assert expected_coverage(0.9, 8) == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert expected_coverage(0.9, 9)["low"] < 0.9 <= expected_coverage(0.9, 9)["value"]


def test_figures_of_a_class_that_is_absent_say_so():
    part = scores(200, 6)
    uncertainty = fit_uncertainty(part, STAY, CONFIG, key="k")
    alive = replace(part, label=np.zeros_like(part.label))
    found = uncertainty_figures(alive, STAY, uncertainty, Resampling(20), key="k")["died"]
    assert "conformal_coverage_event_0.9" in found.undefined
    assert "conformal_coverage_no_event_0.9" in found.metrics


def test_the_promises_stand_with_the_figures_of_the_hold_out():
    config = from_plain(RunConfig, {**TINY, "task": {"outcome": "died"}}, where="config")
    part = scores(200, 7)
    uncertainty = fit_uncertainty(part, STAY, CONFIG, key="t")
    figures = evaluate(part, STAY, config.evaluation)
    assert with_uncertainty(figures, part, None, config) == figures
    told = with_uncertainty(figures, part, uncertainty, config)
    entry = told["metrics"]["conformal_coverage_event_0.9"]
    assert entry["low"] <= entry["value"] <= entry["high"]
    expected = expected_coverage(0.9, uncertainty.sets[0].patients[1], share=config.evaluation.resampling.level)
    assert told["metrics"]["conformal_expected_event_0.9"] == expected
    assert told["outputs"]["died"]["abstain_share_0.8"] == told["metrics"]["abstain_share_0.8"]
    assert figures["metrics"].items() <= told["metrics"].items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conformal_share": 1.0}, "conformal_share"),
        ({"conformal_share": -0.1}, "conformal_share"),
        ({"conformal_levels": (0.9, 0.8)}, "ascending"),
        ({"strength": -1.0}, "strength"),
    ],
)
def test_settings_that_cannot_hold_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        CalibrationConfig(**change)


def test_a_curve_for_several_classes_is_refused_before_any_training():
    task = {"outcome": "place", "kind": "multiclass", "classes": ["a", "b"]}
    plain = {**TINY, "task": task, "calibration": {"method": "isotonic"}}
    with pytest.raises(ConfigError, match=r"calibration\.method"):
        from_plain(RunConfig, plain, where="config")


@pytest.mark.parametrize("method", ["none", "temperature"])
def test_a_class_weight_that_no_intercept_takes_back_is_refused(method):
    plain = {**TINY, "training": {**TINY["training"], "positive_weight": 5.0}, "calibration": {"method": method}}
    with pytest.raises(ConfigError, match=rf"calibration\.method must be platt, .*, got '{method}' and 5;"):
        from_plain(RunConfig, plain, where="config")
    from_plain(RunConfig, {**plain, "training": TINY["training"]}, where="config")


@pytest.mark.parametrize("method", ["platt", "auto"])
def test_events_that_weigh_five_times_in_training_leave_risks_calibrated(method, tmp_path):
    plain = {
        **TINY,
        "training": {**TINY["training"], "positive_weight": 5.0},
        "notes": {"enabled": False},
        "split": {"key": "w", "train": 0.25, "validation": 0.05, "calibration": 0.35, "test": 0.35},
        "calibration": {"method": method},
    }
    config = from_plain(RunConfig, plain, where="config")
    trained = train([simulate(stays=1500, seed=5, mean_hours=24.0)], config, folder=tmp_path, progress=False)
    last = trained.scores.last_rows
    risk, label = trained.scores.risk[last, 0], trained.scores.label[last, 0]
    raw = 1 / (1 + np.exp(-trained.scores.logit[last, 0]))
    assert raw.mean() > 1.8 * label.mean()
    # Both standard errors: that of the hold-out's events, and that of the events it was calibrated on.
    error = np.sqrt(2 * label.mean() * (1 - label.mean()) / len(label))
    assert risk.mean() == pytest.approx(label.mean(), abs=3.5 * error)
    line = LogisticRegression(C=1e9).fit(np.log(risk / (1 - risk))[:, None], label)
    assert 0.65 < line.coef_[0, 0] < 1.5
    assert trained.bundle.calibration.method is not CalibrationMethod.AUTO
    assert bool(trained.bundle.calibration.compared) == (method == "auto")
    assert trained.bundle.uncertainty is not None
    assert "conformal_coverage_no_event_0.9" in trained.metrics["metrics"]
