"""Stays that one model knows in, the same stays as another knows them out: folded anew where it holds no request up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

import torch

from service.batcher import Batcher
from service.live.columns import Columns
from service.live.journal import Journal
from service.live.refolding import Held, refolded
from service.live.session import Identifiers, Known
from service.live.sessions import Sessions
from service.live.stepper import Stepper
from service.live.store import Entry

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """One thread for what must not hold requests up; on a GPU the thread that infers, which alone may use it.

    Args:
        inference: that thread.
    """

    def __init__(self, inference: Batcher) -> None:
        self._inference = inference
        self._pool = ThreadPoolExecutor(1, "background", initializer=torch.set_num_threads, initargs=(1,))

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns."""
        future = self._pool.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    async def compute(self, stepper: Stepper, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same of work with a model."""
        if stepper.scorer.device.type == "cuda":
            return await self._inference.run(function, *args, **kwargs)
        return await self.run(function, *args, **kwargs)

    def close(self) -> None:
        """Takes nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Rebuilding:
    """Folds stays anew.

    Args:
        sessions: codes of their columns, and the store of their journals.
        background: where they are folded.
    """

    def __init__(self, sessions: Sessions, background: Background) -> None:
        self._sessions, self._background = sessions, background

    async def of_columns(self, stepper: Stepper, stays: Sequence[Known]) -> list[Known]:
        """The stays as a model knows them, where their columns hold everything that was accepted."""
        before = [replace(known) for known in stays]
        held = [Held(bytes(known.columns.rows), known.profile) for known in before]
        if not held:
            return []
        folds = await self._background.compute(stepper, refolded, stepper, held, self._sessions.codes)
        # What depends on no model is shared: it is exact again once both have the same entries.
        return [replace(known, stepper=stepper, fold=fold) for known, fold in zip(before, folds, strict=True)]

    async def of_entries(self, stepper: Stepper, stays: Sequence[Known]) -> list[Known | None]:
        """The stays as a model knows them by their journals; None for one that is gone meanwhile."""
        read = [(known, await self._sessions.store.entries(known.number)) for known in stays]
        there = [(known, entries) for known, entries in read if entries]
        if not there:
            return [None] * len(read)
        found = iter(await self._background.compute(stepper, _folded, stepper, there))
        return [next(found) if entries else None for _, entries in read]


def _folded(stepper: Stepper, items: Sequence[tuple[Known, list[Entry]]]) -> list[Known]:
    """Stays folded anew from their journals."""
    journals = [Journal().read(entries) for _, entries in items]
    folds = stepper.folds([journal.facts for journal in journals])
    found = []
    for (known, _), journal, fold in zip(items, journals, folds, strict=True):
        facts = journal.facts
        identifiers, columns = Identifiers(), Columns.of(known.columns.codes, facts)
        identifiers.add(facts.accepted())
        last = journal.answered[-1].values
        version, profile = journal.version, facts.profile
        found.append(Known(known.number, known.seal, version, profile, stepper, fold, identifiers, columns, last))
    return found
