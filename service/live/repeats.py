"""A call that carries an Idempotency-Key in; the answer it had before, or the sole right to give it one, out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.live.refusals import other_body, still_running, unavailable
from service.live.store import Kept, StayStore, StoreError

KEPT_S = 86_400.0


def scope_of(*parts: bytes) -> bytes:
    """Digest of what a key is valid for."""
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def digest_of(body: bytes) -> bytes:
    """What is kept of a call's body, to tell it from another."""
    return hashlib.sha256(body).digest()


class Repeats:
    """Calls that may be repeated.

    Args:
        store: keeps their answers.
    """

    def __init__(self, store: StayStore) -> None:
        self._store = store
        self._running: set[bytes] = set()

    @asynccontextmanager
    async def alone(self, scope: bytes, body: bytes) -> AsyncIterator[Kept | None]:
        """Holds the claim to a key while the block runs; gives the answer if another replica had one meanwhile.

        Raises:
            Problem: 409 if a call with the key is running here or there, 422 for another body, 503 if the store fails.
        """
        if scope in self._running:
            raise still_running()
        self._running.add(scope)
        try:
            claimed, kept = await self._claim(scope, body)
            try:
                yield kept
            finally:
                if claimed:
                    await self._store.release(scope)
        finally:
            self._running.discard(scope)

    async def answer(self, scope: bytes, body: bytes) -> Kept | None:
        """The answer of an earlier call with the same key.

        Raises:
            Problem: 422 if that call had another body.
        """
        kept = await self._store.kept(scope)
        if kept is None:
            return None
        if kept.at_s < time.time() - KEPT_S:
            await self._store.purge(kept_before_s=time.time() - KEPT_S)
            return None
        if kept.body != digest_of(body):
            raise other_body()
        return kept

    async def _claim(self, scope: bytes, body: bytes) -> tuple[bool, Kept | None]:
        """Whether the key is claimed now, and the answer where it is not."""
        try:
            if await self._store.claim(scope):
                return True, None
            # Who has just been answered there may ask here before that replica gives up its claim.
            kept = await self.answer(scope, body)
        except StoreError as error:
            raise unavailable(error) from error
        if kept is None:
            raise still_running()
        return False, kept
