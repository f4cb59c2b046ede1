"""Writes of many tasks in, few transactions out: whoever waits while one is flushed shares the next."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from service.live.store import ConflictError, StoreError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
# Work of one transaction: more would only make the first of it wait.
MOST = 512


@dataclass(slots=True)
class _Job:
    work: Work
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class GroupCommit:
    """One thread that owns the writing connection.

    Work reads before it writes, and raises `ConflictError` before its first write: then the transaction goes on
    without it. Nobody waits on a timer: a transaction takes what queued while the one before was flushed, and what one
    turn of the event loop asks for goes to the thread together.

    Args:
        connect: opens the connection, in the thread.
        check: raises `StoreError` where what is committed now would not be found again.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], check: Callable[[], None]) -> None:
        self._connect, self._check = connect, check
        self._queue: SimpleQueue[Sequence[_Job] | None] = SimpleQueue()
        self._gathered: deque[_Job] = deque()
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after what queued already."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
            self._thread.join()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the work returns, once it is durable.

        Raises:
            ConflictError: if the work did.
            StoreError: if it could not be made durable.
        """
        if self._closed:
            raise StoreError("store must be open, got a closed one; the service is ending")
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._gathered.append(job)
        if self._gathering is not loop:
            self._gathering = loop
            loop.call_soon(self._hand_over)
        return cast("T", await job.future)

    def _hand_over(self) -> None:
        self._gathering = None
        jobs: list[_Job] = []
        with contextlib.suppress(IndexError):  # taken one by one, so that none is taken twice while the store closes
            while True:
                jobs.append(self._gathered.popleft())
        if jobs:
            self._queue.put(jobs)

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while (first := self._queue.get()) is not None:
            jobs = [*first, *self._waiting()]
            try:
                self._check()
                connection = connection or self._connect()
                _commit(connection, jobs)
            except StoreError as error:
                _refuse(jobs, error)
            except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, and the next be served
                _discard(connection)
                connection = None
                _refuse(jobs, failure(error))
            _tell(jobs)
        _discard(connection)

    def _waiting(self) -> list[_Job]:
        jobs: list[_Job] = []
        with contextlib.suppress(Empty):
            while len(jobs) < MOST:
                more = self._queue.get_nowait()
                if more is None:
                    self._queue.put(None)
                    break
                jobs += more
        return jobs


def failure(error: Exception) -> StoreError:
    """What an error of SQLite, or of what is asked of it, is to a caller; its text may hold a path and is left out."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreError(f"store must keep what it is given, got {name}; look at its disk and its file")


def _commit(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    """One transaction; where it fails as a whole, each job has one of its own."""
    try:
        _transact(connection, jobs)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(jobs) == 1:
            raise
        for job in jobs:
            job.result = job.error = None
            try:
                _commit(connection, [job])
            except sqlite3.Error as error:
                job.error = failure(error)


def _transact(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for job in jobs:
        try:
            job.result = job.work(connection)
        except ConflictError as error:
            job.error = error
    connection.execute("COMMIT")


def _refuse(jobs: Sequence[_Job], error: StoreError) -> None:
    for job in jobs:
        job.error = job.error or error


def _discard(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _tell(jobs: Sequence[_Job]) -> None:
    for loop in {job.loop for job in jobs}:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(_resolve, [job for job in jobs if job.loop is loop])


def _resolve(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():  # its task was cancelled; what is durable stays so
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
