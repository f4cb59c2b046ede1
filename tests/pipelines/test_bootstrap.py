"""The bootstrap draws patients, covers the truth, and tells what it could not estimate."""

import numpy as np
import pytest

from models.errors import ConfigError
from pipelines.bootstrap import Estimates, Resampling, draw_weights, estimate, interval
from pipelines.metrics import discrimination, probability_errors


def test_all_rows_of_a_patient_are_drawn_together():
    patients = np.array([0, 0, 0, 1, 2, 2])
    weight = np.concatenate(list(draw_weights(patients, 3, Resampling(draws=50))))
    assert weight.shape == (50, 6)
    assert np.all(weight[:, 0] == weight[:, 1])
    assert np.all(weight[:, 1] == weight[:, 2])
    assert np.all(weight[:, 4] == weight[:, 5])
    assert np.all(weight[:, 0] + weight[:, 3] + weight[:, 4] == 3)
    assert len(np.unique(weight, axis=0)) > 5


def test_draws_depend_on_seed_and_patients_and_not_on_the_rows():
    few, many = np.arange(30), np.repeat(np.arange(30), 20_000)
    first = np.concatenate(list(draw_weights(few, 30, Resampling(draws=20, seed=4))))
    large = [block[:, ::20_000] for block in draw_weights(many, 30, Resampling(draws=20, seed=4))]
    other = np.concatenate(list(draw_weights(few, 30, Resampling(draws=20, seed=5))))
    assert np.array_equal(first, np.concatenate(large))
    assert not np.array_equal(first, other)


def test_an_interval_of_a_mean_has_its_textbook_width():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, size=400)
    total = lambda w: {"mean": w @ values / w.sum(axis=1)}  # noqa: E731
    entry = estimate(total, np.arange(400), Resampling(draws=2000)).metrics["mean"]
    assert entry["value"] == pytest.approx(values.mean())
    assert entry["high"] - entry["low"] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_repeating_every_row_of_a_patient_does_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    risk = rng.random(200)
    label = (rng.random(200) < risk).astype(float)
    once = estimate(discrimination(label, risk), np.arange(200), Resampling())
    rows = np.repeat(np.arange(200), 10)
    often = estimate(discrimination(label[rows], risk[rows]), rows, Resampling())
    assert often.metrics["auroc"]["low"] == pytest.approx(once.metrics["auroc"]["low"])
    assert often.metrics["auroc"]["high"] == pytest.approx(once.metrics["auroc"]["high"])


@pytest.mark.slow
def test_intervals_of_the_auroc_cover_the_truth_about_as_often_as_they_claim():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        label = (rng.random(150) < 0.3).astype(float)
        entry = estimate(
            discrimination(label, rng.normal(size=150) + label), np.arange(150), Resampling(draws=200, level=0.9)
        ).metrics["auroc"]
        covered += entry["low"] <= 0.7602 <= entry["high"]  # Phi(1 / sqrt(2))
    assert 0.82 <= covered / 150 <= 0.97


def test_draws_with_one_class_are_left_out_and_counted():
    label = np.array([1.0] + [0.0] * 9)
    found = estimate(discrimination(label, np.linspace(0, 1, 10)), np.arange(10), Resampling(draws=500))
    # A draw of ten misses the only event with probability 0.9 ** 10.
    assert found.metrics["auroc"]["left_out"] == pytest.approx(500 * 0.9**10, rel=0.25)


def test_what_is_not_defined_is_absent_with_a_reason():
    found = estimate(discrimination(np.zeros(9), np.linspace(0, 1, 9)), np.arange(9), Resampling(draws=30))
    assert found.metrics == {}
    assert "one class" in found.undefined["auroc"]
    empty = estimate(discrimination(np.zeros(0), np.zeros(0)), np.zeros(0, dtype=int), Resampling())
    assert empty.metrics == {}
    assert list(empty.undefined.values()) == ["no stay holds a label here"]


def test_errors_that_only_add_up_keep_their_value_inside_the_interval():
    rng = np.random.default_rng(3)
    risk = rng.random(3000)
    label = (rng.random(3000) < risk).astype(float)
    entry = estimate(probability_errors(label, risk), np.arange(3000), Resampling(draws=300)).metrics["ece"]
    assert 0.0 <= entry["low"] <= entry["value"] <= entry["high"]


def test_an_interval_needs_draws_that_define_the_metric():
    assert interval("auroc", 0.7, np.array([0.7] * 10 + [np.nan] * 90), 0.95) is None
    assert interval("auroc", np.nan, np.full(100, 0.7), 0.95) is None


def test_merged_estimates_carry_suffix_and_further_entries():
    found = Estimates()
    found.merge(Estimates({"auroc": {"value": 0.7}}, {"ece": "why"}), suffix="_at_6h", stays=9)
    assert found.metrics == {"auroc_at_6h": {"value": 0.7, "stays": 9}}
    assert found.undefined == {"ece_at_6h": "why"}


@pytest.mark.parametrize("settings", [{"draws": 3}, {"level": 1.0}, {"level": 0.0}])
def test_settings_that_make_no_interval_are_refused(settings):
    with pytest.raises(ConfigError, match="must be"):
        Resampling(**settings)
