"""Work of the model, run in one long-lived thread, so that the event loop never waits for it.

One thread, because every further one that runs torch keeps memory of its own and the cores are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import ParamSpec, TypeVar

import torch

from service.errors import Problem, ProblemKind

P = ParamSpec("P")
T = TypeVar("T")


class InferenceThread:
    """A queue with one thread behind it.

    Args:
        max_waiting: calls that may wait or run at one time.
    """

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference", initializer=_use_one_core)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, computed in the thread.

        Raises:
            Problem: 503 if too many calls wait already.
        """
        if self._waiting >= self._max_waiting:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                ProblemKind.BUSY,
                "Too many requests wait for the model; try again.",
                headers={"Retry-After": "1"},
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread after the call that it runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _use_one_core() -> None:
    # A recurrent step is too small to share: more threads make it slower and starve the event loop.
    torch.set_num_threads(1)
