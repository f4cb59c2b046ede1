"""What answers at which address; each route is a few lines around the work of another module."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from service import metrics as prometheus
from service.access import GuardedRoute, needs
from service.audit import Audit, AuditEvent
from service.batcher import Batcher
from service.bodies import JSON, read_json
from service.errors import PROBLEM_MEDIA_TYPE, ProblemDocument
from service.keys import Scope
from service.metrics import Metrics
from service.schema import ScoreRequest
from service.schema_answers import BinaryAnswer, Health, ModelFacts, MulticlassAnswer, RegressionAnswer
from service.scoring import Scored, StayScoring
from service.settings import Settings

router = APIRouter(route_class=GuardedRoute)


@dataclass
class Service:
    """What the routes of one application share.

    Args:
        settings: limits.
        scoring: the model's work.
        inference: the thread that does it.
        metrics: figures.
        audit: records of what was answered.
        facts: what `/v1/model` says.
        card: what `/v1/model/card` says.
        ready: True once the model has scored.
    """

    settings: Settings
    scoring: StayScoring
    inference: Batcher
    metrics: Metrics
    audit: Audit
    facts: ModelFacts
    card: str
    ready: bool = False


class MarkdownResponse(PlainTextResponse):
    """Markdown, named so in the schema too."""

    media_type = "text/markdown"


def _service(request: Request) -> Service:
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


@router.post(
    "/v1/score",
    tags=["score"],
    summary="Risk of a stay so far",
    responses={
        200: {"model": BinaryAnswer | MulticlassAnswer | RegressionAnswer},
        **dict.fromkeys((400, 401, 403, 408, 413, 415, 422, 429, 500, 503), _PROBLEM),
    },
    openapi_extra={**_SCORE_BODY, **needs(Scope.SCORE)},
)
async def score(request: Request, service: Shared) -> Response:
    """Scores a stay so far; every answer carries the disclaimer."""
    body = await read_json(request, seconds=service.settings.body_timeout_s)
    scored = await service.inference.run(service.scoring.score, body)
    counts = tell_scored(service, scored, request)
    request.scope["log"].update(prediction_id=scored.prediction_id, rejected=scored.rejected.total(), **counts)
    return Response(scored.content, media_type=JSON)


def tell_scored(service: Service, scored: Scored, request: Request) -> dict[str, int]:
    """Counts and records a score that is about to be answered; what may be logged of it."""
    service.metrics.count_rejected(scored.rejected)
    service.metrics.observe_scores(scored.outputs, scored.risks, version=service.facts.version or "")
    counts = {"observations": scored.observations, "notes": scored.notes, "steps": scored.steps}
    service.audit.record(
        AuditEvent.SCORED,
        request_id=request.scope["request_id"],
        key=request.scope["key"],
        digest=service.facts.digest,
        version=service.facts.version or "",
        prediction_id=scored.prediction_id,
        counts=counts,
    )
    return counts


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
    return MarkdownResponse(service.card)


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
async def ready(response: Response, service: Shared) -> Health:
    """200 once the verified model has scored in this process, whether or not MLflow is up."""
    if not service.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(status="starting")
    return Health(status="ready", source=service.facts.source)


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
