"""What surrounds every route: security headers, a request id, figures, a log line, host and size limits.

All of it is plain ASGI and reads the headers once: what is here is paid for by every request.

A request's scope gets `head` (its headers, by lower-case name), `request_id`, `key` (id of its API key), `log` (a
dictionary whose allow-listed entries join its log line) and, where traces are on, `span`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from http import HTTPMethod, HTTPStatus
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.disclaimer import HEADER_NAME, HEADER_VALUE
from service.errors import Problem, ProblemKind, internal_problem
from service.logs import Event, log_event, log_failure
from service.metrics import Metrics

REQUEST_ID = b"x-request-id"
UNMATCHED = "unmatched"
PAGE = "/docs"
# No standard status says that the sender went away; this one is never sent, only counted.
CLIENT_GONE = 499

Headers = list[tuple[bytes, bytes]]

_COMMON: Headers = [
    (HEADER_NAME.lower().encode(), HEADER_VALUE.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),  # a risk must not outlive its stay in a proxy
]
HEADERS: Headers = [*_COMMON, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
# The schema's page loads its program and its style from where FastAPI has them.
PAGE_HEADERS: Headers = [
    *_COMMON,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; connect-src 'self'; "
        b"style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com; "
        b"frame-ancestors 'none'",
    ),
]


class Span(Protocol):
    """One request's trace."""

    def end(self, *, route: str, method: str, status: int, request_id: str) -> None:
        """Ends it, with what may be said of the request."""
        ...


class Tracer(Protocol):
    """What makes spans."""

    def begin(self, head: dict[bytes, bytes]) -> Span:
        """Begins the span of a request with these headers."""
        ...


class Envelope:
    """Outermost layer: every response passes it, those to failures included."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and adds to, records and if need be replaces the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(head.get(REQUEST_ID, b""))
        scope["head"], scope["request_id"], scope["key"], scope["log"] = head, request_id, "", {}
        scope["span"] = None if self.tracer is None else self.tracer.begin(head)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                common = PAGE_HEADERS if _route(scope) == PAGE else HEADERS
                message["headers"] = [*message["headers"], *common, (REQUEST_ID, request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            log_failure(Event.FAILED, error, request_id=request_id)
            if status:  # the answer has begun: only breaking the connection tells the truth
                raise
            await internal_problem().response()(scope, receive, send_with_headers)
        finally:
            self._record(scope, status or CLIENT_GONE, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), _method(scope["method"])
        self.metrics.count_request(route=route, status=status, seconds=seconds)
        log_event(
            Event.REQUEST,
            request_id=scope["request_id"],
            key=scope["key"],
            route=route,
            method=method,
            status=status,
            duration_ms=round(1000 * seconds, 3),
            **scope["log"],
        )
        if scope["span"] is not None:
            scope["span"].end(route=route, method=method, status=status, request_id=scope["request_id"])


class HostGuard:
    """Refuses requests under a host name that is not the service's own.

    Args:
        app: what is guarded.
        accepted: names without port, `*.example.org` for all below one, or `*` for all.
    """

    def __init__(self, app: ASGIApp, *, accepted: Sequence[str]) -> None:
        self.app = app
        self.exact = {name.lower() for name in accepted}
        self.below = tuple(name[1:].lower() for name in accepted if name.startswith("*."))
        self.all = "*" in self.exact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400 for another host name, and passes the rest on."""
        if self.all or scope["type"] != "http" or self._accepts(_host_name(scope["head"].get(b"host", b""))):
            await self.app(scope, receive, send)
            return
        problem = Problem(
            HTTPStatus.BAD_REQUEST,
            ProblemKind.UNKNOWN_HOST,
            "The Host header must be one of the service's names; the operator sets SEQUELA_TRUSTED_HOSTS.",
        )
        await problem.response()(scope, receive, send)

    def _accepts(self, host: str) -> bool:
        return host in self.exact or (bool(self.below) and host.endswith(self.below))


class BodyLimit:
    """Refuses a body that is, or grows, larger than the limit, before it fills the memory.

    The server reads on and discards the rest: a connection that is closed at once would be reset, and the
    sender would never see why.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 413 for a larger body, and passes the rest on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = scope["head"].get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self.max_bytes:
            await self._problem().response()(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._problem()
            return message

        await self.app(scope, limited_receive, send)

    def _problem(self) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            ProblemKind.BODY_TOO_LARGE,
            f"The body must be at most {self.max_bytes} bytes.",
        )


def _request_id(given: bytes) -> str:
    """The sender's id if it is a UUID, which cannot spell a name; a new one otherwise."""
    try:
        return str(uuid.UUID(given.decode("latin-1"))) if len(given) == 36 else str(uuid.uuid4())
    except ValueError:
        return str(uuid.uuid4())


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", UNMATCHED))


def _method(method: str) -> str:
    return method if method in HTTPMethod.__members__ else "OTHER"


def _host_name(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
