"""One time step of a live stay in, its calibrated risks and the stay's state after it out.

The state holds all that the model has to know of a stay's past, in a few kilobytes however long the stay
is: so a new observation costs one step. It is stored and moved as bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from models.batch import Chunk, NoteBatch
from models.errors import ArtifactError, DataError
from models.scorer import MINUTES_PER_HOUR, Scorer
from models.state import State
from models.stay import Floats, Stays
from models.stepping import EncoderState

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class LiveState:
    """All of a stay's past that a model needs.

    Args:
        digest: digest of the artifact that made it; another model's state is refused.
        encoder: state of the encoding.
        network: states of the members, one row.
    """

    digest: str
    encoder: EncoderState
    network: State

    def to_bytes(self) -> bytes:
        """The state as bytes; holds clinical values, so it is guarded like the stay itself."""
        encoder = self.encoder.to_bytes()
        header = json.dumps({"digest": self.digest, "encoder": len(encoder)}).encode()
        return _LENGTH.pack(len(header)) + header + encoder + self.network.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> LiveState:
        """The state that `to_bytes` wrote.

        Raises:
            ArtifactError: if the bytes are not such a state.
        """
        try:
            (length,) = _LENGTH.unpack_from(data)
            begin = _LENGTH.size + length
            header = json.loads(data[_LENGTH.size : begin])
            end = begin + header["encoder"]
            encoder, network = EncoderState.from_bytes(data[begin:end]), State.from_bytes(data[end:])
            return cls(header["digest"], encoder, network)
        except (struct.error, ValueError, KeyError, TypeError, ArtifactError) as error:
            raise ArtifactError(
                f"state must be the bytes of a live state, got {len(data)} bytes that are not; "
                "replay the stay from its observations"
            ) from error


def start(scorer: Scorer, stays: Stays) -> LiveState:
    """The state of a stay before its first time step.

    Args:
        scorer: the model.
        stays: one stay; only its static values are read.

    Raises:
        DataError: if the model is bidirectional, or there is not exactly one stay.
    """
    if not scorer.network.streams:
        raise DataError(
            "model must not be bidirectional to score a live stay, got a bidirectional one; "
            "score the whole stay or choose another model"
        )
    return LiveState(scorer.digest, scorer.bundle.encoding.start(stays), scorer.network.initial_state(1))


def step(
    scorer: Scorer,
    live: LiveState,
    time_min: int,
    channel: ArrayLike = (),
    value: ArrayLike = (),
    *,
    minute: ArrayLike | None = None,
    notes: Sequence[str] = (),
) -> tuple[Floats, LiveState]:
    """Takes one time step; the given state stays as it is, so a step can be provisional.

    Args:
        scorer: the model.
        live: the state after the step before.
        time_min: minute at which the step is stamped.
        channel: (m,) indices of the encoding's channels observed in the step.
        value: (m,) values in canonical units.
        minute: (m,) minutes of the observations; None: all at `time_min`.
        notes: texts that enter at the step; not read by a model without notes.

    Returns:
        (outputs,) calibrated risks, and the state after the step.

    Raises:
        ArtifactError: if the state is another model's.
        DataError: if an observation does not fit the step.
    """
    if live.digest != scorer.digest:
        raise ArtifactError("state must be this model's own, got another's; replay the stay from its observations")
    features, encoder = scorer.bundle.encoding.step(live.encoder, time_min, channel, value, minute=minute)
    chunk = Chunk(
        torch.from_numpy(features.astype(np.float32))[None, None],
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, dtype=torch.bool),
        _note_batch(scorer, notes),
    )
    with torch.inference_mode():
        output, network = scorer.network(chunk.to(scorer.device), live.network)
    logit = output[0].cpu().numpy()
    risk = scorer.bundle.calibration.apply(logit, np.array([time_min / MINUTES_PER_HOUR]))
    return risk[0], LiveState(live.digest, encoder, network)


def _note_batch(scorer: Scorer, notes: Sequence[str]) -> NoteBatch | None:
    if scorer.tokenizer is None or not notes:
        return None
    encoded = [scorer.tokenizer.encode(text) for text in notes]
    lengths = torch.tensor([len(tokens) for tokens in encoded])
    tokens = torch.zeros(len(encoded), int(lengths.max()), dtype=torch.int64)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(ids)
    nothing = torch.zeros(len(encoded), dtype=torch.int64)
    return NoteBatch(tokens, lengths, nothing, nothing)
