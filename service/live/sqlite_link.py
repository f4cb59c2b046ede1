"""A SQLite file in, connections of the store's schema to it out: made or migrated when opened, read in one thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from service.live.commits import failure
from service.live.store import STORE_SCHEMA, StoreError

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
MIGRATIONS: tuple[str, ...] = (
    """
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
""",
)
"""Script k brings a file from schema k to schema k + 1; the first one makes it."""


class SqliteLink:
    """The file of a store, and the connection that reads it.

    Args:
        path: the file; made where there is none.
        busy_s: how long to wait for another process's transaction.
    """

    def __init__(self, path: Path, *, busy_s: float) -> None:
        self._path, self._busy_s = path, busy_s
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None

    async def open(self) -> None:
        """Creates the file, or brings it to this release's schema.

        Raises:
            StoreError: if it cannot be written, or is another release's or another program's.
        """
        await asyncio.get_running_loop().run_in_executor(self._reader, self._prepare)

    async def close(self) -> None:
        """Ends the thread after what queued already."""
        await asyncio.get_running_loop().run_in_executor(self._reader, self._end_reading)
        self._reader.shutdown(wait=True)

    def connect(self) -> sqlite3.Connection:
        """A new connection, for the thread that asks."""
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",  # one that is gone is not made anew, and empty
            uri=True,
            timeout=self._busy_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        for pragma in PRAGMAS:
            connection.execute(pragma)
        return connection

    def check_place(self) -> None:
        """Returns if the file still lies where it was opened: SQLite itself goes on writing to one that was taken away.

        Raises:
            StoreError: with the remedy, if it does not.
        """
        if _place(self._path) != self._place:
            raise StoreError(
                "store must be the file that was opened, got none or another; put it back with its -wal, or start again"
            )

    async def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query.

        Raises:
            StoreError: if the file cannot be read, or the store is closed.
        """

        def work() -> list[Any]:
            try:
                self._reading = self._reading or self.connect()
                return self._reading.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise failure(error) from None

        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)
        except RuntimeError:
            raise StoreError("store must be open, got a closed one; the service is ending") from None

    def _prepare(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Clinical values and the keys of the audit's references: for nobody else. What lies beside it follows.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._refuse_foreign()
            self._reading = self.connect()
            _prepare_layout(self._reading)
            self._place = _place(self._path)
        except OSError as error:
            raise StoreError(
                f"store must be a file that can be written, got {error.strerror}; set SEQUELA_STORE"
            ) from None
        except sqlite3.Error as error:
            raise failure(error) from None

    def _refuse_foreign(self) -> None:
        """Reads the file before anything of it is changed: another program's stays as it is."""
        connection = sqlite3.connect(self._path, timeout=self._busy_s)
        try:
            _schema(connection)
        finally:
            connection.close()

    def _end_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None


def _place(path: Path) -> tuple[int, int] | None:
    """Which file a path names; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare_layout(connection: sqlite3.Connection) -> None:
    """Makes the file or brings it to this release's schema, all of it or nothing.

    Raises:
        StoreError: with the remedy, if it is a later release's or another program's.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[_schema(connection) : STORE_SCHEMA]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={STORE_SCHEMA}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _schema(connection: sqlite3.Connection) -> int:
    """The schema that a file is of; 0 for an empty one."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        return 0
    if application != APPLICATION:
        raise StoreError("store must be a file of live stays, got another program's; set SEQUELA_STORE")
    if not 1 <= schema <= STORE_SCHEMA:
        raise StoreError(
            f"store must be of schema {STORE_SCHEMA} or before, got {schema}; serve with the release that wrote it, or "
            "set SEQUELA_STORE to a new file"
        )
    return int(schema)
