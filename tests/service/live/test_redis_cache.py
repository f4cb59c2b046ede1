"""A shared cache of states: it spares folding while it is there, and changes no state when it is not."""

import asyncio
import contextlib
import os
import time
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from models.errors import ConfigError
from service.live.choice import keeping_at
from service.live.postgres_store import PostgresStore
from service.live.redis_cache import RedisCache
from service.live.store import CachedState
from tests.service.live.proxy import Proxy
from tests.service.live.stores import SECRET, own_schema, postgres


@pytest.fixture
def redis_url():
    value = os.environ.get("SEQUELA_TEST_REDIS")
    if not value:
        pytest.skip("SEQUELA_TEST_REDIS is not the address of a test Redis")
    return value


@pytest.fixture
def url(postgres_url):
    with own_schema(postgres_url) as own:
        yield own


@contextlib.asynccontextmanager
async def cached(redis_url, url):
    """A cache before an open store, the store, and a client to look at Redis; nothing is left there."""
    async with postgres(url) as store:
        cache, client = RedisCache(redis_url, store), Redis.from_url(redis_url)
        try:
            yield cache, store, client
        finally:
            for name in await names(client, store):
                await client.delete(name)
            await client.aclose()
            await cache.close()


async def names(client, store):
    return [name async for name in client.scan_iter(f"sequela:{store.identity}:*")]


async def created(store, stay_id="a"):
    return (await store.create(stay_id, b"1", at_s=1, secret=SECRET)).number


@contextlib.asynccontextmanager
async def before(redis_url):
    given = urlsplit(redis_url)
    async with Proxy(given.hostname, given.port or 6379) as proxy:
        yield proxy, given._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()


def test_what_one_replica_saves_another_finds(redis_url, url):
    async def work():
        async with cached(redis_url, url) as (one, store, client), postgres(url) as other_store:
            other = RedisCache(redis_url, other_store)
            state = CachedState(await created(store), "sha256:1/2", 3, bytes(range(256)))
            await one.save_states([state])
            assert await other.load_state(state.number, state.key) == state
            assert await store.load_state(state.number, state.key) is None  # Redis spares the store
            assert await other.load_state(state.number, "sha256:2/2") is None
            assert await other.load_state(state.number + 1, state.key) is None
            assert min([await client.ttl(name) for name in await names(client, store)]) > 0
            await other.close()

    asyncio.run(work())


def test_an_older_state_never_replaces_a_newer_one(redis_url, url):
    async def work():
        async with cached(redis_url, url) as (cache, store, _):
            number = await created(store)
            for version in (9, 10, 2, 255, 256, 99):
                await cache.save_states([CachedState(number, "k", version, b"%d" % version)])
            assert await cache.load_state(number, "k") == CachedState(number, "k", 256, b"256")

    asyncio.run(work())


def test_a_deleted_stay_keeps_no_state_and_gets_none(redis_url, url):
    async def work():
        async with cached(redis_url, url) as (cache, store, client):
            number = await created(store)
            await cache.save_states([CachedState(number, key, 1, b"MARKED") for key in ("k", "l")])
            await store.delete(number)
            await cache.drop_states([number])
            await cache.save_states([CachedState(number, "k", 2, b"MARKED")])
            assert await cache.load_state(number, "k") is None
            held = [await client.dump(name) for name in await names(client, store)]
            assert not [value for value in held if b"MARKED" in value]

    asyncio.run(work())


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"", lambda b: b[:30] + b"?" + b[31:]]
)
def test_a_state_that_redis_spoiled_is_taken_for_absent(redis_url, url, spoil):
    async def work():
        async with cached(redis_url, url) as (cache, store, client):
            state = CachedState(await created(store), "k", 1, bytes(100))
            await cache.save_states([state])
            name = f"sequela:{store.identity}:{{{state.number}}}:k"
            await client.hset(name, "sealed", spoil(await client.hget(name, "sealed")))
            assert await cache.load_state(state.number, "k") is None

    asyncio.run(work())


def test_a_state_of_another_stay_is_not_taken_for_this_one_s(redis_url, url):
    async def work():
        async with cached(redis_url, url) as (cache, store, client):
            one, other = await created(store, "a"), await created(store, "b")
            await cache.save_states([CachedState(one, "k", 1, b"one")])
            await client.copy(f"sequela:{store.identity}:{{{one}}}:k", f"sequela:{store.identity}:{{{other}}}:k")
            assert await cache.load_state(other, "k") is None

    asyncio.run(work())


