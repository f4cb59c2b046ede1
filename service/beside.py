"""Computations that take long to one thread beside the one that infers: nobody's score waits for another's stay.

A stay of thousands of time steps takes seconds, and can be scored in no smaller pieces. The interpreter and the
libraries let both threads go on in turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import ParamSpec, TypeVar

import torch

from service.errors import Problem, ProblemKind

# A computation of so many time steps is a long one: it takes about a tenth of a second.
LONG_STEPS = 1000
# Long ones that may wait or run at one time.
MOST = 16
P = ParamSpec("P")
T = TypeVar("T")


class Beside:
    """One thread for long computations; it is started by the first of them.

    Args:
        deadline_s: what has waited longer is not computed any more.
    """

    def __init__(self, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(1, "long", initializer=torch.set_num_threads, initargs=(1,))
        self.waiting = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns.

        Raises:
            Problem: 429 if too many wait already, 503 if it waited too long or the service is ending.
        """
        if self.waiting >= MOST:
            raise refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many long stays wait for the model; try again.")
        asked = time.monotonic()

        def computed() -> T:
            if time.monotonic() - asked > self._deadline_s:
                raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The model had no time for the request; try again.")
            return function(*args, **kwargs)

        self.waiting += 1
        try:
            return await asyncio.wrap_future(self._submit(computed))
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Takes nothing more, and returns once what waits is computed."""
        self._pool.shutdown(wait=True)

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        try:
            return self._pool.submit(function)
        except RuntimeError:
            raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The service is ending; try again.") from None


def refusal(status: HTTPStatus, detail: str) -> Problem:
    """What a call is refused with where the model has no time for it."""
    return Problem(status, ProblemKind.BUSY, detail, headers={"Retry-After": "1"})
