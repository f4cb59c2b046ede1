"""The recurrent state of a batch of stays: what a network carries from one chunk to the next, in and out as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.errors import DataError


@dataclass(frozen=True)
class State:
    """Named tensors of one batch; the same class for every cell and every pooling.

    Args:
        names: what each tensor is, for example `h` and `c` of an LSTM or `pool_sum` of a running mean.
        tensors: each (depth, batch, width) floating point.

    Example:
        >>> state = State(("h",), (torch.ones(1, 2, 3),))
        >>> fresh = State(("h",), (torch.zeros(1, 2, 3),))
        >>> state.reset(torch.tensor([True, False]), fresh).tensors[0][0, :, 0].tolist()
        [0.0, 1.0]
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Checks that every tensor has a name, three dimensions and the same batch."""
        if len(self.names) != len(self.tensors):
            raise DataError(
                f"names must be as many as tensors, got {len(self.names)} and {len(self.tensors)}; name every tensor"
            )
        if any(t.ndim != 3 for t in self.tensors) or len({t.shape[1] for t in self.tensors}) > 1:
            raise DataError(
                f"tensors must be of shape (depth, batch, width) with one batch, got "
                f"{[tuple(t.shape) for t in self.tensors]}; build the state with initial_state"
            )

    @property
    def batch(self) -> int:
        """Number of rows."""
        return int(self.tensors[0].shape[1])

    def detach(self) -> State:
        """The same values, cut off from the gradient: information flows on, the gradient stops."""
        return State(self.names, tuple(t.detach() for t in self.tensors))

    def reset(self, rows: Tensor, initial: State) -> State:
        """The rows that are True in `rows` (batch,) take the values of `initial`; the others stay."""
        pick = rows[None, :, None]
        pairs = zip(initial.tensors, self.tensors, strict=True)
        return State(self.names, tuple(torch.where(pick, new, old) for new, old in pairs))

    def select(self, rows: Tensor) -> State:
        """The rows at these int64 indices, in this order."""
        return State(self.names, tuple(t.index_select(1, rows) for t in self.tensors))

    def to(self, device: torch.device | str) -> State:
        """The same state on a device."""
        return State(self.names, tuple(t.to(device) for t in self.tensors))

    def to_bytes(self) -> bytes:
        """Safetensors bytes; the order of the tensors is kept in their keys."""
        named = zip(self.names, self.tensors, strict=True)
        return save({f"{i}.{name}": t.detach().cpu().contiguous() for i, (name, t) in enumerate(named)})

    @staticmethod
    def from_bytes(data: bytes) -> State:
        """The state that `to_bytes` wrote.

        Raises:
            DataError: if the bytes are not a state.
        """
        try:
            loaded = load(data)
            keys = sorted(loaded, key=lambda key: int(key.split(".", 1)[0]))
            return State(tuple(key.split(".", 1)[1] for key in keys), tuple(loaded[key] for key in keys))
        except (SafetensorError, ValueError, IndexError) as error:
            raise DataError(
                f"data must be the bytes of a state, got {len(data)} bytes that are not; start the stay again"
            ) from error
