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

from models.calibration_fit import TERMS, basis_of_time, fit_outputs, fitted_range, log1p_hours, probability
from models.errors import DataError
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind


class CalibrationMethod(StrEnum):
    """What is fitted: nothing, the slope alone, or slope and intercept."""

    NONE = "none"
    TEMPERATURE = "temperature"
    PLATT = "platt"


@dataclass(frozen=True)
class Calibration:
    """Slope and intercept of every output over the time since admission.

    With s the logarithm of (1 + hours), scaled to [-1, 1] over the fitted range and held constant outside it,
    and B its basis (1, and Legendre polynomials less 1, so that the first coefficient is the level at the end):
    `logit' = logit * exp(sum log_slope * B(s)) + sum intercept * B(s)`.
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
        lengths = {len(row) for row in (*self.log_slope, *self.intercept)}
        if len(lengths) != 1 or not 1 <= max(lengths) <= TERMS:
            raise DataError(
                f"log_slope and intercept must have rows of one length up to {TERMS}, got lengths {sorted(lengths)}; "
                "fit the calibration again"
            )
        values = np.array([*np.ravel(self.log_slope), *np.ravel(self.intercept), *self.log1p_h, self.mean, self.scale])
        if len(self.log_slope) != len(self.intercept):
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
        scope: LabelScope = LabelScope.STAY,
        method: CalibrationMethod = CalibrationMethod.PLATT,
        strength: float = 1.0,
        mean: float = 0.0,
        scale: float = 1.0,
    ) -> Calibration:
        """Fits on time steps as they are served, each stay weighing one (`calibration_fit.step_weight`).

        Args:
            logit: (steps, outputs) of the network.
            label: (steps, targets) 0 or 1, class index, or number in its unit; NaN = not supervised.
            time_h: (steps,) hours since admission.
            stay_index: (steps,) which stay a step belongs to.
            kind: what the outputs are.
            scope: whether a label is the stay's or the step's own.
            method: what to fit.
            strength: of the prior that holds the slope near 1 at the end; 0 fits everything freely.
            mean: of the regression target that the network was trained to standardise.
            scale: likewise, its standard deviation.

        Raises:
            DataError: if an output's supervised steps hold fewer than two classes, or none is supervised.
        """
        outputs = int(logit.shape[1])
        if method is CalibrationMethod.NONE:
            return cls.identity(kind, outputs, mean=mean, scale=scale)
        span = fitted_range(time_h, stay_index)
        joint = kind is TargetKind.MULTICLASS
        fitted = [
            fit_outputs(
                logit if joint else logit[:, k : k + 1],
                (np.asarray(label[:, k], dtype=np.float64) - mean) / scale,
                basis_of_time(log1p_hours(time_h), span),
                stay_index,
                kind=kind,
                scope=scope,
                shift=method is CalibrationMethod.PLATT,
                strength=strength,
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
        basis = basis_of_time(log1p_hours(time_h), self.log1p_h)
        slope = np.exp(_combine(basis, self.log_slope))
        value = np.asarray(logit, dtype=np.float64) * slope + _combine(basis, self.intercept)
        return self.mean + self.scale * value if self.kind is TargetKind.REGRESSION else probability(value, self.kind)


def _combine(basis: Floats, rows: tuple[tuple[float, ...], ...]) -> Floats:
    """(steps, outputs); term by term, so that a step's value does not depend on how many are computed at once."""
    table = np.array(rows)
    total = np.zeros((len(basis), len(table)))
    for j in range(table.shape[1]):
        total += basis[:, j, None] * table[None, :, j]
    return total
