"""PostgreSQL going away, freezing, being shared and being of another release: nothing is lost, doubled or invented."""

import asyncio
import contextlib

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.live.postgres_store import PostgresStore
from service.live.store import STORE_SCHEMA, CachedState, ConflictError, Kept, StoreError
from tests.service.live.proxy import Proxy
from tests.service.live.stores import SECRET, opened, own_schema, postgres


@pytest.fixture
def url(postgres_url):
    with own_schema(postgres_url) as own:
        yield own


def administer(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def before(url):
    """A proxy before the server, and the server's address through it."""
    given = conninfo_to_dict(url)
    async with Proxy(given["host"], int(given.get("port", 5432))) as proxy:
        yield proxy, make_conninfo(url, host="127.0.0.1", port=proxy.port)


def end_connections(url):
    administer(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sequela'"
        " AND query LIKE '%live\\_%'",
    )


async def payloads(store, stay_id):
    head = await store.head(stay_id)
    return [entry.payload for entry in await store.entries(head.number)]


def test_connections_that_ended_between_calls_are_made_anew(url):
    async def work():
        async with postgres(url) as store:
            made = await store.create("a", b"1", at_s=1, secret=SECRET)
            end_connections(url)
            assert (await store.head("a")).number == made.number
            end_connections(url)
            await store.append(made.number, 1, b"2", at_s=2)
            assert await payloads(store, "a") == [b"1", b"2"]

    asyncio.run(work())


def test_a_database_that_is_not_there_fails_with_the_store_s_own_error(url):
    async def work():
        with pytest.raises(StoreError, match="start PostgreSQL"):
            await PostgresStore("postgresql://postgres@127.0.0.1:9/postgres", timeout_s=2).open()

    asyncio.run(work())


def test_an_address_that_is_none_is_refused_without_repeating_it():
    with pytest.raises(StoreError, match="SEQUELA_STORE") as refused:
        PostgresStore("postgresql://user:MARKED@[")
    assert "MARKED" not in str(refused.value)


def test_a_database_that_goes_away_fails_every_call_and_serves_again_once_it_is_back(url):
    async def work():
        async with before(url) as (proxy, way), postgres(way, timeout_s=2) as store:
            made = await store.create("a", b"1", at_s=1, secret=SECRET)
            await proxy.cut()
            for call in (
                store.head("a"),
                store.append(made.number, 1, b"lost", at_s=2),
                store.create("b", b"lost", at_s=2, secret=SECRET),
                store.check(),
                store.delete(made.number),
                store.load_state(made.number, "k"),
                store.save_states([CachedState(made.number, "k", 1, b"x")]),
            ):
                with pytest.raises(StoreError):
                    await call
            await proxy.mend()
            await store.append(made.number, 1, b"2", at_s=3)
            assert await payloads(store, "a") == [b"1", b"2"]

    asyncio.run(work())


def test_a_database_that_freezes_fails_in_time_and_holds_nobody_up_afterwards(url):
    async def work():
        async with before(url) as (proxy, way), postgres(way, timeout_s=0.3) as store:
            made = await store.create("a", b"1", at_s=1, secret=SECRET)
            proxy.freeze()
            async with asyncio.timeout(5):
                with pytest.raises(StoreError):
                    await store.append(made.number, 1, b"unknown", at_s=2)
                with pytest.raises(StoreError):
                    await store.head("a")
            proxy.thaw()
            head = await store.head("a")
            await store.append(made.number, head.version, b"last", at_s=3)
            assert (await payloads(store, "a"))[-1] == b"last"

    asyncio.run(work())


def test_a_commit_whose_answer_is_lost_is_never_reported_as_done_and_is_there_once_at_most(url):
    async def work():
        async with before(url) as (proxy, way), postgres(way, timeout_s=2) as store:
            for i in range(25):
                made = await store.create(f"s{i}", b"1", at_s=1, secret=SECRET)
                proxy.cut_after(answers=i % 5)
                acknowledged = True
                try:
                    await store.append(made.number, 1, b"2", at_s=2)
                except StoreError:
                    acknowledged = False
                await proxy.mend()
                found = await payloads(store, f"s{i}")
                assert found in ([b"1"], [b"1", b"2"])
                assert not acknowledged or found == [b"1", b"2"]
                outcomes.add((acknowledged, len(found)))

    outcomes = set()
    asyncio.run(work())
    assert (False, 2) in outcomes
    assert (True, 2) in outcomes


def test_two_replicas_never_both_advance_a_stay(url):
    async def advance(store, number, mark, won):
        version = 1
        while version < 40:
            try:
                await store.append(number, version, mark, at_s=2)
                won.append((version + 1, mark))
            except ConflictError:
                pass
            version = (await store.head("a")).version

    async def work():
        async with postgres(url) as one, postgres(url) as other:
            made = await one.create("a", b"0", at_s=1, secret=SECRET)
            won = []
            await asyncio.gather(*(advance(s, made.number, m, won) for s, m in ((one, b"x"), (other, b"y")) * 3))
            entries = await one.entries(made.number, after=1)
            assert [(e.version, e.payload) for e in entries] == sorted(won)
            assert {mark for _, mark in won} == {b"x", b"y"}

    asyncio.run(work())


def test_replicas_that_write_the_same_stays_in_opposite_order_do_not_hold_each_other_up(url):
    async def work():
        async with postgres(url) as one, postgres(url) as other:
            made = [await one.create(f"s{i:03}", b"1", at_s=1, secret=SECRET) for i in range(100)]
            for version in range(1, 6):
                writes = [
                    store.append(head.number, version, mark, at_s=2)
                    for store, mark, order in ((one, b"x", made), (other, b"y", made[::-1]))
                    for head in order
                ]
                outcomes = await asyncio.gather(*writes, return_exceptions=True)
                assert sum(outcome is None for outcome in outcomes) == 100
                assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 100

    asyncio.run(work())


def test_of_two_replicas_that_create_a_stay_at_once_one_does(url):
    async def work():
        async with postgres(url) as one, postgres(url) as other:
            for i in range(20):
                kept = Kept(bytes([i]) * 32, b"b" * 32, 201, b"{}", 1.0)
                both = [s.create(f"s{i}", b"1", at_s=1, secret=SECRET, kept=kept) for s in (one, other)]
                outcomes = await asyncio.gather(*both, return_exceptions=True)
                assert [type(o).__name__ for o in outcomes].count("ConflictError") == 1
            assert await one.count() == 20

    asyncio.run(work())


def test_a_write_that_the_database_refuses_does_not_take_others_with_it(url):
    async def work():
        async with postgres(url) as store:
            made = await asyncio.gather(*(store.create(f"s{i}", b"1", at_s=1, secret=SECRET) for i in range(5)))
            kept = Kept(b"s" * 32, b"b" * 32, 2**40, b"{}", 1.0)  # no such status fits its column
            writes = [store.append(h.number, 1, b"2", at_s=2, kept=kept if h == made[2] else None) for h in made]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert [outcome is None for outcome in outcomes] == [True, True, False, True, True]
            assert isinstance(outcomes[2], StoreError)
            assert [len(await store.entries(h.number)) for h in made] == [2, 2, 1, 2, 2]

    asyncio.run(work())


def test_many_writers_share_a_transaction(url):
    async def work():
        async with postgres(url) as store:
            made = [await store.create(f"s{i}", b"1", at_s=1, secret=SECRET) for i in range(200)]
            before = transactions(url)
            await asyncio.gather(*(store.append(h.number, 1, b"2", at_s=2) for h in made))
            found = transactions(url) - before
            assert 1 <= found <= 5

    def transactions(url):
        rows = administer(url, "SELECT count(DISTINCT xmin::text) FROM live_entries")
        return rows[0][0]

    asyncio.run(work())


def test_a_writer_that_went_away_leaves_its_write_whole(url):
    async def work():
        async with postgres(url) as store:
            made = await store.create("a", b"1", at_s=1, secret=SECRET)
            task = asyncio.ensure_future(store.append(made.number, 1, b"2", at_s=2))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await store.check()
            assert await payloads(store, "a") == [b"1", b"2"]

    asyncio.run(work())


def test_a_reader_that_went_away_leaves_the_connection_usable(url):
    async def work():
        async with postgres(url) as store:
            await store.create("a", b"1", at_s=1, secret=SECRET)
            for _ in range(20):
                task = asyncio.ensure_future(store.head("a"))
                await asyncio.sleep(0.0005)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert (await store.head("a")).version == 1

    asyncio.run(work())


def test_tables_of_a_later_release_are_refused_and_left_as_they_are(url):
    async def work():
        async with postgres(url) as store:
            await store.create("a", b"1", at_s=1, secret=SECRET)
        administer(url, f"UPDATE live_schema SET version = {STORE_SCHEMA + 1}")
        with pytest.raises(StoreError, match="start the release that wrote it"):
            await PostgresStore(url).open()
        assert administer(url, "SELECT version FROM live_schema") == [(STORE_SCHEMA + 1,)]
        assert administer(url, "SELECT count(*) FROM live_stays") == [(1,)]

    asyncio.run(work())


def test_replicas_that_start_at_once_make_the_tables_once(url):
    async def work():
        stores = [PostgresStore(url) for _ in range(6)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))
        assert administer(url, "SELECT version FROM live_schema") == [(STORE_SCHEMA,)]

    asyncio.run(work())


