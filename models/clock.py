"""Stamps of time steps in, features of the clock out: time since admission and since the step before."""

from __future__ import annotations

import numpy as np

from models.stay import Floats, Ints

# Names of the features.
CLOCK = ("time", "step_gap")
# Hours are on a logarithmic scale that is 1 here.
WEEK_H = 168.0
_WEEK = np.log1p(WEEK_H)


def clock_features(stamp: Ints, previous: Ints, clip: float) -> Floats:
    """(steps, 2) hours since admission, negative before it, and since the step before; logarithmic and clipped."""
    hours = np.empty((len(stamp), 2))
    hours[:, 0] = stamp
    np.subtract(stamp, previous, out=hours[:, 1])
    hours /= 60.0
    scaled = np.sign(hours) * np.log1p(np.abs(hours)) / _WEEK
    # As `np.clip`, which takes longer than all the rest where steps are few.
    clipped: Floats = np.minimum(np.maximum(scaled, -clip), clip)
    return clipped


def previous_stamps(stamp: Ints, step_offsets: Ints) -> Ints:
    """(steps,) stamp of the step before; a stay's first step has its own.

    Args:
        stamp: (steps,) stamps of stays that have at least one step each.
        step_offsets: (n + 1,) steps of stay i.
    """
    previous = np.concatenate([stamp[:1], stamp[:-1]])
    previous[step_offsets[:-1]] = stamp[step_offsets[:-1]]
    return previous
