"""Calibration: what it fits, that it keeps the order of risks, and what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from models.calibration import FEW_STEPS, Calibration, CalibrationMethod
from models.calibration_fit import TERMS
from models.errors import ConfigError, DataError
from models.record import from_plain, to_plain
from models.task import LabelScope, TargetKind

HOURS = np.array([0.5, 2.0, 6.0, 12.0, 24.0, 36.0, 48.0])
BINARY = TargetKind.BINARY


def simulate(stays, seed, *, overconfidence=lambda hours: np.ones_like(hours), shift=lambda hours: 0.0 * hours):
    """Logits that know more and more of a stay's true risk, then scaled and shifted by the hour."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-2.4, 1.7, size=stays)
    label = (rng.random(stays) < 1 / (1 + np.exp(-truth))).astype(float)
    # Given what is seen at an hour the event's logit is `seen`, up to the shrinkage of a normal mixture.
    seen = truth[:, None] + rng.normal(size=(stays, len(HOURS))) * 0.05
    logit = seen * overconfidence(HOURS) + shift(HOURS)
    index = np.repeat(np.arange(stays), len(HOURS))
    return logit.reshape(-1, 1), np.repeat(label, len(HOURS))[:, None], np.tile(HOURS, stays), index


def slope_and_intercept(label, risk):
    """Of a logistic regression of the label on the risk's logit, by another library."""
    logit = np.log(risk / (1 - risk)).reshape(-1, 1)
    fitted = LogisticRegression(C=1e9, max_iter=1000).fit(logit, label)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


