"""What keeps live stays: a journal of accepted facts a stay, cached states, and the answers of repeatable calls.

A stay is a head and its journal. Every accepted change (its admission and static values, observations, a correction,
a withdrawal) is one entry, numbered from 1 without a gap; the number of the last one is the stay's version. An entry
holds what was accepted and what was answered, so one row written durably is all that an acknowledged call needs.
Two writers never both advance a stay: an entry names the version that it builds on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.errors import SequelaError

STORE_SCHEMA = 1
"""Version of the layout that every store writes; a store refuses or migrates what another release wrote."""


class StoreError(SequelaError):
    """Raised when a store does not answer, or cannot keep what it is given; nothing may then be acknowledged."""


class ConflictError(SequelaError):
    """Raised when a write builds on what is no more so: load the stay again and decide anew."""


@dataclass(frozen=True, slots=True)
class StayHead:
    """What a store knows of a stay without reading its journal.

    Args:
        number: the store's own number; never used again, so a stay that is deleted and created anew has another.
        stay_id: the sender's identifier.
        version: number of the last entry.
        created_s: Unix time of the first entry.
        updated_s: Unix time of the last entry.
        secret: 32 random bytes that key the audit's references to the stay; gone when it is deleted.
    """

    number: int
    stay_id: str
    version: int
    created_s: float
    updated_s: float
    secret: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted change.

    Args:
        version: the stay's version with it.
        at_s: Unix time at which it was accepted.
        payload: JSON written by `service.live.journal`; a store never reads it.
    """

    version: int
    at_s: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer of a call that carried an Idempotency-Key.

    Args:
        scope: 32 bytes: digest of the caller, the route, the stay and the key.
        body: 32 bytes: digest of the call's body.
        status: HTTP status of the answer.
        content: body of the answer.
        at_s: Unix time of the call.
    """

    scope: bytes
    body: bytes
    status: int
    content: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class CachedState:
    """A stay's folded state, which can always be made again from the journal.

    Args:
        number: the stay's number.
        key: artifact digest and state schema; another model or release never reads it.
        version: the stay's version that it holds.
        content: the state as bytes.
    """

    number: int
    key: str
    version: int
    content: bytes


class StateCache(Protocol):
    """Keeps folded states; losing all of them costs a replay and nothing else."""

    async def load_state(self, number: int, key: str) -> CachedState | None:
        """The newest state of a stay under this key."""
        ...

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """Keeps states; one of an older version never replaces a newer one, and a deleted stay gets none."""
        ...

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """Removes all states of stays, under whatever key; called when stays are deleted."""
        ...


class StayStore(StateCache, Protocol):
    """Keeps stays. Every method raises `StoreError` where the store fails; writes are durable when they return.

    Args of the writes are never changed afterwards, and a method may be called by many tasks at once.
    """

    async def open(self) -> None:
        """Prepares the store: creates, migrates or refuses its schema.

        Raises:
            StoreError: with the remedy, if it is another release's or cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Ends what was begun; everything acknowledged is durable already."""
        ...

    async def check(self) -> None:
        """Returns if the store can be read and written at this moment."""
        ...

    async def create(
        self, stay_id: str, payload: bytes, *, at_s: float, secret: bytes, kept: Kept | None = None
    ) -> StayHead:
        """Creates a stay with its first entry, and keeps the answer, in one transaction.

        Raises:
            ConflictError: if the stay exists, or an answer is kept under the same scope.
        """
        ...

    async def append(self, number: int, version: int, payload: bytes, *, at_s: float, kept: Kept | None = None) -> None:
        """Adds entry `version + 1`, and keeps the answer, in one transaction.

        Args:
            number: the stay's number.
            version: the version that the entry builds on.
            payload: the entry.
            at_s: Unix time.
            kept: the call's answer, where it carried an Idempotency-Key.

        Raises:
            ConflictError: if the stay is at another version or gone, or an answer is kept under the same scope.
        """
        ...

    async def head(self, stay_id: str) -> StayHead | None:
        """A stay's head; None if there is no such stay."""
        ...

    async def entries(self, number: int, *, after: int = 0) -> list[Entry]:
        """The stay's entries with a version above `after`, in order; empty for a deleted stay."""
        ...

    async def page(self, *, after: str = "", limit: int = 100) -> list[StayHead]:
        """Heads of the first stays whose identifier sorts (by code point) behind `after`."""
        ...

    async def count(self) -> int:
        """Number of stays."""
        ...

    async def delete(self, number: int) -> bool:
        """Removes the stay, its journal, states, kept answers and secret; False if it was gone already."""
        ...

    async def gone(self, numbers: Sequence[int]) -> list[int]:
        """Which of these numbers are no stay's, or not any more."""
        ...

    async def claim(self, scope: bytes) -> bool:
        """Whether no other replica runs a call under this scope at the moment; it is then this one's until `release`.

        A claim is a courtesy to who calls twice, not what keeps a call from counting twice: it ends with the process
        or its connection, and a store of a single process grants every one.
        """
        ...

    async def release(self, scope: bytes) -> None:
        """Ends a claim that was granted; never raises."""
        ...

    async def kept(self, scope: bytes) -> Kept | None:
        """The answer under this scope; those older than a day may be gone."""
        ...

    async def purge(self, *, kept_before_s: float, stays_before_s: float | None = None) -> tuple[int, ...]:
        """Removes kept answers, and stays last changed, before these times.

        Returns:
            Numbers of the stays that were removed.
        """
        ...
