"""Labels and risks in, metrics out: one value for every set of row weights, so that a bootstrap is one call.

A `Statistic` maps weights of shape (draws, rows) to named values of shape (draws,); NaN = not defined for
that draw, for example because it holds one class alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats, Ints

Statistic = Callable[[Floats], dict[str, Floats]]

ECE_BINS = 15
# Risks nearer to 0 or 1 than this count as this near when their logit is asked for.
SMALLEST_RISK = 1e-9
_ROUNDS = 30
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Curves:
    """Weighted counts above every distinct risk, from the highest risk down.

    Args:
        caught: (draws, thresholds + 1) positives at or above; begins with 0.
        alerts: (draws, thresholds + 1) rows at or above; begins with 0.
    """

    caught: Floats
    alerts: Floats

    def auroc(self) -> Floats:
        """(draws,) area under the receiver operating characteristic; ties count one half."""
        false = self.alerts - self.caught
        area = 0.5 * np.sum(np.diff(false, axis=1) * (self.caught[:, 1:] + self.caught[:, :-1]), axis=1)
        return _divide(area, self.caught[:, -1] * false[:, -1])

    def auprc(self) -> Floats:
        """(draws,) average precision: precision at every threshold, weighted by the recall gained there."""
        precision = _divide(self.caught[:, 1:], np.maximum(self.alerts[:, 1:], np.finfo(np.float64).tiny))
        gained = np.sum(np.diff(self.caught, axis=1) * precision, axis=1)
        one_class = self.caught[:, -1] == self.alerts[:, -1]
        return np.where(one_class, np.nan, _divide(gained, self.caught[:, -1]))

    def sensitivity_at(self, alert_rate: float) -> Floats:
        """(draws,) share of positives among the `alert_rate` highest risks; rows of equal risk alert in proportion."""
        wanted = alert_rate * self.alerts[:, -1]
        caught = [np.interp(w, a, c) for w, a, c in zip(wanted, self.alerts, self.caught, strict=True)]
        one_class = self.caught[:, -1] == self.alerts[:, -1]
        return np.where(one_class, np.nan, _divide(np.array(caught), self.caught[:, -1]))


@dataclass(frozen=True)
class Ranking:
    """Rows by falling risk: (rows,) order, (thresholds,) last position of each distinct risk, (rows,) label."""

    order: Ints
    end: Ints
    positive: Floats

    @classmethod
    def of(cls, label: NDArray[Any], risk: Floats) -> Ranking:
        """Sorts the rows once for all draws."""
        order = np.argsort(-risk, kind="stable")
        end = np.flatnonzero(np.diff(risk[order], append=-np.inf))
        return cls(order, end, np.asarray(label, dtype=np.float64)[order])

    def curves(self, weight: Floats) -> Curves:
        """Counts for weights of shape (draws, rows)."""
        ranked = weight[:, self.order]
        alerts = np.cumsum(ranked, axis=1)[:, self.end]
        ranked *= self.positive
        caught = np.cumsum(ranked, axis=1)[:, self.end]
        return Curves(np.pad(caught, ((0, 0), (1, 0))), np.pad(alerts, ((0, 0), (1, 0))))


def discrimination(label: Floats, risk: Floats, alert_rates: Sequence[float] = ()) -> Statistic:
    """AUROC, AUPRC (average precision) and the sensitivity at fixed alert rates.

    Args:
        label: (rows,) 0 or 1.
        risk: (rows,) anything that rises with the risk.
        alert_rates: shares of rows that alert.
    """
    ranking = Ranking.of(label, risk)

    def statistic(weight: Floats) -> dict[str, Floats]:
        curves = ranking.curves(weight)
        rates = {f"sensitivity_at_alert_rate_{rate:g}": curves.sensitivity_at(rate) for rate in alert_rates}
        return {"auroc": curves.auroc(), "auprc": curves.auprc(), **rates}

    return statistic


def probability_errors(label: Floats, risk: Floats) -> Statistic:
    """Brier score and expected calibration error.

    The latter is the mean distance between mean risk and observed frequency over 15 bins of equal width.

    Source: Guo et al. 2017, On calibration of modern neural networks, equation 3.
    """
    square = np.square(risk - label)
    ece = calibration_error(label, risk)
    return lambda weight: {"brier": _divide(weight @ square, weight.sum(axis=1)), **ece(weight)}


def calibration_error(label: Floats, risk: Floats) -> Statistic:
    """Expected calibration error alone; see `probability_errors`."""
    bins = np.minimum((risk * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    table = np.zeros((len(risk), ECE_BINS))
    table[np.arange(len(risk)), bins] = risk - label

    def statistic(weight: Floats) -> dict[str, Floats]:
        return {"ece": _divide(np.abs(weight @ table).sum(axis=1), weight.sum(axis=1))}

    return statistic


def calibration_line(label: Floats, risk: Floats) -> Statistic:
    """Calibration slope and intercept; 1 and 0 where risks mean what they say.

    The slope is that of a logistic regression of the label on the risk's logit; the intercept is that of a
    logistic regression with the slope held at 1 (calibration in the large).

    Source: Van Calster et al. 2019, Calibration: the Achilles heel of predictive analytics.
    """
    held = np.clip(risk, SMALLEST_RISK, 1.0 - SMALLEST_RISK)
    logit = np.log(held) - np.log1p(-held)
    target = np.asarray(label, dtype=np.float64)
    start = _fit_line(logit, target, np.ones((1, len(logit))), np.zeros((1, 2)))
    shift = _fit_shift(logit, target, np.ones((1, len(logit))), np.zeros(1))

    def statistic(weight: Floats) -> dict[str, Floats]:
        line = _fit_line(logit, target, weight, np.repeat(start, len(weight), axis=0))
        return {
            "calibration_slope": line[:, 1],
            "calibration_intercept": _fit_shift(logit, target, weight, np.repeat(shift, len(weight))),
        }

    return statistic


def number_errors(label: Floats, predicted: Floats) -> Statistic:
    """Root mean squared error, mean absolute error and R squared of predicted numbers."""
    residual = predicted - label

    def statistic(weight: Floats) -> dict[str, Floats]:
        total = weight.sum(axis=1)
        squares = weight @ np.square(residual)
        mean = _divide(weight @ label, total)
        spread = weight @ np.square(label) - total * np.square(mean)
        spread = np.where(spread > 1e-12 * (weight @ np.square(label)), spread, 0.0)
        return {
            "rmse": np.sqrt(_divide(squares, total)),
            "mae": _divide(weight @ np.abs(residual), total),
            "r2": 1.0 - _divide(squares, spread),
        }

    return statistic


def class_errors(label: Ints, risk: Floats) -> Statistic:
    """Log loss, accuracy, Brier score and macro one-versus-rest AUROC and AUPRC of several classes.

    Args:
        label: (rows,) class index.
        risk: (rows, classes) probabilities.
    """
    classes = risk.shape[1]
    truth = label[:, None] == np.arange(classes)
    loss = -np.log(np.clip(risk[np.arange(len(label)), label], SMALLEST_RISK, 1.0))
    right = (risk.argmax(axis=1) == label).astype(np.float64)
    square = np.square(risk - truth).sum(axis=1)
    rankings = [Ranking.of(truth[:, k], risk[:, k]) for k in range(classes)]

    def statistic(weight: Floats) -> dict[str, Floats]:
        total = weight.sum(axis=1)
        curves = [ranking.curves(weight) for ranking in rankings]
        return {
            "auroc": np.mean([c.auroc() for c in curves], axis=0),
            "auprc": np.mean([c.auprc() for c in curves], axis=0),
            "log_loss": _divide(weight @ loss, total),
            "accuracy": _divide(weight @ right, total),
            "brier": _divide(weight @ square, total),
        }

    return statistic


def _divide(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where the divisor is 0."""
    quotient: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)
    return quotient


