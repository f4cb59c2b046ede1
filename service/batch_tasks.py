"""What waits for a device: which of it is taken together, how it gets its results, and how its waiters are woken."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Task:
    """A step, a whole stay, or a call that is computed by itself.

    Args:
        function: of a batch of items, or of nothing for a call.
        item: of a step or a whole stay.
        stay: whose step it is; None: nobody else's.
        alone: whether it is a call.
        is_step: whether it is a step.
        future: of who waits.
        since: when it was put in.
        error: why it has no result.
        result: what came of it.
    """

    function: Callable[..., Any]
    item: Any
    stay: Hashable | None
    alone: bool
    is_step: bool
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    error: Exception | None = None
    result: Any = None


def next_batch(queue: deque[Task], most: int) -> list[Task]:
    """The first task and those behind it that can be taken with it; the others keep their places."""
    first = queue.popleft()
    batch, stays, kept = [first], {first.stay}, []
    for _ in range(len(queue)):
        if len(batch) == most or first.alone:
            break
        task = queue.popleft()
        if task.function != first.function or (task.stay is not None and task.stay in stays):
            kept.append(task)
            stays.add(task.stay)  # a later step of the same stay may not overtake it
        else:
            batch.append(task)
            stays.add(task.stay)
    queue.extendleft(reversed(kept))
    return batch


def fill(tasks: Sequence[Task]) -> None:
    """Gives every task its result; if they fail together, each by itself, so that one fails for itself alone."""
    first = tasks[0]
    try:
        if first.alone:
            first.result = first.function()
            return
        for task, result in zip(tasks, first.function([task.item for task in tasks]), strict=True):
            if isinstance(result, Exception):
                task.error = result
            else:
                task.result = result
    except Exception as error:  # noqa: BLE001  # whoever waits for it raises it
        if len(tasks) == 1:
            first.error = error
            return
        for task in tasks:
            fill([task])


def deliver(batch: Sequence[Task]) -> None:
    """Wakes every event loop once; that which computes needs no waking."""
    loops: dict[asyncio.AbstractEventLoop, list[Task]] = {}
    for task in batch:
        loops.setdefault(task.future.get_loop(), []).append(task)
    own = asyncio._get_running_loop()
    for loop, tasks in loops.items():
        if loop is own:
            _settle(tasks)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_settle, tasks)


def _settle(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.future.done():
            continue
        if task.error is not None:
            task.future.set_exception(task.error)
        else:
            task.future.set_result(task.result)
