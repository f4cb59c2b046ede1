"""What answers at `/v1/notes/...`: classes and spans of documents, and which models there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from service.access import LeanRoute, needs
from service.audit import Audit, AuditEvent
from service.bodies import JSON, read_json
from service.errors import PROBLEM_MEDIA_TYPE, ProblemDocument
from service.keys import Scope
from service.language import HEADER, Language, preferred_language
from service.metrics import Metrics
from service.settings import Settings
from service.text.answering import Answered, Asked, all_models, classify, read_classify, read_tag, tag
from service.text.lanes import Lanes
from service.text.models import TextModels
from service.text.rollover import TextRollover
from service.text.schema import ClassifyAnswer, ClassifyRequest, TagAnswer, TagRequest, TextModelsAnswer

router = APIRouter(route_class=LeanRoute)
SCHEMAS = (ClassifyRequest, TagRequest)
_Read = Callable[[bytes, TextModels, Settings, Language], Asked]
_Work = Callable[[Asked], Answered]


@dataclass(frozen=True)
class TextService:
    """What these routes share.

    Args:
        settings: limits.
        models: the models of documents.
        lanes: the threads that compute.
        rollover: changes the models.
        metrics: figures.
        audit: records of what was answered.
    """

    settings: Settings
    models: TextModels
    lanes: Lanes
    rollover: TextRollover
    metrics: Metrics
    audit: Audit


def _texts(request: Request) -> TextService:
    texts: TextService = request.app.state.texts
    return texts


_PROBLEM: dict[str, Any] = {
    "description": "Refused; nothing of the input is repeated.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
}
_REFUSALS: dict[int | str, dict[str, Any]] = dict.fromkeys(
    (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503), _PROBLEM
)


def _said(body: str) -> dict[str, Any]:
    """What the schema says of a route that reads its own body."""
    language = {
        "name": "Accept-Language",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Language of the disclaimer: English or Japanese.",
    }
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
    return {
        "parameters": [language],
        "requestBody": {"required": True, "content": content},
        **needs(Scope.SCORE),
    }


@router.post(
    "/v1/notes/classify",
    tags=["notes"],
    summary="Classes of documents",
    responses={200: {"model": ClassifyAnswer}, **_REFUSALS},
    openapi_extra=_said(ClassifyRequest.__name__),
)
async def classify_notes(request: Request) -> Response:
    """Classifies whole documents; nothing of them is kept, logged or repeated."""
    return await _answer(request, read_classify, classify)


@router.post(
    "/v1/notes/tag",
    tags=["notes"],
    summary="Labelled stretches of documents",
    responses={200: {"model": TagAnswer}, **_REFUSALS},
    openapi_extra=_said(TagRequest.__name__),
)
async def tag_notes(request: Request) -> Response:
    """Marks stretches of documents by their places; nothing of them is kept, logged or repeated."""
    return await _answer(request, read_tag, tag)


@router.get(
    "/v1/notes/models",
    tags=["notes"],
    summary="The models of documents that are loaded",
    responses={200: {"model": TextModelsAnswer}, **dict.fromkeys((401, 403, 429), _PROBLEM)},
    openapi_extra=needs(Scope.SCORE, Scope.ADMIN),
)
async def text_models(request: Request) -> Response:
    """Their names, labels and figures."""
    answer = all_models(_texts(request).models, _language(request))
    return Response(answer.model_dump_json(), media_type=JSON)


async def _answer(request: Request, read: _Read, work: _Work) -> Response:
    texts = _texts(request)
    body = await read_json(request, seconds=texts.settings.body_timeout_s)
    asked = await texts.lanes.run(len(body), read, body, texts.models, texts.settings, _language(request))
    answered = await texts.lanes.run(asked.read, work, asked)
    counts = {"documents": len(asked.texts), "characters": asked.characters}
    version = asked.model.origin.version or ""
    texts.metrics.count_documents(asked.model.name, counts["documents"])
    for risks in answered.risks:
        texts.metrics.observe_scores(
            [f"{asked.model.name}/{label}" for label in answered.labels], risks, version=version
        )
    texts.audit.record(
        AuditEvent.SCORED,
        request_id=request.scope["request_id"],
        key=request.scope["key"],
        digest=asked.model.model.digest,
        version=version,
        prediction_id=answered.prediction_id,
        counts=counts,
    )
    request.scope["log"].update(prediction_id=answered.prediction_id, model=asked.model.name, **counts)
    return Response(answered.content, media_type=JSON)


def _language(request: Request) -> Language:
    return preferred_language(request.scope["head"].get(HEADER, b""))
