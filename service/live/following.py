"""States of live stays under another model than the one that answers: made anew beside it, kept up with it, switched.

A stay in memory may be known twice: by the model that answers, and aside by one that is tried, comes next, or went
before. What is accepted enters the first at once and the second soon after, in the background. A switch exchanges the
two under the stay's lock, once both have the same entries: nobody ever sees a stay between two models.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple

import orjson

from models.errors import SequelaError
from service.errors import Problem
from service.live.fold import evaluate
from service.live.rebuilding import Background, Rebuilding
from service.live.restoring import followed
from service.live.session import Known, Session
from service.live.sessions import Sessions
from service.live.stepper import Stepper
from service.live.store import Entry, StoreError
from service.logs import Event, log_failure
from service.metrics import Metrics

# Stays that are folded anew side by side: many enough to share the arithmetic, few enough to leave room between.
CHUNK_STAYS = 64
# Of the time that a pass over the stays takes, at most this part is spent computing while calls come in.
SHARE = 0.5
# Stays that are looked at before others may run.
LOOKED_AT = 1000
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """What two models said of the same stay at the same time.

    Args:
        answered: by the model that answers.
        tried: by the other.
    """

    answered: Sequence[float]
    tried: Sequence[float]


class Wanted(NamedTuple):
    """Which models shall know a stay.

    Args:
        answers: the one that answers for it.
        aside: another; None for none.
    """

    answers: Stepper
    aside: Stepper | None


class Following:
    """Keeps stays in memory known to the models that shall know them.

    Args:
        sessions: the stays.
        background: where stays are folded anew.
        wanted: the models of a stay.
        metrics: counts replays.
    """

    def __init__(
        self, sessions: Sessions, background: Background, wanted: Callable[[str], Wanted], metrics: Metrics
    ) -> None:
        self._sessions, self._wanted, self._metrics = sessions, wanted, metrics
        self._rebuilding = Rebuilding(sessions, background)
        self.shadows: dict[Stepper, Callable[[Compared], None]] = {}
        self._behind: dict[str, Session] = {}
        self._waiting = asyncio.Event()
        self._accepted = 0
        sessions.on_held = self._held

    async def keep_up(self) -> None:
        """Has what is known aside follow what is accepted, until it is cancelled."""
        while True:
            await self._waiting.wait()
            names = list(self._behind)[:CHUNK_STAYS]
            if not names:
                self._waiting.clear()
                continue
            sessions = [self._behind.pop(name) for name in names]
            if not await self._advance(sessions):
                self._behind.update((session.stay_id, session) for session in sessions)
                await asyncio.sleep(PAUSE_S)

    async def bring(self, concerned: Callable[[str], bool]) -> None:
        """Has all these stays in memory known to the models that shall know them, and answered by the right one."""
        while left := [session async for session in self._all(concerned) if self._lacks(session)]:
            for begin in range(0, len(left), CHUNK_STAYS):
                began, accepted = perf_counter(), self._accepted
                done = await self._advance(left[begin : begin + CHUNK_STAYS])
                spent = perf_counter() - began if self._accepted > accepted else 0.0
                await asyncio.sleep(spent * (1 - SHARE) / SHARE if done else PAUSE_S)

    async def drop(self, concerned: Callable[[str], bool]) -> None:
        """Gives up what is known of these stays aside of the models that shall know them."""
        async for session in self._all(concerned):
            if session.aside is not None and session.aside.stepper is not self._other(session):
                self._put(session, None)

    def _held(self, session: Session) -> None:
        self._accepted += 1
        if self._lacks(session):
            self._behind[session.stay_id] = session
            self._waiting.set()

    def _other(self, session: Session) -> Stepper | None:
        """The model that shall know the stay and does not answer for it at this moment."""
        wanted = self._wanted(session.stay_id)
        if session.known is None or session.known.stepper is wanted.answers:
            return wanted.aside
        return wanted.answers

    def _lacks(self, session: Session) -> bool:
        known, aside, other = session.known, session.aside, self._other(session)
        if known is None or other is None:
            return False
        misplaced = known.stepper is not self._wanted(session.stay_id).answers
        return misplaced or aside is None or aside.stepper is not other or aside.version < known.version

    async def _all(self, concerned: Callable[[str], bool]) -> AsyncIterator[Session]:
        for number, stay_id in enumerate(reversed(self._sessions.stays())):
            if number % LOOKED_AT == LOOKED_AT - 1:
                await asyncio.sleep(0)
            session = self._sessions.held(stay_id)
            if session is not None and concerned(stay_id):
                yield session

    async def _advance(self, sessions: Sequence[Session]) -> bool:
        """Brings stays up to date and switches those that another model shall answer; False to try again later."""
        try:
            # One after the other: what each would wait for is a single thread's anyway.
            await self._build([session for session in sessions if not await self._follow(session)])
            for session in sessions:
                await self._switch(session)
        except (StoreError, Problem) as error:
            log_failure(Event.FAILED, error, request_id="")
            return False
        except SequelaError as error:
            if len(sessions) > 1:
                return all([await self._advance([session]) for session in sessions])
            log_failure(Event.FAILED, error, request_id="")
            self._sessions.distrust(sessions[0])  # the next call reads it anew, and is refused if that fails too
        return True

    async def _follow(self, session: Session) -> bool:
        """Takes in what was accepted since; False where the stay must be folded anew."""
        known, aside, other = session.known, session.aside, self._other(session)
        if known is None or other is None:
            return True
        if aside is None or aside.stepper is not other or aside.number != known.number:
            return False
        compare = self.shadows.get(other)
        after = aside
        for entry in await self._sessions.store.entries(known.number, after=aside.version):
            found = await followed(after, [entry])
            if found is None:
                return False
            after = found if compare is None else await _compared(found, entry, compare)
        if session.aside is aside and session.known is not None:
            self._put(session, after)
        return True

    async def _build(self, sessions: Sequence[Session]) -> None:
        """Folds stays anew."""
        groups: dict[Stepper, list[tuple[Session, Known]]] = {}
        for session in sessions:
            known, other = session.known, self._other(session)
            if known is not None and other is not None:
                groups.setdefault(other, []).append((session, known))
        for stepper, group in groups.items():
            whole = [one for one in group if one[1].columns.whole]
            built = await self._rebuilding.of_columns(stepper, [known for _, known in whole])
            self._built(stepper, whole, built)
            others = [one for one in group if not one[1].columns.whole]
            self._built(stepper, others, await self._rebuilding.of_entries(stepper, [known for _, known in others]))

    def _built(self, stepper: Stepper, group: Sequence[tuple[Session, Known]], built: Sequence[Known | None]) -> None:
        """Puts stays that were folded anew into their places, unless another model shall know them by now."""
        for (session, _), aside in zip(group, built, strict=True):
            if aside is None:
                continue
            self._metrics.count_replay("swapped")
            same = session.known is not None and session.known.number == aside.number
            if same and self._other(session) is stepper:
                self._put(session, aside)

    async def _switch(self, session: Session) -> None:
        """Exchanges what is known of a stay by two models, if the other shall answer; nobody changes it meanwhile."""
        async with session.lock:
            known, aside, wanted = session.known, session.aside, self._wanted(session.stay_id)
            if known is None or known.stepper is wanted.answers or aside is None:
                return
            if aside.stepper is not wanted.answers or aside.number != known.number:
                return
            if aside.version < known.version:
                entries = await self._sessions.store.entries(known.number, after=aside.version)
                caught_up = await followed(aside, entries)
                if caught_up is None or caught_up.version < known.version:
                    self._put(session, None)
                    return
                aside = caught_up
            if aside.version == known.version:
                aside.identifiers, aside.columns = known.identifiers, known.columns
            session.aside = known if known.stepper is wanted.aside else None
            # The cache has nothing of this model yet; it is written when the stay changes or leaves, not all at once.
            session.saved = aside.version
            self._sessions.hold(session, aside)
            self._accepted -= 1  # this is no call
            session.saved = 0

    def _put(self, session: Session, aside: Known | None) -> None:
        session.aside = aside
        self._sessions.recount(session)


async def _compared(known: Known, entry: Entry, compare: Callable[[Compared], None]) -> Known:
    """The stay, once what its model says at the entry's answer is compared with that answer."""
    _, as_of_min, _, values, *_ = orjson.loads(entry.payload)["a"]
    score, _, fold = await evaluate(known.fold, known.stepper, known.stepper.grid, as_of_min=as_of_min)
    compare(Compared(values, score.values))
    return replace(known, fold=fold)
