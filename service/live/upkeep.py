"""What goes on beside the calls: the store opened and closed, states written, what is too old deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.audit import Audit, AuditEvent
from service.errors import Problem
from service.live.calls import LiveStays
from service.live.choice import Keeping, keeping_at
from service.live.repeats import KEPT_S
from service.live.sessions import Sessions
from service.live.stepper import Stepper
from service.live.store import StoreError
from service.live.watchers import Watchers
from service.logs import Event, log_failure
from service.metrics import Metrics
from service.settings import Settings

SWEEP_S = 60.0
# Stays in memory of which the store is asked at one time whether it still has them.
ASKED_AT_ONCE = 1000
# How often states of stays that left the memory are written, where they are not many.
WRITE_S = 1.0


def make_live_stays(
    settings: Settings, chosen: Callable[[str], Stepper], *, metrics: Metrics, audit: Audit
) -> tuple[LiveStays, Keeping]:
    """Live stays over the store that the settings name; it is not opened yet.

    Args:
        settings: addresses and limits.
        chosen: the model that answers for a stay, by its identifier.
        metrics: figures.
        audit: records of what was answered.

    Raises:
        ConfigError: if the settings name no store or cache.
    """
    keeping = keeping_at(settings.store_address, settings.state_cache)
    sessions = Sessions(keeping.store, keeping.cache, chosen, max_bytes=settings.state_bytes, metrics=metrics)
    metrics.watch_stays(lambda: len(sessions), lambda: sessions.state_bytes)
    return LiveStays(sessions, settings, metrics, audit, Watchers()), keeping


@asynccontextmanager
async def kept_up(live: LiveStays, keeping: Keeping, settings: Settings, audit: Audit) -> AsyncIterator[None]:
    """Looks after the stays of an open store while the block runs, and closes it with every state written."""
    tasks = [asyncio.create_task(_write_states(live)), asyncio.create_task(_sweep(live, settings, audit))]
    try:
        yield
    finally:
        live.watchers.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await live.sessions.save_all()
        except StoreError as error:  # a replay makes them again
            log_failure(Event.FAILED, error, request_id="")
        await keeping.close()


async def _write_states(live: LiveStays) -> None:
    while True:
        await asyncio.sleep(WRITE_S)
        try:
            await live.sessions.save_due()
        except StoreError as error:
            log_failure(Event.FAILED, error, request_id="")


async def _sweep(live: LiveStays, settings: Settings, audit: Audit) -> None:
    """Deletes kept answers of yesterday and stays whose time is over; what cannot be recorded now is recorded later."""
    unrecorded = 0
    while True:
        expiring = asyncio.ensure_future(_expire(live, settings, audit, unrecorded))
        try:
            unrecorded = await asyncio.shield(expiring)
        except asyncio.CancelledError:
            await expiring  # what is deleted has its record, also where the service ends meanwhile
            raise
        await asyncio.sleep(SWEEP_S)


async def _expire(live: LiveStays, settings: Settings, audit: Audit, unrecorded: int) -> int:
    """One sweep; how many stays that were deleted, earlier ones included, still have no record."""
    now = time.time()
    before = None if settings.retention_h is None else now - 3600.0 * settings.retention_h
    try:
        numbers = await live.sessions.store.purge(kept_before_s=now - KEPT_S, stays_before_s=before)
        unrecorded += len(numbers)
        if numbers:
            live.sessions.forget_numbers(numbers)
            await live.sessions.cache.drop_states(numbers)
        await _forget_gone(live.sessions)
        if unrecorded:
            audit.record(AuditEvent.EXPIRED, counts={"stays": unrecorded})
            unrecorded = 0
    except (StoreError, Problem) as error:
        log_failure(Event.FAILED, error, request_id="")
    return unrecorded


async def _forget_gone(sessions: Sessions) -> None:
    """Gives up what is held in memory of stays that another replica has deleted."""
    places = [sessions.held(stay_id) for stay_id in sessions.stays()]
    held = [place.known.number for place in places if place is not None and place.known is not None]
    gone: list[int] = []
    for begin in range(0, len(held), ASKED_AT_ONCE):
        gone += await sessions.store.gone(held[begin : begin + ASKED_AT_ONCE])
    if gone:
        sessions.forget_numbers(gone)
