"""What surrounds every route: security headers, a request id, figures, a log line, host and size limits.

All of it is plain ASGI and reads the headers once: what is here is paid for by every request.

A request's scope gets `head` (its headers, by lower-case name), `request_id`, `key` (id of its API key), `log` (a
dictionary whose allow-listed entries join its log line) and, where traces are on, `span`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.disclaimer import HEADER_NAME, HEADER_VALUE
from service.errors import Problem, ProblemKind, internal_problem
from service.identifiers import new_id
from service.logs import Event, RequestLines, log_failure
from service.metrics import Metrics

REQUEST_ID = b"x-request-id"
UNMATCHED = "unmatched"
PAGE = (b"content-type", b"text/html; charset=utf-8")
LAST_ANSWER = (b"connection", b"close")
METHODS = frozenset(HTTPMethod.__members__)
# So many spellings of accepted hosts are known without looking closer.
MAX_MET = 100
# No standard status says that the sender went away; this one is never sent, only counted.
CLIENT_GONE = 499

Headers = list[tuple[bytes, bytes]]

_COMMON: Headers = [
    (HEADER_NAME.lower().encode(), HEADER_VALUE.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),  # a risk must not outlive its stay in a proxy
]
HEADERS: Headers = [*_COMMON, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
# The schema's page loads its program and its style from where FastAPI has them.
PAGE_HEADERS: Headers = [
    *_COMMON,
    (b"referrer-policy", b"no-referrer"),
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


class Hosts:
    """Host names that are the service's own.

    Args:
        accepted: names without port, `*.example.org` for all below one, or `*` for all.
    """

    def __init__(self, accepted: Sequence[str]) -> None:
        self._exact = {name.lower() for name in accepted}
        self._below = tuple(name[1:].lower() for name in accepted if name.startswith("*."))
        self._all = "*" in self._exact
        self._met: set[bytes] = set()

    def accept(self, host: bytes) -> bool:
        """Whether a `Host` header, with or without port, names the service."""
        if self._all or host in self._met:
            return True
        name = _host_name(host)
        accepted = name in self._exact or (bool(self._below) and name.endswith(self._below))
        if accepted and len(self._met) < MAX_MET:
            self._met.add(host)
        return accepted


class Envelope:
    """The one layer around the routes: every response passes it, those to failures included.

    Args:
        app: what is surrounded.
        metrics: counts requests.
        lines: logs them.
        accepted_hosts: names under which the service may be called.
        max_body_bytes: largest body, declared or not.
        streamed: paths whose routes read bodies of any length line by line, and bound each line themselves.
        tracer: makes spans, where traces are on.
        draining: whether the service has been told to end.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        lines: RequestLines,
        accepted_hosts: Sequence[str],
        max_body_bytes: int,
        streamed: frozenset[str] = frozenset(),
        tracer: Tracer | None = None,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.app = app
        self.draining = draining
        self.metrics = metrics
        self.lines = lines
        self.hosts = Hosts(accepted_hosts)
        self.max_body_bytes = max_body_bytes
        self.streamed = streamed
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and adds to, records and if need be replaces the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(head.get(REQUEST_ID))
        scope["head"], scope["request_id"], scope["key"], scope["log"] = head, request_id, "", {}
        scope["span"] = None if self.tracer is None else self.tracer.begin(head)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                common = PAGE_HEADERS if PAGE in message["headers"] else HEADERS
                message["headers"] = [*message["headers"], *common, (REQUEST_ID, request_id.encode())]
                if self.draining():  # whoever keeps the connection must know that it ends with this answer
                    message["headers"].append(LAST_ANSWER)
            await send(message)

        try:
            streamed = scope["path"] in self.streamed
            problem = self._refusal(head, streamed=streamed)
            if problem is not None:
                await problem.response()(scope, receive, send_with_headers)
            else:
                # Where a length is declared and counts, the server itself holds the sender to it.
                if not streamed and (b"content-length" not in head or b"transfer-encoding" in head):
                    receive = _bounded(receive, self.max_body_bytes)
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

    def _refusal(self, head: dict[bytes, bytes], *, streamed: bool) -> Problem | None:
        """What the headers alone are refused for.

        Where the body is too large the server reads on and discards the rest: a connection that is closed at once
        would be reset, and the sender would never see why.
        """
        if not self.hosts.accept(head.get(b"host", b"")):
            return Problem(
                HTTPStatus.BAD_REQUEST,
                ProblemKind.UNKNOWN_HOST,
                "The Host header must be one of the service's names; the operator sets SEQUELA_TRUSTED_HOSTS.",
            )
        declared = head.get(b"content-length", b"0")
        if not streamed and declared.isdigit() and int(declared[:20]) > self.max_body_bytes:
            return _too_large(self.max_body_bytes)
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", UNMATCHED))
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self.metrics.count_request(route=route, status=status, seconds=seconds)
        self.lines.add(
            {
                "request_id": scope["request_id"],
                "key": scope["key"],
                "route": route,
                "method": method,
                "status": status,
                "duration_ms": round(1000 * seconds, 3),
                **scope["log"],
            }
        )
        if scope["span"] is not None:
            scope["span"].end(route=route, method=method, status=status, request_id=scope["request_id"])


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """Receives a body of undeclared length, and refuses it when it proves to be too large."""
    received = 0

    async def bounded_receive() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return bounded_receive


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ProblemKind.BODY_TOO_LARGE,
        f"The body must be at most {max_bytes} bytes.",
    )


def _request_id(given: bytes | None) -> str:
    """The sender's id if it is a UUID, which cannot spell a name; a new one otherwise."""
    if given is not None and len(given) == 36:
        with contextlib.suppress(ValueError):
            return str(uuid.UUID(given.decode("latin-1")))
    return new_id()


def _host_name(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    return name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
