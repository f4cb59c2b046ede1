import numpy as np
import pytest

from models.standardise import Standardiser


def fit(*values, clip=6.0):
    channel = np.concatenate([np.full(len(v), i) for i, v in enumerate(values)]).astype(np.int64)
    value = np.concatenate([np.asarray(v, dtype=np.float64) for v in values])
    stay = np.concatenate([np.arange(len(v)) for v in values]).astype(np.int64)
    return Standardiser.fit(stay=stay, channel=channel, value=value, channels=len(values), clip=clip)


def apply(standardiser, channel, values):
    return standardiser.apply(np.full(len(values), channel), np.asarray(values, dtype=np.float64))


def test_symmetric_values_are_standardised_by_mean_and_standard_deviation():
    values = np.random.default_rng(0).normal(80, 10, 500)
    standardiser = fit(values)
    assert standardiser.log_scale == (0.0,)
    np.testing.assert_allclose(apply(standardiser, 0, values), (values - values.mean()) / values.std(), atol=1e-12)


def test_right_skewed_values_are_standardised_on_a_logarithmic_scale():
    values = np.random.default_rng(0).lognormal(0, 1.2, 500)
    scores = apply(fit(values), 0, values)
    assert fit(values).log_scale[0] == pytest.approx(np.median(values), rel=0.05)
    assert abs(scores.mean()) < 1e-12
    assert scores.std() == pytest.approx(1.0)


def test_a_channel_with_negative_values_stays_linear():
    values = np.append(np.random.default_rng(0).lognormal(0, 1.2, 500), -1.0)
    assert fit(values).log_scale == (0.0,)


def test_few_values_are_not_called_skewed():
    assert fit([1.0, 1.0, 1.0, 1.0, 100.0]).log_scale == (0.0,)


def test_a_constant_channel_has_unit_deviation_and_scores_zero():
    standardiser = fit([1.0, 1.0, 1.0])
    assert standardiser.std == (1.0,)
    assert apply(standardiser, 0, [1.0]).tolist() == [0.0]


def test_a_channel_never_observed_is_neutral_and_not_used():
    standardiser = fit([1.0, 2.0], [])
    assert (standardiser.mean[1], standardiser.std[1]) == (0.0, 1.0)
    assert standardiser.used.tolist() == [True, False]


def test_scores_are_clipped():
    assert apply(fit([0.0, 1.0], clip=2.0), 0, [-1e9, 1e9]).tolist() == [-2.0, 2.0]


def test_scores_invert_to_values_on_either_scale():
    rng = np.random.default_rng(1)
    values = [rng.normal(80, 10, 300), rng.lognormal(0, 1.5, 300)]
    standardiser = fit(*values)
    for channel, value in enumerate(values):
        inside = value[np.abs(apply(standardiser, channel, value)) < 5.9]
        back = standardiser.invert(np.full(len(inside), channel), apply(standardiser, channel, inside))
        np.testing.assert_allclose(back, inside, rtol=1e-9)


def test_the_number_of_training_stays_of_a_channel_counts_each_once():
    stay = np.array([0, 0, 1, 1, 2], dtype=np.int64)
    channel = np.array([0, 0, 0, 1, 1], dtype=np.int64)
    fitted = Standardiser.fit(stay=stay, channel=channel, value=np.arange(5.0), channels=2, clip=6.0)
    assert fitted.stays == (2, 2)


def test_no_channels_fit_to_nothing():
    empty = np.zeros(0, dtype=np.int64)
    assert Standardiser.fit(stay=empty, channel=empty, value=np.zeros(0), channels=0, clip=6.0).channels == 0
