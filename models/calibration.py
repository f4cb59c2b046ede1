"""A network's logits and their times in, calibrated risks out; fitted on stays that the network never trained on.

How far a network's logits can be trusted changes over a stay, so slope and intercept are smooth functions
of the time since admission, shrunk a little towards "already calibrated": the events of a calibration split
are few. At any one time a higher logit stays a higher risk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.stay import Floats, Ints
from models.task import TargetKind

# Legendre polynomials of the scaled time: constant, line, parabola, cubic.
TERMS = 4
# Prior standard deviations of the terms, in logits (intercept) and in the slope's logarithm. Those of the terms
# that follow the time are wide on purpose: a stay's steps are compared with one another, which shows a drift far
# better than it shows the level, and a drift that is shrunk away bends the risks at both ends of the stay.
INTERCEPT_SPREAD = (2.0, 2.0, 2.0, 2.0)
LOG_SLOPE_SPREAD = (0.75, 1.0, 1.0, 1.0)
_MAX_ROUNDS = 100
_TOLERANCE = 1e-9


class CalibrationMethod(StrEnum):
    """What is fitted: nothing, the slope alone, or slope and intercept."""

    NONE = "none"
    TEMPERATURE = "temperature"
    PLATT = "platt"


@dataclass(frozen=True)
class Calibration:
    """Slope and intercept of every output over the time since admission.

    With s the logarithm of (1 + hours), scaled to [-1, 1] over the fitted range and held constant outside it,
    and P the Legendre polynomials: `logit' = logit * exp(sum log_slope * P(s)) + sum intercept * P(s)`.
    A binary risk is the logistic function of it, a multiclass risk the softmax over classes, a predicted
    number `mean + scale * logit'`.

    Args:
        kind: what the outputs are.
        method: what was fitted.
        log_slope: a row of coefficients an output (multiclass: equal rows).
        intercept: a row of coefficients an output.
        log1p_h: (lowest, highest) fitted time as log(1 + hours).
        mean: mean of a regression target in its unit; else 0.
        scale: standard deviation of a regression target in its unit; else 1.

    Source: Platt 1999, Probabilistic outputs for support vector machines; Guo et al. 2017, On calibration of
    modern neural networks (temperature); the dependence on time is this project's.
    """

    kind: TargetKind
    method: CalibrationMethod
    log_slope: tuple[tuple[float, ...], ...]
    intercept: tuple[tuple[float, ...], ...]
    log1p_h: tuple[float, float] = (0.0, 1.0)
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses coefficients that cannot hold."""
        values = np.array([*np.ravel(self.log_slope), *np.ravel(self.intercept), *self.log1p_h, self.mean, self.scale])
        if len(self.log_slope) != len(self.intercept) or not len(self.log_slope):
            raise DataError(
                f"intercept must have a row an output like log_slope ({len(self.log_slope)}), got "
                f"{len(self.intercept)}; fit the calibration again"
            )
        if not np.all(np.isfinite(values)) or self.scale <= 0 or self.log1p_h[0] > self.log1p_h[1]:
            raise DataError(
                "calibration must have finite coefficients, an ascending time range and a positive scale, got others; "
                "fit it again"
            )

    @classmethod
    def identity(cls, kind: TargetKind, outputs: int, *, mean: float = 0.0, scale: float = 1.0) -> Calibration:
        """No calibration: the network's own probabilities, or numbers in the target's unit."""
        rows = ((0.0,),) * outputs
        return cls(kind, CalibrationMethod.NONE, rows, rows, mean=mean, scale=scale)

    @classmethod
    def fit(
        cls,
        logit: NDArray[Any],
        label: NDArray[Any],
        *,
        time_h: NDArray[Any],
        stay_index: Ints,
        kind: TargetKind,
        method: CalibrationMethod = CalibrationMethod.PLATT,
        strength: float = 1.0,
        mean: float = 0.0,
        scale: float = 1.0,
    ) -> Calibration:
        """Fits on time steps as they are served, each stay weighing one.

        Args:
            logit: (steps, outputs) of the network.
            label: (steps, targets) 0 or 1, class index, or number in its unit; NaN = not supervised.
            time_h: (steps,) hours since admission.
            stay_index: (steps,) which stay a step belongs to.
            kind: what the outputs are.
            method: what to fit.
            strength: of the prior; 0 fits freely.
            mean: of the regression target that the network was trained to standardise.
            scale: likewise, its standard deviation.

        Raises:
            DataError: if an output's supervised steps hold fewer than two classes, or none is supervised.
        """
        outputs = int(logit.shape[1])
        if method is CalibrationMethod.NONE:
            return cls.identity(kind, outputs, mean=mean, scale=scale)
        time = np.log1p(np.maximum(np.asarray(time_h, dtype=np.float64), 0.0))
        span = (float(time.min()), float(time.max())) if len(time) else (0.0, 0.0)
        basis = _basis(time, span)
        joint = kind is TargetKind.MULTICLASS
        fitted = [
            _fit_outputs(
                logit if joint else logit[:, k : k + 1],
                (np.asarray(label[:, k], dtype=np.float64) - mean) / scale,
                basis,
                stay_index,
                _Prior(kind, method, strength),
            )
            for k in range(1 if joint else outputs)
        ]
        slopes = tuple(slope for slope, _ in fitted) * (outputs if joint else 1)
        return cls(kind, method, slopes, tuple(row for _, rows in fitted for row in rows), span, mean, scale)

    def apply(self, logit: NDArray[Any], time_h: NDArray[Any]) -> Floats:
        """Risks (or numbers in the target's unit) of time steps.

        Args:
            logit: (steps, outputs).
            time_h: (steps,) hours since admission.

        Returns:
            (steps, outputs) float64; probabilities unless the target is a number.

        Raises:
            DataError: if the number of outputs is not the calibration's.
        """
        if logit.ndim != 2 or logit.shape[1] != len(self.log_slope) or len(time_h) != len(logit):
            raise DataError(
                f"logit must be of shape ({len(time_h)}, {len(self.log_slope)}), got {logit.shape}; "
                "give the logits of the network that was calibrated"
            )
        time = np.log1p(np.maximum(np.asarray(time_h, dtype=np.float64), 0.0))
        basis = _basis(time, self.log1p_h, terms=len(self.log_slope[0]))
        slope = np.exp(_combine(basis, self.log_slope))
        value = np.asarray(logit, dtype=np.float64) * slope + _combine(basis, self.intercept)
        return self.mean + self.scale * value if self.kind is TargetKind.REGRESSION else _probability(value, self.kind)


