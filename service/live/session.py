"""One live stay in memory: what a call needs of it at hand, and the same as bytes for a cache of states."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import orjson

from models.errors import ArtifactError
from service.audit import StaySeal
from service.live.columns import Codes, Columns
from service.live.facts import Fact, Note, Profile
from service.live.fold import Fold
from service.live.reading import Charted, Reading
from service.live.stepper import Stepper

# Version of the bytes; a state of another one is made anew from the journal.
SNAPSHOT_SCHEMA = 4
# What a session takes beside its states, about.
OVERHEAD_BYTES = 2_000
_LENGTHS = struct.Struct("<III")
_ID_BYTES = 4
FEW_BYTES = 2_000


class Identifiers:
    """Which facts a stay has whose identifiers must be listed: four bytes each.

    It may err towards "known", never towards "new".
    """

    __slots__ = ("hashes",)

    def __init__(self, hashes: bytes = b"") -> None:
        self.hashes = bytearray(hashes)

    def may_hold(self, facts: Iterable[Fact]) -> bool:
        """Whether one of these may be known already; what need not be listed is passed over."""
        wanted = [_hash(fact.identifier) for fact in facts if is_listed(fact)]
        if len(self.hashes) > FEW_BYTES:  # one comparison of all is then faster than a search
            held = np.frombuffer(bytes(self.hashes), "<u4")
            return any(bool((held == int.from_bytes(one, "little")).any()) for one in wanted)
        return any(self._holds(one) for one in wanted)

    def _holds(self, wanted: bytes) -> bool:
        at = self.hashes.find(wanted)
        while at >= 0 and at % _ID_BYTES:
            at = self.hashes.find(wanted, at + 1)
        return at >= 0

    def add(self, facts: Iterable[Fact]) -> None:
        """Takes in the identifiers of those that must be listed."""
        for fact in facts:
            if is_listed(fact):
                self.hashes += _hash(fact.identifier)


def is_listed(fact: Fact) -> bool:
    """Whether a fact is known by an identifier that no column tells: the sender's own, a note's, or of no value."""
    return fact.observation_id is not None or isinstance(fact, Note) or fact.value is None


def _hash(identifier: str) -> bytes:
    return zlib.crc32(identifier.encode("utf-8", "surrogatepass")).to_bytes(_ID_BYTES, "little")


def state_key(stepper: Stepper) -> str:
    """Names the bytes of what a model knows of a stay: those of another model or layout are never read."""
    return f"{stepper.key}.{SNAPSHOT_SCHEMA}"


@dataclass(slots=True)
class Known:
    """A stay as a model knows it.

    Args:
        number: the stay's number in the store.
        seal: stands for the stay in the audit.
        version: the stay's version.
        profile: what is known at admission.
        stepper: the model that folded it.
        fold: the folded stay.
        identifiers: of its facts.
        columns: its observations, for a replay.
        last: what was answered last, and by which artifact; empty before the first answer.
    """

    number: int
    seal: StaySeal
    version: int
    profile: Profile
    stepper: Stepper
    fold: Fold
    identifiers: Identifiers
    columns: Columns
    last: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        opened = self.fold.opened
        states = len(self.fold.state) * (1 + len(self.fold.kept)) + (len(opened.state) if opened else 0)
        return states + len(self.identifiers.hashes) + self.columns.size + OVERHEAD_BYTES

    def to_bytes(self) -> bytes:
        """All but number, seal, version and model; holds clinical values, so it is guarded like the stay itself."""
        fold, profile = self.fold, self.profile
        columns, content = self.columns.to_plain()
        head = orjson.dumps(
            {
                "fold": [fold.committed, fold.open, fold.readings, fold.charted, fold.end_min],
                "seen": f"{fold.seen:x}",
                "profile": [profile.admission, profile.static],
                "last": self.last,
                "columns": columns,
            },
            default=tuple,
        )
        hashes = bytes(self.identifiers.hashes)
        lengths = _LENGTHS.pack(len(head), len(hashes), len(content))
        return lengths + head + hashes + content + bytes(fold.state)

    @classmethod
    def from_bytes(
        cls, data: bytes, *, number: int, seal: StaySeal, version: int, stepper: Stepper, codes: Codes
    ) -> Known:
        """What `to_bytes` wrote.

        Raises:
            ArtifactError: if the bytes are not such a stay.
        """
        try:
            head_length, hashes_length, content_length = _LENGTHS.unpack_from(data)
            begin = _LENGTHS.size
            head = orjson.loads(data[begin : begin + head_length])
            begin += head_length
            hashes = data[begin : begin + hashes_length]
            begin += hashes_length
            content = data[begin : begin + content_length]
            committed, opened, readings, charted, end_min = head["fold"]
            fold = Fold(
                data[begin + content_length :],
                committed,
                opened,
                tuple(Reading(*row) for row in readings),
                tuple(Charted(*row) for row in charted),
                end_min,
                int(head["seen"], 16),
            )
            columns = Columns.from_plain(codes, head["columns"], content)
            last, profile = tuple(head["last"]), Profile(*head["profile"])
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"state must be the bytes of a live stay, got {len(data)} bytes that are not; replay the stay"
            ) from error
        if len(fold.state) != stepper.state_bytes:
            raise ArtifactError("state must be of the model's length, got another; replay the stay")
        return cls(number, seal, version, profile, stepper, fold, Identifiers(hashes), columns, last)


@dataclass(slots=True, eq=False)
class Session:
    """A stay's place in memory; whoever changes the stay holds its lock.

    Args:
        stay_id: the sender's identifier.
        known: the stay; None where it must be read from the store first.
        saved: version of the state that the cache has; 0 for none.
        counted: bytes that the table of sessions counts for it.
        aside: the stay as another model knows it, which is tried or kept beside; it may be some entries behind.
        doubted: whether the store may have more of the stay than is known here.
        lock: held by whoever changes it.
    """

    stay_id: str
    known: Known | None = None
    saved: int = 0
    counted: int = 0
    aside: Known | None = None
    doubted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