DRIFTS = {
    "already_calibrated": (lambda h: np.ones_like(h), lambda h: 0.0 * h),
    "twice_too_sure_throughout": (lambda h: 2.0 * np.ones_like(h), lambda h: 0.0 * h),
    "twice_too_sure_early": (lambda h: 1 + np.exp(-h / 8), lambda h: 0.0 * h),
    "too_timid_late_and_shifted": (lambda h: 1 - 0.4 * h / 48, lambda h: 0.8 - 0.6 * h / 48),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_hundred_events_bring_the_slope_near_one_at_every_hour(drift):
    fresh = simulate(60_000, 1, overconfidence=DRIFTS[drift][0], shift=DRIFTS[drift][1])
    slopes = []
    for seed in range(2, 8):
        logit, label, time_h, index = simulate(620, seed, overconfidence=DRIFTS[drift][0], shift=DRIFTS[drift][1])
        assert 60 <= label[:: len(HOURS)].sum() <= 125
        fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
        risk = fitted.apply(fresh[0], fresh[2])[:, 0]
        slopes.append([slope_and_intercept(fresh[1][fresh[2] == h, 0], risk[fresh[2] == h])[0] for h in (6, 24, 48)])
    assert np.all(np.abs(np.mean(slopes, axis=0) - 1.0) < 0.15)
    assert np.mean((np.array(slopes) > 0.8) & (np.array(slopes) < 1.2)) >= 0.85


def test_with_many_stays_the_fit_finds_the_drift_that_was_put_in():
    drift = DRIFTS["twice_too_sure_early"]
    logit, label, time_h, index = simulate(40_000, 3, overconfidence=drift[0])
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    risk = fitted.apply(logit, time_h)[:, 0]
    for hour in HOURS:
        slope, intercept = slope_and_intercept(label[time_h == hour, 0], risk[time_h == hour])
        assert slope == pytest.approx(1.0, abs=0.05)
        assert intercept == pytest.approx(0.0, abs=0.1)


def test_each_stay_weighs_one_however_often_it_was_charted():
    logit, label, time_h, index = simulate(300, 4)
    keep = np.ones(len(index), dtype=bool)
    repeated = np.concatenate([np.flatnonzero(keep), *[np.flatnonzero(index == 7)] * 20])
    once = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    often = Calibration.fit(
        logit[repeated], label[repeated], time_h=time_h[repeated], stay_index=index[repeated], kind=BINARY
    )
    assert np.allclose(often.log_slope, once.log_slope, atol=1e-6)
    assert np.allclose(often.intercept, once.intercept, atol=1e-6)


def test_labels_of_steps_are_calibrated_for_the_step_however_long_stays_with_events_last():
    # Stays with an event end soon after it, so a stay's length tells its label: weighing whole stays would make
    # every risk too high.
    rng = np.random.default_rng(15)
    logit, label, time_h, index = [], [], [], []
    for stay in range(1500):
        steps = 40
        seen = rng.normal(-4.5, 1.0, size=steps)
        event = rng.random(steps) < 1 / (1 + np.exp(-seen))
        steps = min(steps, int(np.argmax(event)) + 3) if event.any() else steps
        logit.append(seen[:steps])
        label.append(event[:steps].astype(float))
        time_h.append(np.arange(1, steps + 1.0))
        index.append(np.full(steps, stay))
    flat = [np.concatenate(column) for column in (logit, label, time_h, index)]
    given = {"time_h": flat[2], "stay_index": flat[3], "kind": BINARY}
    means = {
        scope: Calibration.fit(flat[0][:, None], flat[1][:, None], scope=scope, **given)
        .apply(flat[0][:, None], flat[2])
        .mean()
        for scope in LabelScope
    }
    assert means[LabelScope.STEP] == pytest.approx(flat[1].mean(), rel=0.02)
    assert means[LabelScope.STAY] > 1.3 * flat[1].mean()


def test_without_time_and_prior_the_fit_is_an_ordinary_logistic_regression():
    logit, label, _, _ = simulate(500, 5)
    last = slice(len(HOURS) - 1, None, len(HOURS))
    fitted = Calibration.fit(
        logit[last], label[last], time_h=np.zeros(500), stay_index=np.arange(500), kind=BINARY, strength=0.0
    )
    line = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(logit[last], label[last, 0])
    expected = line.predict_proba(logit[last])[:, 1]
    assert fitted.apply(logit[last], np.zeros(500))[:, 0] == pytest.approx(expected, abs=1e-5)


def test_temperature_leaves_a_logit_of_zero_at_one_half():
    logit, label, time_h, index = simulate(400, 6, shift=lambda h: h * 0 + 1.0)
    fitted = Calibration.fit(
        logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=CalibrationMethod.TEMPERATURE
    )
    assert np.all(fitted.apply(np.zeros((7, 1)), HOURS) == 0.5)
    assert fitted.log_slope[0][0] != 0.0


def test_no_calibration_is_the_networks_own_probability():
    logit = np.array([[-800.0, 0.0], [2.0, 800.0]])
    nothing = np.full((2, 2), np.nan)
    fitted = Calibration.fit(
        logit, nothing, time_h=np.zeros(2), stay_index=np.arange(2), kind=BINARY, method=CalibrationMethod.NONE
    )
    assert fitted.apply(logit, np.array([0.0, 500.0])) == pytest.approx(np.array([[0, 0.5], [1 / (1 + np.exp(-2)), 1]]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), hours=st.floats(-5, 2000))
def test_at_any_one_time_a_higher_logit_is_a_higher_risk(seed, hours):
    logit, label, time_h, index = simulate(60, seed, overconfidence=lambda h: -1.0 + h * 0)
    if len(np.unique(label)) < 2:
        label[:7] = 1.0 - label[0]
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    risk = fitted.apply(np.linspace(-5, 5, 50)[:, None], np.full(50, hours))[:, 0]
    assert np.all(np.diff(risk) >= 0)
    assert np.all((risk >= 0) & (risk <= 1))


def test_times_beyond_the_fitted_range_are_held_at_its_edge():
    logit, label, time_h, index = simulate(300, 8, overconfidence=DRIFTS["twice_too_sure_early"][0])
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    late = fitted.apply(np.ones((3, 1)), np.array([48.0, 100.0, 5000.0]))
    early = fitted.apply(np.ones((2, 1)), np.array([0.5, -30.0]))
    assert np.all(late == late[0])
    assert np.all(early == early[0])


def test_one_steps_risk_does_not_depend_on_the_steps_beside_it():
    logit, label, time_h, index = simulate(300, 9)
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    whole = fitted.apply(logit, time_h)
    single = np.concatenate([fitted.apply(logit[i : i + 1], time_h[i : i + 1]) for i in range(50)])
    assert whole[:50] == pytest.approx(single, abs=1e-15)


def test_every_horizon_is_calibrated_on_its_own_supervised_steps():
    first, label_a, time_h, index = simulate(400, 10, overconfidence=lambda h: 2.0 + h * 0)
    second, label_b, _, _ = simulate(400, 11)
    label_b[::3] = np.nan
    both = Calibration.fit(
        np.hstack([first, second]), np.hstack([label_a, label_b]), time_h=time_h, stay_index=index, kind=BINARY
    )
    alone = Calibration.fit(second, label_b, time_h=time_h, stay_index=index, kind=BINARY)
    assert both.log_slope[1] == pytest.approx(alone.log_slope[0])
    assert both.intercept[1] == pytest.approx(alone.intercept[0])
    assert both.log_slope[0][0] < both.log_slope[1][0]


def test_several_classes_become_calibrated_and_sum_to_one():
    rng = np.random.default_rng(12)
    truth = rng.normal(size=(4000, 3)) * 1.2 + np.array([1.0, 0.0, -1.0])
    share = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    label = (share.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).astype(float)[:, None]
    wrong = 2.0 * truth + np.array([0.0, 1.0, 0.0])
    time_h, index = np.full(4000, 5.0), np.arange(4000)
    fitted = Calibration.fit(wrong, label, time_h=time_h, stay_index=index, kind=TargetKind.MULTICLASS)
    risk = fitted.apply(wrong, time_h)
    assert risk.sum(axis=1) == pytest.approx(np.ones(4000))
    assert np.abs(risk - share).mean() < 0.03
    raw = Calibration.identity(TargetKind.MULTICLASS, 3).apply(wrong, time_h)
    assert np.abs(raw - share).mean() > 0.08


def test_predicted_numbers_come_back_in_the_targets_unit():
    rng = np.random.default_rng(13)
    standardised = rng.normal(size=(2000, 1))
    label = 10.0 + 4.0 * (0.5 * standardised + 0.3 + rng.normal(size=(2000, 1)) * 0.2)
    time_h, index = np.full(2000, 5.0), np.arange(2000)
    plain = Calibration.identity(TargetKind.REGRESSION, 1, mean=10.0, scale=4.0)
    fitted = Calibration.fit(
        standardised, label, time_h=time_h, stay_index=index, kind=TargetKind.REGRESSION, mean=10.0, scale=4.0
    )
    assert plain.apply(np.array([[1.0]]), np.zeros(1)) == pytest.approx(np.array([[14.0]]))
    assert fitted.apply(np.array([[0.0], [1.0]]), np.full(2, 5.0))[:, 0] == pytest.approx([11.2, 13.2], abs=0.1)


def test_a_calibration_survives_json():
    logit, label, time_h, index = simulate(300, 14)
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    again = from_plain(Calibration, json.loads(json.dumps(to_plain(fitted))), where="calibration")
    assert again == fitted
    assert np.array_equal(again.apply(logit, time_h), fitted.apply(logit, time_h))


@pytest.mark.parametrize(
    ("label", "message"),
    [(np.zeros((7, 1)), "two classes"), (np.full((7, 1), np.nan), "two classes")],
)
def test_steps_of_one_class_are_refused(label, message):
    with pytest.raises(DataError, match=message):
        Calibration.fit(np.zeros((7, 1)), label, time_h=HOURS, stay_index=np.arange(7), kind=BINARY)


def test_no_step_at_all_is_refused():
    with pytest.raises(DataError, match="got none"):
        Calibration.fit(
            np.zeros((0, 1)), np.zeros((0, 1)), time_h=np.zeros(0), stay_index=np.zeros(0, int), kind=BINARY
        )


def test_logits_of_another_network_are_refused():
    with pytest.raises(DataError, match=r"shape \(2, 1\), got \(2, 3\)"):
        Calibration.identity(BINARY, 1).apply(np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize(
    "change",
    [
        {"log_slope": ((0.0,), (0.0,))},
        {"log_slope": ((np.nan,),)},
        {"log_slope": ((0.0, 0.0),)},
        {"log_slope": ((0.0,) * (TERMS + 1),), "intercept": ((0.0,) * (TERMS + 1),)},
        {"log_slope": (), "intercept": ()},
        {"log1p_h": (2.0, 1.0)},
        {"scale": 0.0},
    ],
)
def test_coefficients_that_cannot_hold_are_refused(change):
    with pytest.raises((DataError, ConfigError), match="again"):
        Calibration(
            **{"kind": BINARY, "method": CalibrationMethod.PLATT, "log_slope": ((0.0,),), "intercept": ((0.0,),)}
            | change
        )


# A network that is right in the middle, and far too sure where it is sure: no slope and intercept mend that.
def bent(stays, seed):
    logit, label, time_h, index = simulate(stays, seed)
    return np.sign(logit + 1) * np.abs(logit + 1) ** 1.8 - 1, label, time_h, index


@pytest.mark.parametrize("method", [CalibrationMethod.BETA, CalibrationMethod.ISOTONIC])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), hours=st.floats(-5, 2000))
def test_with_a_curve_too_a_higher_logit_is_a_higher_risk_at_any_one_time(method, seed, hours):
    logit, label, time_h, index = simulate(60, seed)
    if len(np.unique(label)) < 2:
        label[:7] = 1.0 - label[0]
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=method)
    risk = fitted.apply(np.linspace(-20, 20, 200)[:, None], np.full(200, hours))[:, 0]
    assert np.all(np.diff(risk) >= 0)
    # Far beyond every logit that it saw, a risk may round to 1.
    seen = fitted.apply(logit, time_h)
    assert np.all((seen > 0) & (seen < 1))


