"""Times of observations and notes as they were sent to minutes since admission; times that many share are read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from service.clock import Clock, TimeRefusedError, moment
from service.errors import Loc

Places = list[tuple[Loc, str]]
# What may say when something was true, and when it became known.
FIELDS = ("time", "time_h", "available_time", "available_time_h")
_TRUE = FIELDS[:2]
_Given = tuple[str | None, float | None, str | None, float | None]


class Minutes(NamedTuple):
    """Minutes since admission.

    Args:
        true: at which it was true.
        known: from which it was known, never before.
    """

    true: int
    known: int


_REFUSED = Minutes(0, 0)


class Times:
    """Reads the times of one call.

    Args:
        clock: the stay's time line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._read: dict[_Given, Minutes] = {}
        # Minutes of items that gave this `time` and nothing else.
        self.met: dict[str | None, Minutes] = {}

    def of(self, where: Loc, item: Mapping[str, Any], places: Places) -> Minutes:
        """The minutes of one item; what does not hold is added to `places`."""
        get = item.get
        given = (get("time"), get("time_h"), get("available_time"), get("available_time_h"))
        minutes = self._read.get(given)
        if minutes is None:
            minutes = self._minutes(where, given, places)
            if minutes is not _REFUSED:
                self._read[given] = minutes
                if given[0] is not None and given[2] is given[3] is None:
                    self.met[given[0]] = minutes
        return minutes

    def known(self, name: str, items: Sequence[Mapping[str, Any]], places: Places) -> list[int]:
        """The minute from which each of many items was known; what does not hold is added to `places`."""
        named = set().union(*items)
        only = [field for field in FIELDS if field in named]
        if len(only) == 1 and only[0] in _TRUE:  # all told in one way, and many at one time
            given = [item.get(only[0]) for item in items]
            try:
                minutes = self._clock.minutes(only[0], set(given))
                return [minutes[one] for one in given]
            except TimeRefusedError:
                pass  # its place is found below
        return [self.of((name, i), item, places).known for i, item in enumerate(items)]

    def _minutes(self, where: Loc, given: _Given, places: Places) -> Minutes:
        time, time_h, known, known_h = given
        if (time is None) == (time_h is None):
            places.append((where, "must have exactly one of time and time_h"))
            return _REFUSED
        at = "time" if time is not None else "time_h"
        try:
            minute = self._clock.minute(moment(time), time_h)
            if known is None and known_h is None:
                return Minutes(minute, minute)
            at = "available_time" if known is not None else "available_time_h"
            if known is not None and known_h is not None:
                raise TimeRefusedError("must not be given beside available_time_h")
            return Minutes(minute, max(minute, self._clock.minute(moment(known), known_h)))
        except TimeRefusedError as refusal:
            places.append(((*where, at), str(refusal)))
            return _REFUSED


def end_minute(request: Mapping[str, Any], clock: Clock, places: Places) -> int | None:
    """The minute of `as_of` or `as_of_h`; None where neither is given, or it does not hold."""
    time, time_h = request.get("as_of"), request.get("as_of_h")
    if time is None and time_h is None:
        return None
    where: Loc = ("as_of" if time is not None else "as_of_h",)
    try:
        if time is not None and time_h is not None:
            raise TimeRefusedError("must not be given beside as_of_h")
        minute = clock.minute(moment(time), time_h)
        if minute < 0:
            raise TimeRefusedError("must not lie before admission")
    except TimeRefusedError as refusal:
        places.append((where, str(refusal)))
        return None
    return minute
