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
from models.channel_encoding import SUMMARIES, ChannelEncoding, Feature
from models.channels import StaticVariable
from models.clock import CLOCK, clock_features, previous_stamps
from models.encoded import Encoded
from models.errors import ConfigError, DataError
from models.grid import Grid, GridKind, GridSpec, Moments
from models.layout import Layout
from models.note_reader import NoteReader
from models.series import Rows, Series
from models.standardise import Standardiser
from models.static_encoding import StaticEncoding
from models.stay import Floats, Ints, Stays
from models.stepping import EncoderState, Readings

# Time steps that are encoded together: large enough for numpy, small enough for the processor's cache.
_BLOCK_STEPS = 16_384


@dataclass(frozen=True)
class EncodingConfig:
    """Choices of the encoding.

    Args:
        grid: a step per distinct minute, or fixed bins.
        width_h: width of a fixed bin in hours.
        features: what each channel tells at a step.
        clip: bound of the absolute value of every feature but DELTA.
        channels: names of the channels to use; empty: all that at least `min_stays` training stays have.
        statics: names of the static variables to use; empty: all.
        min_stays: training stays that must have a channel for it to be used when `channels` is empty.
    """

    grid: GridKind = GridKind.EVENT
    width_h: float = 1.0
    features: tuple[Feature, ...] = SUMMARIES
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
        clip: bound of the absolute value of every feature but DELTA.
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
        rows = Rows.of(stays, {name: i for i, name in enumerate(names)})
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

    @property
    def layout(self) -> Layout | None:
        """Which columns hold value, mask and delta of every channel; None if the features lack one of them."""
        return Layout.of(len(self.channels.names), self.channels.features)

    def never_observed(self, stays: Stays) -> tuple[str, ...]:
        """Names of the encoding's channels without any observation in these stays."""
        seen = {stays.channels[i] for i in np.unique(stays.channel).tolist()}
        return tuple(name for name in self.channels.names if name not in seen)

    def encode(
        self,
        stays: Stays,
        *,
        dtype: DTypeLike = np.float32,
        tokenizer: NoteReader | None = None,
        out: Path | None = None,
        laid: tuple[Rows, Grid] | None = None,
    ) -> Encoded:
        """Encodes whole stays.

        Channels and static variables are matched by name; what the encoding does not know makes no time step either.

        Args:
            stays: stays of any number and length, also without any observation.
            dtype: type of the features; they are computed in float64 and cast at the end.
            tokenizer: the model's tokenizer; None: notes are not used and make no time step.
            out: an `.npy` file to hold the features, memory-mapped, instead of memory.
            laid: what `lay` gave for them; None: it is asked.

        Raises:
            DataError: if the stays are not sorted, hold values that are not finite, end before admission, or hold
                anything later than their end.
        """
        rows, grid = self.lay(stays, notes=tokenizer is not None) if laid is None else laid
        features = _allocate((int(grid.step_offsets[-1]), self.width), np.dtype(dtype), out)
        statics = self.statics.apply(stays)
        for block in _blocks(grid.step_offsets):
            _write(self, features, grid, rows, statics, block)
        if isinstance(features, np.memmap):
            features.flush()
            features = np.load(str(out), mmap_mode="r")
        if tokenizer is None:
            return Encoded(features, grid.step_offsets, grid.time_min, layout=self.layout)
        tokens, note_offsets = tokenizer.encode_all(stays.note_text)
        return Encoded(features, grid.step_offsets, grid.time_min, grid.note_step, note_offsets, tokens, self.layout)

    def lay(self, stays: Stays, *, notes: bool) -> tuple[Rows, Grid]:
        """The stays' observations of the encoding's channels, and their time steps; raises as `encode` does.

        Args:
            stays: stays of any number and length.
            notes: whether notes make time steps.
        """
        rows = Rows.of(stays, self.channels.numbers)
        charted = Moments(stays.stay_of_note(), stays.note_time_min) if notes else Moments(_none(), _none())
        return rows, self.grid.build(stays.end_min, Moments(rows.stay, rows.minute), charted)

    def start(self, stays: Stays) -> EncoderState:
        """The state of a live stay before its first time step.

        Args:
            stays: one stay; only its static values are read.
        """
        if len(stays) != 1:
            raise DataError(f"stays must hold one stay, got {len(stays)}; start each stay by itself")
        channels = len(self.channels.names)
        since_min = np.zeros(channels, dtype=np.int64)
        return EncoderState(running.empty(channels), self.statics.apply(stays)[0], None, since_min)

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
            DataError: if the step or an observation is not after the state's last step, an observation is later than
                the step, or the state is another encoding's.
        """
        state.check(len(self.channels.names), self.statics.width)
        minutes = np.full(np.shape(channel), time_min, dtype=np.int64) if minute is None else minute
        readings = Readings.combine(minutes, channel, value).of_channels(self.channels.standardiser.used)
        state.check_follows(time_min, readings, same_minute=self.grid.kind is GridKind.FIXED)
        scores = self.channels.standardiser.apply(readings.channel, readings.value)
        statistics = stepping.advance(state.statistics, readings, scores)
        present = np.zeros(len(self.channels.names), dtype=bool)
        present[readings.channel] = True
        previous = time_min if state.stamp_min is None else state.stamp_min
        features = [
            self.channels.step(statistics, time_min, present, state.counts_from),
            clock_features(np.array([time_min]), np.array([previous]), self.clip)[0],
            state.static,
        ]
        return np.concatenate(features), state.after(statistics, time_min, present)


def _allocate(shape: tuple[int, int], dtype: np.dtype[Any], out: Path | None) -> NDArray[Any]:
    """An array in memory, or mapped to the file `out`; an empty array cannot be mapped and needs no file."""
    if out is None or not shape[0] * shape[1]:
        return np.empty(shape, dtype=dtype)
    return open_memmap(out, "w+", dtype, shape)


def _write(
    encoding: Encoding, features: NDArray[Any], grid: Grid, rows: Rows, statics: Floats, block: tuple[int, int]
) -> None:
    """Writes the features of the stays `block[0] .. block[1] - 1`."""
    first, last = block
    channels, offsets = encoding.channels, grid.step_offsets[first : last + 1]
    begin, end = int(offsets[0]), int(offsets[-1])
    stamps, offsets = grid.time_min[begin:end], offsets - begin
    row_begin, row_end = rows.stay.searchsorted([first, last]).tolist()
    steps = grid.row_step[row_begin:row_end] - begin
    series = Series.of(rows.between(first, last), steps, last - first, channels.standardiser)
    channels.write(features[begin:end, : channels.width], series, offsets, stamps)
    clock = slice(channels.width, channels.width + len(CLOCK))
    features[begin:end, clock] = clock_features(stamps, previous_stamps(stamps, offsets), encoding.clip)
    features[begin:end, clock.stop :] = np.repeat(statics[first:last], np.diff(offsets), axis=0)


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
