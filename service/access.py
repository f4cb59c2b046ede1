"""From a route's declared needs and a request's key to admission, or a refusal before the body is read.

What a route needs is what its OpenAPI operation says under `security`: the schema and the lock are one declaration.
A route that declares nothing admits nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from models.errors import ConfigError
from service.errors import Problem, ProblemKind
from service.keys import MAKE_ONE, ApiKey, KeyRing, Scope
from service.limits import RateLimits
from service.settings import Settings

SCHEME = "key"
SECURITY_SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key with the scopes that the operation lists; none is needed on the loopback interface "
        "of a service without keys.",
    }
}


def needs(*scopes: Scope) -> dict[str, Any]:
    """What a route passes as `openapi_extra`: a key with one of these scopes; without any, open to everybody."""
    return {"security": [{SCHEME: [str(scope)]} for scope in scopes]}


class Access:
    """Admits or refuses requests.

    Args:
        keys: the keys; None admits everybody, for a service that only this machine reaches.
        limits: requests that a key may make.
    """

    def __init__(self, keys: KeyRing | None, limits: RateLimits) -> None:
        self._keys = keys
        self._limits = limits

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """The access that settings ask for.

        Raises:
            ConfigError: if the service would listen beyond the loopback interface without keys.
        """
        limits = RateLimits(settings.rate_limit)
        if settings.keys is not None:
            return cls(KeyRing(settings.keys), limits)
        if not is_loopback(settings.host):
            raise ConfigError(
                f"keys must be given where others than this machine can connect, got none for {settings.host}; "
                f"{MAKE_ONE}, and set SEQUELA_KEYS to its file, or listen on 127.0.0.1"
            )
        return cls(None, limits)

    def admit(self, authorization: bytes, scopes: Iterable[Scope]) -> str:
        """The id of the key that makes the request; empty where no keys are asked for.

        Raises:
            Problem: 401 without a valid key, 403 without a scope that the route needs, 429 beyond its rate.
        """
        if self._keys is None:
            return ""
        key = self._holder(authorization)
        if key.scopes.isdisjoint(scopes):
            raise Problem(
                HTTPStatus.FORBIDDEN, ProblemKind.FORBIDDEN, "The key must have a scope that it does not have."
            )
        self._limits.admit(key)
        return key.id

    def holds(self, key_id: str, scope: Scope) -> bool:
        """Whether a key that was admitted to what goes on for long would still be: it may be revoked meanwhile."""
        return self._keys is None or self._still(key_id, scope) is not None

    def charge(self, key_id: str, scope: Scope) -> None:
        """Counts one more request of a key that was admitted to a call which stands for many.

        Raises:
            Problem: 401 if the key would not be admitted any more, 429 beyond its rate.
        """
        if self._keys is None:
            return
        key = self._still(key_id, scope)
        if key is None:
            raise _no_key()
        self._limits.admit(key)

    def _still(self, key_id: str, scope: Scope) -> ApiKey | None:
        key = None if self._keys is None else self._keys.named(key_id)
        return key if key is not None and scope in key.scopes else None

    def _holder(self, authorization: bytes) -> ApiKey:
        word, _, presented = authorization.partition(b" ")
        key = None
        if self._keys is not None and word.lower() == b"bearer":
            key = self._keys.holder(presented.strip().decode("latin-1"))
        if key is None:
            raise _no_key()
        return key


def _no_key() -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        ProblemKind.UNAUTHENTICATED,
        "The request must carry a valid API key as Authorization: Bearer.",
        headers={"WWW-Authenticate": "Bearer"},
    )


class GuardedRoute(APIRoute):
    """A route that asks the application's `Access` before anything of the request is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.needed = _declared(self.openapi_extra)
        self._begins = self.path.partition("{")[0]

    def matches(self, scope: Connection) -> tuple[Match, Connection]:
        """Whether the route is meant; most are told apart by how their paths begin, without a pattern."""
        if not scope["path"].startswith(self._begins):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Admits the request and passes it on."""
        self.admit(scope)
        await super().handle(scope, receive, send)

    def admit(self, scope: Connection) -> None:
        """Puts the id of the key that makes the request into its scope.

        Raises:
            Problem: 401, 403 or 429, as of `Access.admit`.
        """
        if self.needed is None:
            raise Problem(HTTPStatus.FORBIDDEN, ProblemKind.FORBIDDEN, "This address is open to nobody.")
        if self.needed:
            access: Access = scope["app"].state.access
            scope["key"] = access.admit(scope["head"].get(b"authorization", b""), self.needed)


class LeanRoute(GuardedRoute):
    """A route whose function takes the request itself; what the schema says of it stands in `openapi_extra`.

    Nothing is read or built on its behalf, and nothing but the application's own handlers stands around it.
    """

    async def handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Admits the request, and sends what the function answers."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        self.admit(scope)
        endpoint: Callable[[Request], Awaitable[Response]] = self.endpoint
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def _declared(extra: dict[str, Any] | None) -> frozenset[Scope] | None:
    security: Sequence[dict[str, list[str]]] | None = (extra or {}).get("security")
    if security is None:
        return None
    return frozenset(Scope(word) for requirement in security for word in requirement[SCHEME])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` is taken to be reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
