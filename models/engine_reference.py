"""The members themselves as an engine: what every faster one is held to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from models.batch import Chunk, NoteBatch
from models.cut import Cut
from models.encoded import Encoded
from models.engine_state import EngineState, Rows, StateLayout
from models.ensemble import Ensemble
from models.forward import cut_chunk
from models.stay import Floats, Ints

# Time steps and stays that are replayed together: few enough for the processor's cache.
CHUNK_STEPS = 64
CHUNK_STAYS = 256


class ReferenceEngine:
    """Steps the torch modules.

    Args:
        network: the members, in evaluation mode.
        layout: of their states.
        device: where they are.
    """

    kind = "reference"

    def __init__(self, network: Ensemble, layout: StateLayout, device: torch.device) -> None:
        self._network, self.layout, self._device = network, layout, device
        self._beginning = layout.pack(network.initial_state(1))

    def initial_state(self, n: int) -> EngineState:
        """States of `n` stays that begin."""
        return EngineState(np.repeat(self._beginning, n, axis=0))

    def step(self, features: Rows, state: EngineState, *, notes: NoteBatch | None = None) -> tuple[Floats, EngineState]:
        """Member logits (n, members, outputs) float64 of one time step, and the states after it."""
        n = len(features)
        going_on = torch.zeros(n, dtype=torch.bool)
        chunk = Chunk(torch.from_numpy(features)[:, None], torch.ones(n, 1, dtype=torch.bool), going_on, notes)
        logits, after = self._read(chunk, state)
        return logits[:, 0], after

    def replay(self, encoded: Encoded, *, steps: Ints | None = None) -> EngineState:
        """States after the first `steps` time steps of every stay, from its beginning; None: after all of them."""
        states = self.initial_state(len(encoded))
        for stays, cut in replay_cuts(encoded, encoded.lengths if steps is None else steps):
            states.put(stays, self._read(cut_chunk(encoded, cut), states.take(stays))[1])
        return states

    def _read(self, chunk: Chunk, state: EngineState) -> tuple[Floats, EngineState]:
        with torch.inference_mode():
            before = self.layout.unpack(state.values, self._network.initial_state(len(state)))
            logits, after = self._network.member_logits(chunk.to(self._device), before)
        values = self.layout.pack(after) if self.layout.width else state.values
        return logits.cpu().numpy(), EngineState(values)


def replay_cuts(encoded: Encoded, steps: Ints) -> Iterator[tuple[Ints, Cut]]:
    """Which stays go on together, and as many next time steps as all of them have: none is padded.

    Args:
        encoded: the stays' time steps.
        steps: (n,) how many of each are read.
    """
    order = np.argsort(-steps, kind="stable")
    for begin in range(0, len(order), CHUNK_STAYS):
        stays, start = order[begin : begin + CHUNK_STAYS], 0
        while len(stays := stays[steps[stays] > start]):
            count = min(int(steps[stays[-1]]) - start, CHUNK_STEPS)
            first = encoded.step_offsets[stays] + start
            yield stays, Cut(first, np.full(len(stays), count), np.zeros(len(stays), dtype=np.bool_))
            start += count
