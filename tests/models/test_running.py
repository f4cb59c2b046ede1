import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models import running

SCORES = st.floats(-6, 6, allow_nan=False)
SERIES = st.lists(st.dictionaries(st.integers(-5000, 5000), SCORES, min_size=1, max_size=40), min_size=1, max_size=6)


def laid_out(series):
    ordered = [sorted(one.items()) for one in series]
    starts = np.cumsum([0, *(len(one) for one in ordered)])
    minute = np.array([t for one in ordered for t, _ in one], dtype=np.int64)
    return starts, minute, np.array([z for one in ordered for _, z in one])


def folded(minute, score):
    statistics = running.empty(1)
    rows = []
    for t, z in zip(minute.tolist(), score.tolist(), strict=True):
        statistics = running.advance(statistics, np.array([0]), t, np.array([z]))
        rows.append(statistics[:, 0])
    return np.stack(rows, axis=1)


@given(SERIES)
def test_accumulating_all_series_at_once_equals_advancing_minute_by_minute_to_the_bit(series):
    starts, minute, score = laid_out(series)
    got = running.accumulate(starts, minute, score)
    for begin, end in itertools.pairwise(starts):
        np.testing.assert_array_equal(got[:, begin:end], folded(minute[begin:end], score[begin:end]))


@given(SERIES)
def test_summaries_equal_numpys_own_of_the_values_so_far(series):
    starts, minute, score = laid_out(series)
    got = running.accumulate(starts, minute, score)
    for begin, end in itertools.pairwise(starts):
        last = end - 1
        seen = score[begin:end]
        assert got[running.COUNT, last] == len(seen)
        assert got[running.FIRST, last] == seen[0]
        assert got[running.LAST, last] == seen[-1]
        assert got[running.LOW, last] == seen.min()
        assert got[running.HIGH, last] == seen.max()
        np.testing.assert_allclose(running.mean(got)[last], seen.mean(), atol=1e-12)


def test_the_slope_of_a_long_straight_line_is_the_lines():
    hours = np.arange(0.0, 100.0, 2.0)
    statistics = running.accumulate(np.array([0, 50]), (hours * 60).astype(np.int64), -3 + 0.04 * hours)
    np.testing.assert_allclose(running.slope(statistics)[-1], 0.04, rtol=1e-3)


def test_the_slope_equals_the_least_squares_slope_with_one_hour_squared_of_ridge():
    rng = np.random.default_rng(0)
    minute = np.sort(rng.choice(3000, 30, replace=False))
    score = rng.normal(size=30)
    hours = minute / 60 - (minute / 60).mean()
    expected = (hours * score).sum() / ((hours * hours).sum() + 1.0)
    statistics = running.accumulate(np.array([0, 30]), minute, score)
    np.testing.assert_allclose(running.slope(statistics)[-1], expected, rtol=1e-10)


def test_a_channel_has_no_slope_before_its_second_minute_nor_a_mean_before_its_first():
    one = running.advance(running.empty(2), np.array([1]), 5, np.array([2.0]))
    assert running.slope(one).tolist() == [0.0, 0.0]
    assert running.mean(one).tolist() == [0.0, 2.0]


def test_two_values_a_minute_apart_give_no_steep_slope():
    statistics = running.accumulate(np.array([0, 2]), np.array([0, 1]), np.array([0.0, 6.0]))
    assert abs(running.slope(statistics)[-1]) < 0.1


def test_advancing_leaves_the_statistics_it_was_given_as_they_are():
    before = running.empty(3)
    running.advance(before, np.array([0, 2]), 1, np.array([1.0, 2.0]))
    assert not before.any()


def test_no_observation_accumulates_to_nothing():
    got = running.accumulate(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert got.shape == (running.STATISTICS, 0)


def test_values_of_one_minute_combine_by_their_mean():
    boundary = np.array([True, False, True, True, False, False])
    assert running.minute_means(boundary, np.array([1.0, 3.0, 5.0, 1.0, 2.0, 6.0])).tolist() == [2.0, 5.0, 3.0]
