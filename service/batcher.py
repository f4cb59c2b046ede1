"""One thread for all work of a device: time steps that wait together are taken together, and nothing waits for a timer.

While a batch is computed, the next one gathers; a step that finds the thread idle begins at once. So the batch is as
large as the load makes it, and a lone request pays nothing for batching.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

import torch

from service.errors import Problem, ProblemKind

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What may be counted of a batch.

    Args:
        size: how many steps it held.
        waited_s: how long each had waited.
        computed_s: how long they took together.
    """

    size: int
    waited_s: Sequence[float]
    computed_s: float


@dataclass(eq=False, slots=True)
class _Task:
    """A step, or a call that is computed by itself.

    Args:
        function: of a batch of items, or of nothing for a call.
        item: of a step.
        stay: whose step it is; None: nobody else's, or a call.
        alone: whether it is a call.
        future: of who waits.
        since: when it was put in.
        error: why it has no result.
        result: what came of it.
    """

    function: Callable[..., Any]
    item: Any
    stay: Hashable | None
    alone: bool
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    error: Exception | None = None
    result: Any = None


class Batcher:
    """A bounded queue with one thread behind it.

    Args:
        max_waiting: steps and calls that may wait or run at one time.
        max_batch: steps that are taken together at most.
        deadline_s: what has waited longer is not computed any more.
        observe: told of every batch, in the thread.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        max_batch: int = 64,
        deadline_s: float = 10.0,
        observe: Callable[[BatchFacts], None] | None = None,
    ) -> None:
        self._max_waiting, self._max_batch, self._deadline_s = max_waiting, max_batch, deadline_s
        self._observe = observe
        self._steps: deque[_Task] = deque()
        self._calls: deque[_Task] = deque()
        self._ready = threading.Condition()
        self._idle = self._closed = False
        self._waiting = 0
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Steps and calls that wait or run."""
        return self._waiting

    async def step(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], item: Item, *, stay: Hashable | None = None
    ) -> Result:
        """What the function returns for this item, computed together with other items of the same function.

        Args:
            function: items in, as many results out.
            item: what is computed.
            stay: whose step it is: steps of one stay keep their order and never share a batch.

        Raises:
            Problem: 429 if too much waits already, 503 if it waited too long or the service is ending.
        """
        result: Result = await self._put(function, item, stay, alone=False)
        return result

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, computed by itself, between batches; raises as `step` does."""
        result: T = await self._put(partial(function, *args, **kwargs), None, None, alone=True)
        return result

    def close(self) -> None:
        """Takes nothing more, computes what waits, and ends the thread."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    async def drain(self) -> None:
        """Closes while the event loop goes on, so that who waits is answered."""
        await asyncio.to_thread(self.close)

    async def _put(self, function: Callable[..., Any], item: object, stay: Hashable | None, *, alone: bool) -> Any:
        if self._waiting >= self._max_waiting:
            raise _refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests wait for the model; try again.")
        task = _Task(function, item, stay, alone, asyncio.get_running_loop().create_future())
        self._waiting += 1
        try:
            with self._ready:
                if self._closed:
                    raise _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The service is ending; try again.")
                (self._calls if alone else self._steps).append(task)
                if self._idle:
                    self._ready.notify()
            return await task.future
        finally:
            self._waiting -= 1

    def _work(self) -> None:
        # A recurrent step is too small to share: more threads make it slower and starve the event loop.
        torch.set_num_threads(1)
        while self._await_work():
            if self._steps:
                self._compute(self._batch())
            if self._calls:
                self._compute([self._calls.popleft()])

    def _await_work(self) -> bool:
        """Returns when there is work; False when there is none and will be none."""
        if self._steps or self._calls:
            return True
        with self._ready:
            self._idle = True
            while not (self._steps or self._calls or self._closed):
                self._ready.wait()
            self._idle = False
        return bool(self._steps or self._calls)

    def _batch(self) -> list[_Task]:
        """The first step and those behind it that can be taken with it; the others keep their places."""
        first = self._steps.popleft()
        batch, stays, kept = [first], {first.stay}, []
        for _ in range(len(self._steps)):
            if len(batch) == self._max_batch:
                break
            task = self._steps.popleft()
            if task.function != first.function or (task.stay is not None and task.stay in stays):
                kept.append(task)
                stays.add(task.stay)  # a later step of the same stay may not overtake it
            else:
                batch.append(task)
                stays.add(task.stay)
        self._steps.extendleft(reversed(kept))
        return batch

    def _compute(self, batch: Sequence[_Task]) -> None:
        began = time.monotonic()
        live: list[_Task] = []
        for task in batch:
            if began - task.since > self._deadline_s:
                task.error = _refusal(
                    HTTPStatus.SERVICE_UNAVAILABLE, "The model had no time for the request; try again."
                )
            elif not task.future.cancelled():
                live.append(task)
        if live:
            _fill(live)
            if self._observe is not None and not live[0].alone:
                ended = time.monotonic()
                self._observe(BatchFacts(len(live), [began - task.since for task in live], ended - began))
        _deliver(batch)


def _fill(tasks: Sequence[_Task]) -> None:
    """Gives every task its result; if they fail together, each by itself, so that one fails for itself alone."""
    first = tasks[0]
    try:
        if first.alone:
            first.result = first.function()
            return
        for task, result in zip(tasks, first.function([task.item for task in tasks]), strict=True):
            task.result = result
    except Exception as error:  # noqa: BLE001  # whoever waits for it raises it
        if len(tasks) == 1:
            first.error = error
            return
        for task in tasks:
            _fill([task])


def _deliver(batch: Sequence[_Task]) -> None:
    """Wakes every event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[_Task]] = {}
    for task in batch:
        loops.setdefault(task.future.get_loop(), []).append(task)
    for loop, tasks in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, tasks)


def _settle(tasks: Sequence[_Task]) -> None:
    for task in tasks:
        if task.future.done():
            continue
        if task.error is not None:
            task.future.set_exception(task.error)
        else:
            task.future.set_result(task.result)


def _refusal(status: HTTPStatus, detail: str) -> Problem:
    return Problem(status, ProblemKind.BUSY, detail, headers={"Retry-After": "1"})
