"""One stay's next time step in, its features out, in plain Python: what `LiveEncoder` gives for many at once.

For one stay a call of numpy costs more than the few numbers that it computes, so they are computed one by one here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models import running
from models.channel_encoding import HUNDRED, NEVER_GAP, Feature
from models.clock import CLOCK, WEEK_H
from models.encoding import Encoding
from models.live_record import NEVER, Records

_STAMP, _STATISTICS = struct.Struct("<q"), struct.Struct(f"<{running.STATISTICS}d")
_STAMP_BYTES, _FLOAT_BYTES = 8, 4
_LOG_HUNDRED, _LOG_WEEK = math.log1p(HUNDRED), math.log1p(WEEK_H)
_MINUTES_A_DAY = 60.0 * 24.0
_ON_STEP = (Feature.MASK, Feature.GAP, Feature.DELTA)

Bytes = memoryview


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

    def step(
        self, records: Records, row: int, time_min: int, channel: Sequence[int], value: Sequence[float]
    ) -> NDArray[np.float32] | None:
        """(width,) features of the step of one stay; its record becomes that after it.

        Args:
            records: of several stays, in one piece.
            row: which of them.
            time_min: minute at which the step is stamped, and of all its observations.
            channel: (m,) the encoding's channels.
            value: (m,) values in canonical units.

        Returns:
            None where the observations are not of the model's own channels, ascending, each with a finite value, or
            the step does not follow the one before.
        """
        stamp_at, since_at, statistics_at, summary_at, static_at, static_end = self._offsets(records.dtype)
        size = records.dtype.itemsize
        record = records.view(np.uint8).data[row * size : (row + 1) * size]
        (before,) = _STAMP.unpack_from(record, stamp_at)
        if time_min < before + self._apart or not self._fits(channel, value):
            return None
        self._accumulate(record[statistics_at:summary_at], record[summary_at:static_at], time_min, channel, value)
        features = np.empty(self._width, dtype=np.float32)
        clock = self._count * self._per
        written = features.view(np.uint8).data
        written[: clock * _FLOAT_BYTES] = record[summary_at:static_at]
        written[(clock + len(CLOCK)) * _FLOAT_BYTES :] = record[static_at:static_end]
        begun = before != NEVER
        features[clock : clock + len(CLOCK)] = self._clock(time_min, before if begun else time_min)
        since = record[since_at:statistics_at]
        self._tell(features[:clock], record[statistics_at:summary_at], since if begun else None, time_min, channel)
        stamped = _STAMP.pack(time_min)
        if not begun:
            since[:] = stamped * self._count
        for number in channel:
            since[number * _STAMP_BYTES : (number + 1) * _STAMP_BYTES] = stamped
        record[stamp_at : stamp_at + _STAMP_BYTES] = stamped
        return features

    def _offsets(self, dtype: np.dtype[np.void]) -> list[int]:
        known, places = self._places
        if known is not dtype:
            names = ("stamp", "since", "statistics", "summary", "static", "network")
            places = [(dtype.fields or {})[name][1] for name in names]
            self._places = (dtype, places)
        return places

    def _fits(self, channel: Sequence[int], value: Sequence[float]) -> bool:
        last, fitted = -1, self._fitted
        for number in channel:
            if not last < number < self._count or fitted[number] is None:
                return False
            last = number
        return len(value) == len(channel) and all(map(math.isfinite, value))

    def _accumulate(
        self, statistics: Bytes, summary: Bytes, minute: int, channel: Sequence[int], value: Sequence[float]
    ) -> None:
        """Adds the observations to the statistics, as `running.advanced`, and to what follows from these."""
        size, clip = _STATISTICS.size, self._score_clip
        for number, given in zip(channel, value, strict=True):
            mean, std, log_scale, trend_scale = self._fitted[number] or (0.0, 1.0, 0.0, 1.0)
            moved = math.copysign(math.log1p(abs(given) / log_scale), given) if log_scale > 0 else given
            score = min(max((moved - mean) / std, -clip), clip)
            at = number * size
            count, first_min, _, first, _, low, high, total, sum_t, sum_tt, sum_tz = _STATISTICS.unpack_from(
                statistics, at
            )
            if not count:
                first_min, first, low, high = float(minute), score, score, score
            count += 1.0
            elapsed = minute - first_min
            low, high, total = min(low, score), max(high, score), total + score
            sum_t, sum_tt, sum_tz = sum_t + elapsed, sum_tt + elapsed * elapsed, sum_tz + elapsed * score
            _STATISTICS.pack_into(
                statistics, at, count, first_min, minute, first, score, low, high, total, sum_t, sum_tt, sum_tz
            )
            slope = _slope(count, total, sum_t, sum_tt, sum_tz) / trend_scale if count > 1 else 0.0
            counted, trend = min(math.log1p(count) / _LOG_HUNDRED, clip), min(max(slope, -clip), clip)
            told = (score, 0.0, 0.0, counted, total / count, low, high, first, trend, 0.0)
            self._summary.pack_into(summary, number * self._summary.size, *[told[kind] for kind in self._told])

    def _clock(self, stamp: int, previous: int) -> tuple[float, float]:
        """As `clock_features`."""
        since, step = stamp / 60.0, (stamp - previous) / 60.0
        hours = math.copysign(math.log1p(abs(since)), since) / _LOG_WEEK
        return min(max(hours, -self._clip), self._clip), min(math.log1p(step) / _LOG_WEEK, self._clip)

    def _tell(
        self, features: NDArray[np.float32], statistics: Bytes, since: Bytes | None, stamp: int, channel: Sequence[int]
    ) -> None:
        """Writes the features that hang on the step."""
        place, per = self._place, self._per
        if self._mask is not None:
            features[self._mask :: per] = 0.0
            for number in channel:
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


def _slope(count: float, total: float, sum_t: float, sum_tt: float, sum_tz: float) -> float:
    """As `running.slope`."""
    covariance = (sum_tz - sum_t * total / count) / 60.0
    spread = (sum_tt - sum_t * sum_t / count) / 3600.0
    return covariance / (max(spread, 0.0) + running.TREND_RIDGE_H2)
