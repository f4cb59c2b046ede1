"""The GPU's engine: states stay on the device, and a step of a batch is one recorded graph, started by one call.

A recurrent step of few operations costs a GPU less than the processor needs to start it. So the whole step (states of
the batch's rows out of the table, members, states back into it) is recorded once for each padded batch size and then
only replayed. Elsewhere than on CUDA the same step runs without a recording, which is how it is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.batch import Chunk, NoteBatch
from models.encoded import Encoded
from models.engine_reference import ReferenceEngine
from models.engine_state import EngineState, Rows, StateLayout
from models.engine_trees import TreeRows
from models.ensemble import Ensemble
from models.network import RecurrentNetwork
from models.state import State
from models.stay import Floats, Ints
from models.trees import TreeMember

LEAST_BATCH, MOST_BATCH = 16, 4096
_WARM_UPS = 3


def padded_batch(n: int) -> int:
    """Rows that `n` stays are computed as: a power of two, so that few graphs serve all batches."""
    return max(LEAST_BATCH, 1 << (n - 1).bit_length())


@dataclass(frozen=True)
class _Buffers:
    """What a recorded step reads and writes, always at the same place.

    Args:
        rows: (batch,) int64 rows of the table; padding stands in the last one.
        features: (batch, 1, width).
        logits: (batch, networks, outputs) float32.
        graph: the recording; None where the device records none.
        given: (batch, width) pinned memory that features are copied from.
        taken: (batch, networks, outputs) pinned memory that logits are copied to.
    """

    rows: Tensor
    features: Tensor
    logits: Tensor
    graph: torch.cuda.CUDAGraph | None
    given: Tensor
    taken: Tensor


class ResidentStates:
    """States of many stays on a device, stepped there.

    Args:
        network: the members, on that device.
        layout: of their states.
        device: where the states lie.
        capacity: stays that there is room for.
    """

    def __init__(self, network: Ensemble, layout: StateLayout, device: torch.device, *, capacity: int) -> None:
        self.layout, self._device, self._capacity = layout, device, capacity
        members = list(enumerate(network))
        self._shape = (len(members), network.outputs)
        self._width = network.width
        self._networks = [(number, member) for number, member in members if isinstance(member, RecurrentNetwork)]
        self._trees = [(number, TreeRows(member)) for number, member in members if isinstance(member, TreeMember)]
        # One row more than there are stays: that of the padding.
        self._table = torch.zeros(capacity + 1, layout.width, device=device)
        self._buffers: dict[int, _Buffers] = {}

    def put(self, rows: Ints, state: EngineState) -> None:
        """Writes states at these rows."""
        self._table[torch.from_numpy(rows).to(self._device)] = torch.from_numpy(state.values).to(self._device)

    def take(self, rows: Ints) -> EngineState:
        """The states at these rows, on the host."""
        return EngineState(self._table[torch.from_numpy(rows).to(self._device)].cpu().numpy())

    def step(self, rows: Ints, features: Rows) -> Floats:
        """Member logits (n, members, outputs) float64 of one time step; the states become those after it.

        Args:
            rows: (n,) distinct rows of the stays.
            features: (n, width) float32.
        """
        logits = np.empty((len(rows), *self._shape))
        for begin in range(0, len(rows), MOST_BATCH):
            part = slice(begin, begin + MOST_BATCH)
            self._step(rows[part], features[part], logits[part])
        for number, trees in self._trees:
            logits[:, number] = trees(features)
        return logits

    def _step(self, rows: Ints, features: Rows, logits: Floats) -> None:
        n = len(rows)
        buffers = self._of_batch(padded_batch(n))
        with torch.inference_mode():
            buffers.given[:n] = torch.from_numpy(features)
            buffers.features[:n, 0].copy_(buffers.given[:n], non_blocking=True)
            buffers.rows[:n] = torch.from_numpy(rows).to(self._device)
            buffers.rows[n:] = self._capacity
            if buffers.graph is not None:
                buffers.graph.replay()
            else:
                buffers.logits.copy_(self._forward(buffers.rows, buffers.features))
            buffers.taken[:n].copy_(buffers.logits[:n], non_blocking=True)
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
            logits[:, [number for number, _ in self._networks]] = buffers.taken[:n].numpy()

    def _of_batch(self, batch: int) -> _Buffers:
        if batch not in self._buffers:
            with torch.inference_mode():
                self._buffers[batch] = self._recorded(batch)
        return self._buffers[batch]

    def _recorded(self, batch: int) -> _Buffers:
        on_gpu = self._device.type == "cuda"
        rows = torch.full((batch,), self._capacity, dtype=torch.int64, device=self._device)
        features = torch.zeros(batch, 1, self._width, device=self._device)
        logits = torch.zeros(batch, len(self._networks), self._shape[1], device=self._device)
        given = torch.zeros(batch, self._width, pin_memory=on_gpu)
        taken = torch.zeros(logits.shape, pin_memory=on_gpu)
        graph = None
        if on_gpu:  # pragma: no cover  # needs a GPU; benchmarks/engine_gpu.py runs it and compares it
            aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):
                    self._forward(rows, features)
            torch.cuda.current_stream(self._device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits.copy_(self._forward(rows, features))
        return _Buffers(rows, features, logits, graph, given, taken)

    def _forward(self, rows: Tensor, features: Tensor) -> Tensor:
        """(batch, networks, outputs) logits; the table's rows become the states after the step."""
        n = len(rows)
        before = self._table.index_select(0, rows)
        going_on = torch.zeros(n, dtype=torch.bool, device=self._device)
        chunk = Chunk(features, torch.ones(n, 1, dtype=torch.bool, device=self._device), going_on)
        logits: list[Tensor] = []
        parts: dict[tuple[int, str], Tensor] = {}
        for number, member in self._networks:
            found, after = member(chunk, self._state(number, member, before))
            logits.append(found[:, 0])
            parts |= {(number, name): t for name, t in zip(after.names, after.tensors, strict=True)}
        columns = [parts[slot.member, slot.name].transpose(0, 1).reshape(n, -1) for slot in self.layout.slots]
        self._table.index_copy_(0, rows, torch.cat(columns, dim=1))
        return torch.stack(logits, dim=1)

    def _state(self, number: int, member: RecurrentNetwork, before: Tensor) -> State:
        initial = member.initial_state(len(before))
        slots = {slot.name: slot for slot in self.layout.slots if slot.member == number}
        tensors = [
            before[:, slot.begin : slot.end].reshape(len(before), slot.depth, slot.width).transpose(0, 1).contiguous()
            if (slot := slots.get(name)) is not None
            else tensor
            for name, tensor in zip(initial.names, initial.tensors, strict=True)
        ]
        return State(initial.names, tuple(tensors))


