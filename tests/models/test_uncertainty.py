"""Label sets: that they keep their promise for each class, and say so where they cannot."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ConfigError, DataError
from models.record import from_plain, to_plain
from models.task import TargetKind
from models.uncertainty import LEVELS, PatientDraw, Uncertainty, quantile_rank

NO_EVENT, EVENT = 0, 1


def patients(count, seed, *, outputs=1):
    """Risks that know a little of the outcome, one step a patient."""
    rng = np.random.default_rng(seed)
    label = (rng.random((count, outputs)) < 0.2).astype(float)
    return 1 / (1 + np.exp(-(rng.normal(-1.5, 1.2, (count, outputs)) + 1.2 * label))), label


def fit(risk, label, **given):
    return Uncertainty.fit(risk, label, **{"patient_index": np.arange(len(risk)), "order": np.zeros(len(risk))} | given)


def test_each_class_is_covered_in_new_patients_as_often_as_promised():
    # Over many draws of calibration and new patients the coverage averages between the level and the level plus
    # 1 / (calibration patients of the class + 1).
    covered = {NO_EVENT: [], EVENT: []}
    fewest = {NO_EVENT: 10**9, EVENT: 10**9}
    for seed in range(400):
        risk, label = patients(260, seed)
        fitted = fit(risk[:200], label[:200])
        inside = fitted.label_sets(risk[200:])[:, 0]
        for truth, found in covered.items():
            rows = label[200:, 0] == truth
            fewest[truth] = min(fewest[truth], fitted.sets[0].patients[truth])
            found.append([rows.sum(), *inside[rows, :, truth].sum(axis=0)])
    for truth, found in covered.items():
        total, *hits = np.sum(found, axis=0)
        for level, hit in zip(LEVELS, hits, strict=True):
            # Scores of one draw share their calibration patients: five standard errors of a mean over draws.
            error = 5 * np.std([row[1 + LEVELS.index(level)] / max(row[0], 1) for row in found]) / np.sqrt(400)
            assert level - error <= hit / total <= level + 1 / (fewest[truth] + 1) + error


def test_the_bound_is_the_exact_order_statistic():
    risk = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])[:, None]
    events = fit(np.vstack([risk, risk]), np.repeat([1.0, 0.0], 9)[:, None], levels=(0.8, 0.9)).sets[0]
    assert events.positive_from == ((0.2, 0.1),)
    assert events.negative_to == (0.8, 0.9)


def test_rounding_of_a_level_does_not_cost_a_rank():
    assert [quantile_rank(0.95, n) for n in (18, 19, 39, 99)] == [19, 19, 38, 95]
    assert quantile_rank(0.7, 9) == 7


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 40))
def test_too_few_patients_of_a_class_for_the_level_put_it_in_every_set(seed, count):
    risk, label = patients(count, seed)
    fitted = fit(risk, label)
    inside = fitted.label_sets(np.linspace(0, 1, 50)[:, None])[:, 0]
    for i, level in enumerate(LEVELS):
        for truth in (NO_EVENT, EVENT):
            enough = quantile_rank(level, int((label == truth).sum())) <= (label == truth).sum()
            assert enough or np.all(inside[:, i, truth])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 300))
def test_a_higher_level_never_takes_a_label_out_and_a_higher_risk_never_the_event(seed, count):
    inside = fit(*patients(count, seed)).label_sets(np.linspace(0, 1, 200)[:, None])[:, 0]
    assert np.all(np.diff(inside.astype(int), axis=1) >= 0)
    assert np.all(np.diff(inside[:, :, EVENT].astype(int), axis=0) >= 0)
    assert np.all(np.diff(inside[:, :, NO_EVENT].astype(int), axis=0) <= 0)


def test_of_several_steps_one_counts_for_each_patient_and_class():
    risk = np.array([[0.9], [0.1], [0.2], [0.8], [0.3]])
    label = np.array([[1.0], [0.0], [0.0], [1.0], [np.nan]])
    fitted = fit(risk, label, patient_index=np.array([0, 0, 0, 1, 2]), order=np.array([3.0, 2.0, 1.0, 0.0, 0.0]))
    assert fitted.sets[0].patients == (1, 2)
    assert fitted.intervals == (fit(risk[[2, 3]], label[[2, 3]]).intervals[0],)


def test_which_step_counts_depends_on_the_order_alone():
    draw = PatientDraw(np.array([1, 0, 1, 0]), np.array([0.5, 0.9, 0.1, 0.2]))
    assert draw.first(np.ones(4, dtype=bool)).tolist() == [3, 2]
    assert draw.first(np.array([True, True, False, False])).tolist() == [1, 0]


def test_every_output_has_its_own_patients_and_bounds():
    risk, label = patients(300, 5, outputs=2)
    label[:250, 1] = np.nan
    both = fit(risk, label)
    alone = fit(risk[:, 1:], label[:, 1:])
    assert both.sets[1] == alone.sets[0]
    assert both.intervals[1] == alone.intervals[0]
    assert np.array_equal(both.label_sets(risk)[:, 1], alone.label_sets(risk[:, 1:])[:, 0])
    low, high = both.interval(risk)
    assert low.shape == high.shape == (300, 2)


def test_several_classes_are_covered_each_and_have_no_interval():
    rng = np.random.default_rng(6)
    hits = np.zeros((3, len(LEVELS)))
    count = np.zeros(3)
    for _ in range(150):
        label = rng.choice(3, size=400, p=[0.6, 0.3, 0.1]).astype(float)
        value = np.exp(rng.normal(size=(400, 3)) + 1.5 * (label[:, None] == np.arange(3)))
        risk = value / value.sum(axis=1, keepdims=True)
        fitted = fit(risk[:300], label[:300, None], kind=TargetKind.MULTICLASS)
        inside = fitted.label_sets(risk[300:])
        assert inside.shape == (100, 1, len(LEVELS), 3)
        assert fitted.interval(risk) is None
        for k in range(3):
            hits[k] += inside[label[300:] == k, 0, :, k].sum(axis=0)
            count[k] += (label[300:] == k).sum()
    assert np.all(hits / count[:, None] > np.array(LEVELS) - 0.02)
    assert np.all(hits[:2] / count[:2, None] < np.array(LEVELS) + 0.03)


def test_an_uncertainty_survives_json_with_the_bounds_it_does_not_have():
    risk, label = patients(30, 7)
    fitted = fit(risk, label)
    assert None in fitted.sets[0].positive_from[0]
    again = from_plain(Uncertainty, json.loads(json.dumps(to_plain(fitted))), where="uncertainty")
    assert again == fitted
    assert np.array_equal(again.label_sets(risk), fitted.label_sets(risk))


@pytest.mark.parametrize("levels", [(), (0.0,), (1.0,), (0.9, 0.9)])
def test_levels_that_no_set_has_are_refused(levels):
    with pytest.raises(ConfigError, match="levels"):
        fit(*patients(30, 8), levels=levels)


def test_a_number_and_an_output_without_labels_are_refused():
    risk, label = patients(30, 9)
    with pytest.raises(DataError, match="got a number"):
        fit(risk, label, kind=TargetKind.REGRESSION)
    with pytest.raises(DataError, match="conformal_share"):
        fit(risk, np.full_like(label, np.nan))
