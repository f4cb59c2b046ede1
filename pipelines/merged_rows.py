"""Labels and risks of very many rows in, few weighted rows that rank and calibrate as they do out.

A bootstrap over patients asks for the same statistic of the same rows a thousand times. Rows of (nearly) equal
risk and equal label are interchangeable, so they are merged once, and a draw of patients becomes weights of the
merged rows by one sparse product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.stay import Floats, Ints
from pipelines.bootstrap import Estimates, Resampling, estimate
from pipelines.metrics import Statistic

# Up to so many rows every draw is computed on the rows themselves.
EXACT_ROWS = 4000
# Levels of risk that are told apart beyond that; half of them are laid by rows, half by positive rows.
LEVELS = 1000

MakeStatistic = Callable[[Floats, Floats], Statistic]


@dataclass(frozen=True)
class MergedRows:
    """Rows of one level of risk and one label, as one.

    Args:
        label: (merged,) 0 or 1.
        risk: (merged,) mean risk of the level; the same for both labels.
        count: sparse (merged, units): rows of each unit, for example of each patient.
    """

    label: Floats
    risk: Floats
    count: Any

    @classmethod
    def of(cls, label: Floats, risk: Floats, unit: Ints, units: int) -> MergedRows:
        """Merges rows.

        Args:
            label: (rows,) 0 or 1.
            risk: (rows,) 0 to 1.
            unit: (rows,) to which unit a row belongs; units are drawn as a whole.
            units: how many there are.
        """
        from scipy.sparse import csr_matrix  # slow to import, and needed here alone

        level = risk_levels(label, risk)
        levels = int(level.max(initial=-1)) + 1
        rows = np.bincount(level, minlength=levels)
        mean = np.bincount(level, risk, minlength=levels) / np.maximum(rows, 1)
        merged = level + levels * (label > 0)
        count = csr_matrix((np.ones(len(merged)), (merged, unit)), shape=(2 * levels, units))
        return cls(np.repeat([0.0, 1.0], levels), np.tile(mean, 2), count)

    def weights(self, unit_weight: Floats) -> Floats:
        """(draws, merged) weights from weights of the units, (draws, units)."""
        return np.ascontiguousarray((self.count @ np.ascontiguousarray(unit_weight.T)).T)


def risk_levels(label: Floats, risk: Floats) -> Ints:
    """(rows,) level of every row, ascending with the risk; every distinct risk has its own if there are few.

    Example:
        >>> risk_levels(np.array([0.0, 1.0, 0.0]), np.array([0.2, 0.7, 0.2])).tolist()
        [0, 1, 0]
    """
    distinct, rank = np.unique(risk, return_inverse=True)
    if len(distinct) <= LEVELS:
        return np.asarray(rank, dtype=np.int64)
    rows = np.cumsum(np.bincount(rank))
    positives = np.cumsum(np.bincount(rank, label))
    # Average precision lives on the few highest risks: levels laid by rows alone would blur them.
    share = 0.5 * rows / rows[-1] + 0.5 * positives / max(positives[-1], 1.0)
    level = np.minimum((share * LEVELS).astype(np.int64), LEVELS - 1)
    return np.asarray(np.unique(level, return_inverse=True)[1][rank], dtype=np.int64)


def estimate_rows(
    make: MakeStatistic, label: Floats, risk: Floats, row_patient: Ints, resampling: Resampling
) -> Estimates:
    """As `pipelines.bootstrap.estimate`; beyond `EXACT_ROWS` rows the draws are made on merged rows.

    The values are those of the rows themselves; every draw is moved by what merging changes on all rows.

    Args:
        make: a statistic from labels and risks.
        label: (rows,) 0 or 1.
        risk: (rows,) 0 to 1.
        row_patient: (rows,) index of the patient of every row.
        resampling: how to draw.
    """
    if len(label) <= EXACT_ROWS:
        return estimate(make(label, risk) if len(label) else _nothing, row_patient, resampling)
    patients, unit = np.unique(row_patient, return_inverse=True)
    return estimate(unit_statistic(make, label, risk, unit, len(patients)), np.arange(len(patients)), resampling)


def unit_statistic(make: MakeStatistic, label: Floats, risk: Floats, unit: Ints, units: int) -> Statistic:
    """A statistic of rows as one of the weights of their units, (draws, units); exact on all of them once."""
    merged = MergedRows.of(label, risk, unit, units)
    inner = make(merged.label, merged.risk)
    once = inner(merged.weights(np.ones((1, units))))
    exact = make(label, risk)(np.ones((1, len(label))))
    shift = {name: float(exact[name][0] - value[0]) for name, value in once.items()}

    def statistic(weight: Floats) -> dict[str, Floats]:
        return {name: value + shift[name] for name, value in inner(merged.weights(weight)).items()}

    return statistic


def _nothing(_: Floats) -> dict[str, Floats]:
    return {}