def test_two_stores_that_share_a_redis_do_not_meet(redis_url, url, postgres_url):
    async def work(second_url):
        async with cached(redis_url, url) as (cache, store, _), cached(redis_url, second_url) as (other, second, _):
            number, same = await created(store), await created(second)
            assert number == same
            await cache.save_states([CachedState(number, "k", 1, b"first store")])
            assert await other.load_state(number, "k") is None

    with own_schema(postgres_url) as second_url:
        asyncio.run(work(second_url))


def test_while_redis_is_away_the_store_keeps_the_states(redis_url, url):
    async def work():
        async with before(redis_url) as (proxy, way), cached(way, url) as (cache, store, _):
            number = await created(store)
            await cache.save_states([CachedState(number, "k", 1, b"one")])
            await proxy.cut()
            assert await cache.load_state(number, "k") is None
            await cache.save_states([CachedState(number, "k", 2, b"two"), CachedState(number, "l", 1, b"x")])
            assert await cache.load_state(number, "k") == CachedState(number, "k", 2, b"two")
            assert await store.load_state(number, "l") == CachedState(number, "l", 1, b"x")
            await proxy.mend()

    asyncio.run(work())


def test_a_redis_that_is_back_is_used_again(redis_url, url, monkeypatch):
    monkeypatch.setattr("service.live.redis_cache.REST_S", 0.05)

    async def work():
        async with before(redis_url) as (proxy, way), cached(way, url) as (cache, store, client):
            number = await created(store)
            await proxy.cut()
            assert await cache.load_state(number, "k") is None
            await proxy.mend()
            await asyncio.sleep(0.1)
            await cache.save_states([CachedState(number, "k", 1, b"one")])
            assert await store.load_state(number, "k") is None
            assert await cache.load_state(number, "k") == CachedState(number, "k", 1, b"one")
            assert len(await names(client, store)) == 2

    asyncio.run(work())


def test_what_redis_could_not_remove_is_not_read_and_is_removed_once_it_is_back(redis_url, url, monkeypatch):
    monkeypatch.setattr("service.live.redis_cache.REST_S", 0.05)

    async def work():
        async with before(redis_url) as (proxy, way), cached(way, url) as (cache, store, client):
            number, other = await created(store), await created(store, "b")
            await cache.save_states([CachedState(number, "k", 1, b"MARKED")])
            await store.delete(number)
            await proxy.cut()
            await cache.drop_states([number])
            await proxy.mend()
            await asyncio.sleep(0.1)
            assert await cache.load_state(number, "k") is None
            await cache.save_states([CachedState(other, "k", 1, b"x")])
            assert not await client.exists(f"sequela:{store.identity}:{{{number}}}:k")

    asyncio.run(work())


def test_a_redis_that_freezes_holds_nobody_up_for_long(redis_url, url):
    async def work():
        async with before(redis_url) as (proxy, way), postgres(url) as store:
            cache = RedisCache(way, store)
            number = await created(store)
            await cache.load_state(number, "k")
            proxy.freeze()
            began = time.monotonic()
            for _ in range(50):
                assert await cache.load_state(number, "k") is None
            assert time.monotonic() - began < 2
            proxy.thaw()
            await cache.close()

    asyncio.run(work())


def test_addresses_choose_what_keeps_the_stays(tmp_path):
    assert type(keeping_at("memory:").store).__name__ == "MemoryStore"
    assert type(keeping_at(f"sqlite:///{tmp_path}/a.db").store).__name__ == "SqliteStore"
    shared = keeping_at("postgresql://nobody@127.0.0.1:9/none", "redis://127.0.0.1:9/0")
    assert isinstance(shared.store, PostgresStore)
    assert isinstance(shared.cache, RedisCache)
    alone = keeping_at("memory:")
    assert alone.cache is alone.store


@pytest.mark.parametrize(
    ("store", "cache"),
    [("", ""), ("mysql://x", ""), ("sqlite:///", ""), ("memory:", "redis://x"), ("postgresql://x", "http://x")],
)
def test_addresses_without_a_meaning_are_refused(store, cache):
    with pytest.raises(ConfigError, match=r"SEQUELA|PostgreSQL"):
        keeping_at(store, cache)
