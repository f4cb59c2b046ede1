"""`POST /v1/score/batch`: many stays, one a line, scored as they arrive and answered in their order, one a line.

Neither side is held in memory: lines are read only as fast as they are scored, and answered only as fast as the
answers are taken.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from models.errors import SequelaError
from service.access import Access, GuardedRoute, needs
from service.bodies import NDJSON, check_media_type
from service.errors import PROBLEM_MEDIA_TYPE, Problem, ProblemDocument, ProblemKind, internal_problem, invalid_input
from service.keys import Scope
from service.logs import Event, log_failure
from service.routes import Service, score_whole
from service.schema import ScoreRequest
from service.scoring import Scored

PATH = "/v1/score/batch"
# Lines that are read ahead of the one that is answered next.
AHEAD = 8
# How long a line waits for its turn while others keep the model busy.
PAUSE_S = 0.02
# How long a line waits until its key may make another request; beyond it the line is answered with the refusal.
WORTH_WAITING_S = 60.0

router = APIRouter(route_class=GuardedRoute)

_LINES = {"type": "string", "description": f"One JSON object a line: each as `{ScoreRequest.__name__}`."}
_ANSWERS = {
    "type": "string",
    "description": "One JSON object a line, in the lines' order: `line`, from 1, with `answer` as of `/v1/score`, or "
    f"with `problem`, as `{ProblemDocument.__name__}`.",
}
_PROBLEM: dict[str, Any] = {
    "description": "Refused; nothing of the input is repeated.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
}


class _BothWays(StreamingResponse):
    """A response that is sent while the request is still read: nobody else may listen for what arrives."""

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        del scope, receive
        await self.stream_response(send)


@router.post(
    PATH,
    tags=["score"],
    summary="Risks of many stays",
    response_class=Response,
    responses={
        200: {"content": {NDJSON: {"schema": _ANSWERS}}},
        **dict.fromkeys((400, 401, 403, 415, 429), _PROBLEM),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {NDJSON: {"schema": _LINES}}},
        **needs(Scope.SCORE),
    },
)
async def score_batch(request: Request) -> Response:
    """Scores stays as they arrive; a line that does not hold is answered with its problem, and the next is read."""
    check_media_type(request, NDJSON)
    return _BothWays(_answers(request, request.app.state.service), media_type=NDJSON)


async def _answers(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Answers in the lines' order, each as soon as it is made, whether or not a further line has arrived."""
    scoring: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(AHEAD)

    async def read() -> None:
        number = 0

        async def take(line: bytes | Problem) -> None:
            nonlocal number
            number += 1
            if number > 1 and isinstance(line, bytes):  # the first is the call itself
                line = await _charged(line, request)
            await scoring.put(asyncio.create_task(_answer(number, line, request, service)))

        try:
            async for line in _lines(request, service):
                await take(line)
        except ClientDisconnect:
            pass  # nobody reads any more
        except TimeoutError:
            await take(_silent(service.settings.body_timeout_s))
        finally:
            await scoring.put(None)

    reading = asyncio.create_task(read())
    try:
        while (task := await scoring.get()) is not None:
            yield await task
    finally:
        reading.cancel()
        while not scoring.empty():
            left = scoring.get_nowait()
            if left is not None:
                left.cancel()


async def _charged(line: bytes, request: Request) -> bytes | Problem:
    """The line once it counts as a request of the key; what its rate refuses for longer than is worth waiting."""
    access: Access = request.app.state.access
    while True:
        try:
            access.charge(request.scope["key"], Scope.SCORE)
        except Problem as refused:
            wait = float((refused.headers or {}).get("Retry-After", math.inf))
            if wait > WORTH_WAITING_S:
                return refused
            await asyncio.sleep(wait)
        else:
            return line


async def _lines(request: Request, service: Service) -> AsyncIterator[bytes | Problem]:
    """The body's lines without empty ones; for one that is too long its problem.

    Raises:
        TimeoutError: if nothing arrives in time.
    """
    limit, seconds = service.settings.max_body_bytes, service.settings.body_timeout_s
    held, dropped = b"", False
    more = True
    while more:
        async with asyncio.timeout(seconds):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        *whole, held = (held + message.get("body", b"")).split(b"\n")
        for line in whole if more else (*whole, held):
            if dropped or len(line) > limit:
                yield _too_long(limit)
                dropped = False
            elif line.strip():
                yield line
        if len(held) > limit:
            held, dropped = b"", True


def _too_long(limit: int) -> Problem:
    return invalid_input([((), f"must be at most {limit} bytes a line")])


def _silent(seconds: float) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT,
        ProblemKind.BODY_TOO_SLOW,
        f"The next part of the body must arrive within {seconds:g} s; what was not answered before is not scored.",
    )


async def _answer(number: int, line: bytes | Problem, request: Request, service: Service) -> bytes:
    try:
        if isinstance(line, Problem):
            raise line
        scored = await _scored(line, service, request)
        return b'{"line":%d,"answer":%b}\n' % (number, scored.content)
    except Problem as problem:
        refused = problem
    except SequelaError as error:
        log_failure(Event.REFUSED, error, request_id=request.scope["request_id"])
        refused = invalid_input([((), "must be a stay that can be read")])
    except Exception as error:  # noqa: BLE001  # one line's failure must not take the others' answers
        log_failure(Event.FAILED, error, request_id=request.scope["request_id"])
        refused = internal_problem()
    return orjson.dumps({"line": number, "problem": orjson.Fragment(bytes(refused.response().body))}) + b"\n"


async def _scored(line: bytes, service: Service, request: Request) -> Scored:
    """The line's score, once it is its turn: who sends many stays waits instead of being sent away."""
    while True:
        try:
            scored, _ = await score_whole(service, line, request)
            return scored
        except Problem as problem:
            if problem.kind is not ProblemKind.BUSY:
                raise
            await asyncio.sleep(PAUSE_S)
