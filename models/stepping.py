"""One time step's observations and a live stay's encoder state in, the state after it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from models import running
from models.errors import ArtifactError, DataError
from models.stay import Floats, Ints


@dataclass(frozen=True)
class Readings:
    """Observations of one time step, one a (minute, channel): sorted by minute, then channel.

    Args:
        minute: (m,) minutes since admission.
        channel: (m,) the encoding's channel.
        value: (m,) means of the values of the same minute, canonical unit.
    """

    minute: Ints
    channel: Ints
    value: Floats

    @classmethod
    def combine(cls, minute: ArrayLike, channel: ArrayLike, value: ArrayLike) -> Readings:
        """Sorts raw observations, drops repeated ones, and combines values of one minute by their mean.

        Raises:
            DataError: if the three do not fit each other or a value is not finite.
        """
        minutes, channels = np.asarray(minute, dtype=np.int64), np.asarray(channel, dtype=np.int64)
        values = np.asarray(value, dtype=np.float64)
        if not minutes.shape == channels.shape == values.shape or values.ndim != 1:
            raise DataError(
                f"minute, channel and value must be of one length, got {minutes.shape}, {channels.shape} and "
                f"{values.shape}; give one of each an observation"
            )
        if not np.isfinite(values).all():
            raise DataError("value must be finite, got NaN or infinity; leave absent values out")
        order = np.lexsort((values, channels, minutes))
        minutes, channels, values = minutes[order], channels[order], values[order]
        moment = _changes(minutes) | _changes(channels)
        fresh = moment | _changes(values)
        means = running.minute_means(moment[fresh], values[fresh])
        return cls(minutes[moment], channels[moment], means)

    def of_channels(self, used: NDArray[np.bool_]) -> Readings:
        """The readings of the channels that `used` marks.

        Raises:
            DataError: for a channel that `used` does not have.
        """
        if np.any((self.channel < 0) | (self.channel >= len(used))):
            raise DataError(f"channel must lie in 0 .. {len(used) - 1}, got another number; number them by name")
        keep = used[self.channel]
        return self if keep.all() else Readings(self.minute[keep], self.channel[keep], self.value[keep])


@dataclass(frozen=True, eq=False)
class EncoderState:
    """All that encoding has to know of a stay's past; a few kilobytes however long the stay is.

    Args:
        statistics: (STATISTICS, channels) float64 running statistics.
        static: (width,) float64 features of the static values.
        stamp_min: stamp of the last committed step; None before the first.
        since_min: (channels,) stamp of the last committed step that observed the channel, of the stay's first
            where none did; all 0 before the first.
    """

    statistics: Floats
    static: Floats
    stamp_min: int | None
    since_min: Ints

    def check(self, channels: int, static_width: int) -> None:
        """Refuses a state that another encoding made.

        Raises:
            DataError: if the shapes are not those of an encoding of so many channels and static features.
        """
        expected = (running.STATISTICS, channels)
        got = (self.statistics.shape, self.static.shape, self.since_min.shape)
        if got != (expected, (static_width,), (channels,)):
            raise DataError(
                f"state must be of shape {expected}, {(static_width,)} and {(channels,)}, got {got[0]}, {got[1]} and "
                f"{got[2]}; start it with this encoding"
            )

    @property
    def counts_from(self) -> Ints | None:
        """(channels,) stamps that the next step's DELTA counts from; None if it is the stay's first."""
        return None if self.stamp_min is None else self.since_min

    def after(self, statistics: Floats, time_min: int, present: NDArray[np.bool_]) -> EncoderState:
        """The state after a step.

        Args:
            statistics: (STATISTICS, channels) after it.
            time_min: its stamp.
            present: (channels,) which channels it observed.
        """
        fresh = present if self.stamp_min is not None else np.ones_like(present)
        return EncoderState(statistics, self.static, time_min, np.where(fresh, time_min, self.since_min))

    def check_follows(self, time_min: int, readings: Readings, *, same_minute: bool) -> None:
        """Refuses a step that cannot come next.

        Args:
            time_min: stamp of the step.
            readings: its observations.
            same_minute: whether the next step may begin in the minute of the last stamp, as a bin does.

        Raises:
            DataError: if an observation is later than the stamp, or anything is not after the last step.
        """
        minutes = readings.minute
        if len(minutes) and int(minutes[-1]) > time_min:
            raise DataError("minute must not be later than time_min, got a later one; leave it for a later step")
        if self.stamp_min is None:
            return
        earliest = self.stamp_min if same_minute else self.stamp_min + 1
        if time_min < earliest or (len(minutes) and int(minutes[0]) < earliest):
            raise DataError(
                "time_min and minute must be after the state's last step, got an earlier time; replay the stay from it"
            )

    def to_bytes(self) -> bytes:
        """The state as safetensors; holds clinical values, so it is guarded like the stay itself."""
        clock = [] if self.stamp_min is None else [self.stamp_min]
        return safetensors.numpy.save(
            {
                "statistics": np.ascontiguousarray(self.statistics),
                "static": np.ascontiguousarray(self.static),
                "stamp_min": np.array(clock, dtype=np.int64),
                "since_min": np.ascontiguousarray(self.since_min),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> EncoderState:
        """The state back from `to_bytes`.

        Raises:
            ArtifactError: if the bytes are not such a state.
        """
        try:
            arrays = safetensors.numpy.load(data)
            statistics, static, clock = arrays["statistics"], arrays["static"], arrays["stamp_min"]
            since = arrays["since_min"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise ArtifactError(
                f"encoder state must be bytes written by EncoderState.to_bytes, got {len(data)} other bytes; "
                "encode the stay again from its observations"
            ) from error
        return cls(statistics, static, int(clock[0]) if len(clock) else None, since)


def advance(statistics: Floats, readings: Readings, score: Floats) -> Floats:
    """Running statistics after one time step, minute by minute."""
    bounds = np.append(np.flatnonzero(_changes(readings.minute)), len(readings.minute))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = slice(begin, end)
        statistics = running.advance(statistics, readings.channel[part], int(readings.minute[begin]), score[part])
    return statistics


def _changes(column: NDArray[np.generic]) -> NDArray[np.bool_]:
    """(m,) True at the first and wherever the value differs from the one before."""
    changed = np.ones(len(column), dtype=bool)
    changed[1:] = column[1:] != column[:-1]
    return changed
