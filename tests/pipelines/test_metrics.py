"""Metrics against scikit-learn, scipy-free closed forms and weights that stand for repeated rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from pipelines import metrics

ONE = np.ones((1, 400))


def example(seed, rows=400, *, digits=2):
    """Labels and risks with many ties, and whole-numbered weights of a draw."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.0, 1.5, size=rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    risk = np.round(np.clip(1 / (1 + np.exp(-logit - rng.normal(size=rows))), 0.01, 0.99), digits)
    return label, risk, np.bincount(rng.integers(rows, size=rows), minlength=rows).astype(float)[None]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), digits=st.integers(1, 6))
def test_discrimination_equals_scikit_learn_with_ties_and_weights(seed, digits):
    label, risk, weight = example(seed, digits=digits)
    found = metrics.discrimination(label, risk)(np.concatenate([ONE, weight]))
    for row, w in enumerate((ONE[0], weight[0])):
        assert found["auroc"][row] == pytest.approx(reference.roc_auc_score(label, risk, sample_weight=w))
        assert found["auprc"][row] == pytest.approx(reference.average_precision_score(label, risk, sample_weight=w))


def test_a_weight_of_two_is_the_row_twice():
    label, risk, weight = example(3)
    rows = np.repeat(np.arange(400), weight[0].astype(int))
    statistics = [metrics.discrimination, metrics.probability_errors, metrics.calibration_line, metrics.number_errors]
    for statistic in statistics:
        weighted = statistic(label, risk)(weight)
        repeated = statistic(label[rows], risk[rows])(np.ones((1, len(rows))))
        for name, value in weighted.items():
            assert value[0] == pytest.approx(repeated[name][0], rel=1e-7), name


