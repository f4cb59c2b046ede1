"""Cron expressions mean what crontab(5) says, not what APScheduler takes them for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError
from pipelines.cron import WEEKDAYS, cron_trigger, weekday_names

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def _next(expression, after=MONDAY, timezone="UTC"):
    return cron_trigger(expression, timezone).get_next_fire_time(None, after)


def test_day_0_and_day_7_are_sunday():
    assert _next("30 2 * * 0") == _next("30 2 * * 7") == datetime(2026, 3, 8, 2, 30, tzinfo=UTC)


def test_day_1_is_monday():
    assert _next("0 5 * * 1") == datetime(2026, 3, 2, 5, tzinfo=UTC)


def test_either_of_day_of_month_and_weekday_is_enough():
    assert _next("0 0 15 * 5", MONDAY) == datetime(2026, 3, 6, tzinfo=UTC)
    assert _next("0 0 15 * 5", datetime(2026, 3, 14, tzinfo=UTC)) == datetime(2026, 3, 15, tzinfo=UTC)


def test_steps_of_weekdays_count_from_sunday():
    assert weekday_names("*/2") == "sun,tue,thu,sat"


def test_ranges_may_go_around_the_week():
    assert weekday_names("fri-mon") == "sun,mon,fri,sat"
    assert weekday_names("5-7") == "sun,fri,sat"
    assert weekday_names("0-6") == ",".join(WEEKDAYS)


def test_the_time_zone_decides_the_hour():
    assert _next("0 3 * * *", timezone="Asia/Tokyo").astimezone(UTC) == datetime(2026, 3, 2, 18, tzinfo=UTC)


@given(low=st.integers(0, 6), high=st.integers(0, 6))
def test_a_weekday_range_holds_the_days_from_its_first_to_its_last(low, high):
    days = weekday_names(f"{low}-{high}").split(",")
    assert len(days) == (high - low) % 7 + 1
    assert WEEKDAYS[low] in days
    assert WEEKDAYS[high] in days


@given(day=st.integers(0, 7), offset=st.integers(0, 400))
def test_every_fire_time_is_on_the_asked_weekday(day, offset):
    fired = _next(f"15 4 * * {day}", MONDAY + timedelta(days=offset))
    assert (fired.isoweekday() % 7, fired.hour, fired.minute) == (day % 7, 4, 15)


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "61 * * * *", "* * * * 8", "* * * * xyz", "* * * * 1/0", "a b c d e"]
)
def test_what_is_no_cron_expression_is_refused(expression):
    with pytest.raises(ConfigError, match="cron must"):
        cron_trigger(expression)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ConfigError, match="time zone"):
        cron_trigger("* * * * *", "Nowhere/Town")