@pytest.mark.parametrize("method", [CalibrationMethod.BETA, CalibrationMethod.ISOTONIC])
def test_a_curve_keeps_the_dependence_on_the_time_and_survives_json(method):
    drift = DRIFTS["twice_too_sure_early"]
    logit, label, time_h, index = simulate(8000, 3, overconfidence=drift[0])
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=method)
    risk = fitted.apply(logit, time_h)[:, 0]
    for hour in HOURS:
        slope, intercept = slope_and_intercept(label[time_h == hour, 0], risk[time_h == hour])
        assert slope == pytest.approx(1.0, abs=0.12)
        assert intercept == pytest.approx(0.0, abs=0.25)
    again = from_plain(Calibration, json.loads(json.dumps(to_plain(fitted))), where="calibration")
    assert again == fitted
    assert np.array_equal(again.apply(logit, time_h), fitted.apply(logit, time_h))


def test_auto_takes_the_simplest_where_nothing_more_is_needed():
    logit, label, time_h, index = simulate(1500, 21)
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=CalibrationMethod.AUTO)
    assert fitted.method is CalibrationMethod.TEMPERATURE
    assert [c.method for c in fitted.compared] == ["temperature", "platt", "beta", "isotonic"]


def test_auto_takes_an_intercept_where_the_network_was_shifted():
    logit, label, time_h, index = simulate(1500, 22, shift=lambda h: 1.5 + 0.0 * h)
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=CalibrationMethod.AUTO)
    alone = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY)
    assert fitted.method is CalibrationMethod.PLATT
    assert np.array_equal(fitted.apply(logit, time_h), alone.apply(logit, time_h))


