"""Stays as columns: observations, notes and static values of one or many stays, end to end.

Time is whole minutes since admission; negative times are history before admission. Every source and
the service converge on `Stays`, and everything after it (encoding, network, calibration) is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _empty_offsets() -> Ints:
    return np.zeros(1, dtype=np.int64)


@dataclass(frozen=True)
class Stays:
    """Columns of `n` stays with `m` observations and `k` notes.

    Args:
        stay_id: the stays' identifiers, length n.
        end_min: (n,) last minute that is scored; no later observation or note is present.
        offsets: (n + 1,) observations of stay i are rows `offsets[i]:offsets[i + 1]`.
        time_min: (m,) minutes since admission at which the value was available; ascending in a stay.
        channel: (m,) index into `channels`.
        value: (m,) in the channel's canonical unit, finite. Rows are sorted by
            (time, channel, value) within a stay and unique.
        channels: names of the channels that `channel` indexes.
        static: (n, s) numeric values, or indices of categories; NaN where missing.
        static_names: names of the columns of `static`.
        note_offsets: (n + 1,) notes of stay i.
        note_time_min: (k,) charted minute; ascending in a stay.
        note_kind: k kinds of note.
        note_text: k texts.
    """

    stay_id: tuple[str, ...]
    end_min: Ints
    offsets: Ints
    time_min: Ints
    channel: NDArray[np.int16]
    value: Floats
    channels: tuple[str, ...]
    static: Floats
    static_names: tuple[str, ...]
    note_offsets: Ints = field(default_factory=_empty_offsets)
    note_time_min: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    note_kind: tuple[str, ...] = ()
    note_text: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks that the columns fit each other; a stay without notes needs no note columns."""
        n = len(self.stay_id)
        if len(self.note_offsets) == 1 and n:
            object.__setattr__(self, "note_offsets", np.zeros(n + 1, dtype=np.int64))
        _check_length("end_min", len(self.end_min), n)
        _check_length("offsets", len(self.offsets), n + 1)
        _check_length("note_offsets", len(self.note_offsets), n + 1)
        _check_length("channel", len(self.channel), len(self.time_min))
        _check_length("value", len(self.value), len(self.time_min))
        _check_length("note_text", len(self.note_text), len(self.note_time_min))
        _check_length("note_kind", len(self.note_kind), len(self.note_time_min))
        _check_length("offsets[-1]", int(self.offsets[-1]), len(self.time_min))
        _check_length("note_offsets[-1]", int(self.note_offsets[-1]), len(self.note_time_min))
        if self.static.shape != (n, len(self.static_names)):
            raise DataError(
                f"static must be of shape {(n, len(self.static_names))}, got {self.static.shape}; "
                "give one row a stay and one column a static variable"
            )

    def __len__(self) -> int:
        return len(self.stay_id)

    def stay_of_row(self) -> Ints:
        """(m,) index of the stay of every observation."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def stay_of_note(self) -> Ints:
        """(k,) index of the stay of every note."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.note_offsets))

    def select(self, stays: Sequence[int] | Ints) -> Stays:
        """The stays at these indices, in this order."""
        index = np.asarray(stays, dtype=np.int64)
        rows, offsets = gather_ragged(self.offsets, index)
        notes, note_offsets = gather_ragged(self.note_offsets, index)
        return Stays(
            stay_id=tuple(self.stay_id[i] for i in index),
            end_min=self.end_min[index],
            offsets=offsets,
            time_min=self.time_min[rows],
            channel=self.channel[rows],
            value=self.value[rows],
            channels=self.channels,
            static=self.static[index],
            static_names=self.static_names,
            note_offsets=note_offsets,
            note_time_min=self.note_time_min[notes],
            note_kind=tuple(self.note_kind[i] for i in notes),
            note_text=tuple(self.note_text[i] for i in notes),
        )


def gather_ragged(offsets: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Row numbers of the ragged groups `index`, end to end, and the new offsets.

    Example:
        >>> rows, new = gather_ragged(np.array([0, 2, 5]), np.array([1, 0]))
        >>> rows.tolist(), new.tolist()
        ([2, 3, 4, 0, 1], [0, 3, 5])
    """
    starts = offsets[:-1][index]
    lengths = np.diff(offsets)[index]
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(new[-1], dtype=np.int64) + np.repeat(starts - new[:-1], lengths)
    return rows, new


def _check_length(name: str, got: int, expected: int) -> None:
    if got != expected:
        raise DataError(f"{name} must be of length {expected}, got {got}; give columns that fit each other")
