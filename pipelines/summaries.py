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


# Steps of a stay before its last that an ensemble's trees learn from.
EARLIER_STEPS = 6


@dataclass(frozen=True)
class Summaries:
    """Rows to train on.

    Args:
        features: (rows, width).
        target: (rows,) 0 or 1, class index, or standardised number.
        of: number of supervised rows that the rows were drawn from.
        weight: (rows,) of a row; None: each weighs one.
        rows_a_stay: at most; 1 where each row is a case of its own.
    """

    features: NDArray[Any]
    target: Floats
    of: int
    weight: Floats | None = None
    rows_a_stay: int = 1


def training_rows(
    part: LabelledPart, task: TaskSpec, *, target: int, limit: int, seed: int, stays: NDArray[np.bool_] | None = None
) -> Summaries:
    """Every labelled stay's last row (scope `stay`), or its supervised rows (scope `step`), at most `limit`.

    Args:
        part: the training part.
        task: what is predicted.
        target: which target column.
        limit: more rows than this are sampled, evenly over all.
        seed: of the sample.
        stays: (n,) which stays of the part to draw from; all where left out.
    """
    known = ~np.isnan(part.label[:, target])
    if stays is not None:
        known &= np.repeat(stays, part.encoded.lengths)
    rows: Ints = np.flatnonzero(known)
    if task.scope is LabelScope.STAY:
        last = part.encoded.step_offsets[1:] - 1
        rows = last[known[last]]
    of = len(rows)
    if of > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=limit, replace=False))
    value = np.asarray(part.targets.value[rows, target], dtype=np.float64)
    return Summaries(np.asarray(part.encoded.features[rows]), value, of)


def replicated_rows(
    part: LabelledPart, task: TaskSpec, *, target: int, limit: int, seed: int, replication: float
) -> Summaries:
    """`training_rows`, and of a label a stay some earlier steps too, which share the weight `replication`.

    A stay weighs one: its last step `1 - replication`, its earlier ones the rest. They are drawn one from each
    equal piece of the stay, so that over all stays every hour is seen.

    Args:
        part: the training part.
        task: what is predicted.
        target: which target column.
        limit: at most so many rows; fewer earlier steps are drawn before stays are left out.
        seed: of the sample.
        replication: weight of the steps before the last; as of `training.target_replication`.
    """
    if task.scope is LabelScope.STEP or replication == 0:
        return training_rows(part, task, target=target, limit=limit, seed=seed)
    random = np.random.default_rng(seed)
    last = part.encoded.step_offsets[1:] - 1
    stays = np.flatnonzero(~np.isnan(part.label[last, target]))
    of = len(stays)
    if of > limit:
        stays = np.sort(random.choice(stays, size=limit, replace=False))
    pieces = min(EARLIER_STEPS, limit // max(len(stays), 1) - 1)
    before = part.encoded.lengths[stays] - 1
    several = np.flatnonzero(before) if pieces else np.zeros(0, dtype=np.int64)
    place = (np.arange(pieces) + random.random((len(several), pieces))) / max(pieces, 1) * before[several, None]
    earlier = part.encoded.step_offsets[stays[several], None] + place.astype(np.int64)
    rows = np.concatenate([last[stays], earlier.ravel()])
    weight = np.full(len(rows), replication / max(pieces, 1))
    weight[: len(stays)] = 1.0
    weight[several] = 1.0 - replication
    value = np.asarray(part.targets.value[rows, target], dtype=np.float64)
    return Summaries(np.asarray(part.encoded.features[rows]), value, of, weight, pieces + 1)