def test_auto_takes_a_curve_where_the_network_is_bent():
    logit, label, time_h, index = bent(4000, 23)
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=CalibrationMethod.AUTO)
    assert fitted.method in (CalibrationMethod.BETA, CalibrationMethod.ISOTONIC)
    loss = {c.method: c.log_loss for c in fitted.compared}
    assert loss[fitted.method] < loss["platt"] < loss["temperature"]


def test_auto_compares_on_patients_that_no_fold_shares():
    # Each stay appears twice, as two stays of one patient: folds by stay would reward what knows the twin.
    logit, label, time_h, index = simulate(120, 24)
    twice = {"time_h": np.tile(time_h, 2), "kind": BINARY, "method": CalibrationMethod.AUTO}
    stays, patients = np.concatenate([index, index + 120]), np.tile(index, 2)
    logits, labels = np.tile(logit, (2, 1)), np.tile(label, (2, 1))
    by_patient = Calibration.fit(logits, labels, stay_index=stays, patient_index=patients, **twice)
    by_stay = Calibration.fit(logits, labels, stay_index=stays, **twice)
    flexible = {
        name: next(c.log_loss for c in fitted.compared if c.method == "isotonic")
        for name, fitted in (("patient", by_patient), ("stay", by_stay))
    }
    assert flexible["patient"] > flexible["stay"]


