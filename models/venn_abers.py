"""One score and label a patient in, two step functions of the score out: the ends of a Venn-Abers interval.

For a new score, isotonic regression is fitted twice on the calibration patients and the new one: once as if it had
no event, once as if it had. One of the two risks at the score is perfectly calibrated, whichever comes true, on
average over draws of the calibration patients. How far apart they lie says what one more patient changes there; the
chance in those patients is more than that, so it is no confidence interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from models.errors import DataError
from models.stay import Floats, Ints

# A corner of a cumulative sum diagram: patients so far, events so far. Whole numbers, so that no slope is rounded.
Corner = tuple[int, int]


@dataclass(frozen=True)
class VennAbers:
    """Both ends as step functions; exact, with a knot only where an end changes.

    Args:
        low_from: scores, ascending, at and above which the lower end has the value after it.
        low: lower ends, one more than `low_from`: the first holds below all of them.
        high_to: scores, ascending, up to and at which the upper end has the value beside it.
        high: upper ends, one more than `high_to`: the last holds above all of them.

    Source: Vovk and Petej 2014, Venn-Abers predictors; Vovk, Petej and Fedorova 2015, Large-scale probabilistic
    predictors with and without guarantees of validity, algorithms 1 to 4 (the inductive predictor in one pass).
    """

    low_from: tuple[float, ...]
    low: tuple[float, ...]
    high_to: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuses ends that are not risks that rise with the score."""
        for knots, values in ((self.low_from, self.low), (self.high_to, self.high)):
            rises = np.all(np.diff(knots) > 0) and np.all(np.diff(values) >= 0)
            if len(values) != len(knots) + 1 or not rises or not (0 <= values[0] <= values[-1] <= 1):
                raise DataError(
                    f"Venn-Abers ends must be risks that rise with the score, got {len(values)} values at "
                    f"{len(knots)} scores that do not; fit the uncertainty again"
                )

    @classmethod
    def fit(cls, score: Floats, label: Floats) -> VennAbers:
        """Both ends at every possible score.

        Args:
            score: (patients,) one a patient; anything that rises with the risk.
            label: (patients,) 0 or 1.
        """
        distinct, group, count = np.unique(score, return_inverse=True, return_counts=True)
        events = np.bincount(group, weights=label, minlength=len(distinct)).astype(np.int64)
        upper = [rise / run for run, rise in _with_an_event(count, events)]
        # A patient without the event is one with it when scores fall and labels are exchanged.
        mirrored = _with_an_event(count[::-1], (count - events)[::-1])
        lower = [(run - rise) / run for run, rise in reversed(mirrored)]
        low, high = np.array([0.0, *lower]), np.array([*upper, 1.0])
        starts, ends = np.flatnonzero(np.diff(low)), np.flatnonzero(np.diff(high))
        return cls(
            tuple(distinct[starts].tolist()),
            tuple(low[[0, *(starts + 1)]].tolist()),
            tuple(distinct[ends].tolist()),
            tuple(high[[*ends, -1]].tolist()),
        )

    def interval(self, score: ArrayLike) -> tuple[Floats, Floats]:
        """Lower and upper ends, of the score's shape."""
        at = np.asarray(score, dtype=np.float64)
        low_from, low, high_to, high = self._steps
        return low[np.searchsorted(low_from, at, side="right")], high[np.searchsorted(high_to, at, side="left")]

    @cached_property
    def _steps(self) -> tuple[Floats, Floats, Floats, Floats]:
        return np.array(self.low_from), np.array(self.low), np.array(self.high_to), np.array(self.high)


def _with_an_event(count: Ints, events: Ints) -> list[Corner]:
    """At every distinct score the isotonic risk of one more patient there, with the event, as (run, rise).

    With that patient at the i-th score, all corners before it lie one patient and one event further back. The hull
    of these and of the corners from it on changes little from one score to the next, so that one pass does.
    """
    corners: list[Corner] = [(-1, -1), (0, 0)]
    sums = zip(np.cumsum(count).tolist(), np.cumsum(events).tolist(), strict=True)
    corners += list(sums)
    # From the right: the top of the stack is the hull's first corner.
    hull = _lower_hull(corners)[::-1]
    found = []
    for i in range(2, len(corners)):
        top, following = hull[-1], hull[-2]
        found.append((following[0] - top[0], following[1] - top[1]))
        # The corner before the score, moved back by the patient that now comes after it.
        before, passed, ahead = corners[i - 2], corners[i - 1], corners[i]
        moved = (before[0] + ahead[0] - passed[0], before[1] + ahead[1] - passed[1])
        corners[i - 1] = moved
        if _turn(top, following, moved) >= 0:
            continue
        hull.pop()
        while len(hull) > 1 and _turn(moved, hull[-1], hull[-2]) <= 0:
            hull.pop()
        hull.append(moved)
    return found


def _lower_hull(corners: Sequence[Corner]) -> list[Corner]:
    hull: list[Corner] = []
    for corner in corners:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], corner) <= 0:
            hull.pop()
        hull.append(corner)
    return hull


def _turn(a: Corner, b: Corner, c: Corner) -> int:
    """Above 0 where the way from a over b to c turns left, that is where c lies above the line from a to b."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
