"""Supervised logits and times in, coefficients of their calibration out: what `models.calibration` fits with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind

# Level at the end of the fitted range, and three polynomials of the time that are zero there.
TERMS = 4
# Prior standard deviations of the terms, in logits (intercept) and in the slope's logarithm. The first is the level
# at the end of the stay, where a network that was stopped in time is nearly calibrated: `strength` holds it there
# the more firmly, the fewer events speak. The terms that follow the time are wide on purpose: a stay's steps are
# compared with one another, which shows a drift far better than it shows the level, and a drift that is shrunk
# away bends the risks at both ends of the stay.
INTERCEPT_SPREAD = (2.0, 2.0, 2.0, 2.0)
LOG_SLOPE_SPREAD = (0.75, 1.0, 1.0, 1.0)
# Times that fewer than this share of the weight lies beyond are held at the range's edge: too few stays last as long.
TAIL = 0.01
_MAX_ROUNDS = 100
_TOLERANCE = 1e-9
# A prior this weak still keeps the equations solvable where time does not vary.
_WEAKEST = 1e-9


def log1p_hours(time_h: NDArray[Any]) -> Floats:
    """The scale of time on which drift is smooth; history before admission counts as admission."""
    return np.asarray(np.log1p(np.maximum(np.asarray(time_h, dtype=np.float64), 0.0)))


def step_weight(stay_index: Ints, scope: LabelScope) -> Floats:
    """(steps,) weights that add up to the number of stays.

    A label of the whole stay is one fact however often the stay was charted: each stay weighs one. A label of
    the step is a new fact at every step: there each stay weighs one at every step it is served. Weighing
    whole stays would count short stays more, and how long a stay lasts depends on the very events.
    """
    _, stay, steps = np.unique(stay_index, return_inverse=True, return_counts=True)
    if scope is LabelScope.STEP:
        return np.full(len(stay_index), len(steps) / max(len(stay_index), 1))
    return np.asarray(1.0 / steps[stay])


def fitted_range(time_h: NDArray[Any], stay_index: Ints) -> tuple[float, float]:
    """Lowest and highest time, as log(1 + hours), to fit over; each stay weighs one.

    Raises:
        DataError: if there is no step.
    """
    if not len(time_h):
        raise DataError("time_h must hold the steps to calibrate on, got none; give the calibration split more stays")
    time = log1p_hours(time_h)
    order = np.argsort(time, kind="stable")
    share = np.cumsum(step_weight(stay_index, LabelScope.STAY)[order])
    highest = order[min(int(np.searchsorted(share, (1.0 - TAIL) * share[-1])), len(order) - 1)]
    return float(time.min()), float(time[highest])


def fit_outputs(
    logit: NDArray[Any],
    label: Floats,
    basis: Floats,
    stay_index: Ints,
    *,
    kind: TargetKind,
    scope: LabelScope,
    shift: bool,
    strength: float,
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Log-slope coefficients, and a row of intercept coefficients an output.

    Args:
        logit: (steps, 1), or (steps, classes) for several classes at once.
        label: (steps,) 0 or 1, class index or standardised number; NaN = not supervised.
        basis: (steps, TERMS).
        stay_index: (steps,) which stay a step belongs to.
        kind: what the outputs are.
        scope: whether a label is the stay's or the step's.
        shift: whether intercepts are fitted.
        strength: of the prior.

    Raises:
        DataError: if the supervised steps hold fewer than two classes.
    """
    known = ~np.isnan(label)
    _check_labels(label[known], kind)
    classes = int(logit.shape[1])
    target = label[known][:, None]
    if kind is TargetKind.MULTICLASS:
        target = (target == np.arange(classes)).astype(np.float64)
    weight = step_weight(stay_index[known], scope)
    sample = _Sample(np.asarray(logit[known], dtype=np.float64), target, basis[known], weight, kind)
    # A multiclass intercept does not follow the time: classes times terms would be more than the events bear.
    terms = 1 if kind is TargetKind.MULTICLASS else TERMS
    intercept = np.tile(1.0 / np.square(INTERCEPT_SPREAD[:terms]), classes) * (1.0 if shift else np.inf)
    slope = np.array([strength, *[min(strength, 1.0)] * (TERMS - 1)]) / np.square(LOG_SLOPE_SPREAD)
    precision = np.maximum(np.concatenate([slope, intercept * min(strength, 1.0)]), _WEAKEST)
    theta = sample.solve(precision)
    rows = np.pad(theta[TERMS:].reshape(classes, terms), ((0, 0), (0, TERMS - terms)))
    return tuple(map(float, theta[:TERMS])), tuple(tuple(map(float, row)) for row in rows)