def test_auto_keeps_platt_where_events_are_too_few_to_compare_on():
    logit, label, time_h, index = simulate(60, 25)
    label[:] = 0.0
    label[index < 9] = 1.0
    fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=CalibrationMethod.AUTO)
    assert fitted.method is CalibrationMethod.PLATT
    assert fitted.compared == ()


def test_auto_is_platt_for_a_number_and_curves_are_refused():
    rng = np.random.default_rng(26)
    given_ = {"time_h": np.zeros(200), "stay_index": np.arange(200), "kind": TargetKind.REGRESSION}
    label = rng.normal(size=(200, 1))
    fitted = Calibration.fit(label * 2 + 1, label, method=CalibrationMethod.AUTO, **given_)
    assert fitted == Calibration.fit(label * 2 + 1, label, **given_)
    with pytest.raises(ConfigError, match=r"calibration\.method must be none, temperature, platt or auto"):
        Calibration.fit(label, label, method=CalibrationMethod.ISOTONIC, **given_)


def test_logits_that_were_learnt_with_weighted_events_come_back_to_the_true_level():
    logit, label, time_h, index = simulate(20_000, 27, shift=lambda h: np.log(5.0) + 0.0 * h)
    for method in (CalibrationMethod.PLATT, CalibrationMethod.BETA, CalibrationMethod.ISOTONIC):
        fitted = Calibration.fit(logit, label, time_h=time_h, stay_index=index, kind=BINARY, method=method)
        risk = fitted.apply(logit, time_h)[:, 0]
        assert risk.mean() == pytest.approx(label.mean(), rel=0.02)
        assert slope_and_intercept(label[:, 0], risk) == pytest.approx((1.0, 0.0), abs=0.05)


def test_curves_of_another_number_than_outputs_are_refused():
    rows = ((0.0,),)
    with pytest.raises(DataError, match="must have 1 beta and 0 isotonic curves, got 0 and 0"):
        Calibration(BINARY, CalibrationMethod.BETA, rows, rows)
    with pytest.raises(DataError, match="again"):
        Calibration(BINARY, CalibrationMethod.AUTO, rows, rows)


@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=FEW_STEPS),
    hour=st.floats(-5, 500),
    terms=st.sampled_from((1, TERMS)),
    kind=st.sampled_from(TargetKind),
)
def test_few_steps_are_calibrated_as_many(logits, hour, terms, kind):
    rows = ((0.1, -0.05, 0.02, 0.01)[:terms], (-0.2, 0.1, 0.0, 0.03)[:terms])
    method = CalibrationMethod.PLATT
    calibration = Calibration(kind, method, rows, rows[::-1], (0.0, 4.0), *((3.0, 2.0) if kind == "regression" else ()))
    logit = np.stack([logits, logits[::-1]], axis=1)
    hours = hour + np.arange(len(logits)) // 2
    many = calibration.apply(np.tile(logit, (FEW_STEPS + 1, 1)), np.tile(hours, FEW_STEPS + 1))
    np.testing.assert_allclose(calibration.apply(logit, hours), many[: len(logits)], rtol=1e-12, atol=0)
