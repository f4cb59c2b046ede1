"""Isotonic calibration: its blocks, its curve, and that no risk becomes a certainty."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from models.errors import DataError
from models.isotonic import IsotonicCurve, pool_adjacent_violators

LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=40)


def sample(size, seed):
    rng = np.random.default_rng(seed)
    logit = np.round(rng.normal(-1, 2, size), 1)
    label = (rng.random(size) < 1 / (1 + np.exp(-np.sin(logit) * 2))).astype(float)
    return logit, label, rng.uniform(0.1, 2.0, size)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 200))
def test_blocks_are_those_of_another_librarys_isotonic_regression(seed, size):
    logit, label, weight = sample(size, seed)
    order = np.argsort(logit, kind="stable")
    block = pool_adjacent_violators(label[order], weight[order], tied=logit[order])
    mean = np.bincount(block, weight[order] * label[order]) / np.bincount(block, weight[order])
    reference = IsotonicRegression().fit(logit, label, sample_weight=weight).predict(logit[order])
    assert mean[block] == pytest.approx(reference, abs=1e-9)
    assert np.all(np.diff(mean) > 0)


def test_blocks_of_one_label_only_are_one():
    assert pool_adjacent_violators(np.zeros(5), np.ones(5)).tolist() == [0] * 5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 150), logits=LOGITS)
def test_the_curve_rises_and_no_risk_is_a_certainty(seed, size, logits):
    logit, label, weight = sample(size, seed)
    curve = IsotonicCurve.fit(logit, label, weight)
    value = curve.apply(np.sort(np.array([*logits, *logit])))
    assert np.all(np.isfinite(value))
    assert np.all(np.diff(value) >= 0)
    risk = 1 / (1 + np.exp(-np.array(curve.value)))
    assert np.all((risk > 0) & (risk < 1))


def test_different_logits_of_one_block_keep_different_risks():
    logit = np.linspace(-3, 3, 60)
    curve = IsotonicCurve.fit(logit, np.tile([0.0, 0.0, 1.0], 20), np.ones(60))
    assert np.all(np.diff(curve.apply(np.linspace(-6, 6, 200))) > 0)


def test_with_many_stays_it_follows_a_shape_that_no_line_has():
    rng = np.random.default_rng(1)
    logit = rng.uniform(-3, 3, 60_000)
    truth = np.where(logit < 0, 0.1 + 0.02 * logit, 0.6 + 0.1 * logit)
    curve = IsotonicCurve.fit(logit, (rng.random(60_000) < truth).astype(float), np.ones(60_000))
    asked = np.array([-2.0, -1.0, 1.0, 2.0])
    risk = 1 / (1 + np.exp(-curve.apply(asked)))
    assert risk == pytest.approx([0.06, 0.08, 0.7, 0.8], abs=0.03)


def test_one_stay_alone_moves_its_block_half_way_from_the_risk_it_had():
    curve = IsotonicCurve.fit(np.array([0.0]), np.array([1.0]), np.ones(1))
    assert 1 / (1 + np.exp(-curve.value[0])) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("at", "value"),
    [((), ()), ((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((0.0,), (0.0, 1.0)), ((0.0,), (np.inf,))],
)
def test_knots_that_do_not_rise_are_refused(at, value):
    with pytest.raises(DataError, match="again"):
        IsotonicCurve(at, value)
