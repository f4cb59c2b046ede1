from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import MAX_MINUTE, Clock, TimeRefusedError

ADMISSION = datetime(2026, 1, 31, 8, 0, 30, tzinfo=UTC)
CLOCK = Clock(ADMISSION, ADMISSION + timedelta(days=3))


@given(st.integers(-MAX_MINUTE, MAX_MINUTE))
def test_hours_made_from_whole_minutes_come_back_to_the_same_minute(minute):
    assert Clock(None, ADMISSION).minute(None, minute / 60) == minute


@given(st.integers(-10_000, 4_000), st.integers(0, 59))
def test_absolute_times_are_rounded_down_to_the_minute_since_admission(minute, second):
    moment = ADMISSION + timedelta(minutes=minute, seconds=second)
    assert CLOCK.minute(moment, None) == minute


def test_offsets_are_honoured():
    tokyo = (ADMISSION + timedelta(hours=2)).astimezone(timezone(timedelta(hours=9)))
    assert CLOCK.minute(tokyo, None) == 120


@pytest.mark.parametrize(("time", "time_h"), [(ADMISSION + timedelta(days=4), None), (None, 96.0)])
def test_the_future_is_refused(time, time_h):
    with pytest.raises(TimeRefusedError, match="future"):
        CLOCK.minute(time, time_h)


def test_an_absolute_time_needs_admission():
    with pytest.raises(TimeRefusedError, match="needs admission"):
        Clock(None, ADMISSION).minute(ADMISSION, None)


def test_a_time_centuries_away_is_refused():
    with pytest.raises(TimeRefusedError, match="within"):
        CLOCK.minute(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))), None)


def test_an_admission_in_the_future_is_refused():
    with pytest.raises(TimeRefusedError, match="future"):
        Clock(ADMISSION, ADMISSION - timedelta(minutes=1)).check_admission()
