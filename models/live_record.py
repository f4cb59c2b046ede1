"""A stay's state as one record of bytes: what encoding and members know of its past, laid out alike for every stay.

Records joined end to end are a table whose columns numpy reads in place. So gathering a batch is one copy, a stay in
memory is one object that a garbage collector need not look into, and what a store keeps is what a step reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import running
from models.encoding import Encoding
from models.errors import ArtifactError

Records = NDArray[Any]

KEY_BYTES = 16
# The stamp of a stay that has had no time step; no minute is as early.
NEVER = np.iinfo(np.int64).min


class RecordLayout:
    """The columns of a model's records.

    key          of the model, 16 bytes
    stamp        stamp of the last time step; `NEVER` before the first
    since        (channels,) stamp of the last step that observed the channel, of the first where none did
    statistics   (channels, STATISTICS) running statistics
    summary      (channels, features) what they are as features; MASK, GAP and DELTA hang on the step and stand for none
    static       features of the static values
    network      row of an `EngineState`

    Args:
        encoding: the model's.
        digest: digest of its artifact; another model's records are refused.
        state_width: columns of its engines' states.
        state_schema: names their layout.
    """

    def __init__(self, encoding: Encoding, *, digest: str, state_width: int, state_schema: str) -> None:
        channels = len(encoding.channels.names)
        fields: list[tuple[str, str, tuple[int, ...]]] = [
            ("stamp", "<i8", ()),
            ("since", "<i8", (channels,)),
            ("statistics", "<f8", (channels, running.STATISTICS)),
            ("summary", "<f4", (channels, len(encoding.channels.features))),
            ("static", "<f4", (encoding.statics.width,)),
            ("network", "<f4", (state_width,)),
        ]
        self.dtype = np.dtype([("key", f"V{KEY_BYTES}"), *fields])
        told = f"{digest}|{state_schema}|{fields}"
        self._key = hashlib.sha256(told.encode()).digest()[:KEY_BYTES]

    @property
    def key(self) -> str:
        """Names model and layout: records of one key can be read together."""
        return self._key.hex()

    @property
    def bytes_a_stay(self) -> int:
        """Length of a record."""
        return int(self.dtype.itemsize)

    def empty(self, n: int) -> Records:
        """Records of `n` stays that begin, but for their static values and members' states."""
        records = np.zeros(n, dtype=self.dtype)
        records["key"] = np.void(self._key)
        records["stamp"] = NEVER
        return records

    def join(self, states: Sequence[bytes]) -> Records:
        """Records of these bytes, to be changed freely.

        Raises:
            ArtifactError: if one was made by another model or layout.
        """
        size = self.dtype.itemsize
        if any(len(state) != size or not state.startswith(self._key) for state in states):
            raise ArtifactError("state must be this model's own, got another's; replay the stay from its observations")
        return np.frombuffer(bytearray().join(states), dtype=self.dtype)

    def split(self, records: Records) -> list[bytes]:
        """Every record as bytes; holds clinical values, so it is guarded like the stay itself."""
        whole, size = records.view(np.uint8).data, self.dtype.itemsize
        return [bytes(whole[begin : begin + size]) for begin in range(0, len(whole), size)]
