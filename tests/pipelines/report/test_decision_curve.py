"""Net benefit by hand, its two neighbours, and intervals that repeat."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from models.errors import ConfigError
from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.decision_curve import decision_curve, decision_thresholds, net_benefit

QUICK = EvaluationConfig(bootstrap=60, decision_points=7)


def rows(n=600, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.2, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    return label, 1 / (1 + np.exp(-logit)), rng.integers(150, size=n)


def test_net_benefit_is_the_published_sum():
    label, risk, patient = rows()
    found = decision_curve(label, risk, patient, QUICK)
    assert len(found["points"]) == 7
    for point in found["points"]:
        t = point["threshold"]
        _, false, _, true = confusion_matrix(label, risk >= t).ravel()
        expected = true / len(label) - false / len(label) * t / (1 - t)
        everyone = label.mean() - (1 - label.mean()) * t / (1 - t)
        assert point["net_benefit"]["value"] == pytest.approx(expected)
        assert point["treat_all"]["value"] == pytest.approx(everyone)
        assert point["gain"]["value"] == pytest.approx(expected - max(everyone, 0))


def test_weights_of_patients_are_repeated_rows():
    label, risk, patient = rows()
    thresholds = np.array([0.1, 0.3])
    weight = np.random.default_rng(1).integers(0, 3, size=(1, 150))
    drawn = np.repeat(np.arange(len(label)), weight[0][patient])
    got = net_benefit(label, risk, patient, 150, thresholds)(weight.astype(float))
    same = np.zeros(len(drawn), dtype=int)
    expected = net_benefit(label[drawn], risk[drawn], same, 1, thresholds)(np.ones((1, 1)))
    for name, value in expected.items():
        assert got[name] == pytest.approx(value)


def test_a_risk_at_a_threshold_is_acted_on_and_none_above_all_is_worth_nothing():
    label, risk = np.array([1.0, 0.0]), np.array([0.5, 0.2])
    found = net_benefit(label, risk, np.array([0, 1]), 2, np.array([0.5, 0.6]))(np.ones((1, 2)))
    assert found["net_benefit/0"][0] == pytest.approx(0.5)
    assert found["net_benefit/1"][0] == 0.0


def test_intervals_hold_their_values_and_repeat():
    label, risk, patient = rows()
    one, other = (decision_curve(label, risk, patient, QUICK) for _ in range(2))
    assert one == other
    for point in one["points"]:
        assert point["net_benefit"]["low"] <= point["net_benefit"]["value"] <= point["net_benefit"]["high"]


def test_thresholds_are_the_configured_range_or_one_around_the_base_rate():
    config = EvaluationConfig(decision_range=(0.02, 0.3), decision_points=3)
    assert decision_thresholds(0.9, config).tolist() == pytest.approx([0.02, 0.16, 0.3])
    assert decision_thresholds(0.5, EvaluationConfig(decision_points=2)).tolist() == pytest.approx([0.05, 0.99])


def test_one_class_has_no_curve_but_a_reason():
    assert "both classes" in decision_curve(np.zeros(5), np.full(5, 0.1), np.arange(5), QUICK)["undefined"]


@pytest.mark.parametrize(
    "settings",
    [
        {"decision_range": (0.3, 0.1)},
        {"decision_range": (0.1,)},
        {"decision_points": 1},
        {"alert_burdens": (0.0,)},
        {"alert_silence_h": -1.0},
        {"lead_h": 0.0},
        {"subgroup_cuts": {"age": (60.0, 20.0)}},
        {"subgroup_cuts": {"age": ()}},
        {"min_group": 0},
    ],
)
def test_settings_that_cannot_hold_are_refused(settings):
    with pytest.raises(ConfigError, match="evaluation"):
        EvaluationConfig(**settings)
