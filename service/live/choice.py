"""From the addresses in the settings to a store of live stays and a cache of their states.

| address of the store | what keeps the stays |
|---|---|
| `sqlite:///folder/stays.db` | a file; for one process of the service |
| `postgresql://user@host/name` | PostgreSQL; for one or several replicas |
| `memory:` | this process's memory: all ends with it |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ConfigError
from service.live.memory_store import MemoryStore
from service.live.sqlite_store import SqliteStore
from service.live.store import StayStore

if TYPE_CHECKING:
    from service.live.redis_cache import RedisCache

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
MEMORY = "memory:"
REDIS = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True)
class Keeping:
    """What keeps live stays.

    Args:
        store: keeps the stays.
        cache: keeps their states: the store itself, or Redis before it.
    """

    store: StayStore
    cache: StayStore | RedisCache

    async def open(self) -> None:
        """Prepares the store; the cache needs no preparation."""
        await self.store.open()

    async def close(self) -> None:
        """Ends what was begun."""
        if self.cache is not self.store:
            await self.cache.close()
        await self.store.close()


def keeping_at(store: str, cache: str = "") -> Keeping:
    """The store and the cache at these addresses; they are not opened yet.

    Args:
        store: address of the store.
        cache: address of a Redis that replicas share; empty for none.

    Raises:
        ConfigError: if an address has no meaning, its client is not installed, or the two do not go together.
    """
    kept = _store_at(store)
    return Keeping(kept, _cache_at(cache, kept) if cache else kept)


def _store_at(address: str) -> StayStore:
    if address == MEMORY:
        return MemoryStore()
    if address.startswith(SQLITE) and len(address) > len(SQLITE):
        return SqliteStore(Path(address.removeprefix(SQLITE)))
    if not address.startswith(POSTGRES):
        raise ConfigError(
            f"store must begin with {SQLITE}, {POSTGRES[0]} or be {MEMORY}, got another address; set SEQUELA_STORE"
        )
    try:
        from service.live.postgres_store import PostgresStore
    except ImportError:
        raise ConfigError("store must have its client, got none; install sequela[postgres]") from None
    return PostgresStore(address)


def _cache_at(address: str, store: StayStore) -> RedisCache:
    if not address.startswith(REDIS):
        raise ConfigError(f"state cache must begin with {REDIS[0]}, got another address; set SEQUELA_STATE_CACHE")
    try:
        from service.live.postgres_store import PostgresStore
        from service.live.redis_cache import RedisCache
    except ImportError:
        raise ConfigError("state cache must have its client, got none; install sequela[postgres,redis]") from None
    if not isinstance(store, PostgresStore):
        raise ConfigError("state cache must go with a store that replicas share, got another; use PostgreSQL")
    return RedisCache(address, store)
