"""Calls on live stays: read what is known, draft the change, make it durable, and only then answer.

A stay's calls follow one another; those of different stays do not wait for each other. Where another replica was
faster, the stay is read again and the call drafted anew.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from models.task import TargetKind
from service.audit import Audit, AuditEvent, StaySeal
from service.errors import Problem, ProblemKind
from service.live.answers import Wording
from service.live.changes import Changes, Draft
from service.live.facts import Profile
from service.live.fold import Fold
from service.live.intake import Intake
from service.live.schema import CORRECTION, OBSERVATIONS, STAY, parse
from service.live.session import Identifiers, Known, Session
from service.live.sessions import GoneError, Sessions
from service.live.stepper import Stepper
from service.live.store import ConflictError, Kept, StoreError
from service.live.watchers import Watchers
from service.metrics import Metrics
from service.settings import Settings

KEPT_S = 86_400.0
# Two replicas that write to one stay at once: one of them goes first each time.
ATTEMPTS = 16
MAX_KEY_BYTES = 255


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and how the call may be repeated.

    Args:
        route: template of the route, with its method.
        stay_id: the stay.
        body: as it was sent.
        request_id: of the request.
        key: id of the caller's API key.
        repeat_key: the `Idempotency-Key`; None without.
    """

    route: str
    stay_id: str
    body: bytes = b""
    request_id: str = ""
    key: str = ""
    repeat_key: bytes | None = None

    @property
    def scope(self) -> bytes | None:
        """Digest of caller, route, stay and key; None for a call that carries no key."""
        if self.repeat_key is None:
            return None
        parts = (self.key.encode(), self.route.encode(), self.stay_id.encode(), self.repeat_key)
        return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call is answered.

    Args:
        status: of the answer.
        content: its body.
        repeated: whether it is the answer of an earlier call with the same key.
    """

    status: int
    content: bytes
    repeated: bool = False


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
        self.sessions, self._metrics, self._audit, self.watchers = sessions, metrics, audit, watchers
        self._changes = Changes(sessions.store, Intake(settings), settings, metrics)
        self._running: set[bytes] = set()
        self._wordings: dict[str, Wording] = {}

    async def observe(self, call: Call) -> Reply:
        """`POST /v1/stays/{stay_id}/observations`."""
        words = self.sessions.chosen(call.stay_id).reader.vocabulary.words
        request = parse(OBSERVATIONS, call.body, known=words)
        return await self._change(call, lambda known: self._changes.observe(known, request))

    async def correct(self, call: Call, identifier: str) -> Reply:
        """`PATCH /v1/stays/{stay_id}/observations/{observation_id}`."""
        request = parse(CORRECTION, call.body, known=frozenset())
        return await self._change(call, lambda known: self._changes.correct(known, identifier, request))

    async def withdraw(self, call: Call, identifier: str) -> Reply:
        """`DELETE /v1/stays/{stay_id}/observations/{observation_id}`."""
        return await self._change(call, lambda known: self._changes.withdraw(known, identifier))

    async def admit(self, call: Call) -> Reply:
        """`PUT /v1/stays/{stay_id}`."""
        stepper = self.sessions.chosen(call.stay_id)
        request = parse(STAY, call.body, known=stepper.reader.vocabulary.words)

        async def create() -> Draft:
            seal = StaySeal(call.stay_id, secrets.token_bytes(32))
            none = Known(0, seal, 0, Profile(), stepper, Fold(b""), Identifiers())
            return await self._changes.admit(none, request, new=True)

        return await self._change(call, lambda known: self._changes.admit(known, request, new=False), create=create)

    async def delete(self, call: Call) -> None:
        """`DELETE /v1/stays/{stay_id}`: removes the stay and all that was kept of it.

        Raises:
            Problem: 404 if there is none, 503 if the store fails.
        """
        session = self.sessions.session(call.stay_id)
        async with session.lock:
            try:
                known = await self.sessions.known(session)
                gone = not await self.sessions.store.delete(known.number)
                await self.sessions.cache.drop_states([known.number])
            except GoneError:
                raise no_such_stay() from None
            except StoreError as error:
                raise unavailable() from error
            finally:
                self.sessions.forget(session)
        if gone:
            raise no_such_stay()
        self.watchers.tell(call.stay_id)
        self._audit.record(AuditEvent.DELETED, request_id=call.request_id, key=call.key, stay=known.seal)

    async def require(self, stay_id: str) -> None:
        """Returns if there is such a stay.

        Raises:
            Problem: 404 if there is none, 503 if the store fails.
        """
        try:
            head = await self.sessions.store.head(stay_id)
        except StoreError as error:
            raise unavailable() from error
        if head is None:
            raise no_such_stay()

    def wording(self, stepper: Stepper) -> Wording:
        """What words the answers of a model."""
        wording = self._wordings.get(stepper.key)
        if wording is None:
            wording = self._wordings[stepper.key] = Wording(stepper)
        return wording

    async def _change(
        self,
        call: Call,
        change: Callable[[Known], Awaitable[Draft]],
        *,
        create: Callable[[], Awaitable[Draft]] | None = None,
    ) -> Reply:
        scope = call.scope
        if scope is None:
            return await self._attempts(call, change, create, None)
        if scope in self._running:
            raise Problem(
                HTTPStatus.CONFLICT, ProblemKind.CONFLICT, "A call with this Idempotency-Key is still running."
            )
        self._running.add(scope)
        try:
            return await self._attempts(call, change, create, scope)
        finally:
            self._running.discard(scope)

    async def _attempts(
        self,
        call: Call,
        change: Callable[[Known], Awaitable[Draft]],
        create: Callable[[], Awaitable[Draft]] | None,
        scope: bytes | None,
    ) -> Reply:
        for _ in range(ATTEMPTS):
            session = self.sessions.session(call.stay_id)
            async with session.lock:
                try:
                    repeated = None if scope is None else await self._repeated(scope, call.body)
                    return repeated or await self._attempt(session, call, change, create, scope)
                except ConflictError:
                    await self._refreshed(session)
                except GoneError:
                    self.sessions.forget(session)
                    raise no_such_stay() from None
                except StoreError as error:
                    raise unavailable() from error
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            ProblemKind.BUSY,
            "Others change the stay all the time; try again.",
            headers={"Retry-After": "1"},
        )

    async def _refreshed(self, session: Session) -> None:
        try:
            await self.sessions.refresh(session)
        except GoneError:
            session.known = None
        except StoreError as error:
            raise unavailable() from error

    async def _attempt(
        self,
        session: Session,
        call: Call,
        change: Callable[[Known], Awaitable[Draft]],
        create: Callable[[], Awaitable[Draft]] | None,
        scope: bytes | None,
    ) -> Reply:
        try:
            draft = await change(await self.sessions.known(session))
            created = False
        except GoneError:
            if create is None:
                raise
            draft, created = await create(), True
        status = HTTPStatus.CREATED if created else HTTPStatus.OK
        content = self.wording(draft.known.stepper).answer(draft.outcome)
        payload, now = draft.payload(), time.time()
        kept = None if scope is None else Kept(scope, _digest(call.body), status, content, now)
        await self._store(session, draft, payload, now, kept, created=created)
        self._settle(session, draft)
        self._tell(call, draft, payload)
        return Reply(status, content)

    async def _store(
        self, session: Session, draft: Draft, payload: bytes, now: float, kept: Kept | None, *, created: bool
    ) -> None:
        store, known = self.sessions.store, draft.known
        try:
            if created:
                head = await store.create(session.stay_id, payload, at_s=now, secret=known.seal.secret, kept=kept)
                known.number = head.number
            else:
                await store.append(known.number, known.version - 1, payload, at_s=now, kept=kept)
        except ConflictError:
            raise
        except BaseException:  # whether the store has it nobody knows: only reading it again tells
            self.sessions.distrust(session)
            raise

    def _settle(self, session: Session, draft: Draft) -> None:
        draft.known.identifiers.add(draft.added)
        self.sessions.hold(session, draft.known)

    def _tell(self, call: Call, draft: Draft, payload: bytes) -> None:
        known, outcome = draft.known, draft.outcome
        stepper, values = known.stepper, outcome.score.values
        version = stepper.origin.version or ""
        if outcome.rejected:
            self._metrics.count_rejected(Counter(ref["reason"] for ref in outcome.rejected))
        task = stepper.bundle.task
        if task.kind is not TargetKind.REGRESSION:
            self._metrics.observe_scores(task.output_names, values, version=version)
        self.watchers.tell(call.stay_id)
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

    async def _repeated(self, scope: bytes, body: bytes) -> Reply | None:
        """The answer of an earlier call with the same key.

        Raises:
            Problem: 422 if that call had another body.
        """
        kept = await self.sessions.store.kept(scope)
        if kept is None:
            return None
        if kept.at_s < time.time() - KEPT_S:
            await self.sessions.store.purge(kept_before_s=time.time() - KEPT_S)
            return None
        if kept.body != _digest(body):
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                ProblemKind.REPEAT_KEY,
                "The Idempotency-Key must be a new one for another body.",
            )
        return Reply(kept.status, kept.content, repeated=True)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def no_such_stay() -> Problem:
    """The refusal of a call on a stay that there is not."""
    return Problem(HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, "There must be such a stay; PUT it first.")


def unavailable() -> Problem:
    """The refusal of a call while the store fails."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        ProblemKind.UNAVAILABLE,
        "The store of live stays fails; nothing was accepted, and no score is given that is not stored.",
        headers={"Retry-After": "1"},
    )
