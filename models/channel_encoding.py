"""Observations on a grid in, features per channel out: the part of the encoding that is fitted to channels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import running
from models.clock import WEEK_H
from models.series import Series
from models.standardise import Standardiser
from models.stay import Floats, Ints

# Counts are on a logarithmic scale that is 1 here.
HUNDRED = 100.0
# The gap of a channel that was never observed; a gap is never negative otherwise.
NEVER_GAP = -1.0
# Hours that are 1 on the scale of DELTA, which is linear.
DAY_H = 24.0


class Feature(StrEnum):
    """What a channel tells at a time step, all of it known by then."""

    VALUE = "value"
    MASK = "mask"
    GAP = "gap"
    COUNT = "count"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    TREND = "trend"
    DELTA = "delta"


SUMMARIES: tuple[Feature, ...] = tuple(feature for feature in Feature if feature is not Feature.DELTA)
"""All that a channel tells but DELTA, which says less than GAP except to a cell that is built on it."""

_ROWS = {
    Feature.VALUE: running.LAST,
    Feature.MIN: running.LOW,
    Feature.MAX: running.HIGH,
    Feature.FIRST: running.FIRST,
}
_LOG_HUNDRED, _LOG_WEEK = np.log1p(HUNDRED), np.log1p(WEEK_H)
# Those of a channel's features that no sum, count or extreme of its past enters.
_PLAIN = frozenset({Feature.VALUE, Feature.MASK, Feature.GAP, Feature.DELTA})


@dataclass(frozen=True)
class ChannelEncoding:
    """Fitted encoding of the channels.

    Args:
        names: names of the channels, in the order of the features.
        standardiser: fitted statistics.
        trend_scale: typical slope of every channel, an hour; slopes are divided by it.
        features: what each channel gives; features of one channel stand together.
    """

    names: tuple[str, ...]
    standardiser: Standardiser
    trend_scale: tuple[float, ...]
    features: tuple[Feature, ...]

    @classmethod
    def fit(
        cls, series: Series, names: tuple[str, ...], standardiser: Standardiser, features: tuple[Feature, ...]
    ) -> ChannelEncoding:
        """Fits the typical slopes on the training stays' series."""
        statistics = running.accumulate(series.starts, series.minute, series.score)
        square = np.bincount(series.channel, running.slope(statistics) ** 2, minlength=len(names))
        sloped = np.bincount(series.channel[statistics[running.COUNT] > 1], minlength=len(names))
        scale = np.sqrt(square / np.maximum(sloped, 1))
        return cls(names, standardiser, tuple(np.where(scale > 1e-9, scale, 1.0).tolist()), features)

    @property
    def width(self) -> int:
        """Number of features of all channels."""
        return len(self.names) * len(self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(f"{name}.{feature}" for name in self.names for feature in self.features)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of every channel that training had, by name; observations of others are not used."""
        return {name: i for i, name in enumerate(self.names) if self.standardiser.stays[i]}

    @cached_property
    def _trend_scale(self) -> Floats:
        return np.array(self.trend_scale)

    @cached_property
    def _as_they_are(self) -> tuple[Ints, Ints]:
        """Columns of features that are a statistic itself, and that statistic's row."""
        columns = [column for column, feature in enumerate(self.features) if feature in _ROWS]
        rows = [_ROWS[self.features[column]] for column in columns]
        return np.array(columns, dtype=np.int64), np.array(rows, dtype=np.int64)

    @cached_property
    def _never_gap(self) -> Floats:
        return np.where(self.standardiser.used, NEVER_GAP, 0.0)

    def summaries(self, statistics: Floats, channel: Ints) -> Floats:
        """(m, features) features of (STATISTICS, m) statistics; MASK, GAP and DELTA hang on the step and are 0 here."""
        out = np.zeros((len(self.features), len(channel)))
        columns, rows = self._as_they_are
        out[columns] = statistics[rows]
        for column, feature in enumerate(self.features):
            match feature:
                case Feature.COUNT:
                    np.log1p(statistics[running.COUNT], out=out[column])
                    out[column] /= _LOG_HUNDRED
                case Feature.MEAN:
                    out[column] = running.mean(statistics)
                case Feature.TREND:
                    np.divide(running.slope(statistics), self._trend_scale[channel], out=out[column])
        np.maximum(out, -self.standardiser.clip, out=out)
        return np.minimum(out, self.standardiser.clip, out=out).T

    def gaps(self, stamp: NDArray[Any], last_min: NDArray[Any], observed: NDArray[np.bool_]) -> Floats:
        """(..., channels) scaled time since the last observation; a constant where there was none.

        Args:
            stamp: (..., 1) minutes at which the steps are stamped.
            last_min: (..., channels) minutes of the last observations.
            observed: (..., channels) whether there was one.
        """
        scaled = np.log1p(np.where(observed, stamp - last_min, 0.0) / 60.0) / _LOG_WEEK
        return np.where(observed, np.minimum(scaled, self.standardiser.clip), self._never_gap)

    def deltas(self, stamp: NDArray[Any], since_min: NDArray[Any]) -> Floats:
        """(..., channels) days from the step before this one that observed the channel, else from the first step.

        With s the stamps and m the masks of a stay's steps, delta_0 = 0 and
        delta_t = s_t - s_(t-1) + (1 - m_(t-1)) delta_(t-1). It is not clipped, so that it stays exact; 0 for a
        channel that training never had.

        Args:
            stamp: (..., 1) minutes at which the steps are stamped.
            since_min: (..., channels) stamps of the steps before them that are counted from.

        Source: Che et al. 2018, Recurrent Neural Networks for Multivariate Time Series with Missing Values, eq. 2.
        """
        return np.where(self.standardiser.used, (stamp - since_min) / (60.0 * DAY_H), 0.0)

    def step(
        self, statistics: Floats, stamp_min: int, present: NDArray[np.bool_], since_min: Ints | None = None
    ) -> Floats:
        """(width,) features of one step.

        Args:
            statistics: (STATISTICS, channels) after the step.
            stamp_min: minute at which the step is stamped.
            present: (channels,) which channels are observed in it.
            since_min: (channels,) stamp that DELTA counts from; None: this is the stay's first step.
        """
        out = self.summaries(statistics, np.arange(len(self.names)))
        if Feature.MASK in self.features:
            out[:, self.features.index(Feature.MASK)] = present
        if Feature.GAP in self.features:
            observed = statistics[running.COUNT] > 0
            gaps = self.gaps(np.array([stamp_min]), statistics[running.LAST_MIN], observed)
            out[:, self.features.index(Feature.GAP)] = gaps
        if Feature.DELTA in self.features and since_min is not None:
            out[:, self.features.index(Feature.DELTA)] = self.deltas(np.array([stamp_min]), since_min)
        return out.reshape(-1)

    def write(self, out: NDArray[Any], series: Series, step_offsets: Ints, time_min: Ints) -> None:
        """Writes the features of a block of stays into `out`, (steps, width).

        Args:
            out: where to write; cast to its type at the end.
            series: the block's observations.
            step_offsets: (n + 1,) steps of the block's stays, from 0.
            time_min: (steps,) stamps.
        """
        known = _last_rows(series, step_offsets, len(self.names))
        table = self._table(series, out.dtype)
        target = out.reshape(len(out), len(self.names), len(self.features))
        target[...] = table[known]
        if Feature.MASK in self.features:
            entered = np.concatenate([[-1], series.step])
            target[:, :, self.features.index(Feature.MASK)] = entered[known] == np.arange(len(out))[:, None]
        if Feature.GAP in self.features:
            last_min = np.concatenate([[0], series.minute])[known]
            target[:, :, self.features.index(Feature.GAP)] = self.gaps(time_min[:, None], last_min, known > 0)
        if Feature.DELTA in self.features:
            since_min = _since(series, known, step_offsets, time_min)
            target[:, :, self.features.index(Feature.DELTA)] = self.deltas(time_min[:, None], since_min)

    def _table(self, series: Series, dtype: np.dtype[Any]) -> NDArray[Any]:
        """(1 + m, features): row 0 is a channel without observation, row 1 + i is known after observation i."""
        table = np.zeros((1 + len(series.channel), len(self.features)), dtype=dtype)
        if _PLAIN.issuperset(self.features):  # scores are standardised and clipped already, and nothing adds up
            if Feature.VALUE in self.features:
                table[1:, self.features.index(Feature.VALUE)] = series.score
            return table
        statistics = running.accumulate(series.starts, series.minute, series.score)
        table[1:] = self.summaries(statistics, series.channel)
        return table


def _last_rows(series: Series, step_offsets: Ints, channels: int) -> NDArray[np.int64]:
    """(steps, channels) 1 + the row of the last observation by then, 0 where there is none."""
    known = np.zeros((int(step_offsets[-1]), channels), dtype=np.int64)
    m = len(series.channel)
    if m:
        last = np.ones(m, dtype=bool)
        last[:-1] = (series.step[1:] != series.step[:-1]) | (series.channel[1:] != series.channel[:-1])
        rows = np.flatnonzero(last)
        known[series.step[rows], series.channel[rows]] = rows + 1
        # Within a channel, rows ascend with the steps, so the running maximum carries the last one forward ...
        np.maximum.accumulate(known, axis=0, out=known)
    # ... and a row from before the stay's own rows belongs to an earlier stay.
    first_row = np.repeat(series.stay_start[:-1], np.diff(step_offsets))
    known[known <= first_row[:, None]] = 0
    return known


def _since(series: Series, known: NDArray[np.int64], step_offsets: Ints, time_min: Ints) -> NDArray[np.int64]:
    """(steps, channels) stamp of the step before that observed the channel, of the stay's first where none did."""
    first = np.repeat(step_offsets[:-1], np.diff(step_offsets))
    # What was known after the step before; a stay's first step has nothing before it.
    before = np.zeros_like(known)
    before[1:] = known[:-1]
    before[first == np.arange(len(first))] = 0
    entered = np.concatenate([[0], series.step])[before]
    return time_min[np.where(before > 0, entered, first[:, None])]
