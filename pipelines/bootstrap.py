"""Statistics and patients in, values with intervals out: patients are drawn, never stays or time steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.errors import ConfigError
from models.stay import Floats, Ints
from pipelines.metrics import Statistic

# Errors of these statistics only add up: noise alone makes them positive, and drawing adds noise to noise.
ADDING_UP = frozenset({"ece", "event2"})
# Weights held at once: small enough to stay in the processor's cache.
_BLOCK_CELLS = 250_000
# Fewer draws than this in which a metric is defined make no interval.
_FEWEST_DRAWS = 20


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Args:
        draws: number of bootstrap samples.
        level: of the intervals, for example 0.95.
        seed: of the draws.
    """

    draws: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses settings that make no interval."""
        if self.draws < _FEWEST_DRAWS:
            raise ConfigError(f"draws must be at least {_FEWEST_DRAWS}, got {self.draws}; raise evaluation.bootstrap")
        if not 0.0 < self.level < 1.0:
            raise ConfigError(f"level must be between 0 and 1, got {self.level}; for example 0.95")


@dataclass
class Estimates:
    """What was estimated, and what could not be and why."""

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    def merge(self, other: Estimates, *, suffix: str = "", **extra: Any) -> None:
        """Adds other estimates, with a suffix to their names and further entries."""
        self.metrics.update({name + suffix: {**entry, **extra} for name, entry in other.metrics.items()})
        self.undefined.update({name + suffix: reason for name, reason in other.undefined.items()})


def estimate(statistic: Statistic, row_patient: Ints, resampling: Resampling) -> Estimates:
    """Values on all rows, with percentile intervals over draws of patients.

    A draw in which a metric is not defined is left out of its interval and counted as `left_out`.

    Args:
        statistic: of row weights.
        row_patient: (rows,) index of the patient of every row; may be empty.
        resampling: how to draw.
    """
    if not len(row_patient):
        return Estimates(undefined={"": "no stay holds a label here"})
    value = {name: float(v[0]) for name, v in statistic(np.ones((1, len(row_patient)))).items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in value}
    patients, index = np.unique(row_patient, return_inverse=True)
    for weight in draw_weights(index, len(patients), resampling):
        for name, values in statistic(weight).items():
            drawn[name].append(values)
    found = Estimates()
    for name, number in value.items():
        entry = interval(name, number, np.concatenate(drawn[name]), resampling.level)
        if entry is None:
            found.undefined[name] = "not defined on these rows, for example because they hold one class alone"
        else:
            found.metrics[name] = entry
    return found


def draw_weights(row_patient: Ints, patients: int, resampling: Resampling) -> Iterator[Floats]:
    """Weights of shape (block, rows): how often a row's patient was drawn.

    The draws depend on the number of patients and the seed alone, so two models on one hold-out meet the
    same draws whatever their rows are.

    Args:
        row_patient: (rows,) index of the patient of every row.
        patients: number of patients drawn from.
        resampling: how to draw.
    """
    rng = np.random.default_rng(resampling.seed)
    block = max(1, _BLOCK_CELLS // max(len(row_patient), 1))
    for start in range(0, resampling.draws, block):
        count = np.zeros((min(block, resampling.draws - start), patients))
        for row in count:
            row += np.bincount(rng.integers(patients, size=patients), minlength=patients)
        yield count[:, row_patient]


def interval(name: str, value: float, drawn: Floats, level: float) -> dict[str, Any] | None:
    """The value between the quantiles of its draws; None if the value or too many draws are not defined.

    For statistics that only add up (`ADDING_UP`) the draws are shifted so that their median is the value:
    unshifted they lie above it, often all of them.
    """
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(defined) < _FEWEST_DRAWS:
        return None
    low, middle, high = np.quantile(defined, [(1.0 - level) / 2.0, 0.5, (1.0 + level) / 2.0])
    if name in ADDING_UP:
        low, high = max(low + value - middle, 0.0), high + value - middle
    entry: dict[str, Any] = {"value": value, "low": float(low), "high": float(high)}
    if len(defined) < len(drawn):
        entry["left_out"] = len(drawn) - len(defined)
    return entry


def with_exact_end(share: dict[str, Any], patients: int, level: float) -> dict[str, Any]:
    """A share of patients that is 0 or 1, with the end that draws cannot give: all of them are alike.

    Args:
        share: `value`, `low` and `high`; one between 0 and 1 stays as it is.
        patients: of whom it is the share.
        level: of the interval.

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits, for no event among so many patients.

    Example:
        >>> round(with_exact_end({"value": 0.0, "low": 0.0, "high": 0.0}, 47, 0.95)["high"], 3)
        0.075
    """
    end = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / patients)
    if share["value"] <= 0.0:
        return {**share, "high": end}
    return {**share, "low": 1.0 - end} if share["value"] >= 1.0 else share
