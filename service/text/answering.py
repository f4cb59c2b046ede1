"""A request's bytes to an answer's bytes: read, classify or tag, word; nothing of a text leaves but places in it."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from models.disclaimer import DISCLAIMER_JA, DISCLAIMERS
from models.text.scorer import TextScorer, TextScores
from models.text.tagging_artifact import TaggingModel
from service.errors import Problem, ProblemKind, from_validation, invalid_input
from service.language import Language
from service.settings import Settings
from service.strict_json import read_strict
from service.text.models import TextModel, TextModels
from service.text.schema import (
    FIELD_NAMES,
    Attribution,
    ClassifiedDocument,
    ClassifyAnswer,
    ClassifyRequest,
    DocumentIn,
    DocumentsRequest,
    LabelRisk,
    TagAnswer,
    TaggedDocument,
    TaggedSpan,
    TagRequest,
    TextModelsAnswer,
    TokenWeight,
)

R = TypeVar("R", bound=DocumentsRequest)


@dataclass(frozen=True)
class Asked:
    """A request that holds.

    Args:
        request: what was sent.
        model: that answers.
        language: of the disclaimer.
        read: characters of all documents as the model reads them, by Unicode's NFKC: what the answer costs.
    """

    request: ClassifyRequest | TagRequest
    model: TextModel
    language: Language
    read: int = 0

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document.text for document in self.request.documents]

    @property
    def characters(self) -> int:
        """Characters of all documents."""
        return sum(map(len, self.texts))


@dataclass(frozen=True)
class Answered:
    """An answer and what may be counted of it.

    Args:
        content: the JSON body.
        prediction_id: the answer's identifier.
        labels: of a classification, names of the probabilities.
        risks: of a classification, the probabilities of every document.
    """

    content: bytes
    prediction_id: str
    labels: tuple[str, ...] = ()
    risks: tuple[tuple[float, ...], ...] = ()


def read_classify(body: bytes, models: TextModels, settings: Settings, language: Language) -> Asked:
    """Reads the body of `POST /v1/notes/classify`.

    Raises:
        Problem: 422 with the places that do not hold, 404 without such a model.
    """
    request, read = _parse(ClassifyRequest, body, settings)
    return Asked(request, _chosen(request.model, models.classifiers()), request.disclaimer_language or language, read)


def read_tag(body: bytes, models: TextModels, settings: Settings, language: Language) -> Asked:
    """Reads the body of `POST /v1/notes/tag`; raises as `read_classify` does."""
    request, read = _parse(TagRequest, body, settings)
    return Asked(request, _chosen(request.model, models.taggers()), request.disclaimer_language or language, read)


def classify(asked: Asked) -> Answered:
    """Classifies every document; runs in a thread of its own."""
    scorer = cast("TextScorer", asked.model.model)
    wanted = isinstance(asked.request, ClassifyRequest) and asked.request.attribution
    scores = scorer.classify(asked.texts, attribution=wanted)
    task = scorer.bundle.task
    documents = [
        ClassifiedDocument(
            document_id=sent.document_id,
            labels=list(scores.named[row]),
            probabilities=_risks(scores, row),
            tokens_read=scores.tokens_read[row],
            attribution=_attribution(scores, row) if wanted else None,
        )
        for row, sent in enumerate(asked.request.documents)
    ]
    answer = ClassifyAnswer(**_facts(asked), task=str(task.kind), description=task.description, documents=documents)  # type: ignore[arg-type]  # the enum's values
    content = answer.model_dump_json().encode()
    risks = tuple(tuple(row) for row in scores.probability.tolist())
    return Answered(content, str(answer.prediction_id), scores.labels, risks)


def tag(asked: Asked) -> Answered:
    """Marks every document's spans; runs in a thread of its own."""
    model = cast("TaggingModel", asked.model.model)
    found = model.tagger.tag(asked.texts)
    documents = [
        TaggedDocument(
            document_id=sent.document_id,
            spans=[
                TaggedSpan(start=t.span.start, end=t.span.end, label=t.span.label, probability=t.probability)
                for t in spans
            ],
        )
        for sent, spans in zip(asked.request.documents, found, strict=True)
    ]
    answer = TagAnswer(**_facts(asked), description=model.bundle.description, documents=documents)
    return Answered(answer.model_dump_json().encode(), str(answer.prediction_id))


def answer_once(model: TextModel) -> None:
    """Answers for one text, so that no request pays for what torch sets up once."""
    documents = [DocumentIn(text="a")]
    if isinstance(model.model, TextScorer):
        classify(Asked(ClassifyRequest(documents=documents), model, "en"))
    else:
        tag(Asked(TagRequest(documents=documents), model, "en"))


def all_models(models: TextModels, language: Language) -> TextModelsAnswer:
    """What `GET /v1/notes/models` says."""
    return TextModelsAnswer(
        models=[place.current.facts for place in models.places],
        disclaimer=DISCLAIMERS[language],
        disclaimer_ja=DISCLAIMER_JA,
    )


def _parse(schema: type[R], body: bytes, settings: Settings) -> tuple[R, int]:
    try:
        request = schema.model_validate(read_strict(body))
    except ValidationError as error:
        raise from_validation(error, known=FIELD_NAMES) from None
    if len(request.documents) > settings.max_documents:
        raise invalid_input([(("documents",), f"must hold at most {settings.max_documents} documents")])
    limit, together = settings.max_document_chars, 0
    for number, document in enumerate(request.documents):
        read = _characters_read(document.text, limit)
        together += read
        if read > limit:
            message = f"must be of at most {limit} characters, as sent and by Unicode's NFKC"
            raise invalid_input([(("documents", number, "text"), message)])
    if isinstance(request, ClassifyRequest) and request.attribution and together > limit:
        raise invalid_input([(("attribution",), f"must be asked for at most {limit} characters of all documents")])
    return request, together


def _characters_read(text: str, limit: int) -> int:
    """Characters that a model reads: NFKC makes up to eighteen of one, and every one costs time and memory."""
    if len(text) > limit:
        return len(text)
    return max(len(text), len(unicodedata.normalize("NFKC", text)))


def _chosen(name: str | None, models: Mapping[str, TextModel]) -> TextModel:
    if not models:
        detail = "The service must have a model for this; the operator names models in SEQUELA_TEXT_MODELS."
        raise Problem(HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, detail)
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    if name is None:
        raise invalid_input([(("model",), "must name one of the loaded models, see /v1/notes/models")])
    if name not in models:
        detail = "There must be a loaded model of this name and task, see /v1/notes/models."
        raise Problem(HTTPStatus.NOT_FOUND, ProblemKind.NOT_FOUND, detail)
    return models[name]


def _facts(asked: Asked) -> dict[str, Any]:
    return {
        "prediction_id": uuid.uuid4(),
        "model": asked.model.ref,
        "disclaimer": DISCLAIMERS[asked.language],
        "disclaimer_ja": DISCLAIMER_JA,
    }


def _risks(scores: TextScores, row: int) -> list[LabelRisk]:
    values: Sequence[float] = scores.probability[row].tolist()
    # Rounding may lead a hair's breadth beyond 1.
    return [
        LabelRisk(name=name, probability=min(max(value, 0.0), 1.0))
        for name, value in zip(scores.labels, values, strict=True)
    ]


def _attribution(scores: TextScores, row: int) -> list[Attribution]:
    return [
        Attribution(
            label=found.label,
            tokens=[TokenWeight(start=t.start, end=t.end, weight=t.weight) for t in found.tokens],
        )
        for found in scores.attribution[row]
    ]
