"""Stays in, encoded stays out: what the network sees at every time step, computed from the past alone.

`Encoding.encode` runs over whole cohorts at once; `Encoding.start` and `Encoding.step` do the same one time step at a
time for a live stay. Everything fitted comes from training stays and travels inside the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import ArrayLike, DTypeLike, NDArray

from models import running, stepping
from models.channel_encoding import WEEK_H, ChannelEncoding, Feature
from models.channels import StaticVariable
from models.encoded import Encoded
from models.errors import ConfigError, DataError
from models.grid import Grid, GridKind, GridSpec, Moments
from models.notes import NoteTokenizer
from models.series import Rows, Series
from models.standardise import Standardiser
from models.static_encoding import StaticEncoding
from models.stay import Floats, Ints, Stays
from models.stepping import EncoderState, Readings

# Time steps that are encoded together: large enough for numpy, small enough for the processor's cache.
_BLOCK_STEPS = 16_384
# Features of a step besides those of channels and static values.
CLOCK = ("time", "step_gap")


@dataclass(frozen=True)
class EncodingConfig:
    """Choices of the encoding.

    Args:
        grid: a step per distinct minute, or fixed bins.
        width_h: width of a fixed bin in hours.
        features: what each channel tells at a step.
        clip: bound of the absolute value of every feature.
        channels: names of the channels to use; empty: all that at least `min_stays` training stays have.
        statics: names of the static variables to use; empty: all.
        min_stays: training stays that must have a channel for it to be used when `channels` is empty.
    """

    grid: GridKind = GridKind.EVENT
    width_h: float = 1.0
    features: tuple[Feature, ...] = tuple(Feature)
    clip: float = 6.0
    channels: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()
    min_stays: int = 5

    def __post_init__(self) -> None:
        """Refuses choices that do not hold."""
        GridSpec(self.grid, self.width_h)
        if not self.clip > 0:
            raise ConfigError(f"clip must be above 0, got {self.clip}; choose such as 6.0")
        for name, names in (("features", self.features), ("channels", self.channels), ("statics", self.statics)):
            if len(set(names)) != len(names):
                raise ConfigError(f"{name} must be distinct, got a name twice; remove the repetition")
        if self.min_stays < 1:
            raise ConfigError(f"min_stays must be at least 1, got {self.min_stays}; an unseen channel tells nothing")


@dataclass(frozen=True)
class Encoding:
    """A fitted encoding; plain values throughout, so that it is stored as JSON.

    Args:
        grid: how time is cut into steps.
        channels: fitted encoding of the channels.
        statics: fitted encoding of the static variables.
        clip: bound of the absolute value of every feature.
    """

    grid: GridSpec
    channels: ChannelEncoding
    statics: StaticEncoding
    clip: float

    @classmethod
    def fit(cls, stays: Stays, config: EncodingConfig, *, statics: tuple[StaticVariable, ...]) -> Encoding:
        """Fits to training stays, and to nothing else.

        Args:
            stays: training stays.
            config: choices.
            statics: declarations of the stays' static variables.

        Raises:
            ConfigError: if `config` names a channel or static variable that the stays do not have.
        """
        names = config.channels or _frequent(stays, config.min_stays)
        _check_known("channels", names, stays.channels)
        _check_known("statics", config.statics, tuple(s.name for s in statics))
        rows = Rows.of(stays, names)
        standardiser = Standardiser.fit(
            stay=rows.stay, channel=rows.channel, value=rows.value, channels=len(names), clip=config.clip
        )
        series = Series.of(rows, np.zeros_like(rows.stay), len(stays), standardiser)
        chosen = tuple(s for s in statics if not config.statics or s.name in config.statics)
        return cls(
            grid=GridSpec(config.grid, config.width_h),
            channels=ChannelEncoding.fit(series, names, standardiser, config.features),
            statics=StaticEncoding.fit(stays, chosen, config.clip),
            clip=config.clip,
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features of a time step, in order."""
        return self.channels.feature_names + CLOCK + self.statics.feature_names

    @property
    def width(self) -> int:
        """Number of features of a time step."""
        return self.channels.width + len(CLOCK) + self.statics.width

    def never_observed(self, stays: Stays) -> tuple[str, ...]:
        """Names of the encoding's channels without any observation in these stays."""
        seen = {stays.channels[i] for i in np.unique(stays.channel).tolist()}
        return tuple(name for name in self.channels.names if name not in seen)

    def encode(
        self,
        stays: Stays,
        *,
        dtype: DTypeLike = np.float32,
        tokenizer: NoteTokenizer | None = None,
        out: Path | None = None,
    ) -> Encoded:
        """Encodes whole stays.

        Channels and static variables are matched by name; what the encoding does not know is not used, and makes no
        time step either. Without a tokenizer, notes are not used.

        Args:
            stays: stays of any number and length, also without any observation.
            dtype: type of the features; they are computed in float64 and cast at the end.
            tokenizer: the model's tokenizer, if it reads notes.
            out: an `.npy` file to hold the features, memory-mapped, instead of memory.

        Raises:
            DataError: if the stays are not sorted, hold values that are not finite, end before admission, or hold
                anything later than their end.
        """
        rows = Rows.of(stays, self.channels.names)
        notes = Moments(stays.stay_of_note(), stays.note_time_min) if tokenizer else Moments(_none(), _none())
        grid = self.grid.build(stays.end_min, Moments(rows.stay, rows.minute), notes)
        shape = (int(grid.step_offsets[-1]), self.width)
        # An empty array cannot be mapped, and needs no file.
        mapped = out if shape[0] * shape[1] else None
        features: NDArray[Any] = (
            np.empty(shape, dtype=dtype) if mapped is None else open_memmap(mapped, "w+", np.dtype(dtype), shape)
        )
        statics = self.statics.apply(stays)
        for first, last in _blocks(grid.step_offsets):
            self._write(features, grid, rows, first, last)
            self._write_rest(features, grid, statics, first, last)
        if mapped is not None:
            # Mapped anew for reading, which first writes what is still in memory.
            del features
            features = np.load(mapped, mmap_mode="r")
        if tokenizer is None:
            return Encoded(features, grid.step_offsets, grid.time_min)
        tokens, note_offsets = tokenizer.encode_all(stays.note_text)
        return Encoded(features, grid.step_offsets, grid.time_min, grid.note_step, note_offsets, tokens)

    def _write(self, features: NDArray[Any], grid: Grid, rows: Rows, first: int, last: int) -> None:
        """Writes the channels' features of the stays `first .. last - 1`."""
        offsets = grid.step_offsets[first : last + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        bounds = rows.stay.searchsorted([first, last])
        steps = grid.row_step[bounds[0] : bounds[1]] - begin
        series = Series.of(rows.between(first, last), steps, last - first, self.channels.standardiser)
        target = features[begin:end, : self.channels.width]
        self.channels.write(target, series, offsets - begin, grid.time_min[begin:end])

    def _write_rest(self, features: NDArray[Any], grid: Grid, statics: Floats, first: int, last: int) -> None:
        """Writes the clock's and the static features of the stays `first .. last - 1`."""
        offsets = grid.step_offsets[first : last + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        stamps = grid.time_min[begin:end]
        previous = np.concatenate([stamps[:1], stamps[:-1]])
        previous[offsets[:-1] - begin] = stamps[offsets[:-1] - begin]
        clock = slice(self.channels.width, self.channels.width + len(CLOCK))
        features[begin:end, clock] = self._clock(stamps, previous)
        features[begin:end, clock.stop :] = np.repeat(statics[first:last], np.diff(offsets), axis=0)

    def _clock(self, stamp: Ints, previous: Ints) -> Floats:
        """(steps, 2) time since admission and since the previous step, logarithmic and near 1 at a week."""
        hours = np.stack([stamp, stamp - previous], axis=1) / 60.0
        scaled = np.sign(hours) * np.log1p(np.abs(hours)) / np.log1p(WEEK_H)
        clipped: Floats = np.clip(scaled, -self.clip, self.clip)
        return clipped

    def start(self, stays: Stays) -> EncoderState:
        """The state of a live stay before its first time step.

        Args:
            stays: one stay; only its static values are read.
        """
        if len(stays) != 1:
            raise DataError(f"stays must hold one stay, got {len(stays)}; start each stay by itself")
        return EncoderState(running.empty(len(self.channels.names)), self.statics.apply(stays)[0])

    def step(
        self,
        state: EncoderState,
        time_min: int,
        channel: ArrayLike = (),
        value: ArrayLike = (),
        *,
        minute: ArrayLike | None = None,
    ) -> tuple[Floats, EncoderState]:
        """Takes one time step of a live stay; the given state stays as it is, so a step can be provisional.

        Args:
            state: the state after the step before.
            time_min: minute at which the step is stamped (`grid.stamp`).
            channel: (m,) the encoding's channels observed in the step, in any order.
            value: (m,) values in canonical units.
            minute: (m,) minutes of the observations; None: all at `time_min`.

        Returns:
            (width,) float64 features of the step, and the state after it.

        Raises:
            DataError: if the step is before the state's, an observation is later than the step, or the state is
                another encoding's.
        """
        self._check(state, time_min)
        minutes = np.full(np.shape(channel), time_min, dtype=np.int64) if minute is None else minute
        readings = Readings.combine(minutes, channel, value)
        if len(readings.minute) and int(readings.minute[-1]) > time_min:
            raise DataError("minute must not be later than time_min, got a later one; leave it for a later step")
        scores = self.channels.standardiser.apply(readings.channel, readings.value)
        statistics = stepping.advance(state.statistics, readings, scores)
        present = np.zeros(len(self.channels.names), dtype=bool)
        present[readings.channel] = True
        previous = time_min if state.stamp_min is None else state.stamp_min
        features = [
            self.channels.step(statistics, time_min, present),
            self._clock(np.array([time_min]), np.array([previous]))[0],
            state.static,
        ]
        return np.concatenate(features), EncoderState(statistics, state.static, time_min)

    def _check(self, state: EncoderState, time_min: int) -> None:
        expected = (running.STATISTICS, len(self.channels.names))
        if state.statistics.shape != expected or state.static.shape != (self.statics.width,):
            raise DataError(
                f"state must be of shape {expected} and {(self.statics.width,)}, got {state.statistics.shape} and "
                f"{state.static.shape}; start it with this encoding"
            )
        if state.stamp_min is not None and time_min < state.stamp_min:
            raise DataError("time_min must not be before the state's last step, got an earlier minute; encode again")


def _blocks(step_offsets: Ints) -> Iterator[tuple[int, int]]:
    """Consecutive stays (first, last + 1) of about `_BLOCK_STEPS` time steps together."""
    first, n = 0, len(step_offsets) - 1
    while first < n:
        last = int(step_offsets.searchsorted(step_offsets[first] + _BLOCK_STEPS, side="right")) - 1
        last = min(max(last, first + 1), n)
        yield first, last
        first = last


def _frequent(stays: Stays, min_stays: int) -> tuple[str, ...]:
    count = len(stays.channels)
    pairs = np.unique(stays.stay_of_row() * max(count, 1) + stays.channel)
    having = np.bincount(pairs % max(count, 1), minlength=count)
    return tuple(name for name, number in zip(stays.channels, having.tolist(), strict=True) if number >= min_stays)


def _check_known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{what} must be names that the cohort declares, got {', '.join(unknown)}; rename them")


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)
