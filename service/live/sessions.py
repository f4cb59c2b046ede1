"""Live stays at hand: those in memory, the others read from the store; the least used leave when memory is short."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from service.audit import StaySeal
from service.live.columns import Codes
from service.live.restoring import cached, followed, journal_of, replayed
from service.live.session import Known, Session, state_key
from service.live.stepper import Stepper
from service.live.store import CachedState, StateCache, StayStore
from service.metrics import Metrics

# States that are written together when they leave the memory.
SAVED_AT_ONCE = 64
# A stay's state goes to the cache anew after so many entries, so that a crash leaves few to fold.
SAVED_EVERY = 64


class GoneError(LookupError):
    """Raised where the store has no such stay."""


class Sessions:
    """Stays in memory over a store.

    Args:
        store: keeps them.
        cache: keeps folded states; the store itself, or one that replicas share.
        chosen: the model that answers for a stay.
        max_bytes: of stays in memory.
        metrics: counts replays.
    """

    def __init__(
        self,
        store: StayStore,
        cache: StateCache,
        chosen: Callable[[str], Stepper],
        *,
        max_bytes: int,
        metrics: Metrics,
    ) -> None:
        self.store, self.cache, self.chosen = store, cache, chosen
        self._max_bytes, self._metrics = max_bytes, metrics
        self.codes = Codes()
        self._held: OrderedDict[str, Session] = OrderedDict()
        self._leaving: list[CachedState] = []
        self._due: dict[str, Session] = {}
        self.state_bytes = 0
        self.on_held: Callable[[Session], None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def session(self, stay_id: str) -> Session:
        """The stay's place in memory, whether or not there is such a stay."""
        session = self._held.get(stay_id)
        if session is None:
            session = self._held[stay_id] = Session(stay_id)
        else:
            self._held.move_to_end(stay_id)
        return session

    def held(self, stay_id: str) -> Session | None:
        """The stay's place, where it is in memory; looking is no use."""
        return self._held.get(stay_id)

    def stays(self) -> list[str]:
        """Identifiers of the stays in memory, the least used first."""
        return list(self._held)

    async def known(self, session: Session) -> Known:
        """The stay as it is known now; the caller holds the session's lock.

        Raises:
            GoneError: if the store has no such stay.
            StoreError: if the store fails.
        """
        if session.known is None or session.doubted:
            await self.refresh(session)
        if session.known is None:
            raise GoneError
        return session.known

    async def refresh(self, session: Session) -> None:
        """Reads what the store has of the stay beyond what is in memory; the caller holds the session's lock.

        Raises:
            GoneError: if the store has no such stay.
            StoreError: if the store fails, or holds what this release cannot read.
        """
        head = await self.store.head(session.stay_id)
        if head is None:
            session.known = None
            raise GoneError
        known = session.known
        if known is None or known.number != head.number:
            known = await cached(self.cache, head, self.chosen(session.stay_id), self.codes)
            session.saved = 0 if known is None else known.version
        if known is not None:
            known = await followed(known, await self.store.entries(head.number, after=known.version))
        if known is None:
            self._metrics.count_replay("restored")
            journal = await journal_of(self.store, head.number)
            seal = StaySeal(head.stay_id, head.secret)
            known = await replayed(head.number, seal, journal, self.chosen(session.stay_id), self.codes)
        self.hold(session, known)

    def hold(self, session: Session, known: Known) -> None:
        """Puts a stay as it is known now into its place."""
        session.known, session.doubted = known, False
        if self._held.get(session.stay_id) is session:
            self.recount(session)
            if known.version - session.saved >= SAVED_EVERY:
                self._due[session.stay_id] = session
            if self.state_bytes > self._max_bytes:
                self._make_room()
            if self.on_held is not None:
                self.on_held(session)

    def recount(self, session: Session) -> None:
        """Counts the bytes of a stay anew."""
        if self._held.get(session.stay_id) is session:
            known, aside = session.known, session.aside
            size = (known.size if known is not None else 0) + (aside.size if aside is not None else 0)
            self.state_bytes += size - session.counted
            session.counted = size

    def distrust(self, session: Session) -> None:
        """Forgets what is known of a stay, because the store may know otherwise."""
        session.known = None

    def forget(self, session: Session) -> None:
        """Gives up the stay's place."""
        session.known = session.aside = None
        if self._held.get(session.stay_id) is session:
            del self._held[session.stay_id]
            self.state_bytes -= session.counted
            session.counted = 0

    def forget_numbers(self, numbers: Sequence[int]) -> None:
        """Gives up the places of stays that the store has deleted."""
        gone = set(numbers)
        for session in list(self._held.values()):
            if session.known is not None and session.known.number in gone:
                self.forget(session)

    async def save_due(self) -> None:
        """Writes to the cache the states of stays that left the memory, or have changed often since."""
        due, self._due = self._due, {}
        for session in due.values():
            self._leave(session)
        await self._write()

    async def save_all(self) -> None:
        """Writes all states to the cache, so that the next process need not replay them."""
        for session in list(self._held.values()):
            self._leave(session)
            if len(self._leaving) >= SAVED_AT_ONCE:
                await self._write()
        await self._write()

    def _make_room(self) -> None:
        """Takes the least used stays out of memory until the rest fits."""
        while self.state_bytes > self._max_bytes and len(self._held) > 1:
            session = next(iter(self._held.values()))
            if session.lock.locked():
                break
            self._leave(session)
            self.forget(session)

    async def _write(self) -> None:
        leaving, self._leaving = self._leaving, []
        for begin in range(0, len(leaving), SAVED_AT_ONCE):
            await self.cache.save_states(leaving[begin : begin + SAVED_AT_ONCE])

    def _leave(self, session: Session) -> None:
        known = session.known
        if known is not None and known.version > session.saved:
            self._leaving.append(CachedState(known.number, state_key(known.stepper), known.version, known.to_bytes()))
            session.saved = known.version
