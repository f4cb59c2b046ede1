"""One whole stay in, the sequence of its live steps out: what a live service does with the same facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import DataError
from models.grid import Moments
from models.stay import Floats, Ints, Stays


@dataclass(frozen=True)
class StepInput:
    """What `Encoding.step` takes for one time step, in the encoding's channels.

    Args:
        time_min: stamp of the step.
        minute: (m,) minutes of the observations.
        channel: (m,) channels.
        value: (m,) values, canonical unit.
    """

    time_min: int
    minute: Ints
    channel: Ints
    value: Floats


def steps_of(encoding: Encoding, stays: Stays, *, notes: bool = False) -> tuple[StepInput, ...]:
    """The time steps of one stay with the raw observations that enter at each.

    Args:
        encoding: the fitted encoding.
        stays: one stay.
        notes: whether notes make time steps too, as they do for a model with a tokenizer.
    """
    if len(stays) != 1:
        raise DataError(f"stays must hold one stay, got {len(stays)}; take the steps of each by itself")
    numbers = encoding.channels.numbers
    channel = np.array([numbers.get(stays.channels[c], -1) for c in stays.channel.tolist()], dtype=np.int64)
    used = channel >= 0
    minute, channel, value = stays.time_min[used], channel[used], stays.value[used]
    charted = stays.note_time_min if notes else np.zeros(0, dtype=np.int64)
    grid = encoding.grid.build(
        stays.end_min, Moments(np.zeros_like(minute), minute), Moments(np.zeros_like(charted), charted)
    )
    bounds = grid.row_step.searchsorted(np.arange(len(grid.time_min) + 1))
    parts = [slice(begin, end) for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return tuple(
        StepInput(int(stamp), minute[part], channel[part], value[part])
        for stamp, part in zip(grid.time_min.tolist(), parts, strict=True)
    )


def fold(encoding: Encoding, stays: Stays, *, notes: bool = False) -> Encoded:
    """Encodes one stay step by step, as a live service does; equals `encoding.encode` without its tokens."""
    state = encoding.start(stays)
    features: list[Floats] = []
    stamps: list[int] = []
    for step in steps_of(encoding, stays, notes=notes):
        row, state = encoding.step(state, step.time_min, step.channel, step.value, minute=step.minute)
        features.append(row)
        stamps.append(step.time_min)
    return Encoded(np.stack(features), np.array([0, len(stamps)], dtype=np.int64), np.array(stamps, dtype=np.int64))
