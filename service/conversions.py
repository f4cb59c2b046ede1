"""A channel's name and a unit as they are sent to how the value is read: one look-up for every accepted pair."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats
from service.vocabulary import Vocabulary

REFUSED = -1
"""Row of a pair that is not accepted."""


class Conversion(NamedTuple):
    """How a value of one channel in one unit is read.

    Args:
        channel: index into the vocabulary's channels.
        factor: canonical value = sent value * factor + offset.
        offset: likewise.
        low: hard limit in the canonical unit; values outside are rejected.
        high: likewise.
        usual_low: soft limit; values outside are kept and flagged.
        usual_high: likewise.
    """

    channel: int
    factor: float
    offset: float
    low: float
    high: float
    usual_low: float
    usual_high: float


class Conversions:
    """All accepted pairs of a vocabulary, one by one and as columns.

    Args:
        vocabulary: names that senders use; there are finitely many pairs, so nothing that is sent is ever kept.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        found = [
            ((name, unit), _conversion(vocabulary, index, unit))
            for name, index in vocabulary.channel_index.items()
            for unit in units(vocabulary, index)
        ]
        self.rows = {pair: row for row, (pair, _) in enumerate(found)}
        self.by_pair = dict(found)
        columns = np.array([one for _, one in found] or np.zeros((0, 7)), dtype=np.float64)
        self.channel: NDArray[np.int16] = columns[:, 0].astype(np.int16)
        self._factor, self._offset, self._low, self._high, self._usual_low, self._usual_high = columns[:, 1:].T

    def canonical(self, rows: NDArray[np.intp], values: Floats) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Values in canonical units; which lie within hard limits; and which of them outside the soft ones.

        Args:
            rows: (m,) of the pairs, all accepted.
            values: (m,) as sent; NaN is within no limits.
        """
        # A number too great for its conversion becomes infinite, and so lies outside the limits.
        with np.errstate(over="ignore"):
            # Adding zero makes minus zero zero, as whole stays have it.
            found = values * self._factor[rows] + self._offset[rows] + 0.0
        within = (found >= self._low[rows]) & (found <= self._high[rows])
        return found, within, within & ((found < self._usual_low[rows]) | (found > self._usual_high[rows]))


def units(vocabulary: Vocabulary, channel: int) -> tuple[str, ...]:
    """Units that a channel accepts, its own first."""
    declared = vocabulary.channels[channel]
    return (declared.unit, *declared.accepts)


def _conversion(vocabulary: Vocabulary, index: int, unit: str) -> Conversion:
    declared = vocabulary.channels[index]
    conversion = declared.conversion(unit)
    if conversion is None:
        raise ValueError(f"unit must be one that {declared.name} accepts, got another; take it from `units`")
    usual = declared.soft or (-math.inf, math.inf)
    return Conversion(index, conversion.factor, conversion.offset, *declared.hard, *usual)
