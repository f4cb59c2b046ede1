"""Calls made durable: read what is known, draft the change, have the store keep it, and only then answer.

A stay's calls follow one another; those of different stays do not wait for each other. Where another replica was
faster, the stay is read again and the call drafted anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from models.task import TargetKind
from service.audit import Audit
from service.live.drafts import Draft
from service.live.refusals import busy, no_such_stay, unavailable
from service.live.repeats import Repeats, digest_of, scope_of
from service.live.retold import Retold
from service.live.session import Known, Session
from service.live.sessions import GoneError, Sessions
from service.live.stepper import Stepper
from service.live.store import ConflictError, Kept, StoreError
from service.live.watchers import Watchers
from service.live.wording import Wording
from service.metrics import Metrics

# Two replicas that write to one stay at once: one of them goes first each time.
ATTEMPTS = 16
MAX_KEY_BYTES = 255


class Call(NamedTuple):
    """Who calls, and how the call may be repeated.

    Args:
        route: template of the route, with its method.
        stay_id: the stay.
        body: as it was sent.
        request_id: of the request.
        key: id of the caller's API key.
        repeat_key: the `Idempotency-Key`; None without.
        japanese: whether the disclaimer is wanted so, where the body names no language.
    """

    route: str
    stay_id: str
    body: bytes = b""
    request_id: str = ""
    key: str = ""
    repeat_key: bytes | None = None
    japanese: bool = False

    @property
    def scope(self) -> bytes | None:
        """Digest of caller, route, stay and key; None for a call that carries no key."""
        if self.repeat_key is None:
            return None
        return scope_of(self.key.encode(), self.route.encode(), self.stay_id.encode(), self.repeat_key)


class Reply(NamedTuple):
    """What a call is answered.

    Args:
        status: of the answer.
        content: its body.
        repeated: whether it is the answer of an earlier call with the same key.
    """

    status: int
    content: bytes
    repeated: bool = False


Change = Callable[[Known], Awaitable[Draft]]
Create = Callable[[], Awaitable[Draft]]


class Settling:
    """Makes calls durable.

    Args:
        sessions: the stays.
        metrics: figures.
        audit: records of what was answered.
        watchers: who waits for new scores.
    """

    def __init__(self, sessions: Sessions, metrics: Metrics, audit: Audit, watchers: Watchers) -> None:
        self._sessions, self._metrics, self._audit, self._watchers = sessions, metrics, audit, watchers
        self._repeats = Repeats(sessions.store)
        self._wordings: dict[tuple[str, str | None], Wording] = {}

    async def settle(self, call: Call, change: Change, *, create: Create | None = None) -> Reply:
        """What a call is answered, once it is durable.

        Args:
            call: the call.
            change: drafts it for a stay that there is.
            create: drafts it for one that there is not; None refuses it.

        Raises:
            Problem: what the draft raises; 404 without the stay, 409 or 422 for the key, 503 if the store fails.
        """
        scope = call.scope
        if scope is None:
            return await self._attempts(call, change, create, None)
        async with self._repeats.alone(scope, call.body) as kept:
            return await self._attempts(call, change, create, scope) if kept is None else await self._again(call, kept)

    async def _attempts(
        self,
        call: Call,
        change: Change,
        create: Create | None,
        scope: bytes | None,
    ) -> Reply:
        for _ in range(ATTEMPTS):
            session = self._sessions.session(call.stay_id)
            async with session.lock:
                try:
                    kept = None if scope is None else await self._repeats.answer(scope, call.body)
                    if kept is not None:
                        return await self._again(call, kept)
                    return await self._attempt(session, call, change, create, scope)
                except ConflictError:
                    await self._refreshed(session)
                except GoneError:
                    self._sessions.forget(session)
                    raise no_such_stay() from None
                except StoreError as error:
                    raise unavailable(error) from error
                finally:
                    # A call that was refused leaves no place behind for a stay that there is not.
                    if session.known is None:
                        self._sessions.forget(session)
        raise busy()

    async def _again(self, call: Call, kept: Kept) -> Reply:
        """The first answer once more, recorded for itself."""
        try:
            await Retold(self._audit, call.request_id, call.key).call(self._sessions.store, call.stay_id, kept)
        except StoreError as error:
            raise unavailable(error) from error
        return Reply(kept.status, kept.content, repeated=True)

    async def _refreshed(self, session: Session) -> None:
        try:
            await self._sessions.refresh(session)
        except GoneError:
            session.known = None
        except StoreError as error:
            raise unavailable(error) from error

    async def _attempt(
        self,
        session: Session,
        call: Call,
        change: Change,
        create: Create | None,
        scope: bytes | None,
    ) -> Reply:
        try:
            draft = await change(await self._sessions.known(session))
            created = False
        except GoneError:
            if create is None:
                raise
            draft, created = await create(), True
        status = HTTPStatus.CREATED if created else HTTPStatus.OK
        content = self._wording(draft.known.stepper).answer(draft.outcome)
        payload, now = draft.payload(), time.time()
        kept = None if scope is None else Kept(scope, digest_of(call.body), status, content, now)
        await self._store(session, draft, payload, now, kept, created=created)
        self._settle(session, draft)
        self._tell(call, draft, payload)
        return Reply(status, content)

    async def _store(
        self, session: Session, draft: Draft, payload: bytes, now: float, kept: Kept | None, *, created: bool
    ) -> None:
        store, known = self._sessions.store, draft.known
        try:
            if created:
                head = await store.create(session.stay_id, payload, at_s=now, secret=known.seal.secret, kept=kept)
                known.number = head.number
            else:
                await store.append(known.number, known.version - 1, payload, at_s=now, kept=kept)
        except ConflictError:
            raise
        except BaseException:  # whether the store has it nobody knows: only looking there tells
            session.doubted = True
            raise

    def _settle(self, session: Session, draft: Draft) -> None:
        draft.known.identifiers.add(draft.added)
        draft.known.columns.add(draft.added)
        self._sessions.hold(session, draft.known)

    def _tell(self, call: Call, draft: Draft, payload: bytes) -> None:
        known, outcome = draft.known, draft.outcome
        stepper, values = known.stepper, outcome.score.values
        version = stepper.origin.version or ""
        if outcome.rejected:
            self._metrics.count_rejected(Counter(ref["reason"] for ref in outcome.rejected))
        task = stepper.bundle.task
        if task.kind is not TargetKind.REGRESSION:
            self._metrics.observe_scores(task.output_names, values, version=version)
        self._watchers.tell(call.stay_id)
        self._audit.record(
            draft.event,
            request_id=call.request_id,
            key=call.key,
            digest=stepper.scorer.digest,
            version=version,
            prediction_id=outcome.prediction_id,
            stay=known.seal,
            revision=outcome.revision,
            as_of_min=outcome.score.time_min,
            risks=values,
            change=payload,
        )

    def _wording(self, stepper: Stepper) -> Wording:
        model = (stepper.key, stepper.origin.version)
        wording = self._wordings.get(model)
        if wording is None:
            wording = self._wordings[model] = Wording(stepper)
        return wording
