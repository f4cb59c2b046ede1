"""The processor's engine: members of one shape side by side, one product of the features for all of them.

Nothing here waits for another core, and a step of few stays costs what its arithmetic costs: no graph, no dispatcher.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from models.batch import NoteBatch
from models.cut import Cut
from models.encoded import Encoded
from models.engine_cells import Activation, Array, activate_few, activate_many
from models.engine_group import Group, GroupSlots
from models.engine_product import padded_rows
from models.engine_readings import Part, Readings
from models.engine_reference import CHUNK_STAYS, ReferenceEngine
from models.engine_state import EngineState, Rows, StateLayout
from models.engine_trees import TreeRows
from models.engine_weights import UnlikeError, group_weights
from models.ensemble import Ensemble, Member
from models.forward import cut_chunk
from models.network import RecurrentNetwork
from models.stay import Floats, Ints
from models.trees import TreeMember

# From so many stays on, what a call of torch costs beside its arithmetic is worth it.
_MANY = 16


class NumpyEngine:
    """Steps members by numpy; one that there is no step for is stepped by itself, by torch.

    Args:
        network: the members, on the processor.
        layout: of their states.
    """

    kind = "numpy"

    def __init__(self, network: Ensemble, layout: StateLayout) -> None:
        self.layout = layout
        self._shape = (len(network), network.outputs)
        self._beginning = layout.pack(network.initial_state(1))
        self._parts: list[Part] = []
        self._trees: list[tuple[int, TreeRows]] = []
        self._others: list[_Other] = []
        members = list(network)
        for numbers in layout.groups:
            self._add(numbers, [members[number] for number in numbers])
        self._readings = Readings(self._parts, network.width)

    @property
    def steps_alone(self) -> tuple[int, ...]:
        """Numbers of the members that there is no step for."""
        return tuple(other.number for other in self._others)

    def initial_state(self, n: int) -> EngineState:
        """States of `n` stays that begin."""
        return EngineState(np.repeat(self._beginning, n, axis=0))

    def step(self, features: Rows, state: EngineState, *, notes: NoteBatch | None = None) -> tuple[Floats, EngineState]:
        """Member logits (n, members, outputs) float64 of one time step, and the states after it."""
        n = len(features)
        rows = padded_rows(n)
        seen, before = _padded(features, rows), _padded(state.values, rows)
        after, logits = np.empty_like(before), np.empty((rows, *self._shape))
        vectors = self._vectors(notes, rows)
        found = self._readings.read(seen, vectors)
        for number, part in enumerate(self._parts):
            pooled = self._advance(number, seen, found, before, after, vectors=vectors[number])
            trunk, skip = (self._readings.if_any(found, number, name) for name in ("trunk_reading", "skip"))
            logits[:, part.numbers] = part.group.logits(seen, pooled, trunk, skip, after).transpose(1, 0, 2)
        for member, trees in self._trees:
            logits[:n, member] = trees(features)
        for other in self._others:
            own, own_after = other.engine.step(features, EngineState(state.values[:, other.columns]), notes=notes)
            logits[:n, other.number], after[:n, other.columns] = own[:, 0], own_after.values
        return logits[:n], EngineState(after[:n])

    def replay(self, encoded: Encoded, *, steps: Ints | None = None) -> EngineState:
        """States after the first `steps` time steps of every stay, from its beginning; None: after all of them."""
        states = self.initial_state(len(encoded))
        lengths = encoded.lengths if steps is None else steps
        order = np.argsort(-lengths, kind="stable")
        for begin in range(0, len(order), CHUNK_STAYS):
            self._replay(encoded, order[begin : begin + CHUNK_STAYS], lengths, states)
        for other in self._others:
            states.values[:, other.columns] = other.engine.replay(encoded, steps=steps).values
        return states

    def _add(self, numbers: tuple[int, ...], members: list[Member]) -> None:
        networks = [member for member in members if isinstance(member, RecurrentNetwork)]
        if not networks:
            trees = [member for member in members if isinstance(member, TreeMember)]
            self._trees += [(number, TreeRows(member)) for number, member in zip(numbers, trees, strict=True)]
            return
        slots = _group_slots(self.layout, numbers)
        try:
            self._parts.append(Part(numbers, networks, Group(group_weights(networks), slots)))
        except UnlikeError:
            for place, (number, network) in enumerate(zip(numbers, networks, strict=True)):
                begin = slots.begin + place * slots.width
                self._others.append(_Other.of(number, network, slice(begin, begin + slots.width)))

    def _vectors(self, notes: NoteBatch | None, n: int) -> list[Array | None]:
        return [self._readings.vectors(number, notes, n) for number in range(len(self._parts))]

    def _advance(
        self,
        number: int,
        seen: Array,
        found: Array,
        before: Rows,
        after: Rows,
        *,
        vectors: Array | None,
        activate: Activation = activate_few,
    ) -> Array:
        first, fade = self._readings.of(found, number, "first"), self._readings.if_any(found, number, "fade")
        group = self._parts[number].group
        return group.advance(seen, first, fade, before, after, vectors=vectors, activate=activate)

    def _replay(self, encoded: Encoded, stays: Ints, lengths: Ints, states: EngineState) -> None:
        """Replays stays side by side, longest first; heads and trees tell no later step anything, so they rest."""
        first, before = encoded.step_offsets[stays], states.values[stays]
        after = np.empty_like(before)
        activate = activate_many if len(stays) >= _MANY else activate_few
        remaining = np.searchsorted(-lengths[stays], -np.arange(int(lengths[stays[0]]) + 1)).tolist()
        for step, (active, going_on) in enumerate(pairwise(remaining)):
            at = first[:active] + step
            seen, notes = np.asarray(encoded.features[at], dtype=np.float32), None
            if len(encoded.note_step):
                notes = cut_chunk(encoded, Cut(at, np.ones_like(at), np.zeros(active, dtype=np.bool_))).notes
            vectors = self._vectors(notes, active)
            found = self._readings.read(seen, vectors, states_alone=True)
            for number, told in enumerate(vectors):
                self._advance(number, seen, found, before[:active], after[:active], vectors=told, activate=activate)
            states.values[stays[going_on:active]] = after[going_on:active]
            before, after = after, before


@dataclass(frozen=True)
class _Other:
    """A member that is stepped by itself.

    Args:
        number: in its ensemble.
        columns: of its state.
        engine: of it alone.
    """

    number: int
    columns: slice
    engine: ReferenceEngine

    @classmethod
    def of(cls, number: int, member: RecurrentNetwork, columns: slice) -> _Other:
        alone = Ensemble([member])
        return cls(number, columns, ReferenceEngine(alone, StateLayout.of(alone), torch.device("cpu")))


def _group_slots(layout: StateLayout, numbers: tuple[int, ...]) -> GroupSlots:
    slots = [slot for slot in layout.slots if slot.member == numbers[0]]
    begin, end = slots[0].begin, slots[-1].end
    places = {slot.name: (slot.begin - begin, slot.width) for slot in slots}
    return GroupSlots(begin, len(numbers), end - begin, places)


def _padded(rows: Rows, n: int) -> Rows:
    """The rows and zeros behind them, `n` in all and in one piece."""
    if len(rows) == n:
        return np.ascontiguousarray(rows, dtype=np.float32)
    padded = np.zeros((n, rows.shape[1]), dtype=np.float32)
    padded[: len(rows)] = rows
    return padded
