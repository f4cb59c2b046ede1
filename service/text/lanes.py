"""Work on texts in, its results out: a thread for short requests and one for long ones, beside that of the stays.

A document of thousands of tokens takes as long as hundreds of short ones. In a lane of its own it lets them pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from service.batcher import Batcher

P = ParamSpec("P")
T = TypeVar("T")

# About 600 tokens of English: half a page to a page, which takes a few milliseconds.
SHORT_CHARACTERS = 3000


class Lanes:
    """Two threads, each with a bounded queue.

    Args:
        max_waiting: requests that may wait in each.
    """

    def __init__(self, max_waiting: int) -> None:
        self._short = Batcher(max_waiting=max_waiting)
        self._long = Batcher(max_waiting=max_waiting, deadline_s=30.0)

    @property
    def waiting(self) -> int:
        """Requests that wait or run."""
        return self._short.waiting + self._long.waiting

    async def run(self, characters: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, computed in the lane for so many characters.

        Raises:
            Problem: 429 if too much waits already, 503 if it waited too long or the service is ending.
        """
        lane = self._short if characters <= SHORT_CHARACTERS else self._long
        return await lane.run(function, *args, **kwargs)

    async def drain(self) -> None:
        """Ends both, while the event loop goes on."""
        await self._short.drain()
        await self._long.drain()
