"""Live stays in PostgreSQL, for one or several replicas of the service.

A write names the version that it builds on and succeeds only while the stay is at it, so two replicas never both
advance one stay. It returns once PostgreSQL has flushed it; the server has to run with `fsync` on, as it does unless
somebody turned that off. Cached states are kept unlogged: a crash of the database loses them, and nothing else.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict

import psycopg
from psycopg import AsyncConnection

from service.live import postgres_sql as sql
from service.live.postgres_link import Link, LostError, Reader, Row, Writer
from service.live.store import STORE_SCHEMA, CachedState, ConflictError, Entry, Kept, StayHead, StoreError

READERS = 4
# States are a cache: nobody waits until they are on the disk.
UNHURRIED = "SET synchronous_commit = off"


class PostgresStore:
    """Keeps stays in PostgreSQL.

    Args:
        url: libpq's address of the database, such as `postgresql://user@host/name`.
        timeout_s: how long a statement may take before the store counts as failed.

    Attributes:
        identity: tells this store from every other one; known once it is open. A copy of a database has that of the
            original.
    """

    identity: str

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        try:
            self._preparing = Link(url, timeout_s)
        except psycopg.ProgrammingError:
            raise StoreError(
                "store must be an address that libpq reads, got another text; mend SEQUELA_STORE"
            ) from None
        self._reader = Reader(url, timeout_s, links=READERS)
        self._states = Reader(url, timeout_s, links=1, setup=UNHURRIED)
        self._writer = Writer(url, timeout_s)
        # A single connection: what it claims, it alone can release.
        self._claims = Reader(url, timeout_s, links=1)

    async def open(self) -> None:
        """Creates the tables or brings them to this release's schema.

        Raises:
            StoreError: with the remedy, if they are a later release's or the database cannot be reached.
        """
        try:
            self.identity = await self._preparing.use(_migrate)
        except LostError:
            raise StoreError(
                "store must stay reachable while it is prepared, got a lost connection; start again"
            ) from None
        finally:
            await self._preparing.close()

    async def close(self) -> None:
        """Ends the connections after the writes that wait."""
        await self._writer.close()
        await self._reader.close()
        await self._states.close()
        await self._claims.close()

    async def check(self) -> None:
        """Returns if the database takes a durable write at this moment."""
        rows = await self._writer.write(sql.TOUCH, {}, (0, b""))
        _check_schema(rows)

    async def create(
        self, stay_id: str, payload: bytes, *, at_s: float, secret: bytes, kept: Kept | None = None
    ) -> StayHead:
        """Creates a stay with its first entry, and keeps the answer, in one transaction.

        Raises:
            ConflictError: if the stay exists, or an answer is kept under the same scope.
            StoreError: if it is not known to be durable.
        """
        identifier = stay_id.encode()
        args = {"stay_id": identifier, "payload": payload, "at_s": at_s, "secret": secret} | _kept_args(kept)
        rows = await self._writer.write(sql.CREATE, args, (0, identifier))
        if not rows:
            raise ConflictError("stay_id must be new, got one that exists or a repeated call; load the stay")
        return StayHead(int(rows[0][0]), stay_id, 1, at_s, at_s, secret)

    async def append(self, number: int, version: int, payload: bytes, *, at_s: float, kept: Kept | None = None) -> None:
        """Adds entry `version + 1`, and keeps the answer, in one transaction.

        Raises:
            ConflictError: if the stay is at another version or gone, or an answer is kept under the same scope.
            StoreError: if it is not known to be durable.
        """
        args = {"number": number, "version": version, "payload": payload, "at_s": at_s} | _kept_args(kept)
        if not await self._writer.write(sql.APPEND, args, _by_number(number)):
            raise ConflictError("version must be the stay's own, got another or a repeated call; load the stay again")

    async def head(self, stay_id: str) -> StayHead | None:
        """A stay's head; None if there is no such stay."""
        rows = await self._reader.fetch(sql.HEAD, {"stay_id": stay_id.encode()})
        return _head(rows[0]) if rows else None

    async def entries(self, number: int, *, after: int = 0) -> list[Entry]:
        """The stay's entries with a version above `after`, in order; empty for a deleted stay."""
        return [Entry(*row) for row in await self._reader.fetch(sql.ENTRIES, {"number": number, "after": after})]

    async def page(self, *, after: str = "", limit: int = 100) -> list[StayHead]:
        """Heads of the first stays whose identifier sorts behind `after`."""
        return [_head(row) for row in await self._reader.fetch(sql.PAGE, {"after": after.encode(), "limit": limit})]

    async def count(self) -> int:
        """Number of stays."""
        return int((await self._reader.fetch(sql.COUNT))[0][0])

    async def delete(self, number: int) -> bool:
        """Removes all that is kept of a stay; False if it was gone already."""
        return bool(await self._writer.write(sql.DELETE, {"number": number}, _by_number(number)))

    async def gone(self, numbers: Sequence[int]) -> list[int]:
        """Which of these numbers are no stay's, or not any more."""
        return [int(number) for (number,) in await self._reader.fetch(sql.GONE, {"numbers": list(numbers)})]

    async def claim(self, scope: bytes) -> bool:
        """Whether no other replica runs a call under this scope; see `StayStore.claim`."""
        rows = await self._claims.fetch(sql.CLAIM, {"key": _claim_key(scope)})
        return bool(rows[0][0])

    async def release(self, scope: bytes) -> None:
        """Ends a claim; one that the database has lost is no claim any more."""
        with contextlib.suppress(StoreError):
            await self._claims.fetch(sql.RELEASE, {"key": _claim_key(scope)})

    async def kept(self, scope: bytes) -> Kept | None:
        """The answer under this scope."""
        rows = await self._reader.fetch(sql.KEPT, {"scope": scope})
        return Kept(*rows[0]) if rows else None

    async def purge(self, *, kept_before_s: float, stays_before_s: float | None = None) -> tuple[int, ...]:
        """Removes kept answers, and stays last changed, before these times; gives the stays' numbers."""
        await self._writer.write(sql.PURGE_KEPT, {"before_s": kept_before_s}, (0, b""))
        if stays_before_s is None:
            return ()
        rows = await self._writer.write(sql.PURGE_STAYS, {"before_s": stays_before_s}, (0, b""))
        return tuple(int(number) for (number,) in rows)

    async def load_state(self, number: int, key: str) -> CachedState | None:
        """The newest state of a stay under this key."""
        rows = await self._reader.fetch(sql.LOAD_STATE, {"number": number, "key": key})
        return CachedState(number, key, *rows[0]) if rows else None

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """Keeps states, each unless a newer one is there or the stay is gone."""
        args = [{"number": s.number, "key": s.key, "version": s.version, "content": s.content} for s in states]
        if args:
            await self._states.fetch_each(sql.SAVE_STATE, args)

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """Removes the cached states of stays."""
        await self._states.fetch(sql.DROP_STATES, {"numbers": list(numbers)})