@dataclass(frozen=True)
class _Prior:
    """What is free, and how firmly it is held at the identity."""

    kind: TargetKind
    method: CalibrationMethod
    strength: float

    def precision(self, classes: int) -> Floats:
        """(parameters,) precision of slope terms, then intercept terms; infinite = held."""
        slope = 1.0 / np.square(LOG_SLOPE_SPREAD)
        # A multiclass intercept does not follow the time: classes times terms would be more than the events bear.
        terms = 1 if self.kind is TargetKind.MULTICLASS else TERMS
        intercept = np.tile(1.0 / np.square(INTERCEPT_SPREAD[:terms]), classes)
        held = np.inf if self.method is CalibrationMethod.TEMPERATURE else 1.0
        return np.concatenate([slope, intercept * held]) * max(self.strength, 1e-9)


def _fit_outputs(
    logit: NDArray[Any], label: Floats, basis: Floats, stay_index: Ints, prior: _Prior
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Log-slope coefficients, and a row of intercept coefficients an output."""
    known = ~np.isnan(label)
    _check_labels(label[known], prior.kind)
    _, stay, steps = np.unique(stay_index[known], return_inverse=True, return_counts=True)
    classes = int(logit.shape[1])
    target = label[known][:, None]
    if prior.kind is TargetKind.MULTICLASS:
        target = (target == np.arange(classes)).astype(np.float64)
    sample = _Sample(np.asarray(logit[known], dtype=np.float64), target, basis[known], 1.0 / steps[stay], prior.kind)
    theta = sample.solve(prior.precision(classes))
    rows = theta[TERMS:].reshape(classes, -1)
    rows = np.pad(rows, ((0, 0), (0, TERMS - rows.shape[1])))
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
        expected = value if self.kind is TargetKind.REGRESSION else _probability(value, self.kind)
        gradient = np.einsum("n,nk,nkp->p", self.weight, expected - self.target, jacobian, optimize=True)
        spread = np.ones_like(value)
        if self.kind is TargetKind.BINARY:
            spread = expected * (1.0 - expected)
        elif self.kind is TargetKind.MULTICLASS:
            spread = expected
            jacobian = jacobian - (expected[:, :, None] * jacobian).sum(axis=1, keepdims=True)
        curvature = np.einsum("nk,nkp,nkq->pq", self.weight[:, None] * spread, jacobian, jacobian, optimize=True)
        return gradient + penalty * theta, curvature + np.diag(penalty)


def _basis(log1p_h: Floats, span: tuple[float, float], terms: int = TERMS) -> Floats:
    """(steps, terms) Legendre polynomials of the time scaled to [-1, 1]; times outside are held at the edge."""
    width = span[1] - span[0]
    scaled = np.zeros_like(log1p_h) if width <= 0 else np.clip(2.0 * (log1p_h - span[0]) / width - 1.0, -1.0, 1.0)
    square = np.square(scaled)
    columns = [np.ones_like(scaled), scaled, 1.5 * square - 0.5, (2.5 * square - 1.5) * scaled]
    return np.stack(columns[:terms], axis=1)


def _combine(basis: Floats, rows: tuple[tuple[float, ...], ...]) -> Floats:
    """(steps, outputs); term by term, so that a step's value does not depend on how many are computed at once."""
    table = np.array(rows)
    total = np.zeros((len(basis), len(table)))
    for j in range(table.shape[1]):
        total += basis[:, j, None] * table[None, :, j]
    return total


def _probability(value: Floats, kind: TargetKind) -> Floats:
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
