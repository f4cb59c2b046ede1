"""Reliability and curves: groups hold every row once, shares are counted, few stays are hidden."""

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_curve

from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.curves import FALSE_POSITIVE_RATES, RECALLS, curves
from pipelines.report.reliability import reliability
from tests.pipelines.report.test_decision_curve import rows

QUICK = EvaluationConfig(bootstrap=60)


def test_groups_hold_every_row_once_and_their_share_is_counted():
    label, risk, patient = rows()
    stay = np.arange(len(label))
    found = reliability(label, risk, stay, patient, QUICK)
    assert sum(group["rows"] for group in found["groups"]) == len(label)
    assert len(found["groups"]) == 10
    events = sum(group["observed"]["value"] * group["rows"] for group in found["groups"])
    assert events == pytest.approx(label.sum())
    means = [group["mean_risk"] for group in found["groups"]]
    assert means == sorted(means)
    shown = [bar for bar in found["histogram"] if not bar.get("suppressed")]
    assert sum(bar["with_event"] + bar["without_event"] for bar in shown) <= len(label)
    assert found["histogram"][-1]["to"] >= risk.max()


def test_groups_and_bars_of_few_stays_are_hidden():
    label, risk, patient = rows()
    few = np.zeros(len(label), dtype=int) + np.arange(len(label)) % 3
    found = reliability(label, risk, few, patient[:3], QUICK)
    assert all(group == {"suppressed": True} for group in found["groups"])
    assert not any("with_event" in bar and bar["with_event"] + bar["without_event"] for bar in found["histogram"])


def test_rows_of_equal_risk_share_a_group():
    label = np.tile([0.0, 1.0], 50)
    found = reliability(label, np.full(100, 0.3), np.arange(100), np.arange(100), QUICK)
    assert [group["rows"] for group in found["groups"]] == [100]
    assert found["groups"][0]["observed"]["value"] == 0.5


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_group_of_one_kind_has_the_exact_interval_that_draws_cannot_give(value):
    label = np.concatenate([np.full(40, value), np.full(40, 1.0 - value)])
    risk, stay = np.repeat([0.2, 0.6], 40), np.arange(80)
    groups = reliability(label, risk, stay, stay // 2, QUICK)["groups"]
    exact = beta.ppf([0.025, 0.975], [1, 1], [20, 20])[1]
    ends = {0.0: (0.0, exact), 1.0: (1.0 - exact, 1.0)}
    for group in groups:
        observed = group["observed"]
        assert (observed["low"], observed["high"]) == pytest.approx(ends[observed["value"]])


def test_no_row_has_no_table():
    empty = np.zeros(0)
    assert reliability(empty, empty, np.zeros(0, int), np.zeros(0, int), QUICK) == {"groups": [], "histogram": []}


def test_the_roc_curve_is_that_of_the_reference():
    label, risk, patient = rows()
    found = curves(label, risk, patient, QUICK)
    false, true, _ = roc_curve(label, risk, drop_intermediate=False)
    between = slice(1, None)
    expected = np.interp(FALSE_POSITIVE_RATES[between], false, true)
    assert [p["value"] for p in found["roc"][1:]] == pytest.approx(expected.tolist(), abs=2 / label.sum())
    assert [p["at"] for p in found["precision_recall"]] == pytest.approx(RECALLS.tolist())
    assert found["precision_recall"][-1]["value"] >= label.mean()


def test_one_class_has_no_curves_but_a_reason():
    assert "both classes" in curves(np.zeros(40), np.linspace(0, 1, 40), np.arange(40), QUICK)["undefined"]
