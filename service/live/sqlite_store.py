"""Live stays in one SQLite file: written ahead, flushed before a write returns, many writers sharing one flush."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from service.live.commits import GroupCommit, failure
from service.live.store import STORE_SCHEMA, CachedState, ConflictError, Entry, Kept, StayHead, StoreError

T = TypeVar("T")
# "Seql", in the file's header: tells a store from any other SQLite file.
APPLICATION = 0x5365716C
# Overwritten on deletion, so that what a stay held is not left in the file's free pages.
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=ON",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)
LAYOUT = """
CREATE TABLE stays(
  number INTEGER PRIMARY KEY AUTOINCREMENT, stay_id TEXT NOT NULL UNIQUE, created_s REAL NOT NULL, secret BLOB NOT NULL
);
CREATE TABLE entries(
  stay INTEGER NOT NULL REFERENCES stays(number) ON DELETE CASCADE,
  version INTEGER NOT NULL, at_s REAL NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY(stay, version)
) WITHOUT ROWID;
CREATE TABLE states(
  stay INTEGER NOT NULL REFERENCES stays(number) ON DELETE CASCADE,
  key TEXT NOT NULL, version INTEGER NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY(stay, key)
) WITHOUT ROWID;
CREATE TABLE kept(
  scope BLOB PRIMARY KEY, stay INTEGER NOT NULL REFERENCES stays(number) ON DELETE CASCADE,
  body BLOB NOT NULL, status INTEGER NOT NULL, content BLOB NOT NULL, at_s REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX kept_at ON kept(at_s);
CREATE INDEX kept_stay ON kept(stay);
"""
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
        self._path, self._busy_s = path, busy_s
        self._writer = GroupCommit(self._connect)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Creates the file, or refuses another release's or another program's."""
        await asyncio.get_running_loop().run_in_executor(self._reader, self._prepare)
        self._writer.start()

    async def close(self) -> None:
        """Ends the threads after what queued already."""
        await asyncio.get_running_loop().run_in_executor(None, self._writer.close)
        await asyncio.get_running_loop().run_in_executor(self._reader, self._end_reading)
        self._reader.shutdown(wait=True)

    async def check(self) -> None:
        """Begins and ends a writing transaction."""
        await self._writer.run(lambda connection: connection.execute("SELECT 1").fetchone())

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
        rows = await self._read(f"{HEAD} WHERE stay_id = ?", (stay_id,))
        return _head(rows[0]) if rows else None

    async def entries(self, number: int, *, after: int = 0) -> list[Entry]:
        """See `StayStore.entries`."""
        query = "SELECT version, at_s, payload FROM entries WHERE stay = ? AND version > ? ORDER BY version"
        return [Entry(*row) for row in await self._read(query, (number, after))]

    async def page(self, *, after: str = "", limit: int = 100) -> list[StayHead]:
        """See `StayStore.page`."""
        rows = await self._read(f"{HEAD} WHERE stay_id > ? ORDER BY stay_id LIMIT ?", (after, limit))
        return [_head(row) for row in rows]

    async def count(self) -> int:
        """See `StayStore.count`."""
        return int((await self._read("SELECT count(*) FROM stays"))[0][0])

    async def delete(self, number: int) -> bool:
        """See `StayStore.delete`."""

        def work(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute("DELETE FROM stays WHERE number = ?", (number,)).rowcount)

        gone = await self._writer.run(work)
        await self._forget()
        return gone

    async def kept(self, scope: bytes) -> Kept | None:
        """See `StayStore.kept`."""
        rows = await self._read("SELECT scope, body, status, content, at_s FROM kept WHERE scope = ?", (scope,))
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
        rows = await self._read(query, (number, key))
        return CachedState(*rows[0]) if rows else None

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """See `StateCache.save_states`."""
        rows = [(s.number, s.key, s.version, s.content) for s in states]
        await self._writer.run(lambda connection: connection.executemany(SAVE, rows))

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """See `StateCache.drop_states`."""
        rows = [(number,) for number in numbers]
        await self._writer.run(lambda connection: connection.executemany("DELETE FROM states WHERE stay = ?", rows))

    async def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        def work() -> list[Any]:
            try:
                self._reading = self._reading or self._connect()
                return self._reading.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise failure(error) from None

        return await self._in_reader(work)

    async def _in_reader(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)
        except RuntimeError:
            raise StoreError("store must be open, got a closed one; the service is ending") from None

    async def _forget(self) -> None:
        """Empties the write-ahead log, which may hold what was deleted; another process's reading puts it off."""
        await self._read("PRAGMA wal_checkpoint(TRUNCATE)")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        for pragma in PRAGMAS:
            connection.execute(pragma)
        return connection

    def _prepare(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._reading = self._connect()
            _prepare_layout(self._reading)
        except OSError as error:
            raise StoreError(
                f"store must be a file that can be written, got {error.strerror}; set SEQUELA_STORE"
            ) from None
        except sqlite3.Error as error:
            raise failure(error) from None

    def _end_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _prepare_layout(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in LAYOUT.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={STORE_SCHEMA}")
        elif application != APPLICATION:
            raise StoreError("store must be a file of live stays, got another program's; set SEQUELA_STORE")
        elif schema != STORE_SCHEMA:
            raise StoreError(
                f"store must be of schema {STORE_SCHEMA}, got {schema}; serve with the release that wrote it, or "
                "set SEQUELA_STORE to a new file"
            )
    finally:
        connection.execute("COMMIT")


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
