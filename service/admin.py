"""What an administrator asks of the models that answer: to look now where their names point, or to go back."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.access import GuardedRoute, needs
from service.assembly import Changes
from service.errors import PROBLEM_MEDIA_TYPE, Problem, ProblemDocument, ProblemKind
from service.keys import Scope
from service.routes import Service, standing
from service.schema_answers import ModelStanding, TextModelStanding
from service.served import Place
from service.text.rollover import text_standing
from service.watcher import Looked

LOOK_AGAIN_S = "10"

router = APIRouter(route_class=GuardedRoute, tags=["admin"])

_PROBLEM: dict[str, Any] = {
    "description": "Refused; nothing of the input is repeated.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
}
_PROBLEMS: dict[int | str, dict[str, Any]] = dict.fromkeys((401, 403, 429, 503), _PROBLEM)


class Role(StrEnum):
    """A name of a model in the settings."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class Standings(BaseModel):
    """What every name of a model stands for."""

    models: list[ModelStanding]
    text_models: list[TextModelStanding]


@router.post(
    "/v1/admin/models/look",
    summary="Look now where the names of models point",
    responses=_PROBLEMS,
    openapi_extra=needs(Scope.ADMIN),
)
async def look(request: Request) -> Standings:
    """Asks MLflow at once, and answers when a version that is new has been taken, or refused; stays follow behind.

    What takes longer than `SEQUELA_FETCH_TIMEOUT_S` goes on behind, and is no answer.
    """
    service: Service = request.app.state.service
    seconds = service.settings.fetch_timeout_s
    looked = await _changes(request).watcher.look(seconds=seconds)
    if looked is None:
        raise _unanswered(f"The look must end within {seconds:g} s, and goes on; see /readyz, or ask again.")
    if looked is Looked.UNREACHED:
        raise _unanswered("MLflow must answer, and it did not; start it or check MLFLOW_TRACKING_URI, and ask again.")
    return _standings(request)


@router.post(
    "/v1/admin/models/{role}/rollback",
    summary="Go back to the version before, or end a trial",
    responses={**_PROBLEMS, **dict.fromkeys((404, 409, 422), _PROBLEM)},
    openapi_extra=needs(Scope.ADMIN),
)
async def rollback(request: Request, role: Role) -> Standings:
    """Has the version before answer again, or a trial end; what was left waits until the name has pointed elsewhere."""
    place = _place(request, role)
    rollover = _changes(request).rollover
    if not await rollover.go_back(place, request_id=request.scope["request_id"], key=request.scope["key"]):
        raise Problem(
            HTTPStatus.CONFLICT,
            ProblemKind.CONFLICT,
            "A version before must still be kept, or one be tried, and there is neither; point the alias back.",
        )
    return _standings(request)


def _unanswered(detail: str) -> Problem:
    headers = {"Retry-After": LOOK_AGAIN_S}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, ProblemKind.UNAVAILABLE, detail, headers=headers)


def _changes(request: Request) -> Changes:
    changes: Changes = request.app.state.changes
    return changes


def _place(request: Request, role: Role) -> Place:
    service: Service = request.app.state.service
    place = service.models.champion if role is Role.CHAMPION else service.models.challenger
    if place is None or not place.model:
        raise Problem(HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, f"A {role} must be served, and there is none.")
    return place


def _standings(request: Request) -> Standings:
    service: Service = request.app.state.service
    return Standings(
        models=[standing(place) for place in service.models.places],
        text_models=[text_standing(place) for place in service.texts.places],
    )
