"""Encoded stays as ragged arrays: what the network reads, end to end, with offsets a stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.layout import Layout
from models.stay import Ints, gather_ragged

# Rows that are copied from one file to another at once.
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Encoded:
    """Time steps of `n` stays, end to end.

    Args:
        features: (steps, width) float32 or float64, or int64 token ids; may be memory-mapped.
        step_offsets: (n + 1,) time steps of stay i.
        time_min: (steps,) minute at which the step is stamped: everything known up to then is in it.
        note_step: (notes,) row of `features` at which the note enters; ascending.
        note_offsets: (notes + 1,) tokens of note j.
        tokens: (tokens,) int32 token ids; id 0 is padding and never occurs.
        layout: which columns hold value, mask and delta of every channel; None: not known, or not among them.
    """

    features: NDArray[Any]
    step_offsets: Ints
    time_min: Ints
    note_step: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    note_offsets: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    tokens: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    layout: Layout | None = None

    def __post_init__(self) -> None:
        """Checks that the arrays fit each other."""
        steps = int(self.step_offsets[-1])
        if self.features.ndim != 2 or len(self.features) != steps or len(self.time_min) != steps:
            raise DataError(
                f"features and time_min must hold {steps} time steps, got {self.features.shape} and "
                f"{self.time_min.shape}; build them with the same offsets"
            )
        if len(self.note_offsets) != len(self.note_step) + 1 or int(self.note_offsets[-1]) != len(self.tokens):
            raise DataError(
                f"note_offsets must be of length {len(self.note_step) + 1} and end at {len(self.tokens)}, got "
                f"{self.note_offsets.shape}; build them with the notes"
            )

    def __len__(self) -> int:
        return len(self.step_offsets) - 1

    @property
    def width(self) -> int:
        """Number of features at a time step."""
        return int(self.features.shape[1])

    @property
    def lengths(self) -> Ints:
        """(n,) number of time steps of every stay."""
        return np.diff(self.step_offsets)

    def select(self, stays: Sequence[int] | Ints, *, out: Path | None = None) -> Encoded:
        """The stays at these indices, in this order; copies their steps, into the file `out` or into memory."""
        index = np.asarray(stays, dtype=np.int64)
        rows, offsets = gather_ragged(self.step_offsets, index)
        note_bounds = np.searchsorted(self.note_step, self.step_offsets)
        notes, _ = gather_ragged(note_bounds.astype(np.int64), index)
        token_rows, note_offsets = gather_ragged(self.note_offsets, notes)
        new_row = np.full(len(self.features), -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        return Encoded(
            features=self.features[rows] if out is None or not len(rows) else _copied(self.features, rows, out),
            step_offsets=offsets,
            time_min=self.time_min[rows],
            note_step=new_row[self.note_step[notes]],
            note_offsets=note_offsets,
            tokens=self.tokens[token_rows],
            layout=self.layout,
        )


def _copied(features: NDArray[Any], rows: Ints, out: Path) -> NDArray[Any]:
    """These rows in a file of their own, mapped to be read."""
    shape = (len(rows), features.shape[1])
    copy = np.lib.format.open_memmap(out, mode="w+", dtype=features.dtype, shape=shape)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        copy[begin : begin + _ROWS_AT_ONCE] = features[rows[begin : begin + _ROWS_AT_ONCE]]
    copy.flush()
    # Opened anew: pages that were written through a mapping count as this process's memory as long as it lives.
    mapped: NDArray[Any] = np.load(out, mmap_mode="r")
    return mapped
