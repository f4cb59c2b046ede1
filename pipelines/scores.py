"""Scored time steps of a hold-out, with labels and patients: what evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints, gather_ragged

MINUTES_PER_HOUR = 60


@dataclass(frozen=True)
class StepScores:
    """Logits, risks and labels of every time step of `n` stays, end to end.

    Args:
        stay_id: n identifiers.
        patient_id: n identifiers; stays of one patient are resampled together.
        step_offsets: (n + 1,) time steps of stay i; every stay has at least one.
        time_min: (steps,) minute at which a step is stamped; ascending in a stay.
        logit: (steps, outputs) of the network.
        risk: (steps, outputs) calibrated; in the target's unit for regression.
        label: (steps, targets) in the outcome's own unit; NaN = not supervised.
        onset_min: (n,) minute of the event, NaN = none or not timed; what the utility needs.
    """

    stay_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    step_offsets: Ints
    time_min: Ints
    logit: Floats
    risk: Floats
    label: Floats
    onset_min: Floats | None = None

    def __post_init__(self) -> None:
        """Checks that the columns fit each other."""
        n, steps = len(self.stay_id), int(self.step_offsets[-1])
        if len(self.patient_id) != n or len(self.step_offsets) != n + 1:
            raise DataError(
                f"patient_id and step_offsets must be of length {n} and {n + 1}, got {len(self.patient_id)} and "
                f"{len(self.step_offsets)}; give columns of the same stays"
            )
        for name, column in (("time_min", self.time_min), ("logit", self.logit), ("label", self.label)):
            if len(column) != steps:
                raise DataError(f"{name} must hold {steps} time steps, got {column.shape}; score every step")
        if self.risk.shape != self.logit.shape or not np.all(np.isfinite(self.risk)):
            raise DataError(
                f"risk must be finite and of shape {self.logit.shape}, got {self.risk.shape}; calibrate every logit"
            )
        if np.any(np.diff(self.step_offsets) < 1):
            raise DataError("step_offsets must give every stay a time step, got a stay without; encode the stays again")
        if self.onset_min is not None and self.onset_min.shape != (n,):
            raise DataError(f"onset_min must be of shape ({n},), got {self.onset_min.shape}; give one a stay")

    def __len__(self) -> int:
        return len(self.stay_id)

    @property
    def stay_of_step(self) -> Ints:
        """(steps,) index of the stay of every time step."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.step_offsets))

    @property
    def patient_index(self) -> Ints:
        """(n,) number of the stay's patient, in the order of sorted identifiers."""
        _, index = np.unique(np.array(self.patient_id, dtype=str), return_inverse=True)
        return index.astype(np.int64)

    @property
    def last_rows(self) -> Ints:
        """(n,) row of every stay's last time step."""
        return self.step_offsets[1:] - 1

    def rows_at(self, hour: float) -> Ints:
        """Row of the last step stamped at or before this hour, of every stay that lasts at least as long.

        A stay that ended earlier, or whose first step is later, has no row.
        """
        minute = np.full(len(self), round(hour * MINUTES_PER_HOUR), dtype=np.int64)
        rows = self.rows_before(np.arange(len(self), dtype=np.int64), minute)
        return rows[(self.time_min[rows] <= minute) & (self.time_min[self.last_rows] >= minute)]

    def rows_before(self, stay: Ints, minute: Ints) -> Ints:
        """(queries,) row of a stay's last step stamped at or before a minute; its first step where none is.

        Example:
            >>> zeros = np.zeros((4, 1))
            >>> scores = StepScores(("a", "b"), ("p", "q"), np.array([0, 3, 4]), np.array([0, 60, 90, 5]), *[zeros] * 3)
            >>> scores.rows_before(np.array([0, 0, 1]), np.array([60, 70, 4])).tolist()
            [1, 1, 3]
        """
        # Stay and minute in one ascending key, so that one search answers every query.
        low = int(self.time_min.min(initial=0))
        span = max(int(self.time_min.max(initial=0)), int(minute.max(initial=0))) - low + 1
        keys = self.stay_of_step * span + (self.time_min - low)
        found = np.searchsorted(keys, stay * span + np.maximum(minute - low, -1), side="right") - 1
        return np.maximum(found, self.step_offsets[:-1][stay]).astype(np.int64)

    def select(self, stays: Sequence[int] | Ints) -> StepScores:
        """The stays at these indices, in this order."""
        index = np.asarray(stays, dtype=np.int64)
        rows, offsets = gather_ragged(self.step_offsets, index)
        return StepScores(
            stay_id=tuple(self.stay_id[i] for i in index),
            patient_id=tuple(self.patient_id[i] for i in index),
            step_offsets=offsets,
            time_min=self.time_min[rows],
            logit=self.logit[rows],
            risk=self.risk[rows],
            label=self.label[rows],
            onset_min=None if self.onset_min is None else self.onset_min[index],
        )
