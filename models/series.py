"""Stays in, observations by channel out: values of one minute combined, then laid out as series of standard scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models import running
from models.errors import DataError
from models.standardise import Standardiser
from models.stay import Floats, Ints, Stays


@dataclass(frozen=True)
class Rows:
    """Observations of the encoding's channels, one a (stay, minute, channel), sorted so.

    Args:
        stay: (m,) index of the stay.
        minute: (m,) minutes since admission.
        channel: (m,) the encoding's channel.
        value: (m,) mean of the values of that minute, canonical unit.
    """

    stay: Ints
    minute: Ints
    channel: Ints
    value: Floats

    @classmethod
    def of(cls, stays: Stays, numbers: Mapping[str, int]) -> Rows:
        """The stays' observations of the channels in `numbers`, so numbered; others are left out.

        Raises:
            DataError: if observations are not sorted by (time, channel, value), are repeated or not finite.
        """
        stay, minute, channel, value = stays.stay_of_row(), stays.time_min, stays.channel, stays.value
        _check_sorted(stay, minute, channel, value)
        translation = np.array([numbers.get(name, -1) for name in stays.channels], dtype=np.int64)
        own = translation[channel] if len(translation) else np.zeros(0, dtype=np.int64)
        used = own >= 0
        stay, minute, own, value = stay[used], minute[used], own[used], value[used]
        boundary = np.ones(len(stay), dtype=bool)
        boundary[1:] = (np.diff(stay) != 0) | (np.diff(minute) != 0) | (np.diff(own) != 0)
        return cls(stay[boundary], minute[boundary], own[boundary], running.minute_means(boundary, value))

    def between(self, first_stay: int, last_stay: int) -> Rows:
        """Rows of the stays `first_stay .. last_stay - 1`, which then count from 0."""
        begin, end = self.stay.searchsorted([first_stay, last_stay]).tolist()
        part = slice(begin, end)
        return Rows(self.stay[part] - first_stay, self.minute[part], self.channel[part], self.value[part])


@dataclass(frozen=True)
class Series:
    """Observations as standard scores, sorted by (stay, channel, minute).

    Args:
        step: (m,) time step at which each enters.
        channel: (m,) channel.
        minute: (m,) minute.
        score: (m,) standard score.
        stay_start: (n + 1,) rows of stay i.
        starts: (s + 1,) rows of each series, that is of one channel in one stay; none is empty.
    """

    step: Ints
    channel: Ints
    minute: Ints
    score: Floats
    stay_start: Ints
    starts: Ints

    @classmethod
    def of(cls, rows: Rows, step: Ints, stays: int, standardiser: Standardiser) -> Series:
        """Lays out the rows of `stays` stays, whose time steps are `step`."""
        key = rows.stay * max(standardiser.channels, 1) + rows.channel
        order = np.argsort(key, kind="stable")
        channel, ordered = rows.channel[order], key[order]
        bounds = np.flatnonzero(np.diff(ordered, prepend=-1))
        return cls(
            step=step[order],
            channel=channel,
            minute=rows.minute[order],
            score=standardiser.apply(channel, rows.value[order]),
            stay_start=rows.stay.searchsorted(np.arange(stays + 1)),
            starts=np.append(bounds, len(ordered)),
        )


def _check_sorted(stay: Ints, minute: Ints, channel: np.ndarray[tuple[int], np.dtype[np.int16]], value: Floats) -> None:
    if not np.isfinite(value).all():
        raise DataError("value must be finite, got NaN or infinity; leave absent values out")
    later = np.diff(value) > 0
    for column in (channel, minute, stay):
        step = np.diff(column)
        later = (step > 0) | ((step == 0) & later)
    if not later.all():
        raise DataError(
            "observations must be sorted by (time, channel, value) within a stay and distinct, got another order or a "
            "repetition; build stays with models.intake"
        )