@dataclass(frozen=True)
class _Sample:
    """Supervised steps: logit and target (n, classes), basis (n, TERMS), weight (n,)."""

    logit: Floats
    target: Floats
    basis: Floats
    weight: Floats
    kind: TargetKind

    def solve(self, precision: Floats) -> Floats:
        """Penalised maximum likelihood by Fisher scoring with step halving."""
        theta = np.zeros(len(precision))
        free = np.isfinite(precision)
        penalty = np.where(free, precision, 0.0)
        loss = self._loss(theta, penalty)
        for _ in range(_MAX_ROUNDS):
            gradient, curvature = self._derivatives(theta, penalty)
            step = np.zeros(len(theta))
            step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
            while (new := self._loss(theta - step, penalty)) > loss and np.abs(step).max() > _TOLERANCE:
                step /= 2.0
            theta, loss = theta - step, new
            if np.abs(step).max() <= _TOLERANCE:
                break
        return theta

    def _linear(self, theta: Floats) -> tuple[Floats, Floats]:
        scaled = self.logit * np.exp(self.basis @ theta[:TERMS])[:, None]
        rows = theta[TERMS:].reshape(self.logit.shape[1], -1)
        return scaled, scaled + self.basis[:, : rows.shape[1]] @ rows.T

    def _loss(self, theta: Floats, penalty: Floats) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            _, value = self._linear(theta)
            if self.kind is TargetKind.BINARY:
                rows = (np.logaddexp(0.0, value) - self.target * value)[:, 0]
            elif self.kind is TargetKind.MULTICLASS:
                top = value.max(axis=1)
                total = np.log(np.exp(value - top[:, None]).sum(axis=1)) + top
                rows = total - (self.target * value).sum(axis=1)
            else:
                rows = 0.5 * np.square(value - self.target)[:, 0]
            loss = float(self.weight @ rows + 0.5 * penalty @ np.square(theta))
        return loss if np.isfinite(loss) else np.inf

    def _derivatives(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        scaled, value = self._linear(theta)
        classes = self.logit.shape[1]
        own = np.eye(classes)[None, :, :, None] * self.basis[:, None, None, : (len(theta) - TERMS) // classes]
        jacobian = np.concatenate([scaled[:, :, None] * self.basis[:, None], own.reshape(len(value), classes, -1)], 2)
        expected = value if self.kind is TargetKind.REGRESSION else probability(value, self.kind)
        gradient = np.einsum("n,nk,nkp->p", self.weight, expected - self.target, jacobian, optimize=True)
        spread = np.ones_like(value)
        if self.kind is TargetKind.BINARY:
            spread = expected * (1.0 - expected)
        elif self.kind is TargetKind.MULTICLASS:
            spread = expected
            jacobian = jacobian - (expected[:, :, None] * jacobian).sum(axis=1, keepdims=True)
        curvature = np.einsum("nk,nkp,nkq->pq", self.weight[:, None] * spread, jacobian, jacobian, optimize=True)
        return gradient + penalty * theta, curvature + np.diag(penalty)


def basis_of_time(log1p_h: Floats, span: tuple[float, float]) -> Floats:
    """(steps, TERMS) 1, and Legendre polynomials less 1 of the time scaled to [-1, 1]; held at the edges beyond."""
    width = span[1] - span[0]
    scaled = np.ones_like(log1p_h)
    if width > 0:
        # As `np.clip`, which takes longer than all the rest where steps are few.
        scaled = np.minimum(np.maximum(2.0 * (log1p_h - span[0]) / width - 1.0, -1.0), 1.0)
    square = np.square(scaled)
    basis = np.ones((len(scaled), TERMS))
    basis[:, 1] = scaled - 1.0
    basis[:, 2] = 1.5 * square - 1.5
    basis[:, 3] = (2.5 * square - 1.5) * scaled - 1.0
    return basis


def basis_at(hours: float, span: tuple[float, float]) -> tuple[float, ...]:
    """As `basis_of_time`, of one time in hours."""
    width, scaled = span[1] - span[0], 1.0
    if width > 0:
        scaled = min(max(2.0 * (math.log1p(max(hours, 0.0)) - span[0]) / width - 1.0, -1.0), 1.0)
    square = scaled * scaled
    return (1.0, scaled - 1.0, 1.5 * square - 1.5, (2.5 * square - 1.5) * scaled - 1.0)


def line_of_few(
    logit: NDArray[Any],
    time_h: NDArray[Any],
    log_slope: Sequence[Sequence[float]],
    intercept: Sequence[Sequence[float]],
    span: tuple[float, float],
) -> Floats:
    """As `Calibration.line`, without numpy, whose calls cost more than so few numbers."""
    rows = []
    last, lines = math.nan, [(1.0, 0.0)]
    for given, hours in zip(logit.tolist(), time_h.tolist(), strict=True):
        if hours != last:  # a step's members share its time
            last, basis = hours, basis_at(hours, span)
            slopes = [math.exp(sum(map(mul, basis, row))) for row in log_slope]
            lines = list(zip(slopes, [sum(map(mul, basis, row)) for row in intercept], strict=True))
        rows.append([value * slope + shift for value, (slope, shift) in zip(given, lines, strict=True)])
    return np.array(rows, dtype=np.float64)


def logistic(value: float) -> float:
    """As `probability`, of one output of a binary target."""
    small = math.exp(-abs(value))
    return (1.0 if value >= 0 else small) / (1.0 + small)


def probability(value: Floats, kind: TargetKind) -> Floats:
    """Logistic function of every output, or softmax over the classes."""
    if kind is TargetKind.BINARY:
        small = np.exp(-np.abs(value))
        return np.asarray(np.where(value >= 0, 1.0, small) / (1.0 + small))
    share = np.exp(value - value.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def _check_labels(label: Floats, kind: TargetKind) -> None:
    if kind is TargetKind.REGRESSION and len(label):
        return
    classes = len(np.unique(label))
    if classes < 2:
        raise DataError(
            f"label must hold at least two classes among the steps to calibrate on, got {classes}; "
            "give the calibration split more stays, or set the calibration method to 'none'"
        )
