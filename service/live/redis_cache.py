"""Folded states of live stays, shared by replicas in Redis: a Redis that is down, slow or wrong costs time and no more.

A state lies under the store's identity, the artifact's digest with the state's schema, and the stay's number, with
the version that it holds and a digest of all of these; what does not fit is taken for absent. States expire, and the
states of deleted stays are removed, if need be once Redis is back. They hold clinical values: guard Redis as the store,
and empty it where the store is restored from a copy, because the copy may go on otherwise than the original did.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.live.store import CachedState, StateCache, StoreError

T = TypeVar("T")
VERSION = struct.Struct(">Q")
CHECK_BYTES = 16
# A state that is not asked for in this time is folded anew; it also bounds how long a removal may have to wait.
EXPIRY_S = 86_400
# After a failure Redis is left alone for this long, so that its time-outs do not add up.
REST_S = 2.0
# Newer versions stand, and a stay that was removed gets no state again.
SAVE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local held = redis.call('HGET', KEYS[1], 'version')
if held and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'sealed', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[3], KEYS[1])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
"""
DROP = """
redis.call('SET', KEYS[1], '', 'EX', ARGV[1])
local names = redis.call('SMEMBERS', KEYS[2])
for _, name in ipairs(names) do redis.call('DEL', name) end
redis.call('DEL', KEYS[2])
return #names
"""


class SharedStore(StateCache, Protocol):
    """A store that several replicas share, and that no other one is taken for."""

    identity: str


class RedisCache:
    """A `StateCache` before another one, to which it falls back.

    Args:
        url: address, such as `redis://host:6379/0`.
        behind: the store; its own cache is read where Redis has nothing, and written while Redis is away.
        timeout_s: how long Redis may take.
    """

    def __init__(self, url: str, behind: SharedStore, *, timeout_s: float = 0.25) -> None:
        try:
            self._redis: Redis = Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, max_connections=8
            )
        except ValueError:
            raise StoreError(
                "state cache must be an address such as redis://host:6379/0, got another text; mend SEQUELA_STATE_CACHE"
            ) from None
        self._behind = behind
        self._timeout_s = timeout_s
        self._rests_until = 0.0
        self._to_drop: set[int] = set()
        self._save = self._redis.register_script(SAVE)
        self._drop = self._redis.register_script(DROP)

    async def load_state(self, number: int, key: str) -> CachedState | None:
        """The newest state of a stay that Redis, or else the cache behind it, has."""
        found = await self._ask(partial(self._held, self._name(number, key)))
        state = _unsealed(found, number, key) if isinstance(found, bytes) and number not in self._to_drop else None
        return state or await self._behind.load_state(number, key)

    async def save_states(self, states: Sequence[CachedState]) -> None:
        """Keeps states in Redis, or else in the cache behind it."""
        await self._drop_again()
        for place, state in enumerate(states):
            if await self._ask(partial(self._saved, state)) is None:
                await self._behind.save_states(states[place:])
                return

    async def drop_states(self, numbers: Sequence[int]) -> None:
        """Removes all states of stays from both; what Redis cannot remove now is removed when it is back."""
        self._to_drop.update(numbers)
        await self._drop_again()
        await self._behind.drop_states(numbers)

    async def close(self) -> None:
        """Ends the connections to Redis."""
        await self._redis.aclose()

    async def _drop_again(self) -> None:
        for number in tuple(self._to_drop):
            if await self._ask(partial(self._dropped, number)) is None:
                return
            self._to_drop.discard(number)

    async def _held(self, name: str) -> Any:
        return await self._redis.hget(name, "sealed")

    def _saved(self, state: CachedState) -> Awaitable[Any]:
        names = [self._name(state.number, state.key), self._grave(state.number), self._index(state.number)]
        return self._save(keys=names, args=[state.version, _sealed(state), EXPIRY_S])

    def _dropped(self, number: int) -> Awaitable[Any]:
        return self._drop(keys=[self._grave(number), self._index(number)], args=[EXPIRY_S])

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """What Redis answers; None if it does not, or was left alone."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await call()
        except (RedisError, OSError, TimeoutError):
            self._rests_until = time.monotonic() + REST_S
            return None

    def _name(self, number: int, key: str) -> str:
        return f"sequela:{self._behind.identity}:{{{number}}}:{key}"

    def _grave(self, number: int) -> str:
        return f"sequela:{self._behind.identity}:{{{number}}}:gone"

    def _index(self, number: int) -> str:
        return f"sequela:{self._behind.identity}:{{{number}}}:names"


def _sealed(state: CachedState) -> bytes:
    version = VERSION.pack(state.version)
    return version + _check(state.number, state.key, version, state.content) + state.content


def _unsealed(held: bytes, number: int, key: str) -> CachedState | None:
    """The state; None if the bytes are not this stay's under this key."""
    begin = VERSION.size + CHECK_BYTES
    if len(held) < begin:
        return None
    version, content = held[: VERSION.size], held[begin:]
    if held[VERSION.size : begin] != _check(number, key, version, content):
        return None
    return CachedState(number, key, VERSION.unpack(version)[0], content)


def _check(number: int, key: str, version: bytes, content: bytes) -> bytes:
    digest = hashlib.blake2b(VERSION.pack(number) + version, digest_size=CHECK_BYTES)
    digest.update(VERSION.pack(len(key.encode())) + key.encode() + content)
    return digest.digest()
