"""One stay's next time step in, its features out, in plain Python: what `LiveEncoder` gives for many at once.

For one stay a call of numpy costs more than the few numbers that it computes, so they are computed one by one here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from itertools import repeat
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import running
from models.channel_encoding import HUNDRED, NEVER_GAP, Feature
from models.clock import CLOCK, WEEK_H
from models.encoding import Encoding
from models.live_input import LiveInput
from models.live_record import NEVER, Records

_STAMP, _STATISTICS = struct.Struct("<q"), struct.Struct(f"<{running.STATISTICS}d")
_STAMP_BYTES, _FLOAT_BYTES = 8, 4
_LOG_HUNDRED, _LOG_WEEK = math.log1p(HUNDRED), math.log1p(WEEK_H)
_MINUTES_A_DAY = 60.0 * 24.0
_ON_STEP = (Feature.MASK, Feature.GAP, Feature.DELTA)

Bytes = memoryview
# Values by channel and minute.
Series = dict[int, dict[int, list[float]]]


class LoneEncoder:
    """Steps the encoding of one stay; what it cannot is left to `LiveEncoder`, the record untouched.

    Args:
        encoding: the model's.
        apart: minutes that must lie between two steps.
    """

    def __init__(self, encoding: Encoding, apart: int) -> None:
        channels, clip = encoding.channels, encoding.clip
        features, scores = channels.features, channels.standardiser
        self._apart, self._clip, self._score_clip = apart, clip, scores.clip
        self._count, self._per, self._width = len(channels.names), len(features), encoding.width
        columns = zip(scores.mean, scores.std, scores.log_scale, channels.trend_scale, strict=True)
        self._fitted = [row if used else None for row, used in zip(columns, scores.used.tolist(), strict=True)]
        self._never = np.where(scores.used, NEVER_GAP, 0.0).tolist()
        self._day = np.where(scores.used, _MINUTES_A_DAY, np.inf)
        self._told = [tuple(Feature).index(feature) for feature in features]
        self._summary = struct.Struct(f"<{self._per}f")
        self._place = {kind: features.index(kind) for kind in _ON_STEP if kind in features}
        self._mask = self._place.get(Feature.MASK)
        self._places: tuple[np.dtype[np.void] | None, list[int]] = (None, [])

    def step(self, records: Records, row: int, one: LiveInput) -> NDArray[np.float32] | None:
        """(width,) features of the step of one stay; its record becomes that after it.

        Args:
            records: of several stays, in one piece.
            row: which of them.
            one: what enters.

        Returns:
            None where that does not fit the encoding or the state.
        """
        stamp_at, since_at, statistics_at, summary_at, static_at, static_end = self._offsets(records.dtype)
        size, stamp = records.dtype.itemsize, one.time_min
        record = records.view(np.uint8).data[row * size : (row + 1) * size]
        (before,) = _STAMP.unpack_from(record, stamp_at)
        series = self._series(one, before + self._apart)
        if series is None:
            return None
        self._accumulate(record[statistics_at:summary_at], record[summary_at:static_at], series)
        features = np.empty(self._width, dtype=np.float32)
        clock = self._count * self._per
        written = features.view(np.uint8).data
        written[: clock * _FLOAT_BYTES] = record[summary_at:static_at]
        written[(clock + len(CLOCK)) * _FLOAT_BYTES :] = record[static_at:static_end]
        begun = before != NEVER
        features[clock : clock + len(CLOCK)] = self._clock(stamp, before if begun else stamp)
        since = record[since_at:statistics_at]
        self._tell(features[:clock], record[statistics_at:summary_at], since if begun else None, stamp, series)
        stamped = _STAMP.pack(stamp)
        if not begun:
            since[:] = stamped * self._count
        for number in series:
            since[number * _STAMP_BYTES : (number + 1) * _STAMP_BYTES] = stamped
        record[stamp_at : stamp_at + _STAMP_BYTES] = stamped
        return features

    def _offsets(self, dtype: np.dtype[np.void]) -> list[int]:
        known, places = self._places
        if known is not dtype:
            names = ("stamp", "since", "statistics", "summary", "static", "network")
            fields: Mapping[str, Any] = dtype.fields or {}
            places = [fields[name][1] for name in names]
            self._places = (dtype, places)
        return places

    def _series(self, one: LiveInput, earliest: int) -> Series | None:
        """The observations of every channel by minute; None where one does not fit."""
        stamp, channels, values = one.time_min, one.channel, one.value
        minutes: Iterable[int] = repeat(stamp, len(channels)) if one.minute is None else one.minute
        if stamp < earliest or len(values) != len(channels):
            return None
        fitted, count = self._fitted, self._count
        series: Series = {}
        try:
            for channel, minute, value in zip(channels, minutes, values, strict=True):
                if not (earliest <= minute <= stamp and 0 <= channel < count and isfinite(value)):
                    return None
                if fitted[channel] is not None:
                    series.setdefault(channel, {}).setdefault(minute, []).append(value)
        except ValueError:  # of different lengths
            return None
        return series

    def _accumulate(self, statistics: Bytes, summary: Bytes, series: Series) -> None:
        """Adds the observations to the statistics, as `running.advanced`, and to what follows from these."""
        size, clip = _STATISTICS.size, self._score_clip
        for number, moments in series.items():
            mean, std, log_scale, trend_scale = self._fitted[number] or (0.0, 1.0, 0.0, 1.0)
            known = _STATISTICS.unpack_from(statistics, number * size)
            for minute in sorted(moments) if len(moments) > 1 else moments:
                given = moments[minute]
                value = given[0] if len(given) == 1 else _mean(given)
                moved = math.copysign(math.log1p(abs(value) / log_scale), value) if log_scale > 0 else value
                known = _advanced(known, minute, min(max((moved - mean) / std, -clip), clip))
            _STATISTICS.pack_into(statistics, number * size, *known)
            count, _, _, first, last, low, high, total, sum_t, sum_tt, sum_tz = known
            slope = _slope(count, total, sum_t, sum_tt, sum_tz) / trend_scale if count > 1 else 0.0
            counted, trend = min(math.log1p(count) / _LOG_HUNDRED, clip), min(max(slope, -clip), clip)
            told = (last, 0.0, 0.0, counted, total / count, low, high, first, trend, 0.0)
            self._summary.pack_into(summary, number * self._summary.size, *[told[kind] for kind in self._told])

    def _clock(self, stamp: int, previous: int) -> tuple[float, float]:
        """As `clock_features`."""
        since, step = stamp / 60.0, (stamp - previous) / 60.0
        hours = math.copysign(math.log1p(abs(since)), since) / _LOG_WEEK
        return min(max(hours, -self._clip), self._clip), min(math.log1p(step) / _LOG_WEEK, self._clip)

    def _tell(
        self, features: NDArray[np.float32], statistics: Bytes, since: Bytes | None, stamp: int, observed: Iterable[int]
    ) -> None:
        """Writes the features that hang on the step."""
        place, per = self._place, self._per
        if self._mask is not None:
            features[self._mask :: per] = 0.0
            for number in observed:
                features[number * per + self._mask] = 1.0
        if (at := place.get(Feature.GAP)) is not None:
            known = statistics.cast("d")
            counts, last = known[running.COUNT :: running.STATISTICS], known[running.LAST_MIN :: running.STATISTICS]
            clip = self._score_clip
            features[at::per] = [
                min(math.log1p((stamp - minute) / 60.0) / _LOG_WEEK, clip) if count else never
                for count, minute, never in zip(counts, last, self._never, strict=True)
            ]
        if (at := place.get(Feature.DELTA)) is not None:
            told = 0.0 if since is None else (stamp - np.frombuffer(since, dtype="<i8")) / self._day
            features[at::per] = told


def _advanced(known: tuple[float, ...], minute: int, score: float) -> tuple[float, ...]:
    """As `running.advanced`, of one channel."""
    count, first_min, _, first, _, low, high, total, sum_t, sum_tt, sum_tz = known
    if not count:
        first_min, first, low, high = float(minute), score, score, score
    elapsed = minute - first_min
    sums = (total + score, sum_t + elapsed, sum_tt + elapsed * elapsed, sum_tz + elapsed * score)
    return (count + 1.0, first_min, float(minute), first, score, min(low, score), max(high, score), *sums)


def _mean(values: list[float]) -> float:
    """As `running.minute_means`: what is said twice counts once, and any order of arrival sums the same way."""
    distinct = sorted(set(values))
    return sum(distinct) / len(distinct)


def _slope(count: float, total: float, sum_t: float, sum_tt: float, sum_tz: float) -> float:
    """As `running.slope`."""
    covariance = (sum_tz - sum_t * total / count) / 60.0
    spread = (sum_tt - sum_t * sum_t / count) / 3600.0
    return covariance / (max(spread, 0.0) + running.TREND_RIDGE_H2)