async def _migrate(connection: AsyncConnection[Row]) -> str:
    """Brings the tables to this release's schema, one replica after the other, and gives the store's identity."""
    async with connection.transaction():
        await connection.execute(sql.LOCK)
        await connection.execute(sql.SCHEMA_TABLE)
        rows = await (await connection.execute(sql.SCHEMA)).fetchall()
        found, identity = rows[0] if rows else (0, secrets.token_hex(16))
        if found > STORE_SCHEMA:
            _check_schema(rows)
        if not rows:
            await connection.execute(sql.FIRST_SCHEMA, {"identity": identity})
        for script in sql.MIGRATIONS[found:STORE_SCHEMA]:
            await connection.execute(script.encode())
        await connection.execute(sql.SET_SCHEMA, {"version": STORE_SCHEMA})
    return str(identity)


def _check_schema(rows: Sequence[Row]) -> None:
    found = rows[0][0] if rows else "none"
    if found != STORE_SCHEMA:
        raise StoreError(
            f"store must be of schema {STORE_SCHEMA}, got {found}; start the release that wrote it or name another"
        )


def _kept_args(kept: Kept | None) -> dict[str, object]:
    given = asdict(kept) if kept else dict.fromkeys(("scope", "body", "status", "content", "at_s"))
    return {"kept_s": given.pop("at_s"), **given}


def _claim_key(scope: bytes) -> int:
    return int.from_bytes(scope[:8], "big", signed=True)


def _by_number(number: int) -> tuple[int, bytes]:
    return number, b""


def _head(row: Row) -> StayHead:
    number, stay_id, version, created_s, updated_s, secret = row
    return StayHead(number, bytes(stay_id).decode(), version, created_s, updated_s, bytes(secret))
