"""One loaded model as live stays need it: time steps in, scores and states out; states as bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.batch import NoteBatch
from models.engine import Engine, make_engine
from models.engine_state import EngineState
from models.errors import ArtifactError
from models.scorer import MINUTES_PER_HOUR, Scorer
from models.stay import Floats
from models.stepping import EncoderState
from service.inference import InferenceThread
from service.live.facts import Profile
from service.live.fold import Score, Step
from service.live.reading import Reader
from service.selection import Origin
from service.vocabulary import Vocabulary

# Version of the layout of a stay's state as bytes; a state of another one is made anew from the journal.
STATE_SCHEMA = 1
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class StayState:
    """All of a stay's past that a model needs.

    Args:
        encoder: state of the encoding.
        network: (width,) float32 states of the members, a row of an `EngineState`.
    """

    encoder: EncoderState
    network: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """The state as bytes; holds clinical values, so it is guarded like the stay itself."""
        encoder = self.encoder.to_bytes()
        return _LENGTH.pack(len(encoder)) + encoder + self.network.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> StayState:
        """The state that `to_bytes` wrote.

        Raises:
            ArtifactError: if the bytes are not such a state.
        """
        try:
            (length,) = _LENGTH.unpack_from(data)
            begin = _LENGTH.size
            encoder = EncoderState.from_bytes(data[begin : begin + length])
            network = np.frombuffer(data[begin + length :], dtype="<f4").astype(np.float32)
            return cls(encoder, network)
        except (struct.error, ValueError) as error:
            raise ArtifactError(
                f"state must be the bytes of a stay's state, got {len(data)} bytes that are not; replay the stay"
            ) from error


class LiveModel:
    """Takes time steps of live stays with one model.

    Args:
        scorer: the verified model.
        origin: how it was found.
        inference: the thread that computes.
        engine: of the members; the fastest for the scorer's device where left out.
    """

    def __init__(
        self, scorer: Scorer, origin: Origin, inference: InferenceThread, *, engine: Engine | None = None
    ) -> None:
        self.scorer, self.origin, self.bundle = scorer, origin, scorer.bundle
        self.grid = scorer.bundle.encoding.grid
        self.engine = engine or make_engine(scorer)
        self.reader = Reader(scorer.bundle, Vocabulary.of(scorer.bundle), reads_notes=scorer.tokenizer is not None)
        self.key = f"{scorer.digest}/{STATE_SCHEMA}/{self.engine.layout.schema}"
        self._inference = inference
        self._beginning = self.engine.initial_state(1).values[0]

    def begin(self, profile: Profile) -> StayState:
        """The state of a stay before its first time step."""
        return StayState(self.bundle.encoding.start(self.reader.start(profile)), self._beginning)

    async def step(self, state: StayState, step: Step) -> tuple[Score, StayState]:
        """The score at the step, and the state after it."""
        return await self._inference.run(self._step, state, step)

    async def run(self, state: StayState, steps: Sequence[Step]) -> StayState:
        """The state after many steps, without their scores."""
        return await self._inference.run(self._run, state, steps)

    def _run(self, state: StayState, steps: Sequence[Step]) -> StayState:
        for step in steps:
            _, state = self._advance(state, step)
        return state

    def _step(self, state: StayState, step: Step) -> tuple[Score, StayState]:
        logits, state = self._advance(state, step)
        return scores(self.scorer, logits, [step.time_min])[0], state

    def _advance(self, state: StayState, step: Step) -> tuple[Floats, StayState]:
        readings = step.readings
        features, encoder = self.bundle.encoding.step(
            state.encoder,
            step.time_min,
            [r.channel for r in readings],
            [r.value for r in readings],
            minute=[r.minute for r in readings],
        )
        notes = self._notes(step)
        logits, after = self.engine.step(
            features.astype(np.float32)[None], EngineState(state.network[None]), notes=notes
        )
        return logits, StayState(encoder, after.values[0])

    def _notes(self, step: Step) -> NoteBatch | None:
        if self.scorer.tokenizer is None or not step.charted:
            return None
        encoded = [self.scorer.tokenizer.encode(note.text) for note in step.charted]
        lengths = torch.tensor([len(tokens) for tokens in encoded])
        tokens = torch.zeros(len(encoded), int(lengths.max()), dtype=torch.int64)
        for row, ids in enumerate(encoded):
            tokens[row, : len(ids)] = torch.tensor(ids)
        nothing = torch.zeros(len(encoded), dtype=torch.int64)
        return NoteBatch(tokens, lengths, nothing, nothing)


def scores(scorer: Scorer, members: Floats, time_min: Sequence[int]) -> list[Score]:
    """Scores of the members' logits.

    Args:
        scorer: the model.
        members: (n, members, outputs) logits.
        time_min: n stamps.
    """
    hours = np.array(time_min, dtype=np.float64) / MINUTES_PER_HOUR
    risk = scorer.bundle.calibration.apply(scorer.network.combine(members), hours)
    values = risk.tolist()
    spread = scorer.member_spread(members, hours).tolist() if members.shape[1] > 1 else None
    low: list[list[float]] | None = None
    high: list[list[float]] = []
    labels = None
    uncertainty = scorer.bundle.uncertainty
    if uncertainty is not None:
        labels = uncertainty.label_sets(risk).tolist()
        ends = uncertainty.interval(risk)
        if ends is not None:
            low, high = ends[0].tolist(), ends[1].tolist()
    return [
        Score(
            stamp,
            tuple(values[i]),
            None if spread is None else tuple(spread[i]),
            None if low is None else tuple(zip(low[i], high[i], strict=True)),
            None if labels is None else labels[i],
        )
        for i, stamp in enumerate(time_min)
    ]
