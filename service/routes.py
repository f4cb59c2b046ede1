"""What answers at which address; each route is a few lines around the work of another module."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from service import metrics as prometheus
from service.access import GuardedRoute, LeanRoute, needs
from service.audit import Audit, AuditEvent
from service.batcher import Batcher
from service.bodies import JSON, read_json
from service.errors import PROBLEM_MEDIA_TYPE, Problem, ProblemDocument
from service.keys import Scope
from service.language import HEADER, preferred_language
from service.live.store import StoreError
from service.logs import Event, log_event
from service.metrics import Metrics
from service.model_uri import names_registry
from service.rollover import Rollover
from service.schema import ScoreRequest
from service.schema_answers import (
    BinaryAnswer,
    Health,
    ModelFacts,
    ModelStanding,
    MulticlassAnswer,
    RegressionAnswer,
)
from service.scoring import Asked, Scored, StayScoring
from service.served import Models, Place, Served
from service.settings import Settings
from service.text.models import TextModels
from service.text.rollover import text_standing

router = APIRouter(route_class=GuardedRoute)
scoring = APIRouter(route_class=LeanRoute)


@dataclass
class Service:
    """What the routes of one application share.

    Args:
        settings: limits.
        models: the models that answer.
        rollover: changes them.
        inference: the thread that computes.
        metrics: figures.
        audit: records of what was answered.
        texts: the models of documents.
        ready: True once the models have scored.
    """

    settings: Settings
    models: Models
    rollover: Rollover
    inference: Batcher
    metrics: Metrics
    audit: Audit
    texts: TextModels
    ready: bool = False

    @property
    def scoring(self) -> StayScoring:
        """Scores with the champion."""
        return self.models.first.scoring

    @property
    def facts(self) -> ModelFacts:
        """The champion's."""
        return self.models.first.facts

    async def score(self, asked: Asked) -> tuple[Served, Place, Scored]:
        """A whole stay scored by the model that answers for it; a long one holds nobody else up.

        Raises:
            Problem: 422 with the places of the body that do not hold; 429 or 503 as of `Batcher`.
        """
        found = await self.inference.whole(self.score_all, asked)
        return await self.inference.aside(self.score_long, asked) if found is None else found

    def score_long(self, asked: Asked) -> tuple[Served, Place, Scored]:
        """A whole stay of any length; runs beside the thread that computes."""
        place = self.models.place_of(asked.body)
        served = place.current or self.models.first
        return served, place, served.scoring.score(*asked)

    def score_all(self, asked: Sequence[Asked]) -> list[tuple[Served, Place, Scored] | Problem | None]:
        """Whole stays, long ones left out, by the models that answer for them; runs in the thread that computes."""
        places = [self.models.place_of(one.body) for one in asked]
        answering = [place.current or self.models.first for place in places]
        found: dict[int, tuple[Served, Place, Scored] | Problem | None] = {}
        for served in dict.fromkeys(answering):
            own = [i for i, one in enumerate(answering) if one is served]
            for i, scored in zip(own, served.scoring.score_all([asked[i] for i in own]), strict=True):
                found[i] = (served, places[i], scored) if isinstance(scored, Scored) else scored
        return [found[i] for i in range(len(asked))]


class MarkdownResponse(PlainTextResponse):
    """Markdown, named so in the schema too."""

    media_type = "text/markdown"


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service)]

_PROBLEM: dict[str, Any] = {
    "description": "Refused; nothing of the input is repeated.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
}
_SCORE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{ScoreRequest.__name__}"}}},
    }
}


