"""A stay that is not in memory, or not as the store has it: from a cached state and later entries, or from all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

import orjson

from models.errors import ArtifactError
from service.audit import StaySeal
from service.live.columns import Codes, Columns
from service.live.facts import Observation
from service.live.fold import advance
from service.live.journal import Change, Journal, facts_of
from service.live.session import Identifiers, Known, state_key
from service.live.stepper import Stepper
from service.live.store import ConflictError, Entry, StateCache, StayHead, StayStore, StoreError

# Entries that are read in a few milliseconds; more of them would hold other calls up.
FEW = 200
P = ParamSpec("P")
T = TypeVar("T")


async def apart(entries: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns; where so many entries make it slow, in a thread beside the event loop."""
    if entries <= FEW:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


async def cached(cache: StateCache, head: StayHead, stepper: Stepper, codes: Codes) -> Known | None:
    """The stay as the cache has it; None if it has none that this model made."""
    state = await cache.load_state(head.number, state_key(stepper))
    # A store that was restored from a copy may be behind the cache.
    if state is None or state.version > head.version:
        return None
    seal = StaySeal(head.stay_id, head.secret)
    try:
        return Known.from_bytes(
            state.content, number=head.number, seal=seal, version=state.version, stepper=stepper, codes=codes
        )
    except ArtifactError:
        return None


async def followed(known: Known, entries: Sequence[Entry]) -> Known | None:
    """The stay after further entries; None where they cannot simply be folded in."""
    identifiers, columns = Identifiers(bytes(known.identifiers.hashes)), known.columns.copy()
    for entry in entries:
        if entry.version != known.version + 1:
            return None
        content = orjson.loads(entry.payload)
        if content["k"] != Change.FACTS:
            return None
        facts = facts_of(content)
        observations = [fact for fact in facts if isinstance(fact, Observation)]
        taken = known.stepper.reader.take(observations, [f for f in facts if not isinstance(f, Observation)])
        grid = known.stepper.grid
        if known.fold.is_late(grid, taken.minutes):
            return None
        fold = await advance(
            known.fold,
            known.stepper,
            grid,
            readings=taken.readings,
            charted=taken.charted,
            end_min=taken.end_min,
        )
        identifiers.add(facts)
        columns.add(facts)
        last = tuple(content["a"][3])
        known = replace(known, version=entry.version, fold=fold, identifiers=identifiers, columns=columns, last=last)
    return known


async def journal_of(store: StayStore, number: int) -> Journal:
    """A stay's whole journal.

    Raises:
        ConflictError: if the stay is gone meanwhile.
        StoreError: if the store fails, or holds what this release cannot read.
    """
    entries = await store.entries(number)
    if not entries:
        raise ConflictError("number must be a stay's, got one that was deleted; load the stay again")
    try:
        return await apart(len(entries), Journal().read, entries)
    except ArtifactError as error:
        raise StoreError(str(error)) from error


async def replayed(number: int, seal: StaySeal, journal: Journal, stepper: Stepper, codes: Codes) -> Known:
    """A stay folded by a model from its whole journal."""
    identifiers = Identifiers()
    identifiers.add(journal.facts.accepted())
    fold = await stepper.replay(journal.facts)
    last = journal.answered[-1].values if journal.answered else ()
    columns, profile = Columns.of(codes, journal.facts), journal.facts.profile
    return Known(number, seal, journal.version, profile, stepper, fold, identifiers, columns, tuple(last))
