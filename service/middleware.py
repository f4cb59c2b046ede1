"""What surrounds every route: the research-use header, a request id, figures, a log line, host and size limits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from http import HTTPMethod, HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.disclaimer import HEADER_NAME, HEADER_VALUE
from service.errors import Problem, ProblemKind, internal_problem
from service.logs import Event, log_event, log_failure
from service.metrics import Metrics

REQUEST_ID = "X-Request-Id"
UNMATCHED = "unmatched"
# No standard status says that the sender went away; this one is never sent, only counted.
CLIENT_GONE = 499


class Envelope:
    """Outermost layer: every response passes it, those to failures included."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and adds to, records and if need be replaces the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                _add_headers(message, request_id)
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
        route = str(getattr(scope.get("route"), "path", UNMATCHED))
        self.metrics.count_request(route=route, status=status, seconds=seconds)
        log_event(
            Event.REQUEST,
            request_id=scope["request_id"],
            route=route,
            method=_method(scope["method"]),
            status=status,
            duration_ms=round(1000 * seconds, 3),
        )


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400 for another host name, and passes the rest on."""
        if scope["type"] != "http" or "*" in self.exact or self._accepts(_host_name(scope)):
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
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > self.max_bytes:
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


def _add_headers(message: Message, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers[HEADER_NAME] = HEADER_VALUE
    headers[REQUEST_ID] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cache-Control"] = "no-store"  # a risk must not outlive its stay in a proxy


def _request_id(scope: Scope) -> str:
    """The sender's id if it is a UUID, which cannot spell a name; a new one otherwise."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    try:
        return str(uuid.UUID(given)) if len(given) == 36 else str(uuid.uuid4())
    except ValueError:
        return str(uuid.uuid4())


def _method(method: str) -> str:
    return method if method in HTTPMethod.__members__ else "OTHER"


def _host_name(scope: Scope) -> str:
    host = Headers(scope=scope).get("host", "").lower()
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