def test_sensitivity_at_an_alert_rate_counts_the_highest_risks():
    label = np.array([1.0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    risk = np.linspace(0.9, 0.1, 10)
    found = metrics.discrimination(label, risk, (0.1, 0.3, 0.5))(np.ones((1, 10)))
    assert found["sensitivity_at_alert_rate_0.1"][0] == pytest.approx(1 / 3)
    assert found["sensitivity_at_alert_rate_0.3"][0] == pytest.approx(2 / 3)
    assert found["sensitivity_at_alert_rate_0.5"][0] == pytest.approx(2 / 3)


def test_rows_of_equal_risk_alert_in_proportion():
    label = np.array([1.0, 1, 0, 0])
    found = metrics.discrimination(label, np.full(4, 0.3), (0.25,))(np.ones((1, 4)))
    assert found["sensitivity_at_alert_rate_0.25"][0] == pytest.approx(0.25)


def test_brier_equals_scikit_learn():
    label, risk, weight = example(4)
    expected = reference.brier_score_loss(label, risk, sample_weight=weight[0])
    assert metrics.probability_errors(label, risk)(weight)["brier"][0] == pytest.approx(expected)


def test_calibration_error_worked_by_hand():
    # Bins of 1/15: 0.02 and 0.05 share the first, 0.5 has its own, 1.0 belongs to the last.
    label = np.array([0.0, 1.0, 1.0, 1.0])
    risk = np.array([0.02, 0.05, 0.5, 1.0])
    found = metrics.probability_errors(label, risk)(np.ones((1, 4)))["ece"][0]
    assert found == pytest.approx((abs(0.07 - 1.0) + 0.5 + 0.0) / 4)


def test_calibration_slope_is_a_logistic_regression_on_the_logit():
    label, risk, weight = example(5, digits=6)
    logit = np.log(risk / (1 - risk))[:, None]
    line = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(logit, label, sample_weight=weight[0])
    found = metrics.calibration_line(label, risk)(weight)
    assert found["calibration_slope"][0] == pytest.approx(line.coef_[0, 0], rel=1e-4)


def test_the_intercept_makes_mean_risk_and_frequency_meet_with_the_slope_held():
    label, risk, weight = example(6, digits=6)
    shift = metrics.calibration_line(label, risk)(weight)["calibration_intercept"][0]
    moved = 1 / (1 + np.exp(-(np.log(risk / (1 - risk)) + shift)))
    assert np.average(moved, weights=weight[0]) == pytest.approx(np.average(label, weights=weight[0]))


def test_risks_that_mean_what_they_say_have_slope_one_and_intercept_zero():
    rng = np.random.default_rng(7)
    risk = 1 / (1 + np.exp(-rng.normal(-2, 1.5, size=200_000)))
    label = (rng.random(200_000) < risk).astype(float)
    found = metrics.calibration_line(label, risk)(np.ones((1, 200_000)))
    assert found["calibration_slope"][0] == pytest.approx(1.0, abs=0.02)
    assert found["calibration_intercept"][0] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_alone_defines_no_metric_that_compares_two(value):
    label = np.full(20, value)
    risk = np.linspace(0.1, 0.9, 20)
    weight = np.ones((2, 20))
    ranked = metrics.discrimination(label, risk, (0.1,))(weight)
    line = metrics.calibration_line(label, risk)(weight)
    for name, found in {**ranked, **line}.items():
        assert np.all(np.isnan(found)), name
    assert np.all(np.isfinite(metrics.probability_errors(label, risk)(weight)["brier"]))


def test_separable_classes_and_equal_risks_have_no_slope():
    label = np.array([0.0, 0, 1, 1])
    apart = metrics.calibration_line(label, np.array([0.1, 0.2, 0.8, 0.9]))(np.ones((1, 4)))
    equal = metrics.calibration_line(label, np.full(4, 0.5))(np.ones((1, 4)))
    assert np.isnan(apart["calibration_slope"][0])
    assert np.isnan(equal["calibration_slope"][0])
    assert equal["calibration_intercept"][0] == pytest.approx(0.0)


def test_risks_of_zero_and_one_give_finite_calibration_figures():
    label = np.array([0.0, 1, 0, 1, 1, 0])
    found = metrics.calibration_line(label, np.array([0.0, 1.0, 0.3, 0.4, 0.0, 1.0]))(np.ones((1, 6)))
    assert np.all(np.isfinite([found["calibration_slope"][0], found["calibration_intercept"][0]]))


def test_number_errors_equal_scikit_learn():
    rng = np.random.default_rng(8)
    label = rng.normal(5, 2, size=300)
    predicted = label + rng.normal(size=300)
    found = metrics.number_errors(label, predicted)(np.ones((1, 300)))
    assert found["rmse"][0] == pytest.approx(reference.root_mean_squared_error(label, predicted))
    assert found["mae"][0] == pytest.approx(reference.mean_absolute_error(label, predicted))
    assert found["r2"][0] == pytest.approx(reference.r2_score(label, predicted))


def test_numbers_that_do_not_vary_have_no_r_squared():
    found = metrics.number_errors(np.full(5, 3.7), np.arange(5.0))(np.ones((1, 5)))
    assert np.isnan(found["r2"][0])
    assert np.isfinite(found["rmse"][0])


def test_class_errors_equal_scikit_learn():
    rng = np.random.default_rng(9)
    risk = rng.dirichlet(np.ones(4), size=500)
    label = (risk.cumsum(axis=1) < rng.random((500, 1))).sum(axis=1)
    weight = np.bincount(rng.integers(500, size=500), minlength=500).astype(float)
    found = metrics.class_errors(label, risk)(weight[None])
    assert found["log_loss"][0] == pytest.approx(reference.log_loss(label, risk, sample_weight=weight))
    expected = reference.accuracy_score(label, risk.argmax(axis=1), sample_weight=weight)
    assert found["accuracy"][0] == pytest.approx(expected)
    plain = metrics.class_errors(label, risk)(np.ones((1, 500)))
    assert plain["auroc"][0] == pytest.approx(reference.roc_auc_score(label, risk, multi_class="ovr"))
    one_hot = np.eye(4)[label]
    assert plain["auprc"][0] == pytest.approx(reference.average_precision_score(one_hot, risk))
    assert plain["brier"][0] == pytest.approx(np.square(one_hot - risk).sum(axis=1).mean())
