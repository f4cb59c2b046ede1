"""Observations of one time step of many live stays in, their features out: what `Encoding.step` gives, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from models import running
from models.channel_encoding import Feature
from models.clock import CLOCK, clock_features
from models.encoding import Encoding
from models.errors import DataError
from models.grid import GridKind
from models.live_input import LiveInput
from models.live_record import NEVER, Records
from models.lone_encoding import LoneEncoder
from models.stay import Floats, Ints

# So few stays cost less one by one than side by side.
FEW = 3


@dataclass(frozen=True)
class _Moments:
    """Observations as series, one a (stay, channel), each ascending in time.

    Args:
        row: (s,) stay of every series.
        channel: (s,) its channel.
        starts: (s,) its first observation.
        length: (s,) observations of it.
        minute: (m,) minutes.
        value: (m,) means of the values of one minute.
    """

    row: Ints
    channel: Ints
    starts: Ints
    length: Ints
    minute: Ints
    value: Floats


class LiveEncoder:
    """Steps the encoding of many stays.

    Args:
        encoding: the model's.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._channels, self._clip = encoding.channels, encoding.clip
        self._count, self._width = len(encoding.channels.names), encoding.width
        # A bin may begin in the minute in which the one before ended.
        self._apart = 0 if encoding.grid.kind is GridKind.FIXED else 1
        features = encoding.channels.features
        self._used = frozenset(np.flatnonzero(self._channels.standardiser.used).tolist())
        self._place = {kind: features.index(kind) if kind in features else None for kind in Feature}
        self._lone = LoneEncoder(encoding, self._apart)

    def step(self, records: Records, inputs: Sequence[LiveInput]) -> NDArray[np.float32]:
        """(n, width) features of the step; the records become those after it.

        Args:
            records: (n,) of the stays before the step, changed in place.
            inputs: one a stay.

        Raises:
            DataError: if the step or an observation is not after the state's last step, an observation is later than
                the step, or anything does not fit the encoding; records are then as they were.
        """
        if len(inputs) <= FEW:
            return self._few(records, inputs)
        return self._many(records, inputs)

    def _few(self, records: Records, inputs: Sequence[LiveInput]) -> NDArray[np.float32]:
        """As `step`, one stay after the other."""
        given = records.copy() if len(inputs) > 1 else None
        features = np.empty((len(inputs), self._width), dtype=np.float32)
        for row, one in enumerate(inputs):
            found = self._lone.step(records, row, one)
            if found is None:  # the other way says what does not fit
                try:
                    found = self._many(records[row : row + 1], [one])[0]
                except DataError:
                    if given is not None:
                        records[:] = given
                    raise
            features[row] = found
        return features

    def _many(self, records: Records, inputs: Sequence[LiveInput]) -> NDArray[np.float32]:
        """As `step`, all side by side."""
        stamp = np.fromiter((one.time_min for one in inputs), np.int64, len(inputs))
        before = records["stamp"].copy()
        found = self._moments(inputs, stamp, before)
        self._accumulate(records, found)
        features = self._features(records, found, stamp, before)
        since, fresh = records["since"], before == NEVER
        if fresh.any():
            since[fresh] = stamp[fresh, None]
        since[found.row, found.channel] = stamp[found.row]
        records["stamp"] = stamp
        return features

    def _moments(self, inputs: Sequence[LiveInput], stamp: Ints, before: Ints) -> _Moments:
        """The step's observations, sorted, checked, and combined where they are of one minute."""
        plain = self._plain(inputs)
        if plain is not None and not (stamp < before + self._apart).any():
            row, channel, value = plain
            if not len(value) or np.isfinite(value).all():
                each = np.arange(len(row))
                return _Moments(row, channel, each, np.ones_like(each), stamp[row], value)
        row, minute, channel, value = _columns(inputs, stamp)
        if not np.isfinite(value).all():
            raise DataError("value must be finite, got NaN or infinity; leave absent values out")
        if len(channel) and not (channel.min() >= 0 and channel.max() < self._count):
            raise DataError(f"channel must lie in 0 .. {self._count - 1}, got another number; number them by name")
        used = self._channels.standardiser.used[channel]
        if not used.all():
            row, minute, channel, value = row[used], minute[used], channel[used], value[used]
        self._check_follows(row, minute, stamp, before)
        order = np.lexsort((value, minute, channel, row))
        row, minute, channel, value = row[order], minute[order], channel[order], value[order]
        series = _changes(row * self._count + channel)
        moment = series | _changes(minute)
        if not moment.all():
            fresh = moment | _changes(value)
            value = running.minute_means(moment[fresh], value[fresh])
            row, minute, channel, series = row[moment], minute[moment], channel[moment], series[moment]
        starts = series.nonzero()[0]
        length = np.full_like(starts, len(series))
        length[:-1] = starts[1:]
        return _Moments(row[starts], channel[starts], starts, length - starts, minute, value)

    def _plain(self, inputs: Sequence[LiveInput]) -> tuple[Ints, Ints, Floats] | None:
        """Row, channel and value of observations that need no sorting; None if any might.

        So are nearly all: of the step's own minute, one a channel, the channels ascending and the model's own.
        """
        rows: list[int] = []
        channels: list[int] = []
        values: list[float] = []
        used = self._used
        for row, one in enumerate(inputs):
            count = len(one.channel)
            if one.minute is not None and (len(one.minute) != count or any(m != one.time_min for m in one.minute)):
                return None
            last = -1
            for channel in one.channel:
                if channel <= last or channel not in used:
                    return None
                last = channel
            rows += [row] * count
            channels += one.channel
            values += one.value
        if len(values) != len(rows):
            return None
        numbers = np.array([rows, channels], dtype=np.int64)
        return numbers[0], numbers[1], np.array(values, dtype=np.float64)

    def _check_follows(self, row: Ints, minute: Ints, stamp: Ints, before: Ints) -> None:
        if (minute > stamp[row]).any():
            raise DataError("minute must not be later than time_min, got a later one; leave it for a later step")
        # Minutes lie far from where adding one to `NEVER` would matter.
        earliest = before + self._apart
        if (stamp < earliest).any() or (minute < earliest[row]).any():
            raise DataError(
                "time_min and minute must be after the state's last step, got an earlier time; replay the stay from it"
            )

    def _accumulate(self, records: Records, found: _Moments) -> None:
        """Adds the observations to the statistics, and to the features that follow from these alone."""
        if not len(found.starts):
            return
        channel = np.repeat(found.channel, found.length) if len(found.minute) > len(found.starts) else found.channel
        score = self._channels.standardiser.apply(channel, found.value)
        known = records["statistics"]
        at = found.starts
        after = running.advanced(known[found.row, found.channel].T, found.minute[at], score[at])
        for later in range(1, int(found.length.max())):
            longer = (found.length > later).nonzero()[0]
            at = found.starts[longer] + later
            after[:, longer] = running.advanced(after[:, longer], found.minute[at], score[at])
        known[found.row, found.channel] = after.T
        records["summary"][found.row, found.channel] = self._channels.summaries(after, found.channel)

    def _features(self, records: Records, found: _Moments, stamp: Ints, before: Ints) -> NDArray[np.float32]:
        features = np.empty((len(records), self._width), dtype=np.float32)
        summary, clock = records["summary"], records["summary"][0].size
        by_channel = features[:, :clock].reshape(summary.shape)
        by_channel[...] = summary
        if (place := self._place[Feature.MASK]) is not None:
            by_channel[:, :, place] = 0.0
            by_channel[found.row, found.channel, place] = 1.0
        if (place := self._place[Feature.GAP]) is not None:
            known = records["statistics"]
            observed = known[:, :, running.COUNT] > 0
            by_channel[:, :, place] = self._channels.gaps(stamp[:, None], known[:, :, running.LAST_MIN], observed)
        begun = before != NEVER
        if (place := self._place[Feature.DELTA]) is not None:
            deltas = self._channels.deltas(stamp[:, None], records["since"])
            by_channel[:, :, place] = np.where(begun[:, None], deltas, 0.0)
        static = clock + len(CLOCK)
        features[:, clock:static] = clock_features(stamp, np.where(begun, before, stamp), self._clip)
        features[:, static:] = records["static"]
        return features


def _columns(inputs: Sequence[LiveInput], stamp: Ints) -> tuple[Ints, Ints, Ints, Floats]:
    """Stay, minute, channel and value of every observation."""
    counts = [len(one.channel) for one in inputs]
    for one, count in zip(inputs, counts, strict=True):
        if len(one.value) != count or (one.minute is not None and len(one.minute) != count):
            raise DataError(
                f"minute, channel and value must be of one length, got {count} channels and {len(one.value)} values; "
                "give one of each an observation"
            )
    total = sum(counts)
    row: Ints = np.repeat(np.arange(len(inputs), dtype=np.int64), counts)
    minute = stamp[row]
    for number, one in enumerate(inputs):
        if one.minute is not None:
            minute[row == number] = one.minute
    channel = np.fromiter(chain.from_iterable(one.channel for one in inputs), np.int64, total)
    value = np.fromiter(chain.from_iterable(one.value for one in inputs), np.float64, total)
    return row, minute, channel, value


def _changes(column: NDArray[np.generic]) -> NDArray[np.bool_]:
    """(m,) True at the first and wherever the value differs from the one before."""
    changed = np.ones(len(column), dtype=bool)
    np.not_equal(column[1:], column[:-1], out=changed[1:])
    return changed
