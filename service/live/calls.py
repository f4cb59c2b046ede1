"""Calls on live stays, one method a route."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable

from service.audit import Audit, AuditEvent, StaySeal
from service.live.changes import Changes
from service.live.columns import Columns
from service.live.drafts import Draft
from service.live.facts import Profile
from service.live.fold import Fold
from service.live.intake import Intake
from service.live.refusals import no_such_stay, unavailable
from service.live.schema import CORRECTION, OBSERVATIONS, STAY, parse
from service.live.session import Identifiers, Known
from service.live.sessions import Sessions
from service.live.settling import Call, Reply, Settling
from service.live.store import StoreError
from service.live.watchers import Watchers
from service.metrics import Metrics
from service.settings import Settings


class LiveStays:
    """The calls that change stays.

    Args:
        sessions: the stays.
        settings: limits.
        metrics: figures.
        audit: records of what was answered.
        watchers: who waits for new scores.
    """

    def __init__(
        self, sessions: Sessions, settings: Settings, metrics: Metrics, audit: Audit, watchers: Watchers
    ) -> None:
        self.sessions, self.audit, self.watchers = sessions, audit, watchers
        self._changes = Changes(sessions.store, Intake(settings), settings, metrics)
        self._settling = Settling(sessions, metrics, audit, watchers)

    async def observe(self, call: Call) -> Reply:
        """`POST /v1/stays/{stay_id}/observations`."""
        words = self.sessions.chosen(call.stay_id).reader.vocabulary.words
        request = parse(OBSERVATIONS, call.body, known=words)
        request.setdefault("disclaimer_language", "ja" if call.japanese else "en")
        return await self._settling.settle(call, lambda known: self._changes.observe(known, request))

    async def correct(self, call: Call, identifier: str) -> Reply:
        """`PATCH /v1/stays/{stay_id}/observations/{observation_id}`."""
        request = parse(CORRECTION, call.body, known=frozenset())
        return await self._settling.settle(
            call, lambda known: _worded(call, self._changes.correct(known, identifier, request))
        )

    async def withdraw(self, call: Call, identifier: str) -> Reply:
        """`DELETE /v1/stays/{stay_id}/observations/{observation_id}`."""
        return await self._settling.settle(call, lambda known: _worded(call, self._changes.withdraw(known, identifier)))

    async def admit(self, call: Call) -> Reply:
        """`PUT /v1/stays/{stay_id}`."""
        stepper = self.sessions.chosen(call.stay_id)
        request = parse(STAY, call.body, known=stepper.reader.vocabulary.words)

        async def create() -> Draft:
            seal = StaySeal(call.stay_id, secrets.token_bytes(32))
            none = Known(0, seal, 0, Profile(), stepper, Fold(b""), Identifiers(), Columns(self.sessions.codes))
            return await _worded(call, self._changes.admit(none, request, new=True))

        return await self._settling.settle(
            call, lambda known: _worded(call, self._changes.admit(known, request, new=False)), create=create
        )

    async def delete(self, call: Call) -> None:
        """`DELETE /v1/stays/{stay_id}`: removes the stay and all that was kept of it, whether or not it can be scored.

        Raises:
            Problem: 404 if there is none, 503 if the store fails.
        """
        session = self.sessions.session(call.stay_id)
        async with session.lock:
            try:
                head = await self.sessions.store.head(call.stay_id)
                if head is None:
                    raise no_such_stay()
                seal = StaySeal(head.stay_id, head.secret)
                # Before the deed: a stay that is gone must have a record of it, and no call could add it later.
                self.audit.record(AuditEvent.DELETED, request_id=call.request_id, key=call.key, stay=seal)
                gone = not await self.sessions.store.delete(head.number)
                await self.sessions.cache.drop_states([head.number])
            except StoreError as error:
                raise unavailable(error) from error
            finally:
                self.sessions.forget(session)
        if gone:
            raise no_such_stay()
        self.watchers.tell(call.stay_id)

    async def require(self, stay_id: str) -> None:
        """Returns if there is such a stay.

        Raises:
            Problem: 404 if there is none, 503 if the store fails.
        """
        try:
            head = await self.sessions.store.head(stay_id)
        except StoreError as error:
            raise unavailable(error) from error
        if head is None:
            raise no_such_stay()


async def _worded(call: Call, making: Awaitable[Draft]) -> Draft:
    """The draft with its disclaimer in the caller's language."""
    draft = await making
    draft.outcome.japanese = call.japanese
    return draft
