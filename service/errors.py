"""From anything that goes wrong to a problem document (RFC 9457) that never repeats what was sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from models.disclaimer import DISCLAIMER_EN
from models.errors import SequelaError
from service.logs import Event, log_failure

PROBLEM_MEDIA_TYPE = "application/problem+json"
# More than this many places help nobody, and a hostile body may hold a hundred thousand wrong ones.
MAX_PLACES = 20
# Beyond this many, even listing them would cost seconds.
MAX_LISTED = 2000

Loc = tuple[str | int, ...]


class ProblemKind(StrEnum):
    """Kinds of problem; a document's `type` is `urn:sequela:problem:<kind>`."""

    INVALID_INPUT = "invalid-input"
    BODY_TOO_LARGE = "body-too-large"
    BODY_TOO_SLOW = "body-too-slow"
    MEDIA_TYPE = "unsupported-media-type"
    UNKNOWN_HOST = "unknown-host"
    BUSY = "busy"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    REPEAT_KEY = "repeat-key"
    HTTP = "http"
    INTERNAL = "internal"


class Place(BaseModel):
    """Where the input is wrong, as a path into the body, and what is expected there."""

    loc: list[str | int]
    msg: str


class ProblemDocument(BaseModel):
    """A problem document; it never holds a value, a name or a text of the request."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Place] = []
    disclaimer: str = DISCLAIMER_EN


class Problem(HTTPException):
    """A refusal that becomes a problem document.

    Args:
        status: HTTP status.
        kind: kind of problem.
        detail: one sentence of this service's own words.
        places: where the input is wrong; user-chosen keys are replaced by `*`.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        kind: ProblemKind,
        detail: str,
        *,
        places: Iterable[tuple[Loc, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.kind = kind
        self.places = [Place(loc=list(loc), msg=msg) for loc, msg in places][:MAX_PLACES]

    def response(self) -> JSONResponse:
        """The document as a response."""
        document = ProblemDocument(
            type=f"urn:sequela:problem:{self.kind}",
            title=HTTPStatus(self.status_code).phrase,
            status=self.status_code,
            detail=self.detail,
            errors=self.places,
        )
        return JSONResponse(
            document.model_dump(), self.status_code, headers=self.headers, media_type=PROBLEM_MEDIA_TYPE
        )


def invalid_input(places: Iterable[tuple[Loc, str]]) -> Problem:
    """The refusal of a body whose fields do not hold."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        ProblemKind.INVALID_INPUT,
        "The body must follow the schema at /openapi.json; see errors.",
        places=places,
    )


def from_validation(error: ValidationError, *, known: frozenset[str]) -> Problem:
    """The refusal of a body that the schema does not accept.

    Args:
        error: what pydantic found; neither its input nor its context is read.
        known: words that may stand in a path; every other one is the sender's and becomes `*`.
    """
    if error.error_count() > MAX_LISTED:
        return invalid_input([((), "must follow the schema, which it does not in thousands of places")])
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return invalid_input((_safe_loc(e["loc"], known), e["msg"].removeprefix("Value error, ")) for e in found)


def _safe_loc(loc: Loc, known: frozenset[str]) -> Loc:
    return tuple(part if isinstance(part, int) or part in known else "*" for part in loc)


def internal_problem() -> Problem:
    """What the sender learns of a failure inside: nothing but that it happened."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        ProblemKind.INTERNAL,
        "The request failed inside the service; no score was made. The log holds the request id.",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Maps exceptions to problem documents, once."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_parameters)
    app.add_exception_handler(SequelaError, _on_refusal)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    del request
    if isinstance(error, Problem):
        return error.response()
    status = int(getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    headers: Any = getattr(error, "headers", None)
    return Problem(status, ProblemKind.HTTP, HTTPStatus(status).description, headers=headers).response()


async def _on_parameters(request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    known = frozenset({"path", *request.path_params})  # the template's names; what stands there is the sender's
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        ProblemKind.INVALID_INPUT,
        "The address must follow the schema at /openapi.json; see errors.",
        places=[(_safe_loc(tuple(e["loc"]), known), e["msg"]) for e in found],
    ).response()


async def _on_refusal(request: Request, error: Exception) -> JSONResponse:
    # The message is for the pipeline's user; the sender of a stay gets no text that this module did not word.
    log_failure(Event.REFUSED, error, request_id=request.scope.get("request_id", ""))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        ProblemKind.INVALID_INPUT,
        "The stay could not be read; no score was made.",
    ).response()
