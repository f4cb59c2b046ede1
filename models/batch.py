"""What one call of a network reads: a rectangle of time steps of several stays, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import DataError


@dataclass(frozen=True)
class NoteBatch:
    """The notes that enter within a chunk.

    Args:
        tokens: (notes, longest) int64 token ids, padded at the end with 0.
        lengths: (notes,) int64 number of tokens, at least 1; on the CPU.
        row: (notes,) int64 row of the chunk.
        step: (notes,) int64 time step of the chunk.
    """

    tokens: Tensor
    lengths: Tensor
    row: Tensor
    step: Tensor

    def to(self, device: torch.device | str) -> NoteBatch:
        """The same notes on a device; lengths stay on the CPU, where packing needs them."""
        return NoteBatch(self.tokens.to(device), self.lengths, self.row.to(device), self.step.to(device))


@dataclass(frozen=True)
class Chunk:
    """Consecutive time steps of `batch` stays; padding, if any, is at the end of a row.

    Args:
        features: (batch, time, width) floating point; int64 token ids, of width 1, for a network of texts.
        valid: (batch, time) bool, True = not padding.
        reset: (batch,) bool, True = a stay begins here: the row's state is set to the initial state first.
        notes: the notes that enter within, or None.
    """

    features: Tensor
    valid: Tensor
    reset: Tensor
    notes: NoteBatch | None = None

    def __post_init__(self) -> None:
        """Checks shapes and dtypes."""
        if self.features.ndim != 3 or not (self.features.is_floating_point() or self.features.dtype is torch.int64):
            raise DataError(
                f"features must be floating point or int64 of shape (batch, time, width), got {self.features.dtype} "
                f"{tuple(self.features.shape)}; encode the stays first"
            )
        batch, time, _ = self.features.shape
        if self.valid.shape != (batch, time) or self.valid.dtype is not torch.bool:
            raise DataError(
                f"valid must be bool of shape {(batch, time)}, got {self.valid.dtype} {tuple(self.valid.shape)}; "
                "mark every time step"
            )
        if self.reset.shape != (batch,) or self.reset.dtype is not torch.bool:
            raise DataError(
                f"reset must be bool of shape {(batch,)}, got {self.reset.dtype} {tuple(self.reset.shape)}; "
                "mark every row"
            )

    def to(self, device: torch.device | str) -> Chunk:
        """The same chunk on a device."""
        notes = None if self.notes is None else self.notes.to(device)
        return Chunk(self.features.to(device), self.valid.to(device), self.reset.to(device), notes)
