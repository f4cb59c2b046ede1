"""Times of a request to whole minutes since admission; refuses the future and what has no admission."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from service.schema import MAX_HOURS

MINUTE = timedelta(minutes=1)
MAX_MINUTE = int(MAX_HOURS * 60)
# Hours such as 29/60 fall below their minute by rounding; a millionth of a minute brings them back.
ROUNDING = 1e-6


class TimeRefusedError(ValueError):
    """Raised for a time that cannot be one of the stay; the message holds no time."""


def moment(written: str | None) -> datetime | None:
    """The time that a text means.

    Raises:
        TimeRefusedError: if it is of the form of a time and none, such as 25 o'clock.
    """
    if written is None:
        return None
    try:
        return datetime.fromisoformat(written.upper())
    except ValueError:
        raise TimeRefusedError("must be a time that exists") from None


@dataclass(frozen=True)
class Clock:
    """The stay's time line.

    Args:
        admission: minute 0, where it is known.
        latest: the last moment that has come, with the tolerance for clocks that differ.
    """

    admission: datetime | None
    latest: datetime

    def minute(self, time: datetime | None, time_h: float | None) -> int:
        """Whole minutes since admission of one of the two, rounded down.

        Raises:
            TimeRefusedError: if an absolute time has no admission, or the time is too far or in the future.
        """
        if time_h is not None:
            minute = math.floor(time_h * 60.0 + ROUNDING)
        elif time is None or self.admission is None:
            raise TimeRefusedError("needs admission, because it is absolute; send admission or hours since it")
        else:
            minute = (time - self.admission) // MINUTE
        if abs(minute) > MAX_MINUTE:
            raise TimeRefusedError(f"must lie within {MAX_HOURS:.0f} h of admission")
        if minute > self._latest_minute:
            raise TimeRefusedError("must not lie in the future")
        return minute

    def minutes(self, field: str, given: Collection[Any]) -> dict[Any, int]:
        """As `minute`, of many times that are all of one kind, `time` as they were written or `time_h`; by the time.

        Raises:
            TimeRefusedError: if `minute` would for one of them, or one is None.
        """
        if field == "time":
            written, admission = datetime.fromisoformat, self.admission
            if admission is None:
                raise TimeRefusedError("needs admission")
            try:
                found = {one: (written(one.upper()) - admission) // MINUTE for one in given}
            except (ValueError, AttributeError):
                raise TimeRefusedError("must be a time that exists") from None
        else:
            found = {one: self.minute(None, one) for one in given}
        if found and (max(found.values()) > min(MAX_MINUTE, self._latest_minute) or min(found.values()) < -MAX_MINUTE):
            raise TimeRefusedError("must lie within the stay")
        return found

    @cached_property
    def _latest_minute(self) -> float:
        """The minute in which `latest` lies; without an admission nobody knows, and no minute is too late."""
        return math.inf if self.admission is None else (self.latest - self.admission) // MINUTE

    def check_admission(self) -> None:
        """Refuses an admission that has not come.

        Raises:
            TimeRefusedError: if it lies in the future.
        """
        if self.admission is not None and self.admission > self.latest:
            raise TimeRefusedError("must not lie in the future")
