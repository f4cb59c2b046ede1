"""Minutes of observations and notes in, time steps out: when a stay has a step and what enters at it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.errors import ConfigError, DataError
from models.stay import Ints


class GridKind(StrEnum):
    """A time step per distinct minute, or one per bin of a fixed width."""

    EVENT = "event"
    FIXED = "fixed"


@dataclass(frozen=True)
class Grid:
    """Time steps of `n` stays, end to end, and the step at which every observation and note enters.

    Args:
        step_offsets: (n + 1,) time steps of stay i are rows `step_offsets[i]:step_offsets[i + 1]`.
        time_min: (steps,) minute at which the step is stamped; everything in it was known by then.
        row_step: (m,) step of every observation.
        note_step: (k,) step of every note.
    """

    step_offsets: Ints
    time_min: Ints
    row_step: Ints
    note_step: Ints


@dataclass(frozen=True)
class Moments:
    """When something happened: the stay and the minute of `m` observations or notes.

    Args:
        stay: (m,) index of the stay; ascending.
        minute: (m,) minutes since admission; ascending within a stay.
    """

    stay: Ints
    minute: Ints


@dataclass(frozen=True)
class GridSpec:
    """How time is cut into steps.

    Args:
        kind: `event` or `fixed`.
        width_h: width of a fixed bin in hours; a whole number of minutes.

    Raises:
        ConfigError: for a width that is not a whole, positive number of minutes.
    """

    kind: GridKind = GridKind.EVENT
    width_h: float = 1.0

    def __post_init__(self) -> None:
        """Refuses a width that minutes cannot express."""
        minutes = self.width_h * 60.0
        if not np.isfinite(minutes) or minutes < 1.0 or abs(minutes - round(minutes)) > 1e-6:
            raise ConfigError(
                f"width_h must be a whole, positive number of minutes, got {self.width_h} h; choose such as 0.5 or 1.0"
            )

    @property
    def width_min(self) -> int:
        """Width of a fixed bin in minutes."""
        return round(self.width_h * 60.0)

    def step_of(self, minute: int) -> int:
        """Number of the step that a minute belongs to: the minute itself, or the bin (-1: history)."""
        return minute if self.kind is GridKind.EVENT else max(minute // self.width_min, -1)

    def stamp(self, step: int, end_min: int) -> int:
        """Minute at which step number `step` of a stay that is scored up to `end_min` is stamped."""
        return step if self.kind is GridKind.EVENT else min((step + 1) * self.width_min, end_min)

    def most_steps(self, moments: int, end_min: int) -> int:
        """No fewer than the time steps of a stay with so many observations and notes that is scored up to `end_min`."""
        return 2 + (moments if self.kind is GridKind.EVENT else -(-max(end_min, 0) // self.width_min))

    def build(self, end_min: Ints, rows: Moments, notes: Moments) -> Grid:
        """Lays the time steps of all stays.

        Event: a step at every distinct minute of an observation or note, at admission (minute 0) if nothing is
        known by then, and at `end_min` if nothing happens then. Fixed: one step stamped 0 for history, if there is
        any, then every bin `[k * width, (k + 1) * width)` up to `end_min`, observed or not, stamped at its end.

        Args:
            end_min: (n,) last minute of every stay, at least 0.
            rows: the observations.
            notes: the notes.

        Raises:
            DataError: if a stay ends before admission, or holds anything later than its end.
        """
        _check(end_min, rows, "observations")
        _check(end_min, notes, "notes")
        both = Moments(np.concatenate([rows.stay, notes.stay]), np.concatenate([rows.minute, notes.minute]))
        keys = self._event_keys(end_min, both) if self.kind is GridKind.EVENT else self._bin_keys(end_min, both)
        n, steps = len(end_min), np.array([self.step_of(0)], dtype=np.int64)
        packing = _Packing.over(n, np.concatenate([steps, keys.minute]))
        packed = np.unique(packing.pack(keys))
        stay, step = packing.unpack(packed)
        placed = packed.searchsorted(packing.pack(Moments(both.stay, self._steps_of(both.minute))))
        return Grid(
            step_offsets=packed.searchsorted(np.arange(n + 1, dtype=np.int64) * packing.span),
            time_min=self._stamps(step, end_min[stay]),
            row_step=placed[: len(rows.stay)],
            note_step=placed[len(rows.stay) :],
        )

    def _steps_of(self, minute: Ints) -> Ints:
        return minute if self.kind is GridKind.EVENT else np.maximum(minute // self.width_min, -1)

    def _stamps(self, step: Ints, end_min: Ints) -> Ints:
        return step if self.kind is GridKind.EVENT else np.minimum((step + 1) * self.width_min, end_min)

    def _event_keys(self, end_min: Ints, moments: Moments) -> Moments:
        n = len(end_min)
        known_at_admission = np.zeros(n, dtype=bool)
        known_at_admission[moments.stay[moments.minute <= 0]] = True
        begin = np.flatnonzero(~known_at_admission)
        stay = np.concatenate([moments.stay, begin, np.arange(n)])
        return Moments(stay, np.concatenate([moments.minute, np.zeros_like(begin), end_min]))

    def _bin_keys(self, end_min: Ints, moments: Moments) -> Moments:
        n = len(end_min)
        bins = np.maximum(-(-end_min // self.width_min), 1)
        later = moments.minute >= 0
        np.maximum.at(bins, moments.stay[later], moments.minute[later] // self.width_min + 1)
        history = np.unique(moments.stay[~later])
        stay = np.repeat(np.arange(n), bins)
        begin = np.concatenate([[0], np.cumsum(bins)[:-1]])[: len(bins)]
        number = np.arange(len(stay), dtype=np.int64) - np.repeat(begin, bins)
        return Moments(np.concatenate([stay, history]), np.concatenate([number, np.full_like(history, -1)]))


@dataclass(frozen=True)
class _Packing:
    """(stay, step) as one integer that sorts the same way."""

    low: int
    span: int

    @staticmethod
    def over(stays: int, steps: Ints) -> _Packing:
        low, high = int(steps.min()), int(steps.max())
        span = high - low + 1
        if span * max(stays, 1) >= 2**62:
            raise DataError(
                f"times must span fewer than 2**62 minutes over all stays, got {span} for {stays} stays; "
                "check the times' unit"
            )
        return _Packing(low, span)

    def pack(self, moments: Moments) -> Ints:
        return moments.stay * self.span + (moments.minute - self.low)

    def unpack(self, packed: Ints) -> tuple[Ints, Ints]:
        stay = packed // self.span
        return stay, packed - stay * self.span + self.low


def _check(end_min: Ints, moments: Moments, what: str) -> None:
    if np.any(end_min < 0):
        raise DataError("end_min must be at least 0, got an earlier minute; a stay is scored from admission on")
    if np.any(moments.minute > end_min[moments.stay]):
        raise DataError(f"{what} must not be later than the stay's end_min, got a later minute; drop them first")
    same = moments.stay[1:] == moments.stay[:-1]
    if np.any(np.diff(moments.stay) < 0) or np.any(np.diff(moments.minute)[same] < 0):
        raise DataError(f"{what} must be sorted by stay and time, got another order; sort them first")
