"""Truncated BPTT as an order of the data: encoded stays and targets in, chunks of all tapes in step out.

The stays are laid end to end on `rows` tapes, and every batch is the next chunk of all tapes; a stay begins
at a chunk's edge, where its row resets. Which chunk stands where is a pure function of (seed, epoch), the
same on every rank, so each rank reads its own rows of one schedule and all ranks run equal numbers of
batches. Chunks are cut when they are asked for, one ahead.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.batch import Chunk
from models.cut import Cut, gather, read_rows
from models.encoded import Encoded
from models.errors import ConfigError, DataError
from models.forward import cut_chunk
from models.stay import Ints
from pipelines.auxiliary import AuxiliaryBatch, AuxiliaryTargets
from pipelines.labels import StepTargets
from pipelines.training_config import Reduction

# Stays of similar length lie side by side: an epoch's order is sorted by length within pools of this many
# stays a tape. Larger pools pad less; smaller ones mix more.
_POOL = 8
_UNITS_AT_ONCE = 4096
# Orders that are tried for an epoch before it takes the tightest one.
_ATTEMPTS = 16


@dataclass(frozen=True)
class TapeBatch:
    """The next chunk of every tape of this rank.

    Args:
        chunk: the time steps.
        target: (batch, time, targets) float32.
        weight: (batch, time, targets) float32; 0 = not supervised.
        normaliser: what the loss is divided by: the supervised weight (reduction `mean`) or rows (`sum`) of
            this batch and the others that make one optimiser step with it, over all ranks; 0 = no step.
        amount: this batch's own share of it, over all ranks.
        auxiliary: targets of the heads beside the task's own, or None.
    """

    chunk: Chunk
    target: Tensor
    weight: Tensor
    normaliser: float
    amount: float
    auxiliary: AuxiliaryBatch | None = None

    @property
    def steps(self) -> bool:
        """Whether this batch and the others of its optimiser step supervise anything."""
        return self.normaliser > 0 or (self.auxiliary is not None and max(self.auxiliary.normaliser) > 0)

    @property
    def supervised(self) -> bool:
        """Whether this batch supervises anything, on any rank."""
        return self.amount > 0 or (self.auxiliary is not None and max(self.auxiliary.amount) > 0)

    def to(self, device: torch.device | str, **_: Any) -> TapeBatch:
        """The same batch on a device."""
        if self.target.device == torch.device(device):
            return self
        auxiliary = None if self.auxiliary is None else self.auxiliary.to(device)
        target, weight = self.target.to(device), self.weight.to(device)
        return TapeBatch(self.chunk.to(device), target, weight, self.normaliser, self.amount, auxiliary)


@dataclass(frozen=True)
class _Units:
    """Chunks of all stays, stay by stay: first time step, number of steps, begin of a stay, normaliser."""

    first: Ints
    count: Ints
    begins: NDArray[np.bool_]
    amount: NDArray[np.float64]
    offsets: Ints


class Tapes:
    """A loader for `Trainer.fit`: iterable, of constant length, resumable at any batch.

    Args:
        encoded: the training stays.
        targets: of their time steps.
        rows: tapes over all ranks.
        truncation_length: time steps of a chunk; the last chunk of a stay may be shorter.
        seed: of the order of the stays.
        rank: this process.
        world: number of processes.
        shuffle: a new order every epoch; else the same.
        accumulate: batches that make one optimiser step.
        reduction: what `normaliser` counts.
        auxiliary: targets of the heads beside the task's own.
    """

    def __init__(
        self,
        encoded: Encoded,
        targets: StepTargets,
        *,
        rows: int,
        truncation_length: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        accumulate: int = 1,
        reduction: Reduction = Reduction.MEAN,
        auxiliary: AuxiliaryTargets | None = None,
    ) -> None:
        if rows % world:
            raise ConfigError(f"rows must be a multiple of {world} processes, got {rows}; change rows or devices")
        if not len(encoded) or len(targets.value) != len(encoded.time_min):
            raise DataError(
                f"targets must be those of at least one stay's time steps, got {len(targets.value)} for "
                f"{len(encoded.time_min)} steps; build them from the same encoding"
            )
        self._encoded, self._targets = encoded, targets
        self._rows, self._seed, self._shuffle = rows, seed, shuffle
        self._mine = slice(rank * rows // world, (rank + 1) * rows // world)
        self._accumulate = accumulate
        self._units = _cut_units(encoded, targets, truncation_length, reduction)
        self._auxiliary = None if auxiliary is None else auxiliary.on_units(self._units.first, self._units.count)
        # Epochs must be of one length: that of the first order, if the tightest order fits into it.
        self._length = max(self._place(self._tightest())[1], self._place(self._order(0, 0))[1])
        self._epoch = 0
        self._position = 0

    def __len__(self) -> int:
        """Batches of an epoch; the same in every epoch, as Lightning keeps the count of the first."""
        return self._length

    def __iter__(self) -> Iterator[TapeBatch]:
        """The rest of the epoch. The cursor is past a batch before the batch is handed out."""
        epoch, units = self._epoch, self._schedule(self._epoch)
        amount = np.where(units >= 0, self._units.amount[units], 0.0).sum(axis=1)
        window = np.arange(self._length) // self._accumulate
        normaliser = np.bincount(window, weights=amount)[window]
        auxiliary = None if self._auxiliary is None else self._auxiliary.shares(units, window)

        def batch(position: int) -> TapeBatch:
            cut = self._where(units[position, self._mine])
            found = self._cut(cut, normaliser[position], amount[position])
            if self._auxiliary is None or auxiliary is None:
                return found
            return replace(found, auxiliary=self._auxiliary.cut(cut, *(a[position] for a in auxiliary)))

        # The next batch is cut while the network reads this one: numpy copies without Python's lock.
        with ThreadPoolExecutor(1, thread_name_prefix="tapes") as beside:
            ahead: tuple[int, Future[TapeBatch]] | None = None
            while self._epoch == epoch:
                position = self._position
                now = ahead[1].result() if ahead is not None and ahead[0] == position else batch(position)
                ended = position + 1 == self._length
                self._epoch, self._position = (epoch + 1, 0) if ended else (epoch, position + 1)
                ahead = None if ended else (position + 1, beside.submit(batch, position + 1))
                yield now

    def state_dict(self) -> dict[str, int]:
        """The cursor."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Moves the cursor."""
        self._epoch, self._position = int(state["epoch"]), int(state["position"])

    def _where(self, unit: Ints) -> Cut:
        """Where the rows' units lie among the time steps."""
        filled = unit >= 0
        units = self._units
        return Cut(
            np.where(filled, units.first[unit], 0),
            np.where(filled, units.count[unit], 0),
            np.where(filled, units.begins[unit], True),
        )

    def _cut(self, cut: Cut, normaliser: float, amount: float) -> TapeBatch:
        return TapeBatch(
            cut_chunk(self._encoded, cut),
            torch.from_numpy(gather(self._targets.value, cut)),
            torch.from_numpy(gather(self._targets.weight, cut)),
            float(normaliser),
            float(amount),
        )

    def _schedule(self, epoch: int) -> Ints:
        """(batches, rows) which unit stands where; -1 = nothing."""
        orders = (self._order(epoch, attempt) for attempt in range(_ATTEMPTS))
        placed = (self._place(order) for order in orders)
        place = next((cells for cells, length in placed if length <= self._length), None)
        cells = self._place(self._tightest())[0] if place is None else place
        table = np.full(self._length * self._rows, -1, dtype=np.int64)
        table[cells] = np.arange(len(cells))
        return table.reshape(self._length, self._rows)

    def _place(self, order: Ints) -> tuple[Ints, int]:
        """Cell of every unit in the table, and the batches needed, if each stay goes to the tape that ends first."""
        offsets = self._units.offsets
        number = np.diff(offsets)
        ends = [(0, row) for row in range(self._rows)]
        start, row_of = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
        for stay, chunks in zip(order.tolist(), number[order].tolist(), strict=True):
            end, row = ends[0]
            start[stay], row_of[stay] = end, row
            heapq.heapreplace(ends, (end + chunks, row))
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], number)
        cells = (np.repeat(start, number) + within) * self._rows + np.repeat(row_of, number)
        return cells, int((start + number).max())

    def _tightest(self) -> Ints:
        """Longest stays first. Source: Graham 1969, Bounds on Multiprocessing Timing Anomalies."""
        return np.argsort(-np.diff(self._units.offsets), kind="stable")

    def _order(self, epoch: int, attempt: int) -> Ints:
        """Stays shuffled, sorted by length within pools, and the groups of a pool shuffled again."""
        stays = np.arange(len(self._encoded))
        if not self._shuffle:
            return stays
        random = np.random.default_rng((self._seed, epoch, attempt))
        order = random.permutation(stays)
        pool = np.arange(len(order)) // (_POOL * self._rows)
        order = order[np.lexsort((self._encoded.lengths[order], pool))]
        groups = np.array_split(order, np.arange(self._rows, len(order), self._rows))
        return np.concatenate([groups[i] for i in random.permutation(len(groups))])