def test_no_error_repeats_what_was_written(url):
    async def work():
        async with postgres(url) as store:
            made = await store.create("MARKED", b"MARKED", at_s=1, secret=SECRET)
            administer(url, "ALTER TABLE live_entries ADD CONSTRAINT few CHECK (version < 2)")
            with pytest.raises(StoreError) as refused:
                await store.append(made.number, 1, b"MARKED", at_s=2)
            assert "MARKED" not in str(refused.value)
            assert refused.value.__cause__ is None

    asyncio.run(work())


def test_a_store_opens_over_what_another_left(url):
    async def work():
        async with postgres(url) as store:
            await store.create("a", b"1", at_s=1, secret=SECRET)
        async with opened(PostgresStore(url)) as store:
            assert await payloads(store, "a") == [b"1"]

    asyncio.run(work())


def test_a_scope_that_one_replica_claims_no_other_gets_until_it_is_released_or_the_replica_gone(url):
    async def work():
        scope, other = b"s" * 32, b"t" * 32
        async with postgres(url) as second:
            async with postgres(url) as first:
                assert await first.claim(scope)
                assert not await second.claim(scope)
                assert await second.claim(other)
                await first.release(scope)
                assert await second.claim(scope)
                await second.release(scope)
                assert await first.claim(scope)
            async with asyncio.timeout(30):  # the database notices in its own time that a connection has ended
                while not await second.claim(scope):
                    await asyncio.sleep(0.01)

    asyncio.run(work())
