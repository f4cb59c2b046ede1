"""A network's logits and their times in, calibrated risks out; fitted on stays that the network never trained on.

How far a network's logits can be trusted changes over a stay, so slope and intercept are smooth functions
of the time since admission, shrunk a little towards "already calibrated": the events of a calibration split
are few. A beta or an isotonic curve may follow. At any one time a higher logit stays a higher risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.beta import BetaCurve
from models.calibration_choice import Candidate, Sample, compare, simplest
from models.calibration_fit import (
    TERMS,
    basis_of_time,
    fit_outputs,
    fitted_range,
    line_of_few,
    log1p_hours,
    logistic,
    probability,
)
from models.errors import ConfigError, DataError
from models.isotonic import IsotonicCurve
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind

# So few steps are calibrated one by one.
FEW_STEPS = 9


class CalibrationMethod(StrEnum):
    """What is fitted: nothing, the slope alone, slope and intercept, or a curve after these.

    `beta` and `isotonic` are for binary targets. `auto` compares all four by cross-validation on the calibration
    part (`models.calibration_choice`); where that compares nothing, several classes or a number being predicted
    or events being too few, it is `platt`.
    """

    NONE = "none"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    BETA = "beta"
    ISOTONIC = "isotonic"
    AUTO = "auto"


# What `auto` chooses among, the simplest first.
CANDIDATES = (
    CalibrationMethod.TEMPERATURE,
    CalibrationMethod.PLATT,
    CalibrationMethod.BETA,
    CalibrationMethod.ISOTONIC,
)
CURVES = (CalibrationMethod.BETA, CalibrationMethod.ISOTONIC)


@dataclass(frozen=True)
class Calibration:
    """Slope and intercept of every output over the time since admission.

    With s the logarithm of (1 + hours), scaled to [-1, 1] over the fitted range and held constant outside it,
    and B its basis (1, and Legendre polynomials less 1, so that the first coefficient is the level at the end):
    `logit' = logit * exp(sum log_slope * B(s)) + sum intercept * B(s)`.
    A binary risk is the logistic function of it, after the output's curve where there is one, a multiclass risk
    the softmax over classes, a predicted number `mean + scale * logit'`.

    Args:
        kind: what the outputs are.
        method: what was fitted; of `auto` what was chosen.
        log_slope: a row of coefficients an output (multiclass: equal rows).
        intercept: a row of coefficients an output.
        log1p_h: (lowest, highest) fitted time as log(1 + hours).
        mean: mean of a regression target in its unit; else 0.
        scale: standard deviation of a regression target in its unit; else 1.
        beta: a curve an output, where the method is `beta`.
        isotonic: a curve an output, where the method is `isotonic`.
        compared: how the methods did that `auto` chose among.

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
    beta: tuple[BetaCurve, ...] = ()
    isotonic: tuple[IsotonicCurve, ...] = ()
    compared: tuple[Candidate, ...] = ()

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
        wanted = [len(self.log_slope) if self.method is curve else 0 for curve in CURVES]
        if [len(self.beta), len(self.isotonic)] != wanted or self.method is CalibrationMethod.AUTO:
            raise DataError(
                f"calibration '{self.method}' must have {wanted[0]} beta and {wanted[1]} isotonic curves, got "
                f"{len(self.beta)} and {len(self.isotonic)}; fit it again"
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
        patient_index: Ints | None = None,
        candidates: Sequence[CalibrationMethod] = CANDIDATES,
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
            patient_index: (steps,) which patient a step belongs to, for the folds of `auto`; None: stays are patients.
            candidates: what `auto` chooses among, the simplest first.

        Raises:
            ConfigError: if a curve is asked for and the target is not binary.
            DataError: if an output's supervised steps hold fewer than two classes, or none is supervised.
        """
        check_method(method, kind)
        if method is CalibrationMethod.NONE:
            return cls.identity(kind, int(logit.shape[1]), mean=mean, scale=scale)
        part = Sample(np.asarray(logit), np.asarray(label), np.asarray(time_h), stay_index, kind, scope)
        if method is not CalibrationMethod.AUTO:
            return _fit(part, method, strength=strength, mean=mean, scale=scale)
        compared = compare(
            candidates,
            lambda name, rows: _fit(rows, CalibrationMethod(name), strength=strength).apply,
            part,
            patient_index=stay_index if patient_index is None else patient_index,
        )
        chosen = CalibrationMethod(simplest(compared)) if compared else CalibrationMethod.PLATT
        return replace(_fit(part, chosen, strength=strength, mean=mean, scale=scale), compared=compared)

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
        few, line = 0 < len(logit) <= FEW_STEPS, (self.log_slope, self.intercept, self.log1p_h)
        value = line_of_few(logit, time_h, *line) if few else self.line(logit, time_h)
        curves: tuple[BetaCurve | IsotonicCurve, ...] = (*self.beta, *self.isotonic)
        for k, curve in enumerate(curves):
            value[:, k] = curve.apply(value[:, k])
        if self.kind is TargetKind.REGRESSION:
            return self.mean + self.scale * value
        if few and self.kind is TargetKind.BINARY:
            return np.array([[logistic(one) for one in row] for row in value.tolist()])
        return probability(value, self.kind)

    def line(self, logit: NDArray[Any], time_h: NDArray[Any]) -> Floats:
        """(steps, outputs) calibrated logits before any curve: arguments as of `apply`."""
        log_slope, intercept = self._tables
        # Without a dependence on time nothing hangs on it but the number of steps.
        steady = log_slope.shape[1] == 1
        basis = np.ones((len(logit), 1)) if steady else basis_of_time(log1p_hours(time_h), self.log1p_h)
        slope = np.exp(_combine(basis, log_slope))
        return np.asarray(np.asarray(logit, dtype=np.float64) * slope + _combine(basis, intercept))

    @cached_property
    def _tables(self) -> tuple[Floats, Floats]:
        return np.array(self.log_slope), np.array(self.intercept)


def check_method(method: CalibrationMethod, kind: TargetKind) -> None:
    """Refuses a curve for several classes or a number.

    Raises:
        ConfigError: with the methods that there are.
    """
    if method in CURVES and kind is not TargetKind.BINARY:
        raise ConfigError(
            f"calibration.method must be none, temperature, platt or auto for kind '{kind}', got '{method}'; "
            "choose one of them"
        )


def _fit(
    part: Sample, method: CalibrationMethod, *, strength: float, mean: float = 0.0, scale: float = 1.0
) -> Calibration:
    span = fitted_range(part.time_h, part.stay_index)
    outputs = int(part.logit.shape[1])
    joint = part.kind is TargetKind.MULTICLASS
    fitted = [
        fit_outputs(
            part.logit if joint else part.logit[:, k : k + 1],
            (np.asarray(part.label[:, k], dtype=np.float64) - mean) / scale,
            basis_of_time(log1p_hours(part.time_h), span),
            part.stay_index,
            kind=part.kind,
            scope=part.scope,
            shift=method is not CalibrationMethod.TEMPERATURE,
            strength=strength,
        )
        for k in range(1 if joint else outputs)
    ]
    slopes = tuple(slope for slope, _ in fitted) * (outputs if joint else 1)
    rows = tuple(row for _, rows in fitted for row in rows)
    level = CalibrationMethod.PLATT if method in CURVES else method
    line = Calibration(part.kind, level, slopes, rows, span, mean, scale)
    return _with_curves(line, part, method, strength) if method in CURVES else line


def _with_curves(line: Calibration, part: Sample, method: CalibrationMethod, strength: float) -> Calibration:
    """The calibration with a curve an output, each fitted on that output's supervised steps."""
    value, weight = line.line(part.logit, part.time_h), part.weight()
    beta, isotonic = [], []
    for k in range(value.shape[1]):
        known = weight[:, k] > 0
        steps = (value[known, k], np.asarray(part.label[known, k], dtype=np.float64), weight[known, k])
        if method is CalibrationMethod.BETA:
            beta.append(BetaCurve.fit(*steps, strength=strength))
        else:
            isotonic.append(IsotonicCurve.fit(*steps))
    return replace(line, method=method, beta=tuple(beta), isotonic=tuple(isotonic))


def _combine(basis: Floats, table: Floats) -> Floats:
    """(steps, outputs); term by term, so that a step's value does not depend on how many are computed at once."""
    total = basis[:, 0, None] * table[None, :, 0]
    for j in range(1, table.shape[1]):
        total += basis[:, j, None] * table[None, :, j]
    return total