def _fit_line(logit: Floats, label: Floats, weight: Floats, start: Floats) -> Floats:
    """(draws, 2) intercept and slope by Newton's method; NaN where the classes are separable or one is absent."""
    theta = start.copy()
    step = np.full_like(theta, np.inf)
    square = np.square(logit)
    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            risk = 1.0 / (1.0 + np.exp(-(theta[:, :1] + theta[:, 1:] * logit)))
            spread = weight * (risk * (1.0 - risk))
            residual = weight * (risk - label)
            g0, g1 = residual.sum(axis=1), residual @ logit
            h00, h01, h11 = spread.sum(axis=1), spread @ logit, spread @ square
            determinant = h00 * h11 - h01 * h01
            step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / determinant[:, None]
            theta -= step
            if not np.any(np.abs(step) > _TOLERANCE):
                break
    theta[~np.all(np.abs(step) <= _TOLERANCE, axis=1)] = np.nan
    return theta


def _fit_shift(logit: Floats, label: Floats, weight: Floats, start: Floats) -> Floats:
    """(draws,) intercept with the slope held at 1; NaN where one class is absent."""
    shift = start.copy()
    step = np.full_like(shift, np.inf)
    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            risk = 1.0 / (1.0 + np.exp(-(shift[:, None] + logit)))
            step = (weight * (risk - label)).sum(axis=1) / (weight * risk * (1.0 - risk)).sum(axis=1)
            shift -= np.clip(step, -2.0, 2.0)
            if not np.any(np.abs(step) > _TOLERANCE):
                break
    return np.where(np.abs(step) <= _TOLERANCE, shift, np.nan)
