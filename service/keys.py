"""From a file of hashed API keys, and a key as a sender presents it, to who the sender is and what it may do.

A key is `sqk_<id>_<secret>`. The file holds the SHA-256 of the secret alone: 256 random bits leave nothing to guess, so
no slow hash is needed. `python -m service keys` makes, lists and revokes keys; a running service follows at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import ConfigError
from service.logs import Event, log_event

SCHEMA = 1
PREFIX = "sqk"
ID = re.compile(r"[0-9a-f]{12}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RECHECK_S = 1.0
MAKE_ONE = "make one with: python -m service keys add --name NAME --scopes score"
# Compared with where no key has the presented id, so that both refusals take the same work.
_NOBODY = bytes(32)


class Scope(StrEnum):
    """What a key may do."""

    SCORE = "score"
    ADMIN = "admin"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without its secret.

    Args:
        id: public part, which logs and the audit name.
        name: the operator's word for who holds it.
        scopes: what it may do.
        digest: SHA-256 of the secret.
        created: when it was made.
        expires: when it ends; None for never.
        rate: a limit of its own, such as `100/second`; None for the service's.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    digest: bytes
    created: datetime
    expires: datetime | None = None
    rate: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The key as the file holds it."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "sha256": self.digest.hex(),
            "created": self.created.isoformat(timespec="seconds"),
            "expires": self.expires.isoformat(timespec="seconds") if self.expires else None,
            "rate": self.rate,
        }

    @classmethod
    def from_record(cls, record: Any) -> ApiKey:
        """The key of one entry of the file; anything that does not hold is a ValueError, KeyError or TypeError."""
        key = cls(
            id=record["id"],
            name=record["name"],
            scopes=frozenset(Scope(s) for s in record["scopes"]),
            digest=bytes.fromhex(record["sha256"]),
            created=datetime.fromisoformat(record["created"]),
            expires=datetime.fromisoformat(record["expires"]) if record["expires"] else None,
            rate=record["rate"],
        )
        naive = key.created.tzinfo is None or (key.expires is not None and key.expires.tzinfo is None)
        if not ID.fullmatch(key.id) or not NAME.fullmatch(key.name) or len(key.digest) != 32 or naive:
            raise ValueError(key.id)
        return key


def make_key(
    name: str, scopes: Iterable[Scope], *, days: float | None = None, rate: str | None = None
) -> tuple[ApiKey, str]:
    """A new key and what its holder must present, which nobody can read again later.

    Raises:
        ConfigError: for a name that is no plain word, or no scope.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"name must be letters, digits, dots and dashes, got {len(name)} characters; choose another")
    chosen = frozenset(scopes)
    if not chosen:
        raise ConfigError(f"scopes must hold at least one of {', '.join(Scope)}, got none; name one")
    secret, public = secrets.token_urlsafe(32), secrets.token_hex(6)
    now = datetime.now(UTC).replace(microsecond=0)
    expires = now + timedelta(days=days) if days is not None else None
    key = ApiKey(public, name, chosen, hashlib.sha256(secret.encode()).digest(), now, expires, rate)
    return key, f"{PREFIX}_{public}_{secret}"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """All keys of a file.

    Raises:
        ConfigError: if it cannot be read, is no key file, or may be written by everybody.
    """
    try:
        writable = bool(path.stat().st_mode & 0o002)
        stored = json.loads(path.read_bytes())
        if stored["schema"] != SCHEMA:
            raise ValueError(stored["schema"])
        keys = tuple(ApiKey.from_record(record) for record in stored["keys"])
    except OSError as error:
        raise ConfigError(f"key file must be readable, got {path} ({error.strerror}); {MAKE_ONE}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"key file must be one of schema {SCHEMA}, got {path}; {MAKE_ONE}") from None
    if writable:
        raise ConfigError(f"key file must not be writable by all, got {path}; run: chmod o-w {path}")
    if len({key.id for key in keys}) < len(keys):
        raise ConfigError(f"key file must name each id once, got {path}; remove one of the two")
    return keys


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replaces the file at once, readable and writable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"schema": SCHEMA, "keys": [key.to_record() for key in keys]}, indent=1) + "\n"
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def without_key(keys: Iterable[ApiKey], key_id: str) -> tuple[ApiKey, ...]:
    """All keys but one.

    Raises:
        ConfigError: if there is no such key.
    """
    given = tuple(keys)
    rest = tuple(key for key in given if key.id != key_id)
    if len(rest) == len(given):
        raise ConfigError(
            "id must be that of a key of the file, got another; list them with: python -m service keys list"
        )
    return rest


class KeyRing:
    """The keys of a file, read again when it changes.

    Where a changed file cannot be read, the keys of before stay and the log says so: a slip of an operator's editor
    shall not lock a ward out. `python -m service keys revoke` never leaves such a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = _by_id(read_keys(path))
        self._seen = _version(path)
        self._checked = time.monotonic()

    def __len__(self) -> int:
        return len(self._keys)

    def holder(self, presented: str) -> ApiKey | None:
        """The key that was presented, if it is one, is not revoked and has not ended."""
        self._follow()
        prefix, _, rest = presented.partition("_")
        public, _, secret = rest.partition("_")
        key = self._keys.get(public) if prefix == PREFIX else None
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        same = hmac.compare_digest(digest, _NOBODY if key is None else key.digest)
        return None if key is None or not same or _has_ended(key) else key

    def named(self, key_id: str) -> ApiKey | None:
        """The key of this id, if it is not revoked and has not ended: for a call that its holder began with it."""
        self._follow()
        key = self._keys.get(key_id)
        return None if key is None or _has_ended(key) else key

    def _follow(self) -> None:
        now = time.monotonic()
        if now - self._checked < RECHECK_S:
            return
        self._checked = now
        version = _version(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._keys = _by_id(read_keys(self._path))
        except ConfigError as error:
            log_event(Event.KEYS_UNREADABLE, level=logging.ERROR, error_type=type(error).__name__)
        else:
            log_event(Event.KEYS_CHANGED, keys=len(self._keys))


def _has_ended(key: ApiKey) -> bool:
    return key.expires is not None and key.expires <= datetime.now(UTC)


def _by_id(keys: Iterable[ApiKey]) -> dict[str, ApiKey]:
    return {key.id: key for key in keys}


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
