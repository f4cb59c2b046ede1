"""A five-field cron expression in, an APScheduler trigger with cron's own meaning out.

APScheduler 3 counts weekdays from Monday and asks for day of month and weekday at once; cron counts from
Sunday and takes either where both are given. Both are translated here.
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from models.errors import ConfigError

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
WEEKDAY_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<low>\w{1,3})(?:-(?P<high>\w{1,3}))?)(?:/(?P<step>\d+))?")


def cron_trigger(expression: str, timezone: str = "UTC") -> BaseTrigger:
    """The trigger of `minute hour day-of-month month day-of-week`.

    Args:
        expression: five fields, as in crontab(5), without @names.
        timezone: IANA name.

    Raises:
        ConfigError: if a field or the time zone cannot be read.

    Example:
        >>> str(cron_trigger("30 2 * * 0"))
        "cron[month='*', day='*', day_of_week='sun', hour='2', minute='30']"
    """
    fields = expression.split()
    if len(fields) != 5:
        raise ConfigError(f"cron must have five fields, got {len(fields)}; write for example '30 2 * * 0'")
    minute, hour, day, month, weekday = fields
    try:
        zone = ZoneInfo(timezone)
        time = {"minute": minute, "hour": hour, "month": month, "timezone": zone}
        days = weekday_names(weekday)
        if days == "*" or day == "*":
            return CronTrigger(day=day, day_of_week=days, **time)
        return OrTrigger([CronTrigger(day=day, **time), CronTrigger(day_of_week=days, **time)])
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"cron must be a crontab expression and a time zone, got an error: {error}") from error


def weekday_names(field: str) -> str:
    """Cron's weekdays by name: 0 and 7 are Sunday, ranges may go around the week.

    Raises:
        ValueError: if the field cannot be read.

    Example:
        >>> weekday_names("1-5"), weekday_names("*/2"), weekday_names("7")
        ('mon,tue,wed,thu,fri', 'sun,tue,thu,sat', 'sun')
    """
    if field == "*":
        return field
    chosen: set[int] = set()
    for item in field.lower().split(","):
        parts = WEEKDAY_ITEM.fullmatch(item)
        if parts is None or parts["step"] == "0":
            raise ValueError(f"day of week {field!r} cannot be read")
        low, high = (0, 6) if parts["all"] else (_weekday(parts["low"]), _weekday(parts["high"] or parts["low"]))
        high = high + 7 if high < low else high
        chosen |= {day % 7 for day in range(low, high + 1, int(parts["step"] or 1))}
    return ",".join(WEEKDAYS[day] for day in sorted(chosen))


def _weekday(text: str) -> int:
    if text in WEEKDAYS:
        return WEEKDAYS.index(text)
    if text.isdigit() and int(text) <= 7:
        return int(text) % 7 if text != "7" else 7
    raise ValueError(f"day of week {text!r} cannot be read")