@scoring.post(
    "/v1/score",
    tags=["score"],
    summary="Risk of a stay so far",
    responses={
        200: {"model": BinaryAnswer | MulticlassAnswer | RegressionAnswer},
        **dict.fromkeys((400, 401, 403, 408, 413, 415, 422, 429, 500, 503), _PROBLEM),
    },
    openapi_extra={**_SCORE_BODY, **needs(Scope.SCORE)},
)
async def score(request: Request) -> Response:
    """Scores a stay so far; every answer carries the disclaimer."""
    service: Service = request.app.state.service
    body = await read_json(request, seconds=service.settings.body_timeout_s)
    scored, counts = await score_whole(service, body, request)
    request.scope["log"].update(prediction_id=scored.prediction_id, rejected=scored.rejected.total(), **counts)
    return Response(scored.content, media_type=JSON)


async def score_whole(service: Service, body: bytes, request: Request) -> tuple[Scored, dict[str, int]]:
    """Scores a whole stay, counts and records it; the answer, and what may be logged of it."""
    asked = Asked(body, preferred_language(request.scope["head"].get(HEADER, b"")))
    served, place, scored = await service.score(asked)
    service.metrics.count_rejected(scored.rejected)
    service.metrics.observe_scores(scored.outputs, scored.risks, version=served.version)
    counts = {"observations": scored.observations, "notes": scored.notes, "steps": scored.steps}
    service.audit.record(
        AuditEvent.SCORED,
        request_id=request.scope["request_id"],
        key=request.scope["key"],
        digest=served.digest,
        version=served.version,
        prediction_id=scored.prediction_id,
        counts=counts,
    )
    service.rollover.shadow.also_score(place, body, scored)
    return scored, counts


_KEY_PROBLEMS: dict[int | str, dict[str, Any]] = dict.fromkeys((401, 403, 429), _PROBLEM)


@router.get(
    "/v1/model",
    tags=["model"],
    summary="What the model reads, predicts and achieved",
    responses=_KEY_PROBLEMS,
    openapi_extra=needs(Scope.SCORE, Scope.ADMIN),
)
async def model(service: Shared) -> ModelFacts:
    """The served model's facts."""
    return service.facts


@router.get(
    "/v1/model/card",
    tags=["model"],
    summary="The model card in Markdown",
    response_class=MarkdownResponse,
    responses=_KEY_PROBLEMS,
    openapi_extra=needs(Scope.SCORE, Scope.ADMIN),
)
async def model_card(service: Shared) -> MarkdownResponse:
    """The served model's card."""
    return MarkdownResponse(service.models.first.card)


@router.get("/livez", tags=["operation"], summary="Whether the process lives", openapi_extra=needs())
async def live() -> Health:
    """Answers as long as the event loop runs."""
    return Health(status="live")


@router.get(
    "/readyz",
    tags=["operation"],
    summary="Whether the service can score",
    responses={503: {"model": Health}},
    openapi_extra=needs(),
)
async def ready(request: Request, response: Response, service: Shared) -> Health:
    """200 once the verified models have scored here, while the store takes writes; whether or not MLflow is up."""
    if not service.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(status="starting")
    try:
        await request.app.state.keeping.store.check()
    except StoreError as error:
        log_event(Event.STORE_FAILED, level=logging.ERROR, reason=str(error))
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(status="store_fails")
    champion = service.models.champion.current
    return Health(
        status="ready",
        source=champion.facts.source if champion else None,
        models=[standing(place) for place in service.models.places],
        text_models=[text_standing(place) for place in service.texts.places],
    )


def standing(place: Place) -> ModelStanding:
    """What a name of a model stands for at this moment."""
    return ModelStanding(
        model=place.model if names_registry(place.model) else "",
        version=place.current.version if place.current else "",
        aside=place.aside.version if place.aside else "",
        phase=str(place.phase),  # type: ignore[arg-type]  # the enum's four values
        refused=place.refused,
    )


@router.get(
    "/metrics",
    tags=["operation"],
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
    responses=_KEY_PROBLEMS,
    openapi_extra=needs(Scope.AUDIT),
)
async def metrics(service: Shared) -> Response:
    """Requests, latency, scores and rejected inputs; no label comes from a patient or a sender."""
    return Response(service.metrics.exposition(), media_type=prometheus.CONTENT_TYPE)