class DeviceEngine:
    """Steps states that come from the host, for whoever does not keep them on the device.

    Args:
        network: the members, on the device.
        layout: of their states.
        device: where they are.
    """

    kind = "device"

    def __init__(self, network: Ensemble, layout: StateLayout, device: torch.device) -> None:
        self.layout = layout
        self._reference = ReferenceEngine(network, layout, device)
        self._resident = ResidentStates(network, layout, device, capacity=MOST_BATCH)

    def initial_state(self, n: int) -> EngineState:
        """States of `n` stays that begin."""
        return self._reference.initial_state(n)

    def step(self, features: Rows, state: EngineState, *, notes: NoteBatch | None = None) -> tuple[Floats, EngineState]:
        """Member logits (n, members, outputs) float64 of one time step, and the states after it."""
        if notes is not None:
            return self._reference.step(features, state, notes=notes)
        logits, after = [], []
        for begin in range(0, len(features), MOST_BATCH):
            part = slice(begin, begin + MOST_BATCH)
            rows = np.arange(len(features[part]))
            self._resident.put(rows, EngineState(np.ascontiguousarray(state.values[part])))
            logits.append(self._resident.step(rows, np.ascontiguousarray(features[part])))
            after.append(self._resident.take(rows).values)
        return np.concatenate(logits), EngineState(np.concatenate(after))

    def replay(self, encoded: Encoded, *, steps: Ints | None = None) -> EngineState:
        """States after the first `steps` time steps of every stay, from its beginning; None: after all of them."""
        return self._reference.replay(encoded, steps=steps)
