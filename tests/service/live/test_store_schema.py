"""Stores that another release wrote: brought to this one's schema with all that they hold, or refused untouched."""

import asyncio
import sqlite3

import psycopg
import pytest

from service.live import postgres_sql, postgres_store, sqlite_link
from service.live.journal import Journal
from service.live.postgres_store import PostgresStore
from service.live.sqlite_store import SqliteStore
from service.live.store import STORE_SCHEMA, StoreError
from tests.service.live.stores import SECRET, opened, own_schema

NEXT = STORE_SCHEMA + 1
# What a stay of schema 1 holds, byte for byte as the release that began it wrote it.
ENTRIES = (
    b'{"k":"profile","p":[null,{"age":{"value":63,"unit":"a"}}],"a":["p-1",0,1,[0.1],"d",null]}',
    b'{"k":"facts","o":[["o-1","heart_rate",90.0,"/min",60,60],[null,"sbp",120.0,"mm[Hg]",60,60]],'
    b'"n":[[null,"note","text",90,95]],"a":["p-2",95,3,[0.2],"d","7"]}',
    b'{"k":"correction","i":"o-1","o":[["o-1","heart_rate",91.0,"/min",60,60]],"a":["p-3",95,3,[0.3],"d","7"]}',
    b'{"k":"withdrawal","i":"o-1","a":["p-4",95,2,[0.4],"d","7"]}',
)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Makes stores over one place, and runs a statement there."""
    if request.param == "sqlite":
        path = tmp_path / "stays.sqlite3"

        def run(statement):
            with sqlite3.connect(path) as connection:
                return connection.execute(statement).fetchall()

        yield (lambda: SqliteStore(path)), run
        return
    with own_schema(request.getfixturevalue("postgres_url")) as url:

        def ask(statement):
            with psycopg.connect(url, autocommit=True) as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []

        yield (lambda: PostgresStore(url)), ask


def release(monkeypatch, schema, *more):
    """Has both stores be those of a release with this schema, which adds these scripts to today's."""
    for module, scripts in ((sqlite_link, sqlite_link), (postgres_store, postgres_sql)):
        monkeypatch.setattr(module, "STORE_SCHEMA", schema)
        monkeypatch.setattr(scripts, "MIGRATIONS", (*scripts.MIGRATIONS[:STORE_SCHEMA], *more))


async def written(store):
    made = await store.create("a", ENTRIES[0], at_s=1, secret=SECRET)
    for version, payload in enumerate(ENTRIES[1:], start=1):
        await store.append(made.number, version, payload, at_s=1 + version)
    return made.number


def test_a_store_of_the_schema_before_is_migrated_with_all_that_it_holds(place, monkeypatch):
    make, run = place

    async def work():
        async with opened(make()) as store:
            number = await written(store)
        table = "stays" if isinstance(store, SqliteStore) else "live_stays"
        release(monkeypatch, NEXT, f"ALTER TABLE {table} ADD COLUMN ward text;\nUPDATE {table} SET ward = 'w'")
        async with opened(make()) as store:
            head = await store.head("a")
            assert (head.number, head.version, head.secret) == (number, len(ENTRIES), SECRET)
            assert [entry.payload for entry in await store.entries(number)] == list(ENTRIES)
            await store.append(number, len(ENTRIES), b"{}", at_s=9)
        assert run(f"SELECT ward FROM {table}") == [("w",)]
        async with opened(make()) as store:  # once is enough
            assert (await store.head("a")).version == len(ENTRIES) + 1

    asyncio.run(work())


def test_a_store_of_a_later_schema_is_refused_and_left_as_it_is(place, monkeypatch):
    make, run = place

    async def work():
        with monkeypatch.context() as later:
            release(later, NEXT, "CREATE TABLE wards(name text)")
            async with opened(make()) as store:
                await written(store)
        with pytest.raises(StoreError, match=f"must be of schema {STORE_SCHEMA}.* got {NEXT}; .*release that wrote it"):
            await make().open()
        assert run("SELECT count(*) FROM wards") == [(0,)]

    asyncio.run(work())


def test_a_migration_that_fails_changes_nothing(place, monkeypatch):
    make, run = place

    async def work():
        async with opened(make()) as store:
            number = await written(store)
        with monkeypatch.context() as broken:
            release(broken, NEXT, "CREATE TABLE wards(name text);\nINSERT INTO nowhere VALUES (1)")
            with pytest.raises(StoreError):
                await make().open()
        async with opened(make()) as store:
            assert len(await store.entries(number)) == len(ENTRIES)
        with pytest.raises((sqlite3.Error, psycopg.Error)):
            run("SELECT count(*) FROM wards")

    asyncio.run(work())


def test_entries_of_the_first_schema_are_read(place):
    make, _ = place

    async def work():
        async with opened(make()) as store:
            journal = Journal().read(await store.entries(await written(store)))
        assert [fact[1:] for fact in journal.facts.held.values()] == [
            ("sbp", 120.0, "mm[Hg]", 60, 60),
            ("note", "text", 90, 95),
        ]
        assert journal.facts.profile.static == {"age": {"value": 63, "unit": "a"}}
        assert [answered.values for answered in journal.answered] == [(0.1,), (0.2,), (0.3,), (0.4,)]

    asyncio.run(work())
