"""Live stays in this process's memory: the store of a service that is told to keep none; all ends with the process."""

from __future__ import annotations

from collections.abc import Sequence

from service.live.store import CachedState, ConflictError, Entry, Kept, StayHead


class MemoryStore:
    """A `StayStore` that is durable in nothing; see there."""

    def __init__(self) -> None:
        self._numbers = 0
        self._heads: dict[int, StayHead] = {}
        self._by_id: dict[str, int] = {}
        self._entries: dict[int, list[Entry]] = {}
        self._kept: dict[bytes, tuple[int, Kept]] = {}

    async def open(self) -> None:
        """Needs nothing."""

    async def close(self) -> None:
        """Needs nothing."""

    async def check(self) -> None:
        """Memory can always be read and written."""

    async def create(
        self, stay_id: str, payload: bytes, *, at_s: float, secret: bytes, kept: Kept | None = None
    ) -> StayHead:
        """See `StayStore.create`."""
        self._check_scope(kept)
        if stay_id in self._by_id:
            raise ConflictError("stay_id must be a new one, got one that exists; change that stay")
        self._numbers += 1
        head = StayHead(self._numbers, stay_id, 1, at_s, at_s, secret)
        self._heads[head.number], self._by_id[stay_id] = head, head.number
        self._entries[head.number] = [Entry(1, at_s, payload)]
        self._keep(head.number, kept)
        return head

    async def append(self, number: int, version: int, payload: bytes, *, at_s: float, kept: Kept | None = None) -> None:
        """See `StayStore.append`."""
        self._check_scope(kept)
        entries = self._entries.get(number)
        if entries is None or len(entries) != version:
            raise ConflictError("version must be the stay's last one, got another; load the stay again")
        entries.append(Entry(version + 1, at_s, payload))
        self._keep(number, kept)

    async def head(self, stay_id: str) -> StayHead | None:
        """See `StayStore.head`."""
        number = self._by_id.get(stay_id)
        return None if number is None else self._head(number)

    async def entries(self, number: int, *, after: int = 0) -> list[Entry]:
        """See `StayStore.entries`."""
        return self._entries.get(number, [])[after:]

    async def page(self, *, after: str = "", limit: int = 100) -> list[StayHead]:
        """See `StayStore.page`."""
        behind = sorted(stay_id for stay_id in self._by_id if stay_id > after)
        return [self._head(self._by_id[stay_id]) for stay_id in behind[:limit]]

    async def count(self) -> int:
        """See `StayStore.count`."""
        return len(self._heads)

    async def delete(self, number: int) -> bool:
        """See `StayStore.delete`."""
        head = self._heads.pop(number, None)
        if head is None:
            return False
        del self._by_id[head.stay_id], self._entries[number]
        self._kept = {scope: held for scope, held in self._kept.items() if held[0] != number}
        return True

    async def gone(self, numbers: Sequence[int]) -> list[int]:
        """See `StayStore.gone`."""
        return [number for number in numbers if number not in self._heads]

    async def claim(self, scope: bytes) -> bool:
        """Grants every claim: the process itself knows what runs in it."""
        del scope
        return True

    async def release(self, scope: bytes) -> None:
        """Needs nothing."""

    async def kept(self, scope: bytes) -> Kept | None:
        """See `StayStore.kept`."""
        held = self._kept.get(scope)
        return None if held is None else held[1]

    async def purge(self, *, kept_before_s: float, stays_before_s: float | None = None) -> tuple[int, ...]:
        """See `StayStore.purge`."""
        self._kept = {scope: held for scope, held in self._kept.items() if held[1].at_s >= kept_before_s}
        old = tuple(
            number
            for number, entries in self._entries.items()
            if stays_before_s is not None and entries[-1].at_s < stays_before_s
        )
        for number in old:
            await self.delete(number)
        return old

    async def load_state(self, number: int, key: str) -> CachedState | None:
        """Keeps no states: the journal lies in memory as they would."""
        del number, key
        return None

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """Keeps no states."""
        del states

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """Keeps no states."""
        del numbers

    def _head(self, number: int) -> StayHead:
        head, last = self._heads[number], self._entries[number][-1]
        return StayHead(number, head.stay_id, last.version, head.created_s, last.at_s, head.secret)

    def _check_scope(self, kept: Kept | None) -> None:
        if kept is not None and kept.scope in self._kept:
            raise ConflictError("scope must be a new one, got one with an answer; repeat that answer")

    def _keep(self, number: int, kept: Kept | None) -> None:
        if kept is not None:
            self._kept[kept.scope] = (number, kept)
