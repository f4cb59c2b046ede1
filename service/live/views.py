"""Live stays as they are read: one with its risks as now known and as they were answered, or many, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import orjson

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.scorer import MINUTES_PER_HOUR, Trajectories
from service.audit import StaySeal
from service.errors import Problem
from service.live.answers import (
    AnsweredPoint,
    LastObservation,
    Point,
    StayPage,
    StaySummary,
    StayView,
)
from service.live.calls import LiveStays
from service.live.facts import Observation, StayFacts
from service.live.journal import Answered, Journal
from service.live.reading import Reader
from service.live.refusals import no_such_stay, unavailable
from service.live.restoring import apart, journal_of
from service.live.retold import Retold
from service.live.settling import Call
from service.live.stepper import Stepper
from service.live.store import ConflictError, StayHead, StoreError
from service.schema_answers import ModelRef

# How soon another replica's scores are seen by who listens here.
LOOK_S = 1.0
# A comment now and then, so that nobody between takes the connection for dead.
ALIVE_S = 15.0


async def stay_view(live: LiveStays, call: Call) -> bytes:
    """A stay with its trajectories: a `StayView` as JSON.

    Raises:
        Problem: 404 if there is none, 503 if the store fails, or no record of what is shown can be written.
    """
    head, journal = await _journal(live, call.stay_id)
    stepper = live.sessions.chosen(call.stay_id)
    stays = await apart(journal.version, stepper.reader.stays, journal.facts)
    scored = await stepper.trajectory(stays)
    end_min, steps, digest = int(scored.time_min[-1]), len(scored.time_min), stepper.scorer.digest
    shown = Answered("", end_min, steps, (), digest, stepper.origin.version, journal.version)
    Retold(live.audit, call.request_id, call.key).view(StaySeal(head.stay_id, head.secret), shown, scored.risk.tolist())
    return await apart(journal.version, _view, head, journal, stepper, scored)


def _view(head: StayHead, journal: Journal, stepper: Stepper, scored: Trajectories) -> bytes:
    hours, task = (scored.time_min / MINUTES_PER_HOUR).tolist(), stepper.bundle.task
    return (
        StayView(
            stay_id=head.stay_id,
            revision=journal.version,
            created=written(head.created_s),
            updated=written(journal.answered[-1].at_s),
            admission=journal.facts.profile.admission,
            model=ModelRef(name=stepper.bundle.name, version=stepper.origin.version, digest=stepper.scorer.digest),
            kind=str(task.kind),  # type: ignore[arg-type]  # the enum's three values
            outputs=list(task.output_names),
            as_of_h=hours[-1],
            observations=len(journal.facts.observations),
            notes=len(journal.facts.notes),
            current=[Point(time_h=h, values=v) for h, v in zip(hours, scored.risk.tolist(), strict=True)],
            answered=[_answered(a) for a in journal.answered],
            last=_last(journal.facts, stepper.reader),
            disclaimer=DISCLAIMER_EN,
            disclaimer_ja=DISCLAIMER_JA,
        )
        .model_dump_json()
        .encode()
    )


async def stay_page(live: LiveStays, *, after: str, limit: int) -> StayPage:
    """Stays in the order of their identifiers.

    Raises:
        Problem: 503 if the store fails.
    """
    try:
        heads = await live.sessions.store.page(after=after, limit=limit + 1)
    except StoreError as error:
        raise unavailable(error) from error
    stays = [
        StaySummary(stay_id=h.stay_id, revision=h.version, created=written(h.created_s), updated=written(h.updated_s))
        for h in heads[:limit]
    ]
    return StayPage(stays=stays, next=stays[-1].stay_id if len(heads) > limit else None)


async def events(
    live: LiveStays, call: Call, *, after: int | None, admitted: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Server-sent events: one a score, with the stay's revision as its id; ends with the stay, or the listener's key.

    Args:
        live: the stays.
        call: who listens, and to which stay.
        after: the last revision that the listener has; None: only what is new counts. One that the stay does not have
            yet is an earlier stay's, and all is sent.
        admitted: whether the listener still may listen.
    """
    stay_id, retold = call.stay_id, Retold(live.audit, call.request_id, call.key)
    head = await live.sessions.store.head(stay_id)
    if head is None:
        yield _event("deleted", None, {})
        return
    seal = StaySeal(stay_id, head.secret)
    # Beyond the last revision lies what another stay had, before this one was created under its name: all is new.
    seen = head.version if after is None else after if after <= head.version else 0
    quiet = 0.0
    yield b": listening\n\n"
    while not live.watchers.ended:
        try:
            entries = await live.sessions.store.entries(head.number, after=seen)
            # Deleted and created anew, perhaps by another replica, it is another stay.
            now = head if entries else await live.sessions.store.head(stay_id)
            if not admitted():
                return
            for entry in entries:
                answered = retold.entry(seal, entry)
                yield _event("score", entry.version, {**_said(answered), "disclaimer": DISCLAIMER_EN})
                seen, quiet = entry.version, 0.0
        except (StoreError, Problem):
            return
        gone = now is None or now.number != head.number
        if gone:
            yield _event("deleted", None, {})
            return
        await live.watchers.wait(stay_id, seconds=LOOK_S)
        quiet += LOOK_S
        if quiet >= ALIVE_S:
            yield b": alive\n\n"
            quiet = 0.0


def written(unix_s: float) -> str:
    """A time as RFC 3339."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


async def _journal(live: LiveStays, stay_id: str) -> tuple[StayHead, Journal]:
    try:
        head = await live.sessions.store.head(stay_id)
        if head is None:
            raise no_such_stay()
        return head, await journal_of(live.sessions.store, head.number)
    except ConflictError:
        raise no_such_stay() from None
    except StoreError as error:
        raise unavailable(error) from error


def _event(kind: str, identifier: int | None, content: dict[str, object]) -> bytes:
    number = b"" if identifier is None else b"id: %d\n" % identifier
    return b"event: " + kind.encode() + b"\n" + number + b"data: " + orjson.dumps(content) + b"\n\n"


def _answered(answered: Answered) -> AnsweredPoint:
    return AnsweredPoint.model_validate(_said(answered))


def _said(answered: Answered) -> dict[str, object]:
    return {
        "time_h": answered.as_of_min / MINUTES_PER_HOUR,
        "values": list(answered.values),
        "prediction_id": answered.prediction_id,
        "revision": answered.version,
        "answered": written(answered.at_s),
        "digest": answered.digest,
        "version": answered.model_version,
    }


def _last(facts: StayFacts, reader: Reader) -> list[LastObservation]:
    """The latest observation of every channel, without those that no score uses."""
    latest: dict[str, tuple[str, Observation]] = {}
    # A corrected fact keeps the identifier that its first content gave it.
    held = [(identifier, fact) for identifier, fact in facts.held.items() if isinstance(fact, Observation)]
    rejected = {place for place, _ in reader.take([fact for _, fact in held], ()).rejected}
    for place, (identifier, fact) in enumerate(held):
        if place in rejected:
            continue
        before = latest.get(fact.channel)
        if before is None or fact.time_min >= before[1].time_min:
            latest[fact.channel] = identifier, fact
    return [
        LastObservation(
            observation_id=identifier,
            channel=channel,
            value=fact.value,
            unit=fact.unit,
            time_h=fact.time_min / MINUTES_PER_HOUR,
        )
        for channel, (identifier, fact) in sorted(latest.items())
    ]
