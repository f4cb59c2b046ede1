"""Beta calibration: what it fits, and that it never turns the order of risks round."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from models.beta import BetaCurve
from models.errors import DataError


def sample(size, seed, *, low=1.0, high=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 2, size)
    truth = BetaCurve(low, high, shift).apply(logit)
    return logit, (rng.random(size) < 1 / (1 + np.exp(-truth))).astype(float), np.ones(size)


def reference(logit, label, weight):
    """The paper's likelihood under bounds, by a general optimiser."""
    p = 1 / (1 + np.exp(-logit))

    def loss(theta):
        value = theta[0] * np.log(p) - theta[1] * np.log(1 - p) + theta[2]
        return weight @ (np.logaddexp(0, value) - label * value)

    return minimize(loss, [1, 1, 0], bounds=[(0, None), (0, None), (None, None)], method="L-BFGS-B", tol=1e-12)


def test_with_many_stays_it_finds_the_curve_that_was_put_in():
    curve = BetaCurve.fit(*sample(80_000, 1, low=0.6, high=1.8, shift=0.4))
    assert (curve.low, curve.high, curve.shift) == pytest.approx((0.6, 1.8, 0.4), abs=0.08)


@pytest.mark.parametrize("seed", range(6))
def test_without_prior_it_is_the_papers_bounded_maximum_likelihood(seed):
    # The last ones ask for a slope below 0 on one side, or on both.
    given_slopes = [(1.0, 1.0), (0.5, 2.0), (1.5, 0.2), (0.02, 2.0), (1.5, 0.02), (0.02, 0.02)][seed]
    logit, label, weight = sample(300, seed, low=given_slopes[0], high=given_slopes[1], shift=-0.3)
    curve = BetaCurve.fit(logit, label, weight, strength=0.0)
    found = reference(logit, label, weight)
    value = curve.apply(logit)
    assert weight @ (np.logaddexp(0, value) - label * value) == pytest.approx(found.fun, abs=1e-4)


def test_labels_that_fall_with_the_logit_make_a_level_curve_and_no_falling_one():
    logit = np.linspace(-3, 3, 200)
    curve = BetaCurve.fit(logit, (logit < 0).astype(float), np.ones(200), strength=0.0)
    assert (curve.low, curve.high) == (0.0, 0.0)
    assert curve.apply(logit) == pytest.approx(np.zeros(200), abs=1e-6)


def test_no_change_is_exact_however_sure_the_network_is():
    logit = np.array([-800.0, -40.0, 0.0, 40.0, 800.0])
    assert BetaCurve(1.0, 1.0, 0.0).apply(logit) == pytest.approx(logit, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 60), strength=st.sampled_from([0.0, 1.0, 10.0]))
def test_a_higher_logit_is_never_a_lower_risk(seed, size, strength):
    rng = np.random.default_rng(seed)
    logit, label = rng.normal(0, 3, size), (rng.random(size) < 0.3).astype(float)
    curve = BetaCurve.fit(logit, label, np.ones(size), strength=strength)
    assert np.all(np.diff(curve.apply(np.linspace(-50, 50, 400))) >= 0)


def test_a_stronger_prior_holds_the_curve_nearer_to_no_change():
    logit, label, weight = sample(60, 3, low=0.3, high=0.3)
    far = [abs(BetaCurve.fit(logit, label, weight, strength=s).high - 1) for s in (0.0, 1.0, 1e6)]
    assert far[0] > far[1] > far[2]
    assert far[2] < 1e-3


@pytest.mark.parametrize("numbers", [(-0.1, 1.0, 0.0), (1.0, -0.1, 0.0), (1.0, 1.0, np.nan)])
def test_slopes_below_zero_are_refused(numbers):
    with pytest.raises(DataError, match="again"):
        BetaCurve(*numbers)
