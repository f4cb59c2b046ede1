"""One time step of many live stays in, their calibrated risks and the stays' states after it out.

A state holds all that the model has to know of a stay's past, in a few kilobytes however long the stay is: so a new
observation costs one step. It is bytes from the beginning, to be kept, stored and moved as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch

from models.batch import NoteBatch
from models.engine import Engine, make_engine
from models.engine_state import EngineState
from models.errors import DataError
from models.live_encoding import LiveEncoder
from models.live_input import LiveInput
from models.live_record import RecordLayout
from models.live_replay import encode_block, encoder_records, stay_blocks
from models.scorer import MINUTES_PER_HOUR, Scorer
from models.stay import Floats, Ints, Stays


@dataclass(frozen=True)
class Stepped:
    """What one time step of `n` stays gave.

    Args:
        logit: (n, outputs) the weighted mean of the members'.
        risk: (n, outputs) calibrated.
        spread: (n, outputs) how much the members disagree (`Scorer.member_spread`).
        states: of the stays, after the step.
    """

    logit: Floats
    risk: Floats
    spread: Floats
    states: list[bytes]


class LiveModel:
    """A model that scores live stays step by step; it holds no stay itself.

    Args:
        scorer: the model.
        engine: what steps its members; None: the fastest for the scorer's device.

    Raises:
        DataError: if the model is bidirectional.
        ArtifactError: if the engine does not give what the members give.
    """

    def __init__(self, scorer: Scorer, engine: Engine | None = None) -> None:
        self.scorer = scorer
        self.engine = make_engine(scorer) if engine is None else engine
        encoding, state = scorer.bundle.encoding, self.engine.layout
        self.layout = RecordLayout(encoding, digest=scorer.digest, state_width=state.width, state_schema=state.schema)
        self._encoder = LiveEncoder(encoding)

    @property
    def key(self) -> str:
        """Names model and layout of the states: a state of another key must be made anew from its observations."""
        return self.layout.key

    def start(self, stays: Stays) -> list[bytes]:
        """States before the first time step; of the stays only the static values are read."""
        records = self.layout.empty(len(stays))
        records["static"] = self.scorer.bundle.encoding.statics.apply(stays)
        records["network"] = self.engine.initial_state(len(stays)).values
        return self.layout.split(records)

    def step(self, states: Sequence[bytes], inputs: Sequence[LiveInput]) -> Stepped:
        """Takes one time step of every stay; the given states stay as they are, so a step can be provisional.

        Args:
            states: of different stays, or of one in several pasts.
            inputs: what enters, one a state.

        Raises:
            ArtifactError: if a state is another model's.
            DataError: if an observation does not fit its step; no stay is stepped then.
        """
        if len(states) != len(inputs) or not len(states):
            raise DataError(
                f"states and inputs must be one a stay, got {len(states)} and {len(inputs)}; give one of each"
            )
        records = self.layout.join(states)
        features = self._encoder.step(records, inputs)
        notes = self._notes(inputs)
        members, after = self.engine.step(features, EngineState(records["network"]), notes=notes)
        records["network"] = after.values
        hours = records["stamp"] / MINUTES_PER_HOUR
        logit = self.scorer.network.combine(members)
        risk = self.scorer.bundle.calibration.apply(logit, hours)
        return Stepped(logit, risk, self.scorer.member_spread(members, hours), self.layout.split(records))

    def replay(self, stays: Stays, *, leave_last: bool = False, threads: int = 1) -> list[bytes]:
        """States of stays from all their observations, as stepping through them would give.

        Args:
            stays: as they would be scored as a whole; their steps are those of `Encoding.encode`.
            leave_last: whether each stay's last time step is left out, as it is where that step is still open.
            threads: cores to use; numpy lets the others work meanwhile.

        Raises:
            DataError: if a stay ends before its admission.
        """
        replayed = partial(self._replay, left=int(leave_last))
        if threads == 1:
            return [state for block in stay_blocks(stays) for state in replayed(block)]
        with ThreadPoolExecutor(threads, thread_name_prefix="replay") as pool:
            return [state for states in pool.map(replayed, stay_blocks(stays)) for state in states]

    def _replay(self, stays: Stays, left: int) -> list[bytes]:
        encoding = self.scorer.bundle.encoding
        block = encode_block(encoding, stays, self.scorer.tokenizer)
        steps: Ints = block.encoded.lengths - left
        records = self.layout.empty(len(stays))
        encoder_records(encoding, block, steps, records)
        records["static"] = encoding.statics.apply(stays)
        records["network"] = self.engine.replay(block.encoded, steps=steps).values
        return self.layout.split(records)

    def _notes(self, inputs: Sequence[LiveInput]) -> NoteBatch | None:
        tokenizer = self.scorer.tokenizer
        if tokenizer is None or not any(one.notes for one in inputs):
            return None
        row, encoded = zip(
            *((number, tokenizer.encode(text)) for number, one in enumerate(inputs) for text in one.notes), strict=True
        )
        lengths = torch.tensor([len(tokens) for tokens in encoded])
        tokens = torch.zeros(len(encoded), int(lengths.max()), dtype=torch.int64)
        for number, ids in enumerate(encoded):
            tokens[number, : len(ids)] = torch.tensor(ids)
        rows = torch.tensor(row, dtype=torch.int64)
        return NoteBatch(tokens, lengths, rows, torch.zeros_like(rows))
