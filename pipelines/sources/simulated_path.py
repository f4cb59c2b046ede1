"""A number of stays and a seed in; latent severity, vital signs, laboratory values and outcomes out.

A latent severity (an Ornstein-Uhlenbeck process around a level that drifts, with effects of the patient, age and
comorbidity) drives everything that is seen. Sicker stays are charted more often and their blood is drawn more
often, so that missingness informs. Outcomes are drawn from the latent path alone, and hence the true risk is known:
given it, nothing that was charted says more.

Source: Uhlenbeck and Ornstein 1930, On the theory of the Brownian motion (the exact hourly step is used).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.errors import ConfigError
from models.stay import Floats, Ints

RELAXATION_H = 10.0
LEVEL_SD = 0.62
WOBBLE_SD = 0.55
# Mortality near 13 % and an expected AUROC of the true risk near 0.89 for stays of 48 h.
DEATH_INTERCEPT = -2.85
DEATH_SLOPE = 2.0
DETERIORATION_INTERCEPT = -6.2
DETERIORATION_SLOPE = 1.25


@dataclass(frozen=True)
class Path:
    """The latent path of every stay; hour columns beyond a stay's end continue it and are never seen.

    Args:
        hours: (n,) length of the stays.
        patient: (n,) index of the patient.
        age: (n,) years.
        female: (n,) 1 or 0.
        comorbidities: (n,) count.
        severity: (n, hours + 1) severity at full hours; about 0 on average and 1 in spread.
        circulation: (n, hours + 1) a second, independent factor, so that signs do not all move together.
    """

    hours: Floats
    patient: Ints
    age: Floats
    female: Floats
    comorbidities: Floats
    severity: Floats
    circulation: Floats

    def at(self, latent: Floats, stay: Ints, minute: Ints) -> Floats:
        """Value of a latent (n, hours + 1) at minutes of stays, linear between hours; before admission as at it."""
        position = np.clip(minute / 60.0, 0.0, latent.shape[1] - 1.0)
        left = np.minimum(position.astype(np.int64), latent.shape[1] - 2)
        share = position - left
        return np.asarray(latent[stay, left] * (1.0 - share) + latent[stay, left + 1] * share)


@dataclass(frozen=True)
class TrueOutcomes:
    """What happens, drawn from the latent path, and the risk it was drawn from.

    Args:
        death_risk: (n,) probability of in-hospital death.
        died: (n,) 1 or 0.
        deterioration_min: (n,) minute of the first deterioration; NaN = none within the stay.
        destination: (n,) 0 home, 1 another facility, 2 died.
    """

    death_risk: Floats
    died: Floats
    deterioration_min: Floats
    destination: Floats


def latent_path(rng: np.random.Generator, *, stays: int, mean_hours: float, hours: float | None) -> Path:
    """Draws patients, the lengths of their stays and their latent paths.

    Raises:
        ConfigError: if a number is not positive.
    """
    for name, number in (("stays", stays), ("mean_hours", mean_hours), ("hours", 1 if hours is None else hours)):
        if not number > 0:
            raise ConfigError(f"{name} must be above 0, got {number}; give a positive number")
    patient = _patients(rng, stays)
    age = np.clip(rng.normal(64.0, 15.0, stays)[patient], 18.0, 98.0)
    comorbidities = np.minimum(rng.poisson(1.6, stays)[patient], 9).astype(np.float64)
    habitual = rng.normal(0.0, 0.5, stays)[patient]
    level = 0.35 * (age - 64.0) / 15.0 + 0.2 * (comorbidities - 1.6) + habitual + rng.normal(0.0, LEVEL_SD, stays)
    length = _lengths(rng, level, mean_hours) if hours is None else np.full(stays, float(hours))
    nodes = int(np.ceil(length.max())) + 1
    drift = np.minimum(np.arange(nodes) / 48.0, 2.0) * rng.normal(-0.1, 0.45, stays)[:, None]
    return Path(
        hours=length,
        patient=patient,
        age=np.round(age),
        female=(rng.random(stays) < 0.45)[patient].astype(np.float64),
        comorbidities=comorbidities,
        severity=level[:, None] + drift + _ornstein_uhlenbeck(rng, stays, nodes),
        circulation=rng.normal(0.0, 0.8, stays)[:, None] + _ornstein_uhlenbeck(rng, stays, nodes),
    )


def draw_outcomes(rng: np.random.Generator, path: Path) -> TrueOutcomes:
    """Draws death, deterioration and destination from the latent path alone."""
    risk = death_risk(path)
    died = rng.random(len(risk)) < risk
    facility = 1.0 / (1.0 + np.exp(-(-1.0 + 1.1 * _recent(path) + 0.03 * (path.age - 64.0))))
    destination = np.where(died, 2.0, (rng.random(len(risk)) < facility).astype(np.float64))
    return TrueOutcomes(risk, died.astype(np.float64), _first_deterioration(rng, path), destination)


def death_risk(path: Path) -> Floats:
    """(n,) probability of in-hospital death: logistic in the severity of the last 12 h and of the whole stay."""
    whole = _mean_severity(path, np.zeros(len(path.hours)))
    return np.asarray(1.0 / (1.0 + np.exp(-(DEATH_INTERCEPT + DEATH_SLOPE * (0.65 * _recent(path) + 0.35 * whole)))))


def _patients(rng: np.random.Generator, stays: int) -> Ints:
    """Index of the patient of every stay; about one patient in seven comes again."""
    visits = 1 + (rng.random(stays) < 0.14) + (rng.random(stays) < 0.03)
    return np.repeat(np.arange(stays, dtype=np.int64), visits)[:stays]


def _lengths(rng: np.random.Generator, level: Floats, mean_hours: float) -> Floats:
    spread = 0.5
    drawn = mean_hours * np.exp(rng.normal(0.0, spread, len(level)) - spread**2 / 2 + 0.12 * level)
    return np.asarray(np.clip(drawn, min(4.0, mean_hours), 6.0 * mean_hours))


def _ornstein_uhlenbeck(rng: np.random.Generator, stays: int, nodes: int) -> Floats:
    """(stays, nodes) stationary paths around 0, by the exact hourly step."""
    keep = np.exp(-1.0 / RELAXATION_H)
    shock = rng.normal(0.0, WOBBLE_SD, (stays, nodes))
    shock[:, 1:] *= np.sqrt(1.0 - keep**2)
    path = np.ascontiguousarray(shock.T)  # hours first: the recursion then reads whole rows
    for hour in range(1, nodes):
        path[hour] += keep * path[hour - 1]
    return np.ascontiguousarray(path.T)


def _recent(path: Path) -> Floats:
    return _mean_severity(path, np.maximum(path.hours - 12.0, 0.0))


def _mean_severity(path: Path, start_h: Floats) -> Floats:
    """(n,) mean severity over the full hours from `start_h` to the stay's end, the first of them included."""
    total = np.concatenate([np.zeros((len(path.hours), 1)), np.cumsum(path.severity, axis=1)], axis=1)
    rows = np.arange(len(path.hours))
    first = start_h.astype(np.int64)
    last = np.maximum(path.hours.astype(np.int64), first) + 1
    return np.asarray((total[rows, last] - total[rows, first]) / (last - first))


def _first_deterioration(rng: np.random.Generator, path: Path) -> Floats:
    """(n,) minute of the first event of a process whose hourly hazard rises with severity; NaN = none."""
    hazard = np.exp(DETERIORATION_INTERCEPT + DETERIORATION_SLOPE * path.severity)
    happens = rng.random(hazard.shape) < -np.expm1(-hazard)
    first = happens.argmax(axis=1)
    minute = np.maximum(first * 60 + rng.integers(0, 60, len(first)), 1).astype(np.float64)
    within = happens.any(axis=1) & (minute <= np.floor(path.hours * 60))
    return np.where(within, minute, np.nan)
