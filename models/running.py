"""Standard scores in time order in, running statistics out: what is known of a channel after each of its minutes.

Both ways to encode rest on one definition here: `accumulate` runs over all observations at once, `advance` adds one
minute. They add in the same order, so they agree to the last digits however long the stay is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats, Ints

# Rows of a table of statistics, (STATISTICS, channels or observations) float64. Times are minutes; sums of time
# are taken since the channel's first minute, so that they are exact integers and a slope loses no digits.
COUNT, FIRST_MIN, LAST_MIN, FIRST, LAST, LOW, HIGH, TOTAL, SUM_T, SUM_TT, SUM_TZ = range(11)
STATISTICS = 11

# Added to the spread of time, in hours squared: two values a minute apart tell little of a trend.
_TREND_RIDGE_H2 = 1.0


def empty(channels: int) -> Floats:
    """Statistics of channels that have not been observed."""
    return np.zeros((STATISTICS, channels))


def advance(statistics: Floats, channel: Ints, minute: int, score: Floats) -> Floats:
    """Statistics after one more minute; the statistics given stay as they are.

    Args:
        statistics: (STATISTICS, channels).
        channel: (m,) distinct channels that are observed in this minute.
        minute: the minute, later than any before it.
        score: (m,) their standard scores.
    """
    after = statistics.copy()
    after[:, channel] = advanced(statistics[:, channel], np.full(len(channel), minute), score)
    return after


def advanced(before: Floats, minute: Ints, score: Floats) -> Floats:
    """(STATISTICS, m) statistics of `m` channels, each after one more minute of its own.

    Args:
        before: (STATISTICS, m).
        minute: (m,) later than any minute before it of that channel.
        score: (m,) standard scores.
    """
    after = np.empty(before.shape)
    new = before[COUNT] == 0
    first_min = np.where(new, minute, before[FIRST_MIN])
    elapsed = minute - first_min
    after[COUNT] = before[COUNT] + 1.0
    after[FIRST_MIN] = first_min
    after[LAST_MIN] = minute
    after[FIRST] = np.where(new, score, before[FIRST])
    after[LAST] = score
    after[LOW] = np.where(new, score, np.minimum(before[LOW], score))
    after[HIGH] = np.where(new, score, np.maximum(before[HIGH], score))
    after[TOTAL] = before[TOTAL] + score
    after[SUM_T] = before[SUM_T] + elapsed
    after[SUM_TT] = before[SUM_TT] + elapsed * elapsed
    after[SUM_TZ] = before[SUM_TZ] + elapsed * score
    return after


def accumulate(starts: Ints, minute: Ints, score: Floats) -> Floats:
    """Statistics after every observation of many series, laid end to end.

    Args:
        starts: (s + 1,) series i is rows `starts[i]:starts[i + 1]`, none of them empty.
        minute: (m,) ascending and distinct within a series.
        score: (m,) standard scores.

    Returns:
        (STATISTICS, m): row `m` knows its series up to and including it.
    """
    out = np.empty((STATISTICS, len(minute)))
    lengths = np.diff(starts)
    ordered = np.argsort(lengths, kind="stable")
    # Series of similar length share a rectangle; the padding is at the end, where nothing after it is read.
    longest, begin = 1, 0
    while begin < len(ordered):
        end = int(np.searchsorted(lengths[ordered], longest, side="right"))
        if end > begin:
            chosen = ordered[begin:end]
            _accumulate_rectangle(out, starts[:-1][chosen], lengths[chosen], minute, score)
        begin, longest = end, max(longest + 1, longest * 5 // 4)
    return out


def _accumulate_rectangle(out: Floats, start: Ints, length: Ints, minute: Ints, score: Floats) -> None:
    position = np.arange(int(length.max()), dtype=np.int64)
    real = position < length[:, None]
    rows = np.where(real, start[:, None] + position, start[:, None])
    z, t = score[rows], minute[rows]
    elapsed = (t - t[:, :1]).astype(np.float64)
    at = rows[real]
    out[COUNT, at] = np.broadcast_to(position + 1.0, real.shape)[real]
    out[FIRST_MIN, at] = np.broadcast_to(t[:, :1], real.shape)[real]
    out[LAST_MIN, at] = t[real]
    out[FIRST, at] = np.broadcast_to(z[:, :1], real.shape)[real]
    out[LAST, at] = z[real]
    out[LOW, at] = np.minimum.accumulate(z, axis=1)[real]
    out[HIGH, at] = np.maximum.accumulate(z, axis=1)[real]
    out[TOTAL, at] = np.cumsum(z, axis=1)[real]
    out[SUM_T, at] = np.cumsum(elapsed, axis=1)[real]
    out[SUM_TT, at] = np.cumsum(elapsed * elapsed, axis=1)[real]
    out[SUM_TZ, at] = np.cumsum(elapsed * z, axis=1)[real]


def mean(statistics: Floats) -> Floats:
    """Mean standard score so far; 0 where nothing was observed."""
    average: Floats = statistics[TOTAL] / np.maximum(statistics[COUNT], 1.0)
    return average


def slope(statistics: Floats) -> Floats:
    """Least-squares slope of the standard score so far, an hour; 0 before the second minute.

    The spread of time is enlarged by one hour squared, so that values a few minutes apart give no steep slope.
    """
    count = np.maximum(statistics[COUNT], 1.0)
    covariance = (statistics[SUM_TZ] - statistics[SUM_T] * statistics[TOTAL] / count) / 60.0
    spread = (statistics[SUM_TT] - statistics[SUM_T] * statistics[SUM_T] / count) / 3600.0
    steepness: Floats = np.where(count < 2.0, 0.0, covariance / (np.maximum(spread, 0.0) + _TREND_RIDGE_H2))
    return steepness


def minute_means(boundary: NDArray[np.bool_], value: Floats) -> Floats:
    """Mean of every run of values; a run begins where `boundary` is True.

    Args:
        boundary: (m,) the first is True.
        value: (m,) ascending within a run, so that any order of arrival sums the same way.
    """
    begin = np.flatnonzero(boundary)
    if len(begin) == len(value):
        return value
    counts = np.diff(np.append(begin, len(value)))
    means: Floats = np.add.reduceat(value, begin) / counts
    return means
