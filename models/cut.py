"""Rows of a chunk among the time steps of all stays: ragged columns in, padded rectangles out."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stay import Ints


@dataclass(frozen=True)
class Cut:
    """Where the rows of a chunk lie among the time steps of `Encoded`.

    Args:
        first: (batch,) first time step of each row.
        count: (batch,) number of time steps of each row; 0 = the row is all padding.
        reset: (batch,) bool, True = a stay begins here.
    """

    first: Ints
    count: Ints
    reset: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """Number of time steps of the longest row, at least 1."""
        return max(int(self.count.max(initial=0)), 1)

    def steps(self) -> tuple[Ints, NDArray[np.bool_]]:
        """Time step of every cell of the rectangle (batch, width), and which cells are not padding; read only."""
        return self._steps

    @cached_property
    def _steps(self) -> tuple[Ints, NDArray[np.bool_]]:
        offset = np.arange(self.width, dtype=np.int64)
        valid = offset < self.count[:, None]
        return np.where(valid, self.first[:, None] + offset, 0), valid


def gather(rows: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """(batch, time, columns) rows at the time steps of a cut, zero at padding; a mapped file is read, not mapped in."""
    if _mapped(rows):
        taken = np.zeros((len(cut.first), cut.width, *rows.shape[1:]), dtype=rows.dtype)
        for row, first, count in zip(taken, cut.first.tolist(), cut.count.tolist(), strict=True):
            row[:count] = read_rows(rows, first, first + count)
        return taken
    step, valid = cut.steps()
    if not len(rows):
        return np.zeros((*step.shape, rows.shape[1]), dtype=rows.dtype)
    taken = np.take(rows, step.ravel(), axis=0).reshape(*step.shape, rows.shape[1])
    if not valid.all():
        taken[~valid] = 0
    return taken


def read_rows(rows: NDArray[Any], begin: int, end: int) -> NDArray[Any]:
    """Rows `begin` to `end` of a two-dimensional array; of a memory-mapped one by reading its file.

    Pages that are touched through a mapping count as this process's memory until the system takes them back, so
    reading through it would let memory grow with the file.
    """
    if not _mapped(rows):
        return rows[begin:end]
    return np.fromfile(
        rows.filename,  # type: ignore[attr-defined]
        dtype=rows.dtype,
        count=(end - begin) * rows.shape[1],
        offset=rows.offset + begin * rows.strides[0],  # type: ignore[attr-defined]
    ).reshape(end - begin, rows.shape[1])


def _mapped(rows: Any) -> bool:
    """Whether the array is a whole file, row after row; a part of one has lost its place in the file."""
    return (
        isinstance(rows, np.memmap)
        and isinstance(getattr(rows, "base", None), mmap.mmap)
        and bool(rows.flags.c_contiguous)
    )
