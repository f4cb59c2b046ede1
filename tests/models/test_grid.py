import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError, DataError
from models.grid import GridKind, GridSpec, Moments
from tests.strategies import minutes

EVENT = GridSpec(GridKind.EVENT)
HOURLY = GridSpec(GridKind.FIXED, 1.0)


def moments(*pairs: tuple[int, int]) -> Moments:
    return Moments(
        np.array([stay for stay, _ in pairs], dtype=np.int64), np.array([minute for _, minute in pairs], dtype=np.int64)
    )


def build(grid, end_min, rows=(), notes=()):
    return grid.build(np.array(end_min, dtype=np.int64), moments(*rows), moments(*notes))


def stamps(grid, end_min, rows=(), notes=()):
    built = build(grid, [end_min], [(0, m) for m in rows], [(0, m) for m in notes])
    return built.time_min.tolist()


def test_the_event_grid_has_a_step_at_every_distinct_minute_and_at_the_end():
    assert stamps(EVENT, 100, rows=[0, 7, 7, 30], notes=[9]) == [0, 7, 9, 30, 100]


def test_an_event_grid_without_anything_known_by_admission_begins_with_a_step_there():
    assert stamps(EVENT, 50, rows=[5, 50]) == [0, 5, 50]


def test_history_is_a_step_of_its_own_minute_on_the_event_grid_and_needs_none_at_admission():
    assert stamps(EVENT, 20, rows=[-90, -3, 20]) == [-90, -3, 20]


@pytest.mark.parametrize("grid", [EVENT, HOURLY])
def test_a_stay_that_just_began_has_one_step_at_admission(grid):
    assert stamps(grid, 0) == [0]


def test_every_bin_up_to_the_end_is_a_step_stamped_at_its_end():
    assert stamps(HOURLY, 150, rows=[61]) == [60, 120, 150]


def test_an_observation_at_the_very_end_of_the_last_bin_opens_a_bin_stamped_at_the_end():
    built = build(HOURLY, [120], rows=[(0, 59), (0, 60), (0, 120)])
    assert built.time_min.tolist() == [60, 120, 120]
    assert built.row_step.tolist() == [0, 1, 2]


def test_history_on_a_fixed_grid_is_one_step_stamped_at_admission():
    built = build(HOURLY, [60], rows=[(0, -500), (0, -1), (0, 0)])
    assert built.time_min.tolist() == [0, 60]
    assert built.row_step.tolist() == [0, 0, 1]


def test_stays_stand_end_to_end_and_notes_enter_at_their_steps():
    built = build(EVENT, [5, 0, 9], rows=[(0, 5), (2, 3)], notes=[(0, 5), (2, 4), (2, 9)])
    assert built.step_offsets.tolist() == [0, 2, 3, 7]
    assert built.time_min.tolist() == [0, 5, 0, 0, 3, 4, 9]
    assert built.row_step.tolist() == [1, 4]
    assert built.note_step.tolist() == [1, 5, 6]


def test_no_stay_gives_no_step():
    built = build(HOURLY, [])
    assert built.step_offsets.tolist() == [0]
    assert len(built.time_min) == 0


@pytest.mark.parametrize("width_h", [0.0, -1.0, 0.013, float("nan"), float("inf")])
def test_a_width_that_is_not_whole_minutes_is_refused(width_h):
    with pytest.raises(ConfigError, match="whole, positive number of minutes"):
        GridSpec(GridKind.FIXED, width_h)


def test_a_stay_that_ends_before_admission_is_refused():
    with pytest.raises(DataError, match="end_min must be at least 0"):
        build(EVENT, [-1])


@pytest.mark.parametrize(("rows", "notes"), [([(0, 11)], []), ([], [(0, 11)])])
def test_anything_later_than_the_end_is_refused(rows, notes):
    with pytest.raises(DataError, match="not be later than"):
        build(HOURLY, [10], rows, notes)


@pytest.mark.parametrize("rows", [[(1, 1), (0, 1)], [(0, 2), (0, 1)]])
def test_unsorted_observations_are_refused(rows):
    with pytest.raises(DataError, match="sorted"):
        build(EVENT, [10, 10], rows)


def test_times_that_cannot_be_packed_are_refused():
    with pytest.raises(DataError, match="check the times' unit"):
        build(EVENT, [2**61, 2**61])


@given(st.lists(minutes, max_size=30), st.integers(1, 300), st.sampled_from(list(GridKind)))
def test_a_step_is_stamped_no_earlier_than_what_it_holds_and_steps_ascend(times, width, kind):
    grid = GridSpec(kind, width / 60)
    times = sorted(times)
    end = max([0, *times])
    built = build(grid, [end], [(0, t) for t in times])
    assert (built.time_min[built.row_step] >= np.array(times, dtype=np.int64)).all()
    assert (np.diff(built.time_min) >= 0).all()
    assert built.time_min[-1] == end
    assert len(set(built.row_step.tolist())) == len({grid.step_of(t) for t in times})
    assert built.time_min[built.row_step].tolist() == [grid.stamp(grid.step_of(t), end) for t in times]
