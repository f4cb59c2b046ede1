"""Calibrated logits and labels in, the two slopes and the shift of a beta calibration out.

A logistic curve bends a high and a low risk alike; a beta curve bends each by a slope of its own, with two
numbers more than nothing at all: what a few dozen events can bear.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from models.errors import DataError
from models.stay import Floats

# Prior standard deviations of the slopes about 1 and of the shift about 0.
SLOPE_SPREAD = 0.75
SHIFT_SPREAD = 2.0
# A prior this weak still keeps the equations solvable where all logits are equal.
_WEAKEST = 1e-9
_MAX_ROUNDS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class BetaCurve:
    """`logit' = low * ln(p) - high * ln(1 - p) + shift` of the risk p before it; 1, 1 and 0 change nothing.

    Args:
        low: slope where risks are low, at least 0.
        high: slope where risks are high, at least 0.
        shift: added to every logit.

    Source: Kull, Silva Filho and Flach 2017, Beta calibration, equation 8 (a, b and c there).
    """

    low: float
    high: float
    shift: float

    def __post_init__(self) -> None:
        """Refuses slopes that would turn the order of risks round."""
        if not np.all(np.isfinite([self.low, self.high, self.shift])) or min(self.low, self.high) < 0:
            raise DataError(
                f"beta curve must have finite slopes of at least 0, got {self.low} and {self.high}; "
                "fit the calibration again"
            )

    @classmethod
    def fit(cls, logit: Floats, label: Floats, weight: Floats, *, strength: float = 1.0) -> BetaCurve:
        """Penalised maximum likelihood with both slopes held at or above 0.

        Args:
            logit: (steps,) calibrated as far as it is.
            label: (steps,) 0 or 1.
            weight: (steps,) positive; adds up to the number of stays.
            strength: of the prior that holds the curve near the diagonal; 0 fits freely.
        """
        features = np.stack([*_logs(logit), np.ones_like(logit)], axis=1)
        spread = np.square([SLOPE_SPREAD, SLOPE_SPREAD, SHIFT_SPREAD])
        precision = np.maximum(np.array([strength, strength, min(strength, 1.0)]) / spread, _WEAKEST)
        # The loss is convex: the best of the corners and edges is the best of all where the middle is not allowed.
        found = []
        for free in product((True, False), repeat=2):
            theta, loss = _solve(features, label, weight, precision, np.array([*free, True]))
            if theta[:2].min() >= 0:
                found.append((loss, tuple(theta.tolist())))
                if all(free):
                    break
        low, high, shift = min(found)[1]
        return cls(low, high, shift)

    def apply(self, logit: Floats) -> Floats:
        """Calibrated logits, of any shape."""
        low, high = _logs(logit)
        return np.asarray(self.low * low + self.high * high + self.shift)


def _logs(logit: Floats) -> tuple[Floats, Floats]:
    """ln(p) and -ln(1 - p) of the risk p, exact however near p is to 0 or 1."""
    return np.asarray(-np.logaddexp(0.0, -logit)), np.asarray(np.logaddexp(0.0, logit))


def _solve(
    features: Floats, label: Floats, weight: Floats, precision: Floats, free: np.ndarray
) -> tuple[Floats, float]:
    """Coefficients, those that are not free being 0, and their loss; by Newton's method with step halving."""
    centre = np.array([1.0, 1.0, 0.0])

    def loss_of(theta: Floats) -> float:
        value = features @ theta
        return float(weight @ (np.logaddexp(0.0, value) - label * value) + 0.5 * precision @ np.square(theta - centre))

    theta = np.where(free, centre, 0.0)
    loss = loss_of(theta)
    for _ in range(_MAX_ROUNDS):
        risk = np.exp(-np.logaddexp(0.0, -(features @ theta)))
        gradient = features.T @ (weight * (risk - label)) + precision * (theta - centre)
        curvature = (features * (weight * risk * (1.0 - risk))[:, None]).T @ features + np.diag(precision)
        step = np.zeros(3)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        while (new := loss_of(theta - step)) > loss and np.abs(step).max() > _TOLERANCE:
            step /= 2.0
        theta, loss = theta - step, new
        if np.abs(step).max() <= _TOLERANCE:
            break
    return theta, loss
