"""Members' states of many stays as one matrix: a stay is a row, and all that a step carries of it lies in that row.

Every engine of a model lays its rows out alike, so a state that one made, another reads: a processor's after a GPU's,
the reference's after a fast one's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.ensemble import Ensemble, Member
from models.errors import DataError
from models.network import DROPOUT_MASKS, RecurrentNetwork
from models.state import State

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EngineState:
    """States of `n` stays.

    Args:
        values: (n, width) float32; width 0 for a model that remembers nothing.

    Example:
        >>> state = EngineState(np.arange(6, dtype=np.float32).reshape(3, 2))
        >>> state.take([2, 0]).values.tolist()
        [[4.0, 5.0], [0.0, 1.0]]
        >>> EngineState.from_bytes([state.to_bytes(1)], width=2).values.tolist()
        [[2.0, 3.0]]
    """

    values: Rows

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> EngineState:
        """The rows at these indices, in this order, as a copy."""
        return EngineState(self.values[np.asarray(rows, dtype=np.int64)])

    def put(self, rows: Sequence[int] | NDArray[Any], other: EngineState) -> None:
        """Writes the rows of `other` at these indices, in place."""
        self.values[np.asarray(rows, dtype=np.int64)] = other.values

    def to_bytes(self, row: int) -> bytes:
        """One row, little-endian float32; holds what a stay's values became, so it is guarded like the stay."""
        return bytes(self.values[row].astype("<f4", copy=False).tobytes())

    @classmethod
    def from_bytes(cls, rows: Sequence[bytes], *, width: int) -> EngineState:
        """Rows that `to_bytes` wrote.

        Raises:
            DataError: if one is not of this width.
        """
        if any(len(row) != 4 * width for row in rows):
            raise DataError(f"rows must be of {4 * width} bytes each, got other lengths; replay the stays")
        values = np.frombuffer(bytearray().join(rows), dtype="<f4").astype(np.float32, copy=False)
        return cls(values.reshape(len(rows), width))


@dataclass(frozen=True)
class Slot:
    """Where a tensor of a member's state lies in a row.

    Args:
        member: number of the member.
        name: of the tensor, such as `h` or `pool_sum`.
        depth: layers.
        width: of one of them.
        begin: first column; depth after depth from there.
    """

    member: int
    name: str
    depth: int
    width: int
    begin: int

    @property
    def end(self) -> int:
        """The column after the last one."""
        return self.begin + self.depth * self.width


@dataclass(frozen=True)
class StateLayout:
    """The columns of an `EngineState` of one model.

    Args:
        groups: numbers of the members that have one shape and so are computed together; columns follow this order.
        slots: of every tensor.
    """

    groups: tuple[tuple[int, ...], ...]
    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, network: Ensemble) -> StateLayout:
        """The layout of these members' states."""
        groups = _groups(list(network))
        slots: list[Slot] = []
        begin = 0
        for number in (number for group in groups for number in group):
            initial = list(network)[number].initial_state(1)
            for name, tensor in zip(initial.names, initial.tensors, strict=True):
                # What dropout draws when a stay begins is 1 wherever a model scores, so it is no part of its past.
                if name not in DROPOUT_MASKS:
                    slots.append(Slot(number, name, int(tensor.shape[0]), int(tensor.shape[2]), begin))
                    begin = slots[-1].end
        return cls(groups, tuple(slots))

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.slots[-1].end if self.slots else 0

    @cached_property
    def schema(self) -> str:
        """Names the layout: rows of one schema are interchangeable."""
        told = json.dumps([[s.member, s.name, s.depth, s.width] for s in self.slots])
        return hashlib.sha256(f"float32/{told}".encode()).hexdigest()[:16]

    def pack(self, state: State) -> Rows:
        """(n, width) rows of an ensemble's state."""
        tensors = dict(zip(state.names, state.tensors, strict=True))
        rows = np.empty((state.batch if state.tensors else 0, self.width), dtype=np.float32)
        for slot in self.slots:
            part = tensors[f"{slot.member}.{slot.name}"].detach().transpose(0, 1).float().cpu().numpy()
            rows[:, slot.begin : slot.end] = part.reshape(len(rows), -1)
        return rows

    def unpack(self, rows: Rows, initial: State) -> State:
        """The ensemble's state that `pack` gave these rows for.

        Args:
            rows: (n, width).
            initial: the ensemble's initial state of as many stays; gives device, precision and what is constant.
        """
        slots = {f"{slot.member}.{slot.name}": slot for slot in self.slots}
        tensors = []
        for name, tensor in zip(initial.names, initial.tensors, strict=True):
            if name in slots:
                slot = slots[name]
                part = rows[:, slot.begin : slot.end].reshape(len(rows), slot.depth, slot.width)
                tensor = torch.from_numpy(np.ascontiguousarray(part.transpose(1, 0, 2))).to(tensor)
            tensors.append(tensor)
        return State(initial.names, tuple(tensors))


def _groups(members: Sequence[Member]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the members by shape, in the order in which shapes first occur."""
    shapes: dict[object, list[int]] = {}
    for number, member in enumerate(members):
        shapes.setdefault(_shape(member, number), []).append(number)
    return tuple(tuple(numbers) for numbers in shapes.values())


def _shape(member: Member, number: int) -> object:
    """What members must have in common to be computed together; dropout and initialisation change no score."""
    if not isinstance(member, RecurrentNetwork):
        return number
    same = replace(
        member.config,
        dropout=0.0,
        input_dropout=0.0,
        recurrent_dropout=0.0,
        output_dropout=0.0,
        head_dropout=0.0,
        forget_bias=0.0,
    )
    return type(member), same, member.head.weight.dtype
