"""Encoded time steps in, the rows on which a baseline is trained out.

A row of `Encoded.features` already is a summary of its stay up to that minute: per channel the last, mean,
lowest, highest and first value, count, trend and time since the last one, beside the static values. So a
baseline sees what the network sees at a time step, less the order in which it came about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoded import Encoded
from models.stay import Floats, Ints, Stays
from models.task import LabelScope, TaskSpec
from pipelines.labels import StayOutcomes, StepTargets


class LabelledPart(Protocol):
    """One part of a split: stays, their time steps, and labels."""

    @property
    def stays(self) -> Stays:
        """Columns of the stays."""

    @property
    def patient_id(self) -> tuple[str, ...]:
        """Patient of every stay."""

    @property
    def encoded(self) -> Encoded:
        """Time steps of the stays."""

    @property
    def outcomes(self) -> StayOutcomes:
        """The outcome of every stay, with its time."""

    @property
    def label(self) -> Floats:
        """(steps, targets) in the outcome's own unit; NaN = not supervised."""

    @property
    def targets(self) -> StepTargets:
        """Targets as the network is trained on them; standardised for regression."""


@dataclass(frozen=True)
class Summaries:
    """Rows to train on.

    Args:
        features: (rows, width).
        target: (rows,) 0 or 1, class index, or standardised number.
        of: number of supervised rows that the rows were drawn from.
    """

    features: NDArray[Any]
    target: Floats
    of: int


def training_rows(part: LabelledPart, task: TaskSpec, *, target: int, limit: int, seed: int) -> Summaries:
    """Every labelled stay's last row (scope `stay`), or its supervised rows (scope `step`), at most `limit`.

    Args:
        part: the training part.
        task: what is predicted.
        target: which target column.
        limit: more rows than this are sampled, evenly over all.
        seed: of the sample.
    """
    known = ~np.isnan(part.label[:, target])
    rows: Ints = np.flatnonzero(known)
    if task.scope is LabelScope.STAY:
        last = part.encoded.step_offsets[1:] - 1
        rows = last[known[last]]
    of = len(rows)
    if of > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=limit, replace=False))
    value = np.asarray(part.targets.value[rows, target], dtype=np.float64)
    return Summaries(np.asarray(part.encoded.features[rows]), value, of)
