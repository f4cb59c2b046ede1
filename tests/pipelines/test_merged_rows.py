"""Merged rows: what a draw of many rows says, at a hundredth of the work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines import merged_rows
from pipelines.bootstrap import Resampling, estimate
from pipelines.merged_rows import EXACT_ROWS, LEVELS, MergedRows, estimate_rows, risk_levels
from pipelines.metrics import calibration_line, discrimination, probability_errors

QUICK = Resampling(draws=60)


def many_rows(rows=3 * EXACT_ROWS, patients=300, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-3, 1.2, size=rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    return label, 1 / (1 + np.exp(-logit)), rng.integers(patients, size=rows)


@pytest.mark.parametrize("make", [discrimination, probability_errors, calibration_line])
def test_intervals_on_merged_rows_are_those_of_the_rows_and_values_are_exact(make):
    label, risk, patient = many_rows()
    merged = estimate_rows(make, label, risk, patient, QUICK).metrics
    whole = estimate(make(label, risk), patient, QUICK).metrics
    for name, entry in whole.items():
        width = entry["high"] - entry["low"]
        assert merged[name]["value"] == pytest.approx(entry["value"], rel=1e-9)
        assert merged[name]["low"] == pytest.approx(entry["low"], abs=0.02 * width)
        assert merged[name]["high"] == pytest.approx(entry["high"], abs=0.02 * width)


def test_values_are_those_of_the_reference():
    label, risk, patient = many_rows()
    found = estimate_rows(discrimination, label, risk, patient, QUICK).metrics
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(label, risk))
    assert found["auprc"]["value"] == pytest.approx(average_precision_score(label, risk))


def test_few_rows_are_not_merged(monkeypatch):
    monkeypatch.setattr(merged_rows, "unit_statistic", None)
    label, risk, patient = many_rows(rows=EXACT_ROWS)
    assert estimate_rows(discrimination, label, risk, patient, QUICK).metrics["auroc"]["value"] > 0.5


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 4)), min_size=1, max_size=60), st.data())
def test_rows_of_few_distinct_risks_are_merged_without_loss(rows, data):
    risk, positive, unit = (np.array(column) for column in zip(*rows, strict=True))
    weight = np.array([data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5))], dtype=float)
    label = positive.astype(float)
    merged = MergedRows.of(label, risk, unit, 5)
    got = discrimination(merged.label, merged.risk)(merged.weights(weight))
    expected = discrimination(label, risk)(weight[:, unit])
    np.testing.assert_allclose(got["auroc"], expected["auroc"], rtol=1e-9)
    np.testing.assert_allclose(got["auprc"], expected["auprc"], rtol=1e-9)


def test_levels_rise_with_the_risk_and_are_bounded():
    label, risk, _ = many_rows()
    level = risk_levels(label, risk)
    order = np.argsort(risk, kind="stable")
    assert np.all(np.diff(level[order]) >= 0)
    assert level.max() < LEVELS
    # The highest thousandth of the rows is told apart more finely than by rows alone.
    assert len(np.unique(level[order][-len(level) // 100 :])) > 2 * LEVELS / 100
