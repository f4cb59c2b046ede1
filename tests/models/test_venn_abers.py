"""Venn-Abers intervals against the definition: isotonic regression fitted twice for every score asked for."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from models.errors import DataError
from models.record import from_plain, to_plain
from models.venn_abers import VennAbers


def by_definition(score, label, asked):
    """The isotonic regressions of all patients and the new one, without and with the event, at the new score."""
    ends = []
    for truth in (0.0, 1.0):
        fitted = IsotonicRegression().fit(np.append(score, asked), np.append(label, truth))
        ends.append(float(fitted.predict([asked])[0]))
    return ends


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=30),
    asked=st.lists(st.integers(-2, 28), min_size=1, max_size=8),
)
def test_the_interval_is_that_of_two_isotonic_regressions(rows, asked):
    score, label = np.array(rows, dtype=float).T
    fitted = VennAbers.fit(score, label)
    for half_step in asked:  # at patients' scores, between them and beyond
        low, high = fitted.interval(half_step / 2)
        assert [float(low), float(high)] == pytest.approx(by_definition(score, label, half_step / 2), abs=1e-12)


def test_many_patients_with_distinct_scores_agree_with_the_definition():
    rng = np.random.default_rng(1)
    score = rng.random(400)
    label = (rng.random(400) < score**2).astype(float)
    fitted = VennAbers.fit(score, label)
    asked = np.concatenate([score[:30], rng.random(30), [-1.0, 2.0]])
    low, high = fitted.interval(asked)
    expected = np.array([by_definition(score, label, s) for s in asked])
    assert np.stack([low, high], axis=1) == pytest.approx(expected, abs=1e-12)
    assert len(fitted.low) + len(fitted.high) < 2 * 401


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 80))
def test_the_lower_end_is_below_the_upper_and_both_rise_with_the_score(seed, size):
    rng = np.random.default_rng(seed)
    fitted = VennAbers.fit(np.round(rng.random(size), 2), (rng.random(size) < 0.3).astype(float))
    low, high = fitted.interval(np.linspace(-0.5, 1.5, 300))
    assert np.all(low < high)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) >= 0)
    assert low.min() >= 0
    assert high.max() <= 1


def test_more_patients_make_the_interval_narrower():
    rng = np.random.default_rng(2)
    widths = []
    for size in (30, 300, 3000):
        score = rng.random(size)
        low, high = VennAbers.fit(score, (rng.random(size) < score).astype(float)).interval(rng.random(200))
        widths.append(np.mean(high - low))
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_an_interval_survives_json_exactly():
    rng = np.random.default_rng(3)
    fitted = VennAbers.fit(rng.random(100), (rng.random(100) < 0.5).astype(float))
    assert from_plain(VennAbers, json.loads(json.dumps(to_plain(fitted))), where="interval") == fitted


@pytest.mark.parametrize(
    "change", [{"low": (0.5,)}, {"low": (0.5, 0.2)}, {"high_to": (0.2, 0.2), "high": (0.1, 0.2, 0.3)}, {"high": (2.0,)}]
)
def test_ends_that_are_no_rising_risks_are_refused(change):
    with pytest.raises(DataError, match="again"):
        VennAbers(**{"low_from": (0.5,), "low": (0.0, 0.4), "high_to": (), "high": (1.0,)} | change)
