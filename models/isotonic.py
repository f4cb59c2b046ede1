"""Calibrated logits and labels in, a rising curve through pooled blocks of them out; no shape is assumed.

Where a slope and an intercept cannot bend enough, isotonic regression follows the observed frequencies. It is
fitted on top of a calibration that already follows the time, as a curve from its logit to a better one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints

# Stays that every block is joined by, with the risks it had before: so no block is ever a certainty, and one of a
# single stay says little.
PRIOR_WEIGHT = 1.0
# A former risk nearer to 0 or 1 than this counts as this near.
_SMALLEST = 1e-12


@dataclass(frozen=True)
class IsotonicCurve:
    """A rising curve from a logit to a logit: straight between knots, and of slope 1 beyond the outermost.

    Knots are the blocks of an isotonic regression at their mean logit, not at their edges: so equal risks come of
    equal logits alone, and whom the outcome came to is ranked as before.

    Args:
        at: logits of the knots, strictly ascending.
        value: calibrated logits there, ascending.

    Source: Zadrozny and Elkan 2002, Transforming classifier scores into accurate multiclass probability estimates;
    Oron and Flournoy 2017, Centered isotonic regression (knots at the blocks' centres).
    """

    at: tuple[float, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuses knots that do not rise."""
        at, value = np.array(self.at), np.array(self.value)
        rises = len(at) == len(value) > 0 and np.all(np.diff(at) > 0) and np.all(np.diff(value) >= 0)
        if not rises or not np.all(np.isfinite([*at, *value])):
            raise DataError(
                f"isotonic curve must have finite knots that rise, got {len(at)} logits and {len(value)} values that "
                "do not; fit the calibration again"
            )

    @classmethod
    def fit(cls, logit: Floats, label: Floats, weight: Floats) -> IsotonicCurve:
        """Pools adjacent violators, joins every block by `PRIOR_WEIGHT` at its former risk, and pools again.

        Args:
            logit: (steps,) calibrated as far as it is.
            label: (steps,) 0 or 1.
            weight: (steps,) positive; adds up to the number of stays.
        """
        order = np.argsort(logit, kind="stable")
        z, y, w = logit[order], label[order], weight[order]
        block = pool_adjacent_violators(y, w, tied=z)
        total, events, centre = _sums(block, w), _sums(block, w * y), _sums(block, w * z)
        before = np.clip(_sums(block, w * np.exp(-np.logaddexp(0.0, -z))) / total, _SMALLEST, 1.0 - _SMALLEST)
        joined = total + PRIOR_WEIGHT
        again = pool_adjacent_violators((events + PRIOR_WEIGHT * before) / joined, joined)
        risk = _sums(again, events + PRIOR_WEIGHT * before) / _sums(again, joined)
        at = _sums(again, centre) / _sums(again, total)
        value = np.maximum.accumulate(np.log(risk) - np.log1p(-risk))
        apart = np.diff(at, prepend=-np.inf) > 0  # rounding may bring two centres together
        return cls(tuple(at[apart].tolist()), tuple(value[apart].tolist()))

    def apply(self, logit: Floats) -> Floats:
        """Calibrated logits, of any shape."""
        at, value = self._points
        inside = np.interp(logit, at, value)
        beyond = np.minimum(logit - self.at[0], 0.0) + np.maximum(logit - self.at[-1], 0.0)
        return np.asarray(inside + beyond)

    @cached_property
    def _points(self) -> tuple[Floats, Floats]:
        return np.array(self.at), np.array(self.value)


def pool_adjacent_violators(value: Floats, weight: Floats, *, tied: Floats | None = None) -> Ints:
    """(n,) number of the block of every entry, from 0: the isotonic regression of `value` in its order.

    Blocks' weighted means rise strictly from one to the next.

    Args:
        value: (n,) in the order in which its mean shall rise.
        weight: (n,) positive.
        tied: (n,) ascending; entries that are equal here are one block whatever their values.

    Source: Ayer et al. 1955, An empirical distribution function for sampling with incomplete information.

    Example:
        >>> pool_adjacent_violators(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)).tolist()
        [0, 1, 1, 2]
    """
    first = np.arange(len(value)) if tied is None else np.flatnonzero(np.diff(tied, prepend=np.nan) != 0)
    weights = np.add.reduceat(weight, first).tolist()
    sums = np.add.reduceat(weight * value, first).tolist()
    members = np.diff(first, append=len(value)).tolist()
    pooled: list[tuple[float, float, int]] = []
    for mass, total, count in zip(weights, sums, members, strict=True):
        # A mean no lower than the one before begins a block only if it is higher: equal means are one block.
        while pooled and pooled[-1][1] * mass >= total * pooled[-1][0]:
            earlier = pooled.pop()
            mass, total, count = mass + earlier[0], total + earlier[1], count + earlier[2]
        pooled.append((mass, total, count))
    return np.repeat(np.arange(len(pooled), dtype=np.int64), [count for _, _, count in pooled])


def _sums(block: Ints, value: Floats) -> Floats:
    return np.asarray(np.bincount(block, weights=value))
