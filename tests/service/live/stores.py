"""Stores for tests, each over data of its own that is gone afterwards."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from service.live.postgres_store import PostgresStore
from service.live.store import StayStore

SECRET = bytes(range(32))


@contextlib.contextmanager
def own_schema(server: str) -> Iterator[str]:
    """The address of this database with a schema of its own, in which everything is made."""
    name = f"sequela_test_{secrets.token_hex(8)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    try:
        yield make_conninfo(server, options=f"-csearch_path={name}")
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@contextlib.asynccontextmanager
async def opened(store: StayStore) -> AsyncIterator[StayStore]:
    """The store between `open` and `close`."""
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def postgres(url: str, **options: float) -> AsyncIterator[PostgresStore]:
    """A store in this database."""
    store = PostgresStore(url, **options)
    async with opened(store):
        yield store
