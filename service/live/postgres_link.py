"""Statements in, rows out, over connections to PostgreSQL that are made anew after they are lost.

`Reader` keeps a few connections for reading. `Writer` has one, and commits together whatever was asked for while the
commit before was on its way to the disk: one flush serves many writers, and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.live.store import StoreError

T = TypeVar("T")
Row = tuple[Any, ...]
Args = Mapping[str, object]

# Writes that share a transaction: more would make the first of them wait without sparing the disk anything.
GROUP = 256
REMEDY = "start PostgreSQL, or check SEQUELA_STORE"
# Classes of errors that are one write's own among those that share a transaction: wrong data, a broken constraint, and
# a transaction that stood in the way. The others are the database's.
ONE_WRITE = ("22", "23", "40")
# Classes of errors after which a connection is of no use: it broke, or the server is being shut down.
LOST = ("08", "57P")


class LostError(Exception):
    """Raised inside this package when a connection ended while it was used."""


class Link:
    """One connection, made when it is first needed.

    Args:
        url: libpq's address of the database.
        timeout_s: how long a connection, and a statement, may take.
        setup: statement for every new connection.
    """

    def __init__(self, url: str, timeout_s: float, setup: str = "") -> None:
        self._timeout_s = timeout_s
        self._setup = f"SET synchronous_commit = on; SET statement_timeout = {int(timeout_s * 1000)}; {setup}"
        whole = max(int(timeout_s), 2)
        chosen: dict[str, Any] = {
            "connect_timeout": whole,
            "tcp_user_timeout": 1000 * whole,
            "application_name": "sequela",
        }
        self._conninfo = make_conninfo("", **{**chosen, **conninfo_to_dict(url)})
        self._connection: AsyncConnection[Row] | None = None

    async def use(self, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
        """What the work returns with the connection.

        Raises:
            LostError: if the connection had ended before, or ended while the work ran.
            StoreError: if the database refuses, or does not answer in time.
        """
        task = asyncio.ensure_future(self._run(work))
        try:
            await asyncio.wait({task}, timeout=2 * self._timeout_s)
        finally:
            if not task.done():
                # A stopped server that is not gone answers nothing, not even a cancellation: leave it the connection.
                self._connection = None
                task.cancel()
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if task.done():
            return task.result()
        raise StoreError(f"store must answer within {2 * self._timeout_s:g} s, got no answer; {REMEDY}")

    async def _run(self, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
        connection = self._connection
        if connection is None or connection.closed:
            connection = await self._connect()
        try:
            return await work(connection)
        except asyncio.CancelledError:
            connection.pgconn.finish()
            raise
        except psycopg.Error as error:
            if connection.closed or (error.sqlstate or "08").startswith(LOST):
                connection.pgconn.finish()
                raise LostError from None
            raise refusal(error) from None

    async def _connect(self) -> AsyncConnection[Row]:
        try:
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True)
            await connection.execute(self._setup.encode())
        except psycopg.Error as error:
            raise refusal(error) from None
        self._connection = connection
        return connection

    async def close(self) -> None:
        """Ends the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


class Reader:
    """Statements that change nothing, or nothing that must last, on a few connections.

    Args:
        url: libpq's address of the database.
        timeout_s: how long a statement may take.
        links: number of connections.
        setup: statement for every new connection.
    """

    def __init__(self, url: str, timeout_s: float, *, links: int, setup: str = "") -> None:
        self._links = [Link(url, timeout_s, setup) for _ in range(links)]
        self._idle: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._links:
            self._idle.put_nowait(link)

    async def fetch(self, sql: str, args: Args | None = None) -> list[Row]:
        """The rows of one statement; a connection that has ended meanwhile is made anew, once.

        Raises:
            StoreError: if the database does not answer.
        """
        (rows,) = await self.fetch_each(sql, (args or {},))
        return rows

    async def fetch_each(self, sql: str, many: Sequence[Args]) -> list[list[Row]]:
        """The rows of one statement for each of several arguments, in one round trip."""

        async def work(connection: AsyncConnection[Row]) -> list[list[Row]]:
            return await _pipelined(connection, [(sql, args) for args in many])

        link = await self._idle.get()
        try:
            return await _twice(link, work)
        finally:
            self._idle.put_nowait(link)

    async def close(self) -> None:
        """Ends the connections."""
        for link in self._links:
            await link.close()


