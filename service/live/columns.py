"""A stay's observations in, fourteen bytes each out: what a replay by any model needs of them, without the journal.

Channels and units stand as numbers that one table gives to all stays of the process, values as they were sent. Nothing
of a note is held here, so a stay with notes says that its columns are not the whole of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError
from service.live.facts import Fact, Observation, StayFacts

ROW = np.dtype([("minute", "<i4"), ("code", "<u2"), ("value", "<f8")])
_ROW = struct.Struct("<iHd")
MOST_CODES = 1 << 16
Rows = NDArray[Any]


class Codes:
    """Numbers of pairs of a channel and a unit, given in the order in which they first occur."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, channel: str, unit: str) -> int | None:
        """The pair's number; None once the table is full."""
        number = self._numbers.get((channel, unit))
        if number is None and len(self.pairs) < MOST_CODES:
            number = self._numbers[channel, unit] = len(self.pairs)
            self.pairs.append((channel, unit))
        return number


class Columns:
    """The observations of one stay that count, in the order of their arrival.

    Args:
        codes: the process's table.
        rows: of `ROW`, as bytes; values that are missing count for no model and are left out.
        gone: likewise of what was withdrawn or corrected, as it was first said.
        whole: whether nothing but these is known of the stay beside its admission and static values.
        observations: how many the stay has, those without a value included.
        notes: how many it has.
    """

    __slots__ = ("codes", "gone", "notes", "observations", "rows", "whole")

    def __init__(
        self,
        codes: Codes,
        rows: bytes = b"",
        gone: bytes = b"",
        *,
        whole: bool = True,
        observations: int = 0,
        notes: int = 0,
    ) -> None:
        self.codes, self.rows, self.gone, self.whole = codes, bytearray(rows), bytearray(gone), whole
        self.observations, self.notes = observations, notes

    @classmethod
    def of(cls, codes: Codes, facts: StayFacts) -> Columns:
        """The columns of these facts."""
        columns = cls(codes)
        columns.add(facts.held.values())
        aside = cls(codes)
        aside.add(said for name, said in facts.first.items() if facts.held.get(name) is not said)
        columns.gone, columns.whole = aside.rows, columns.whole and aside.whole
        return columns

    @property
    def size(self) -> int:
        """Bytes that they take."""
        return len(self.rows) + len(self.gone)

    def copy(self) -> Columns:
        """The same, apart."""
        counts = {"observations": self.observations, "notes": self.notes}
        return Columns(self.codes, bytes(self.rows), bytes(self.gone), whole=self.whole, **counts)

    def add(self, facts: Iterable[Fact]) -> None:
        """Takes further facts in."""
        number, rows, added = self.codes.number, self.rows, 0
        for fact in facts:
            if not isinstance(fact, Observation):
                self.whole, self.notes = False, self.notes + 1
                continue
            added += 1
            _, channel, value, unit, _, minute = fact
            if value is not None:
                code = number(channel, unit)
                if code is None:
                    self.whole = False
                else:
                    rows += _ROW.pack(minute, code, value)
        self.observations += added

    def may_hold(self, observations: Sequence[Observation], *, withdrawn_only: bool = False) -> bool:
        """Whether one of these that are known by their content may have been said before.

        It may err towards "said", never towards "new". What has an identifier of its own, or no value, is passed over:
        `Identifiers` knows it.

        Args:
            observations: in the sender's units.
            withdrawn_only: whether to look at nothing but what was withdrawn or corrected.
        """
        if withdrawn_only and not self.gone:
            return False
        wanted: dict[int, set[tuple[int, float]]] = {}
        for one in observations:
            if one.observation_id is None and one.value is not None:
                code = self.codes.number(one.channel, one.unit)
                if code is None:  # the table is full: what has no code is in no row
                    return True
                wanted.setdefault(one.known_min, set()).add((code, one.value))
        if not wanted:
            return False
        said = np.frombuffer(bytes(self.gone) + (b"" if withdrawn_only else bytes(self.rows)), ROW)
        for minute, pairs in wanted.items():
            then = said[said["minute"] == minute]
            if not pairs.isdisjoint(zip(then["code"].tolist(), then["value"].tolist(), strict=True)):
                return True
        return False

    def to_plain(self) -> tuple[dict[str, Any], bytes]:
        """What JSON holds of them, and the bytes that go with it."""
        parts = [np.frombuffer(bytes(part), ROW).copy() for part in (self.rows, self.gone)]
        used = np.unique(np.concatenate([part["code"] for part in parts]))
        for part in parts:
            part["code"] = np.searchsorted(used, part["code"])
        head = {
            "pairs": [self.codes.pairs[code] for code in used.tolist()],
            "rows": len(self.rows),
            "whole": self.whole,
            "counts": [self.observations, self.notes],
        }
        return head, parts[0].tobytes() + parts[1].tobytes()

    @classmethod
    def from_plain(cls, codes: Codes, head: dict[str, Any], content: bytes) -> Columns:
        """What `to_plain` gave.

        Raises:
            ArtifactError: if it is none of it.
        """
        said = np.frombuffer(content, ROW).copy()
        numbers = [codes.number(channel, unit) for channel, unit in head["pairs"]]
        if None in numbers or (len(said) and int(said["code"].max()) >= len(numbers)):
            raise ArtifactError("columns must name their channels and units, got others; replay the stay")
        if len(said):
            said["code"] = np.array(numbers, dtype="<u2")[said["code"]]
        whole, begin = said.tobytes(), int(head["rows"])
        observations, notes = head["counts"]
        counts = {"observations": int(observations), "notes": int(notes)}
        return cls(codes, whole[:begin], whole[begin:], whole=bool(head["whole"]), **counts)
