"""The body of a request as bytes, refused where it is no JSON, is compressed or does not arrive in time."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import Problem, ProblemKind

JSON = "application/json"
NDJSON = "application/x-ndjson"


def check_media_type(request: Request, *accepted: str) -> None:
    """Refuses other media types and compressed bodies.

    Raises:
        Problem: 415.
    """
    head: dict[bytes, bytes] = request.scope["head"]
    media_type = head.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if media_type not in accepted:
        detail = f"The body must be {' or '.join(accepted)}."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ProblemKind.MEDIA_TYPE, detail)
    if head.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        # A few compressed kilobytes may hold gigabytes: the limit of the body would mean nothing.
        detail = "The body must not be compressed."
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ProblemKind.MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"}
        )


async def read_json(request: Request, *, seconds: float) -> bytes:
    """The body of a JSON request.

    Raises:
        Problem: 415 for another media type or a compressed body, 408 if the body does not arrive in time.
    """
    check_media_type(request, JSON)
    body = _whole(request)
    try:
        waits_for = body.send(None)
    except StopIteration as arrived:  # nearly all are there with their heads, and need no timer
        whole: bytes = arrived.value
        return whole
    try:
        async with asyncio.timeout(seconds):
            return await _going_on(body, waits_for)
    except TimeoutError:
        raise too_slow(seconds) from None


def too_slow(seconds: float) -> Problem:
    """The refusal of a body that does not arrive."""
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT,
        ProblemKind.BODY_TOO_SLOW,
        f"The body must arrive within {seconds:g} s.",
        headers={"Connection": "close"},
    )


@types.coroutine
def _going_on(begun: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """What a coroutine returns that already waits for something."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001  # whatever ends the wait ends it for the coroutine
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(sent)
    except StopIteration as ended:
        whole: bytes = ended.value
        return whole


async def _whole(request: Request) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