@dataclass(frozen=True, eq=False)
class _Write:
    """A statement that waits to be committed.

    Args:
        sql: the statement.
        args: its arguments.
        order: what it locks; writes of one transaction lock in this order, so that replicas do not deadlock.
        done: gets its rows once they are durable.
    """

    sql: str
    args: Args
    order: tuple[int, bytes]
    done: asyncio.Future[list[Row]]


class Writer:
    """Statements that are durable once they return.

    Args:
        url: libpq's address of the database.
        timeout_s: how long a statement may take.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._link = Link(url, timeout_s)
        self._waiting: list[_Write] = []
        self._busy: asyncio.Task[None] | None = None

    async def write(self, sql: str, args: Args, order: tuple[int, bytes]) -> list[Row]:
        """The rows of one statement, committed together with those of others.

        Raises:
            StoreError: if it is not known to be durable.
        """
        write = _Write(sql, args, order, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._busy is None:
            self._busy = asyncio.ensure_future(self._drain())
        return await write.done

    async def close(self) -> None:
        """Ends the connection after the writes that wait."""
        if self._busy is not None:
            await self._busy
        await self._link.close()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                # Stable: writes to one stay keep the order in which they came.
                group = sorted(self._waiting[:GROUP], key=lambda write: write.order)
                del self._waiting[:GROUP]
                await self._commit(group)
        finally:
            self._busy = None

    async def _commit(self, group: Sequence[_Write]) -> None:
        try:
            rows = await self._transaction(group)
        except StoreError as error:
            if len(group) > 1 and isinstance(error, OneWriteError):
                for write in group:
                    await self._commit([write])
                return
            for write in group:
                _settle(write.done, error)
            return
        for write, found in zip(group, rows, strict=True):
            _settle(write.done, found)

    async def _transaction(self, group: Sequence[_Write]) -> list[list[Row]]:
        statements = [(write.sql, write.args) for write in group]

        committing = False

        async def work(connection: AsyncConnection[Row]) -> list[list[Row]]:
            nonlocal committing
            try:
                rows = (await _pipelined(connection, [("BEGIN", {}), *statements]))[1:]
                committing = True
                await connection.commit()
            except psycopg.Error:
                if not connection.closed:
                    await connection.rollback()
                raise
            return rows

        try:
            return await self._link.use(work)
        except LostError:
            if committing:
                raise StoreError(f"store must say what it committed, got a lost connection; {REMEDY}") from None
        return await _again(self._link, work)


class OneWriteError(StoreError):
    """Raised for a transaction that failed by one of its writes; they may be tried one by one."""


async def _twice(link: Link, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
    try:
        return await link.use(work)
    except LostError:
        return await _again(link, work)


async def _again(link: Link, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
    try:
        return await link.use(work)
    except LostError:
        raise StoreError(f"store must keep its connections, got one that ended; {REMEDY}") from None


async def _pipelined(connection: AsyncConnection[Row], statements: Sequence[tuple[str, Args]]) -> list[list[Row]]:
    """The rows of every statement, all of them sent before the first answer is awaited."""
    cursors = []
    async with connection.pipeline():
        for sql, args in statements:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql.encode(), args or None)
            cursors.append(cursor)
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


def refusal(error: psycopg.Error) -> StoreError:
    """What may be said of an error: its kind, never the values that the database repeats in it."""
    state = error.sqlstate or ""
    kind = OneWriteError if state.startswith(ONE_WRITE) else StoreError
    return kind(f"store must take the statement, got {type(error).__name__} {state}; {REMEDY}")


def _settle(done: asyncio.Future[list[Row]], outcome: list[Row] | StoreError) -> None:
    if done.done():  # whoever asked has gone
        return
    if isinstance(outcome, StoreError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
