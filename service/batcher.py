"""One queue for all work of a device: what waits together is taken together, and nothing waits for a timer.

While a batch is computed, the next one gathers; what finds the device idle begins at once. So the batch is as large as
the load makes it, and a lone request pays nothing for batching. Time steps of live stays and whole stays, which take
far longer, take turns.

One thread computes, and one batch at a time. Where the thread rests and a few time steps will take no longer than the
interpreter would let a thread go on anyway, the event loop computes them itself, once all that arrived with them is in
the queue: handing so little to a thread and back costs more than computing it. What takes far longer than a batch, and
would hold all others up, goes to a second thread beside the queue (`aside`); not on a GPU, which has one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

import torch

from service.batch_tasks import Task, deliver, fill, next_batch
from service.beside import Beside, refusal

# Turns of the event loop that bring no further step: a request that is read in one asks for its step in the next.
LOOKS = 4
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


class Batcher:
    """A bounded queue with one thread behind it.

    Args:
        max_waiting: steps, whole stays and calls that may wait or run at one time.
        max_batch: steps that are taken together at most.
        max_whole: whole stays that are taken together at most; steps wait for them.
        deadline_s: what has waited longer is not computed any more.
        observe: told of every batch, by whoever computed it.
        shared: whether the event loop may compute short batches itself; not where it would wait for a GPU.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        max_batch: int = 64,
        max_whole: int = 16,
        deadline_s: float = 10.0,
        observe: Callable[[BatchFacts], None] | None = None,
        shared: bool = True,
    ) -> None:
        self._max_waiting, self._deadline_s = max_waiting, deadline_s
        self._max_batch, self._max_whole = max_batch, max_whole
        self._observe = observe
        self._steps: deque[Task] = deque()
        self._others: deque[Task] = deque()
        self._ready = threading.Condition()
        self._computing = threading.Lock()
        self._idle = self._closed = self._gathering = False
        self._waiting = 0
        self._shared, self._short_s = shared, sys.getswitchinterval()
        self._step_s, self._company = 0.0, True
        self._beside = Beside(deadline_s=deadline_s)
        if shared:
            torch.set_num_threads(1)  # also for the thread that runs the event loop, which makes the queue
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Steps, whole stays and calls that wait or run."""
        return self._waiting

    async def step(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], item: Item, *, stay: Hashable | None = None
    ) -> Result:
        """What the function returns for this item, computed together with other items of the same function.

        Args:
            function: items in, as many results out; a result that is an error is raised for its item alone.
            item: what is computed.
            stay: whose step it is: steps of one stay keep their order and never share a batch.

        Raises:
            Problem: 429 if too much waits already, 503 if it waited too long or the service is ending.
        """
        result: Result = await self._put(self._steps, Task(function, item, stay, False, True, _future()))
        return result

    async def whole(self, function: Callable[[Sequence[Item]], Sequence[Result | Exception]], item: Item) -> Result:
        """What the function returns for this whole stay, computed together with others; args and raises as of `step`.

        Few are taken at once, because steps wait meanwhile.
        """
        result: Result = await self._put(self._others, Task(function, item, None, False, False, _future()))
        return result

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, computed by itself, between batches; raises as `step` does."""
        result: T = await self._put(
            self._others, Task(partial(function, *args, **kwargs), None, None, True, False, _future())
        )
        return result

    async def aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function, which takes long, returns; nothing of the queue waits for it, but on a GPU it is as `run`.

        Raises:
            Problem: as of `run`.
        """
        if not self._shared:
            return await self.run(function, *args, **kwargs)
        return await self._beside.run(function, *args, **kwargs)

    def close(self) -> None:
        """Takes nothing more, computes what waits, and ends the threads."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()
        self._beside.close()

    async def drain(self) -> None:
        """Closes while the event loop goes on, so that who waits is answered."""
        await asyncio.to_thread(self.close)

    async def _put(self, queue: deque[Task], task: Task) -> Any:
        if self._waiting >= self._max_waiting:
            raise refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests wait for the model; try again.")
        self._waiting += 1
        try:
            with self._ready:
                if self._closed:
                    raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The service is ending; try again.")
                queue.append(task)
                if self._idle and self._shared:
                    self._gather()
                elif self._idle:
                    self._ready.notify()
            return await task.future
        finally:
            self._waiting -= 1

    def _gather(self) -> None:
        """Has what waits computed, once the event loop has taken in what arrived at the same time."""
        if not self._gathering:
            self._gathering = True
            waiting = len(self._steps) + len(self._others)
            asyncio.get_running_loop().call_soon(self._look, waiting, LOOKS if self._company else 1)

    def _look(self, seen: int, looks: int) -> None:
        """Lets requests that are being read join the batch: it is computed once a few turns of the loop bring no more.

        A turn that has nothing to do takes a few microseconds; nothing sleeps here. Who was alone the last time looks
        once: where others come meanwhile, they are together the next time.
        """
        waiting = len(self._steps) + len(self._others)
        looks = LOOKS if waiting > seen else looks - 1
        if looks and waiting < self._max_batch:
            asyncio.get_running_loop().call_soon(self._look, waiting, looks)
        else:
            self._compute_here()

    def _compute_here(self) -> None:
        """Computes the waiting steps in the event loop; the thread does the rest, and steps that would take long."""
        self._gathering = False
        expected_s = self._step_s * min(len(self._steps), self._max_batch)
        if expected_s <= self._short_s and not self._others and self._computing.acquire(blocking=False):
            try:
                if self._steps:
                    self._compute(next_batch(self._steps, self._max_batch))
            finally:
                self._computing.release()
        if self._steps or self._others:
            with self._ready:
                self._ready.notify()

    def _work(self) -> None:
        # A recurrent step is too small to share: more threads make it slower and starve the event loop.
        torch.set_num_threads(1)
        while self._await_work():
            for queue, most in ((self._steps, self._max_batch), (self._others, self._max_whole)):
                with self._computing:
                    if queue:
                        self._compute(next_batch(queue, most))

    def _await_work(self) -> bool:
        """Returns when there is work; False when there is none and will be none."""
        if self._steps or self._others:
            return True
        with self._ready:
            self._idle = True
            while not (self._steps or self._others or self._closed):
                self._ready.wait()
            self._idle = False
        return bool(self._steps or self._others)

    def _compute(self, batch: Sequence[Task]) -> None:
        began = time.monotonic()
        live: list[Task] = []
        for task in batch:
            if began - task.since > self._deadline_s:
                task.error = refusal(
                    HTTPStatus.SERVICE_UNAVAILABLE, "The model had no time for the request; try again."
                )
            elif not task.future.cancelled():
                live.append(task)
        if live:
            busy = time.thread_time()  # waiting for the interpreter says nothing of how long a step takes
            fill(live)
            if live[0].is_step:
                self._step_s, self._company = (time.thread_time() - busy) / len(live), len(live) > 1
            if self._observe is not None and not live[0].alone:
                ended = time.monotonic()
                self._observe(BatchFacts(len(live), [began - task.since for task in live], ended - began))
        deliver(batch)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
