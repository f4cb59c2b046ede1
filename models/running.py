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
# What a channel's first score is at once.
_BEGUN = np.array([[FIRST], [LOW], [HIGH]])

# Added to the spread of time, in hours squared: two values a minute apart tell little of a trend.
TREND_RIDGE_H2 = 1.0
# So few series are too few to be taken a minute at a time.
_FEW_SERIES = 64


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
    after = np.array(before)
    new = (after[COUNT] == 0.0).nonzero()[0]
    if len(new):
        after[FIRST_MIN, new] = minute[new]
        after[_BEGUN, new] = score[new]
    after[COUNT] += 1.0
    after[LAST_MIN] = minute
    after[LAST] = score
    np.minimum(after[LOW], score, out=after[LOW])
    np.maximum(after[HIGH], score, out=after[HIGH])
    more = np.empty((STATISTICS - TOTAL, len(score)))
    more[0] = score
    elapsed = np.subtract(minute, after[FIRST_MIN], out=more[SUM_T - TOTAL])
    np.multiply(elapsed, elapsed, out=more[SUM_TT - TOTAL])
    np.multiply(elapsed, score, out=more[SUM_TZ - TOTAL])
    after[TOTAL:] += more
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
    # A minute's statistics lie together: they are written at once, wherever its series stands.
    out = np.empty((len(minute), STATISTICS)).T
    lengths = np.diff(starts)
    ordered = np.argsort(lengths, kind="stable")
    ranked = lengths[ordered]
    # Of many series, all take their next minute together; the few longest are laid as rectangles instead.
    apart = max(len(ordered) - _FEW_SERIES, 0)
    common = int(np.searchsorted(ranked, ranked[apart], side="left")) if apart else 0
    _accumulate_together(out, starts[:-1][ordered[:common][::-1]], ranked[:common][::-1], minute, score)
    # Series of similar length share a rectangle; the padding is at the end, where nothing after it is read.
    begin = common
    longest = int(ranked[begin]) if begin < len(ordered) else 1
    while begin < len(ordered):
        end = int(np.searchsorted(ranked, longest, side="right"))
        if end > begin:
            chosen = ordered[begin:end]
            _accumulate_rectangle(out, starts[:-1][chosen], lengths[chosen], minute, score)
        begin, longest = end, max(longest + 1, longest * 5 // 4)
    return out


def _accumulate_together(out: Floats, start: Ints, length: Ints, minute: Ints, score: Floats) -> None:
    """One minute after the other, each of all series that have it; the longest series stand first."""
    known = np.zeros((STATISTICS, len(start)))
    for position in range(int(length[0]) if len(length) else 0):
        having = int(np.searchsorted(-length, -position, side="left"))
        at = start[:having] + position
        known = advanced(known[:, :having], minute[at], score[at])
        out[:, at] = known


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


def final(starts: Ints, minute: Ints, score: Floats) -> Floats:
    """(STATISTICS, s) statistics after the last observation of each of many series; arguments as of `accumulate`.

    Sums run in another order than one observation after the other, so they may differ in the last digit.
    """
    begin, last = starts[:-1], starts[1:] - 1
    count = np.diff(starts)
    out = np.empty((STATISTICS, len(begin)))
    if not len(begin):
        return out
    elapsed = (minute - np.repeat(minute[begin], count)).astype(np.float64)
    out[COUNT], out[FIRST_MIN], out[LAST_MIN] = count, minute[begin], minute[last]
    out[FIRST], out[LAST] = score[begin], score[last]
    out[LOW], out[HIGH] = np.minimum.reduceat(score, begin), np.maximum.reduceat(score, begin)
    sums = ((TOTAL, score), (SUM_T, elapsed), (SUM_TT, elapsed * elapsed), (SUM_TZ, elapsed * score))
    for row, column in sums:
        out[row] = np.add.reduceat(column, begin)
    return out


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
    steepness: Floats = np.where(count < 2.0, 0.0, covariance / (np.maximum(spread, 0.0) + TREND_RIDGE_H2))
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