def _cut_units(encoded: Encoded, targets: StepTargets, truncation_length: int, reduction: Reduction) -> _Units:
    """Cuts every stay into full chunks and a rest at its end: no row may be padded before its stay ends."""
    lengths = encoded.lengths
    number = -(-lengths // truncation_length)
    offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    stay = np.repeat(np.arange(len(lengths)), number)
    place = np.arange(offsets[-1]) - offsets[stay]
    start = place * truncation_length
    count = np.minimum(lengths[stay] - start, truncation_length)
    first = encoded.step_offsets[stay] + start
    amount = _amounts(targets, first, count, reduction)
    return _Units(first, count, place == 0, amount, offsets)


def _amounts(targets: StepTargets, first: Ints, count: Ints, reduction: Reduction) -> NDArray[np.float64]:
    """(units,) supervised weight, or 1 where any step is supervised; read in blocks to stay small in memory."""
    amount = np.zeros(len(first))
    for begin in range(0, len(first), _UNITS_AT_ONCE):
        block = slice(begin, begin + _UNITS_AT_ONCE)
        start, stop = int(first[block][0]), int(first[block][-1] + count[block][-1])
        weight = read_rows(targets.weight, start, stop).sum(axis=1, dtype=np.float64)
        amount[block] = np.add.reduceat(weight, first[block] - start)
    return amount if reduction is Reduction.MEAN else (amount > 0).astype(np.float64)
