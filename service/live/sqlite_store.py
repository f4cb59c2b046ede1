"""Live stays in one SQLite file: written ahead, flushed before a write returns, many writers sharing one flush."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.live.commits import GroupCommit
from service.live.sqlite_link import SqliteLink
from service.live.store import STORE_SCHEMA, CachedState, ConflictError, Entry, Kept, StayHead

HEAD = """
SELECT number, stay_id, created_s, secret, e.version, e.at_s FROM stays
JOIN entries e ON e.stay = number AND e.version = (SELECT max(version) FROM entries WHERE stay = number)
"""
APPEND = """
INSERT INTO entries(stay, version, at_s, payload)
SELECT ?1, ?2 + 1, ?3, ?4 WHERE (SELECT max(version) FROM entries WHERE stay = ?1) = ?2
"""
SAVE = """
INSERT INTO states(stay, key, version, content)
SELECT ?1, ?2, ?3, ?4 WHERE EXISTS(SELECT 1 FROM stays WHERE number = ?1)
ON CONFLICT DO UPDATE SET version = excluded.version, content = excluded.content WHERE excluded.version >= version
"""


class SqliteStore:
    """A `StayStore` in a file; several processes of one machine may share it.

    Args:
        path: the file; made where there is none.
        busy_s: how long to wait for another process's transaction.
    """

    def __init__(self, path: Path, *, busy_s: float = 5.0) -> None:
        self._link = SqliteLink(path, busy_s=busy_s)
        self._writer = GroupCommit(self._link.connect, self._link.check_place)

    async def open(self) -> None:
        """Creates the file, or refuses another release's or another program's."""
        await self._link.open()
        self._writer.start()

    async def close(self) -> None:
        """Ends the threads after what queued already."""
        await asyncio.get_running_loop().run_in_executor(None, self._writer.close)
        await self._link.close()

    async def check(self) -> None:
        """Writes the schema's version anew: a disk may be full that still lets a transaction begin."""
        await self._writer.run(lambda connection: connection.execute(f"PRAGMA user_version={STORE_SCHEMA}").fetchone())

    async def create(
        self, stay_id: str, payload: bytes, *, at_s: float, secret: bytes, kept: Kept | None = None
    ) -> StayHead:
        """See `StayStore.create`."""

        def work(connection: sqlite3.Connection) -> StayHead:
            _check_scope(connection, kept)
            made = connection.execute(
                "INSERT INTO stays(stay_id, created_s, secret) VALUES(?, ?, ?) ON CONFLICT DO NOTHING",
                (stay_id, at_s, secret),
            )
            if not made.rowcount:
                raise ConflictError("stay_id must be a new one, got one that exists; change that stay")
            number = int(made.lastrowid or 0)
            connection.execute("INSERT INTO entries VALUES(?, 1, ?, ?)", (number, at_s, payload))
            _keep(connection, number, kept)
            return StayHead(number, stay_id, 1, at_s, at_s, secret)

        return await self._writer.run(work)

    async def append(self, number: int, version: int, payload: bytes, *, at_s: float, kept: Kept | None = None) -> None:
        """See `StayStore.append`."""

        def work(connection: sqlite3.Connection) -> None:
            _check_scope(connection, kept)
            if not connection.execute(APPEND, (number, version, at_s, payload)).rowcount:
                raise ConflictError("version must be the stay's last one, got another; load the stay again")
            _keep(connection, number, kept)

        await self._writer.run(work)

    async def head(self, stay_id: str) -> StayHead | None:
        """See `StayStore.head`."""
        rows = await self._link.read(f"{HEAD} WHERE stay_id = ?", (stay_id,))
        return _head(rows[0]) if rows else None

    async def entries(self, number: int, *, after: int = 0) -> list[Entry]:
        """See `StayStore.entries`."""
        query = "SELECT version, at_s, payload FROM entries WHERE stay = ? AND version > ? ORDER BY version"
        return [Entry(*row) for row in await self._link.read(query, (number, after))]

    async def page(self, *, after: str = "", limit: int = 100) -> list[StayHead]:
        """See `StayStore.page`."""
        rows = await self._link.read(f"{HEAD} WHERE stay_id > ? ORDER BY stay_id LIMIT ?", (after, limit))
        return [_head(row) for row in rows]

    async def count(self) -> int:
        """See `StayStore.count`."""
        return int((await self._link.read("SELECT count(*) FROM stays"))[0][0])

    async def delete(self, number: int) -> bool:
        """See `StayStore.delete`."""

        def work(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute("DELETE FROM stays WHERE number = ?", (number,)).rowcount)

        gone = await self._writer.run(work)
        await self._forget()
        return gone

    async def gone(self, numbers: Sequence[int]) -> list[int]:
        """See `StayStore.gone`."""
        query = "SELECT value FROM json_each(?) WHERE NOT EXISTS(SELECT 1 FROM stays WHERE number = value)"
        return [int(row[0]) for row in await self._link.read(query, (json.dumps(list(numbers)),))]

    async def claim(self, scope: bytes) -> bool:
        """Grants every claim: the process itself knows what runs in it."""
        del scope
        return True

    async def release(self, scope: bytes) -> None:
        """Needs nothing."""

    async def kept(self, scope: bytes) -> Kept | None:
        """See `StayStore.kept`."""
        rows = await self._link.read("SELECT scope, body, status, content, at_s FROM kept WHERE scope = ?", (scope,))
        return Kept(*rows[0]) if rows else None

    async def purge(self, *, kept_before_s: float, stays_before_s: float | None = None) -> tuple[int, ...]:
        """See `StayStore.purge`."""

        def work(connection: sqlite3.Connection) -> tuple[int, ...]:
            connection.execute("DELETE FROM kept WHERE at_s < ?", (kept_before_s,))
            if stays_before_s is None:
                return ()
            query = "SELECT stay FROM entries GROUP BY stay HAVING max(at_s) < ?"
            numbers = tuple(int(row[0]) for row in connection.execute(query, (stays_before_s,)))
            connection.executemany("DELETE FROM stays WHERE number = ?", [(number,) for number in numbers])
            return numbers

        gone = await self._writer.run(work)
        if gone:
            await self._forget()
        return gone

    async def load_state(self, number: int, key: str) -> CachedState | None:
        """See `StateCache.load_state`."""
        query = "SELECT stay, key, version, content FROM states WHERE stay = ? AND key = ?"
        rows = await self._link.read(query, (number, key))
        return CachedState(*rows[0]) if rows else None

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """See `StateCache.save_states`."""
        rows = [(s.number, s.key, s.version, s.content) for s in states]
        await self._writer.run(lambda connection: connection.executemany(SAVE, rows))

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """See `StateCache.drop_states`."""
        rows = [(number,) for number in numbers]
        await self._writer.run(lambda connection: connection.executemany("DELETE FROM states WHERE stay = ?", rows))

    async def _forget(self) -> None:
        """Empties the write-ahead log, which may hold what was deleted; another process's reading puts it off."""
        await self._link.read("PRAGMA wal_checkpoint(TRUNCATE)")


def _check_scope(connection: sqlite3.Connection, kept: Kept | None) -> None:
    if kept and connection.execute("SELECT 1 FROM kept WHERE scope = ?", (kept.scope,)).fetchone():
        raise ConflictError("scope must be a new one, got one with an answer; repeat that answer")


def _keep(connection: sqlite3.Connection, number: int, kept: Kept | None) -> None:
    if kept:
        connection.execute(
            "INSERT INTO kept VALUES(?, ?, ?, ?, ?, ?)",
            (kept.scope, number, kept.body, kept.status, kept.content, kept.at_s),
        )


def _head(row: Sequence[Any]) -> StayHead:
    number, stay_id, created_s, secret, version, updated_s = row
    return StayHead(number, stay_id, version, created_s, updated_s, secret)
