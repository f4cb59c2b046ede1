"""Raw values to stays: conversion, limits, sorting and the removal of duplicates."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.channel_table import CHANNELS, channel_by_name
from models.errors import DataError, UnitError
from models.intake import (
    Columns,
    NoteColumns,
    Rejection,
    build_stays,
    canonical_columns,
    canonical_values,
    outside_soft_limits,
)


def columns(rows: list[tuple[int, int, int, float]]) -> Columns:
    stay, time, channel, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Columns(
        np.array(stay, dtype=np.int64),
        np.array(time, dtype=np.int64),
        np.array(channel, dtype=np.int16),
        np.array(value, dtype=np.float64),
    )


def build(rows, *, stays: int = 2, end: int = 100, channels=("a", "b", "c"), notes=None):
    return build_stays(
        stay_id=[f"s{i}" for i in range(stays)],
        end_min=np.full(stays, end),
        columns=rows if isinstance(rows, Columns) else columns(rows),
        channels=channels,
        static=np.zeros((stays, 0)),
        static_names=(),
        notes=notes,
    )


def test_an_unknown_unit_is_refused_and_the_accepted_ones_are_named():
    with pytest.raises(UnitError, match=r"unit of temperature must be one of Cel, \[degF\], got another unit"):
        canonical_values(channel_by_name("temperature"), "secret", np.array([37.0]))


def test_values_outside_hard_limits_and_what_is_no_number_are_told_apart_from_the_rest():
    given_values = np.array([10.0, 50.0, 9.9, 50.1, np.nan, np.inf, -np.inf])
    _, within = canonical_values(channel_by_name("temperature"), "Cel", given_values)
    assert within.tolist() == [True, True, False, False, False, False, False]


def test_a_value_that_overflows_in_conversion_lies_outside_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, within = canonical_values(channel_by_name("height"), "m", np.array([1e307]))
        channel = np.array([CHANNELS.index(channel_by_name("height"))], dtype=np.int16)
        units = [c.unit if c.name != "height" else "m" for c in CHANNELS]
        _, also = canonical_columns(CHANNELS, units, channel, np.array([1e307]))
    assert not within[0]
    assert not also[0]


@given(st.lists(st.tuples(st.integers(0, len(CHANNELS) - 1), st.floats(-1e4, 1e4)), min_size=1, max_size=30))
def test_many_channels_at_once_are_converted_bit_equal_to_one_by_one(rows):
    units = [next(iter(c.accepts), c.unit) for c in CHANNELS]
    channel = np.array([c for c, _ in rows], dtype=np.int16)
    value = np.array([v for _, v in rows])
    together, within = canonical_columns(CHANNELS, units, channel, value)
    for i, (c, v) in enumerate(rows):
        alone, inside = canonical_values(CHANNELS[c], units[c], np.array([v]))
        assert (together[i], within[i]) == (alone[0], inside[0])


def test_a_unit_that_a_channel_does_not_accept_is_refused_among_many():
    with pytest.raises(UnitError, match="heart_rate"):
        canonical_columns((channel_by_name("heart_rate"),), ("kg",), np.array([0], dtype=np.int16), np.array([1.0]))


def test_values_outside_soft_limits_are_flagged():
    channels = (channel_by_name("temperature"), channel_by_name("gcs"))
    flagged = outside_soft_limits(channels, np.array([0, 0, 0, 1], dtype=np.int16), np.array([31.0, 37.0, 43.0, 3.0]))
    assert flagged.tolist() == [True, False, True, False]
    assert outside_soft_limits((), np.zeros(0, dtype=np.int16), np.zeros(0)).tolist() == []


def test_rows_are_sorted_by_stay_time_channel_and_value():
    stays, rejected = build([(1, 5, 0, 2.0), (0, 9, 1, 1.0), (0, 9, 0, 7.0), (0, 9, 0, 3.0), (0, -4, 2, 1.0)])
    assert stays.offsets.tolist() == [0, 4, 5]
    assert stays.time_min.tolist() == [-4, 9, 9, 9, 5]
    assert stays.channel.tolist() == [2, 0, 0, 1, 0]
    assert stays.value.tolist() == [1.0, 3.0, 7.0, 1.0, 2.0]
    assert not rejected


def test_a_row_after_the_end_is_dropped_and_counted():
    stays, rejected = build([(0, 100, 0, 1.0), (0, 101, 0, 1.0), (1, 500, 0, 1.0)])
    assert stays.time_min.tolist() == [100]
    assert rejected == {Rejection.AFTER_END: 2}


def test_exact_duplicates_are_dropped_and_several_values_at_one_time_stay():
    stays, rejected = build([(0, 1, 0, 5.0), (0, 1, 0, 6.0), (0, 1, 0, 5.0), (1, 1, 0, 5.0), (0, 2, 0, 5.0)])
    assert stays.value.tolist() == [5.0, 6.0, 5.0, 5.0]
    assert rejected == {Rejection.DUPLICATE: 1}


def test_minus_zero_is_zero():
    stays, rejected = build([(0, 1, 0, -0.0), (0, 1, 0, 0.0)])
    assert not np.signbit(stays.value[0])
    assert rejected == {Rejection.DUPLICATE: 1}


def test_no_row_and_no_stay_are_allowed():
    stays, _ = build([], stays=2)
    assert stays.offsets.tolist() == [0, 0, 0]
    nothing, _ = build([], stays=0)
    assert len(nothing) == 0


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(-50, 120), st.integers(0, 2), st.sampled_from([-0.0, 0.0, 1.0, 2.5, -3.0])
    ),
    max_size=40,
)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_of_rows_gives_the_same_stays(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    first, counted = build(rows, stays=3)
    second, recounted = build(shuffled, stays=3)
    for name in ("offsets", "time_min", "channel", "value"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert counted == recounted
    kept = sorted({(s, t, c, v + 0.0) for s, t, c, v in rows if t <= 100})
    assert list(zip(first.stay_of_row(), first.time_min, first.channel, first.value, strict=True)) == kept


def test_times_too_far_apart_to_be_packed_are_sorted_all_the_same():
    far = 2**61
    stays, _ = build([(1, far, 1, 1.0), (0, -far, 0, 2.0), (0, far, 1, 1.0), (0, far, 0, 9.0)], end=far)
    assert stays.time_min.tolist() == [-far, far, far, far]
    assert stays.channel.tolist() == [0, 0, 1, 1]


def test_notes_are_sorted_and_late_or_equal_ones_are_dropped_and_counted():
    notes = NoteColumns(
        stay=np.array([1, 0, 0, 0, 0]),
        time_min=np.array([5, 7, 7, 7, 200]),
        kind=["b", "b", "a", "b", "a"],
        text=["x", "y", "z", "y", "late"],
    )
    stays, rejected = build([], notes=notes)
    assert stays.note_offsets.tolist() == [0, 2, 3]
    assert stays.note_time_min.tolist() == [7, 7, 5]
    assert list(zip(stays.note_kind, stays.note_text, strict=True)) == [("a", "z"), ("b", "y"), ("b", "x")]
    assert rejected == {Rejection.AFTER_END: 1, Rejection.DUPLICATE: 1}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(2, 0, 0, 1.0)], "stay must index 2 entries"),
        ([(-1, 0, 0, 1.0)], "stay must index 2 entries"),
        ([(0, 0, 3, 1.0)], "channel must index 3 entries"),
        ([(0, 0, 0, float("nan"))], "value must be finite"),
        ([(0, 0, 0, float("inf"))], "value must be finite"),
    ],
)
def test_rows_that_point_nowhere_or_hold_no_number_are_refused(rows, words):
    with pytest.raises(DataError, match=words):
        build(rows)


def test_columns_of_unequal_length_are_refused():
    uneven = Columns(np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int16), np.zeros(1))
    with pytest.raises(DataError, match="columns must be of one length"):
        build(uneven)
    notes = NoteColumns(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), ["a"], [])
    with pytest.raises(DataError, match="note columns must be of one length"):
        build([], notes=notes)


def test_a_note_of_an_unknown_stay_is_refused():
    notes = NoteColumns(np.array([2]), np.array([0]), ["a"], ["b"])
    with pytest.raises(DataError, match="stay of a note must index 2 entries"):
        build([], notes=notes)


def test_a_stay_given_twice_is_refused():
    with pytest.raises(DataError, match="stay_id must be unique"):
        build_stays(
            stay_id=["a", "a"],
            end_min=np.zeros(2),
            columns=columns([]),
            channels=(),
            static=np.zeros((2, 0)),
            static_names=(),
        )
