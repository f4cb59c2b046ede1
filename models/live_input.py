"""One time step of one live stay: what an encoder is given of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveInput:
    """What enters at one time step of one stay.

    Args:
        time_min: minute at which the step is stamped (`GridSpec.stamp`).
        channel: (m,) the encoding's channels observed in the step, in any order.
        value: (m,) values in canonical units.
        minute: (m,) minutes of the observations; None: all at `time_min`.
        notes: texts that enter at the step; not read by a model without notes.
    """

    time_min: int
    channel: Sequence[int] = ()
    value: Sequence[float] = ()
    minute: Sequence[int] | None = None
    notes: Sequence[str] = ()
