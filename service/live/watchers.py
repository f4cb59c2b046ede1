"""Who waits for a stay's next score: told at once of this process's, of others by looking."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress


class Watchers:
    """Tasks that wait for changes of stays.

    `listeners` counts streams that are open, whether or not they wait just now.
    """

    def __init__(self) -> None:
        self.listeners = 0
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.ended = False

    def tell(self, stay_id: str) -> None:
        """Wakes whoever waits for this stay."""
        if self._waiting:
            for event in self._waiting.get(stay_id, ()):
                event.set()

    def end(self) -> None:
        """Wakes everybody for the last time."""
        self.ended = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def wait(self, stay_id: str, *, seconds: float) -> None:
        """Returns once the stay changes in this process, or the time is over."""
        event = asyncio.Event()
        self._waiting[stay_id].add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._waiting[stay_id].discard(event)
            if not self._waiting[stay_id]:
                del self._waiting[stay_id]
