"""Latent paths in, charted vital signs and laboratory values out: irregular times, informative missingness, artefacts.

Vital signs are charted in rounds, blood is drawn in panels and, when something is suspected, as blood gas; rounds
and draws come more often the sicker the stay is. A laboratory value enters when it is available, after its draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.channel_table import channel_by_name
from models.channels import Channel
from models.intake import Columns
from models.stay import Floats, Ints
from pipelines.sources.simulated_path import Path

HISTORY_H = 4
# A thermometer set to Fahrenheit and charted as Celsius: outside the hard limits, so that a report shows rejections.
FAHRENHEIT_SHARE = 0.002


@dataclass(frozen=True)
class Sign:
    """How one channel follows the latent state.

    Args:
        name: channel of the channel table.
        base: value at severity 0; where `log` is set, loads and spreads are of its logarithm.
        severity: change for one unit of severity.
        circulation: change for one unit of the second factor.
        habitual: spread between patients.
        noise: spread between measurements.
        log: whether the value is the exponential of a linear form.
        digits: decimals charted.
        bounds: what a device or a scale shows at least and at most.
        share: probability that a round or draw includes it.
    """

    name: str
    base: float
    severity: float
    circulation: float
    habitual: float
    noise: float
    log: bool = False
    digits: int = 0
    bounds: tuple[float, float] = (0.0, np.inf)
    share: float = 1.0

    def value(self, severity: Floats, circulation: Floats, habitual: Floats, noise: Floats) -> Floats:
        """What is charted, from latent values and standard normal draws."""
        linear = self.severity * severity + self.circulation * circulation
        linear += self.habitual * habitual + self.noise * noise
        raw = self.base * np.exp(linear) if self.log else self.base + linear
        return np.asarray(np.round(np.clip(raw, *self.bounds), self.digits))


@dataclass(frozen=True)
class Round:
    """Signs that are charted at one time, and how often.

    Args:
        signs: what is charted.
        per_hour: rate at severity 0.
        severity: growth of the rate's logarithm for one unit of severity.
        delay_min: (shortest, longest) minutes until a value is available.
    """

    signs: tuple[Sign, ...]
    per_hour: float
    severity: float
    delay_min: tuple[int, int] = (0, 0)


VITAL_SIGNS = Round(
    signs=(
        Sign("heart_rate", 82, 7.0, 5.0, 10.0, 6.0, bounds=(20, 220), share=0.97),
        Sign("respiratory_rate", 18, 2.2, 0.0, 2.5, 2.5, bounds=(4, 60), share=0.9),
        Sign("spo2", 97, -1.0, 0.0, 1.2, 1.2, bounds=(50, 100), share=0.95),
        Sign("sbp", 124, -6.0, -8.0, 14.0, 8.0, bounds=(40, 240), share=0.95),
        Sign("dbp", 63, -3.0, -4.0, 8.0, 5.0, bounds=(15, 140), share=0.95),
        Sign("temperature", 37.0, 0.12, 0.15, 0.35, 0.25, digits=1, bounds=(33, 42), share=0.5),
        Sign("gcs", 14.0, -0.9, 0.0, 1.2, 0.8, bounds=(3, 15), share=0.3),
        Sign("urine_output", 80, -0.3, -0.2, 0.3, 0.4, log=True, bounds=(0, 1500), share=0.4),
    ),
    per_hour=0.6,
    severity=0.22,
)
PANEL = Round(
    signs=(
        Sign("creatinine", 1.0, 0.22, 0.0, 0.35, 0.10, log=True, digits=2, bounds=(0.2, 20)),
        Sign("bun", 19, 0.22, 0.0, 0.35, 0.12, log=True, bounds=(2, 200)),
        Sign("wbc", 10, 0.12, 0.10, 0.30, 0.15, log=True, digits=1, bounds=(0.1, 120)),
        Sign("platelets", 210, -0.14, 0.0, 0.35, 0.10, log=True, bounds=(5, 1100)),
        Sign("potassium", 4.1, 0.10, 0.0, 0.30, 0.25, digits=1, bounds=(2, 8)),
        Sign("glucose", 132, 0.06, 0.05, 0.22, 0.15, log=True, bounds=(25, 900), share=0.9),
    ),
    per_hour=1 / 14,
    severity=0.2,
    delay_min=(35, 110),
)
BLOOD_GAS = Round(
    signs=(
        Sign("lactate", 1.5, 0.30, 0.20, 0.25, 0.18, log=True, digits=1, bounds=(0.3, 28)),
        Sign("ph", 7.39, -0.022, -0.015, 0.03, 0.02, digits=2, bounds=(6.8, 7.8)),
        Sign("bicarbonate", 24, -1.0, -0.5, 2.0, 1.2, bounds=(4, 45)),
    ),
    per_hour=1 / 30,
    severity=0.65,
    delay_min=(3, 12),
)
ROUNDS = (VITAL_SIGNS, PANEL, BLOOD_GAS)
# The mean pressure is computed from the others, as a monitor does, so that channels depend on each other exactly.
CHANNELS: tuple[Channel, ...] = (
    *(channel_by_name(sign.name) for group in ROUNDS for sign in group.signs),
    channel_by_name("map"),
)


def chart(rng: np.random.Generator, path: Path) -> Columns:
    """Observations of all stays in canonical units, artefacts included, some before admission."""
    columns = [_chart_round(rng, path, group, first) for group, first in zip(ROUNDS, (0, 8, 14), strict=True)]
    stay, minute, channel, value = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return Columns(stay, minute, channel.astype(np.int16), value)


def event_minutes(rng: np.random.Generator, path: Path, per_hour: float, severity: float) -> tuple[Ints, Ints]:
    """Stays and minutes of a Poisson process whose rate grows with severity, a few hours of history included."""
    hourly = path.severity[:, :-1]
    history = np.repeat(path.severity[:, :1], HISTORY_H, axis=1)
    rate = per_hour * np.exp(severity * np.concatenate([history, hourly], axis=1))
    # Before admission about half is known of what a ward would have charted.
    rate[:, :HISTORY_H] *= 0.5
    count = rng.poisson(rate)
    cell = np.repeat(np.arange(count.size), count.ravel())
    stay, hour = np.divmod(cell, count.shape[1])
    minute = (hour - HISTORY_H) * 60 + rng.integers(0, 60, len(cell))
    within = minute <= np.floor(path.hours * 60)[stay]
    return stay[within], minute[within]


def _chart_round(
    rng: np.random.Generator, path: Path, group: Round, first: int
) -> tuple[Ints, Ints, NDArray[np.int64], Floats]:
    stay, drawn = event_minutes(rng, path, group.per_hour, group.severity)
    available = drawn + rng.integers(group.delay_min[0], group.delay_min[1] + 1, len(drawn))
    severity, circulation = path.at(path.severity, stay, drawn), path.at(path.circulation, stay, drawn)
    parts, seen = [], {}
    for index, sign in enumerate(group.signs):
        habitual = rng.normal(size=len(path.hours))[path.patient[stay]]
        value = sign.value(severity, circulation, habitual, rng.normal(size=len(stay)))
        charted = rng.random(len(stay)) < sign.share
        seen[sign.name] = (value, charted)
        if sign.name == "temperature":
            value = np.where(rng.random(len(stay)) < FAHRENHEIT_SHARE, np.round(value * 1.8 + 32.0, 1), value)
        parts.append(_rows(stay, available, first + index, value, charted))
    if "sbp" in seen:
        (systolic, charted), (diastolic, also) = seen["sbp"], seen["dbp"]
        mean = np.round((systolic + 2.0 * diastolic) / 3.0)
        parts.append(_rows(stay, available, len(CHANNELS) - 1, mean, charted & also))
    stays, minutes, channels, values = (np.concatenate(p) for p in zip(*parts, strict=True))
    return stays, minutes, channels, values


def _rows(
    stay: Ints, minute: Ints, channel: int, value: Floats, charted: NDArray[np.bool_]
) -> tuple[Ints, Ints, NDArray[np.int64], Floats]:
    rows = np.flatnonzero(charted)
    return stay[rows], minute[rows], np.full(len(rows), channel, dtype=np.int64), value[rows]
