"""What answers at which address under `/v1/stays`; each route is a few lines around the work of another module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from service.access import Access, LeanRoute, needs
from service.bodies import JSON, read_json
from service.errors import PROBLEM_MEDIA_TYPE, Problem, ProblemDocument, ProblemKind, invalid_input
from service.keys import Scope
from service.language import HEADER, preferred_language
from service.live.answers import LiveAnswer, StayPage, StayView
from service.live.calls import LiveStays
from service.live.schema import CORRECTION, OBSERVATIONS, STAY, identifier_holds
from service.live.settling import MAX_KEY_BYTES, Call, Reply
from service.live.views import events, stay_page, stay_view
from service.live.watchers import Watchers
from service.settings import Settings

MAX_PAGE = 1000
REPEATED = {"Idempotency-Replayed": "true"}
STAY_ROUTE = "/v1/stays/{stay_id}"
OBSERVATIONS_ROUTE = "/v1/stays/{stay_id}/observations"
# An identifier of an observation may hold a slash.
OBSERVATION_ROUTE = "/v1/stays/{stay_id}/observations/{observation_id:path}"

_PROBLEM: dict[str, Any] = {
    "description": "Refused; nothing of the input is repeated.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
}


class _Listening(StreamingResponse):
    """A stream that counts as a listener, from before it is made until it ends."""

    def __init__(self, watchers: Watchers, stream: AsyncIterator[bytes]) -> None:
        super().__init__(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._watchers = watchers

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watchers.listeners -= 1


router = APIRouter(route_class=LeanRoute, tags=["stays"])


def _live(request: Request) -> LiveStays:
    live: LiveStays = request.app.state.live
    return live


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.service.settings
    return settings


def _said(*parameters: dict[str, Any], body: str | None = None, optional_body: bool = False) -> dict[str, Any]:
    """What the schema says of a route, beside its answers."""
    told: dict[str, Any] = {**needs(Scope.SCORE), "parameters": list(parameters)}
    if body is not None:
        content = {JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        told["requestBody"] = {"required": not optional_body, "content": content}
    return told


def _in_path(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": 200}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


_STAY_ID = _in_path("stay_id", "Opaque; chosen by the sender; neither logged nor returned but where it is asked for.")
_OBSERVATION_ID = _in_path("observation_id", "The sender's identifier, or the one that an answer named.")
_REPEAT_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES},
    "description": "The same key with the same body repeats the first answer for 24 hours.",
}
_AFTER: dict[str, Any] = {
    "name": "after",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "maxLength": 200},
    "description": "`next` of the page before.",
}
_LIMIT: dict[str, Any] = {
    "name": "limit",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
}
_LAST_EVENT: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 0},
    "description": "The last event that was read: those after it are sent first.",
}


def _answers(*statuses: int, model: Any = LiveAnswer) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}, **dict.fromkeys((400, 401, 403, 404, 429, 500, 503, *statuses), _PROBLEM)}


@router.put(
    STAY_ROUTE,
    summary="State what is known at admission",
    responses={**_answers(408, 409, 413, 415, 422), 201: {"model": LiveAnswer}},
    openapi_extra=_said(_STAY_ID, _REPEAT_KEY, body="StayRequest"),
)
async def put_stay(request: Request) -> Response:
    """Creates a stay, or states its static values anew; the answer is its score."""
    body = await read_json(request, seconds=_settings(request).body_timeout_s)
    return _response(await _live(request).admit(_call(request, "PUT stay", body)))


@router.post(
    OBSERVATIONS_ROUTE,
    summary="Add observations and notes to a stay",
    responses=_answers(408, 409, 413, 415, 422),
    openapi_extra=_said(_STAY_ID, _REPEAT_KEY, body="ObservationsRequest"),
)
async def post_observations(request: Request) -> Response:
    """Adds observations and notes, and answers with the score once they are durable."""
    body = await read_json(request, seconds=_settings(request).body_timeout_s)
    return _response(await _live(request).observe(_call(request, "POST observations", body)))


@router.patch(
    OBSERVATION_ROUTE,
    summary="Correct an observation or note",
    responses=_answers(408, 409, 413, 415, 422),
    openapi_extra=_said(_STAY_ID, _OBSERVATION_ID, _REPEAT_KEY, body="CorrectionRequest"),
)
async def patch_observation(request: Request) -> Response:
    """Corrects an observation; the stay is scored anew from its time."""
    body = await read_json(request, seconds=_settings(request).body_timeout_s)
    identifier = request.path_params["observation_id"]
    call = _call(request, f"PATCH observation {identifier}", body)
    return _response(await _live(request).correct(call, identifier))


@router.delete(
    OBSERVATION_ROUTE,
    summary="Withdraw an observation or note",
    responses=_answers(409, 422),
    openapi_extra=_said(_STAY_ID, _OBSERVATION_ID, _REPEAT_KEY),
)
async def delete_observation(request: Request) -> Response:
    """Withdraws an observation; the stay is scored anew from its time."""
    identifier = request.path_params["observation_id"]
    call = _call(request, f"DELETE observation {identifier}", b"")
    return _response(await _live(request).withdraw(call, identifier))


@router.get(
    "/v1/stays/{stay_id}/events",
    summary="New scores of a stay as they are made",
    responses={**_answers(422, model=None), 200: {"content": {"text/event-stream": {}}}},
    openapi_extra=_said(_STAY_ID, _LAST_EVENT),
)
async def get_events(request: Request) -> Response:
    """Server-sent events: one a score, until the stay is deleted, the key ends or the listener leaves."""
    live, last = _live(request), request.headers.get("last-event-id", "")
    call = _call(request, "GET events", b"")
    if last and not (last.isascii() and last.isdecimal() and len(last) < 16):
        raise invalid_input([(("Last-Event-ID",), "must be the id of an event")])
    await live.require(call.stay_id)
    if live.watchers.listeners >= _settings(request).max_listeners:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            ProblemKind.BUSY,
            "Too many listen already; try again.",
            headers={"Retry-After": "5"},
        )
    live.watchers.listeners += 1  # given back by the answer: nothing between may refuse the call
    access: Access = request.app.state.access
    admitted = partial(access.holds, call.key, Scope.SCORE)
    return _Listening(live.watchers, events(live, call, after=int(last) if last else None, admitted=admitted))


@router.get(
    STAY_ROUTE, summary="A stay and its trajectories", responses=_answers(model=StayView), openapi_extra=_said(_STAY_ID)
)
async def get_stay(request: Request) -> Response:
    """A stay: its risks with all that is known now, and as they were answered."""
    view = await stay_view(_live(request), _call(request, "GET stay", b""))
    return Response(view, media_type=JSON)


@router.delete(
    STAY_ROUTE,
    summary="Delete a stay",
    status_code=204,
    responses={k: v for k, v in _answers().items() if k != 200},
    openapi_extra=_said(_STAY_ID),
)
async def delete_stay(request: Request) -> Response:
    """Deletes a stay and all that was kept of it; the audit keeps records that nobody can tie to it any more."""
    await _live(request).delete(_call(request, "DELETE stay", b""))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/v1/stays",
    summary="Stays, page by page",
    responses=_answers(422, model=StayPage),
    openapi_extra=_said(_AFTER, _LIMIT),
)
async def get_stays(request: Request) -> Response:
    """Stays in the order of their identifiers."""
    after, limit = request.query_params.get("after", ""), request.query_params.get("limit", "100")
    number = int(limit) if limit.isascii() and limit.isdecimal() and len(limit) <= 4 else 0
    if not 1 <= number <= MAX_PAGE:
        raise invalid_input([(("limit",), f"must be a whole number from 1 to {MAX_PAGE}")])
    if after and not identifier_holds(after):
        raise invalid_input([(("after",), "must be the identifier of a stay")])
    page = await stay_page(_live(request), after=after, limit=number)
    return Response(page.model_dump_json(), media_type=JSON)


SCHEMAS: dict[str, TypeAdapter[Any]] = {
    "StayRequest": STAY,
    "ObservationsRequest": OBSERVATIONS,
    "CorrectionRequest": CORRECTION,
}


def _stay_id(request: Request) -> str:
    stay_id: str = request.path_params["stay_id"]
    if not identifier_holds(stay_id):
        raise Problem(
            HTTPStatus.NOT_FOUND,
            ProblemKind.NOT_FOUND,
            "A stay's identifier must be of 1 to 200 printable characters, and neither `.` nor `..`.",
        )
    return stay_id


def _call(request: Request, route: str, body: bytes) -> Call:
    scope = request.scope
    repeat_key: bytes | None = scope["head"].get(b"idempotency-key")
    if repeat_key is not None and not 1 <= len(repeat_key) <= MAX_KEY_BYTES:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            ProblemKind.REPEAT_KEY,
            f"The Idempotency-Key must be of 1 to {MAX_KEY_BYTES} characters.",
        )
    japanese = preferred_language(scope["head"].get(HEADER, b"")) == "ja"
    return Call(route, _stay_id(request), body, scope["request_id"], scope["key"], repeat_key, japanese)


def _response(reply: Reply) -> Response:
    return Response(reply.content, reply.status, headers=REPEATED if reply.repeated else None, media_type=JSON)
