"""Documents as JSON in, classes and spans as JSON out; a type that holds a risk requires the disclaimer."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.schema import Identifier
from service.schema_answers import ModelRef, WithDisclaimer

EXAMPLE: dict[str, Any] = {
    "documents": [{"document_id": "report-1", "text": "Knee replacement on the left side was uneventful."}],
    "attribution": True,
}
EXAMPLE_JA: dict[str, Any] = {"model": "crade-ja", "documents": [{"text": "右肺上葉に２０ｍｍの結節を認める。"}]}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class DocumentIn(_Strict):
    """One document."""

    document_id: Annotated[
        Identifier | None, Field(description="Opaque; returned with the answer, neither logged nor stored.")
    ] = None
    text: Annotated[str, Field(min_length=1)]


class DocumentsRequest(_Strict):
    """Documents for one model."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, EXAMPLE_JA]})

    model: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="Name of a loaded model, see `/v1/notes/models`; not needed where one alone answers here.",
        ),
    ] = None
    documents: Annotated[list[DocumentIn], Field(min_length=1, fail_fast=True)]
    disclaimer_language: Annotated[
        Literal["en", "ja"] | None, Field(description="Default: that of the header Accept-Language.")
    ] = None


class ClassifyRequest(DocumentsRequest):
    """Documents to classify."""

    attribution: Annotated[
        bool,
        Field(
            description="Whether it is wanted what each named label's risk rests on, token by token; for as many "
            "characters of all documents as one alone may have."
        ),
    ] = False


class TagRequest(DocumentsRequest):
    """Documents to mark."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LabelRisk(_Answer):
    """Calibrated probability of one label."""

    name: str
    probability: float = Field(ge=0, le=1)


class TokenWeight(_Answer):
    """What one token adds to the logit of a label."""

    start: int = Field(ge=0, description="Its first character in the text that was sent, counted in code points.")
    end: int = Field(ge=0, description="The character behind its last.")
    weight: float


class Attribution(_Answer):
    """What the risk of one label rests on; it says nothing of what is true of the patient."""

    label: str
    tokens: list[TokenWeight]


class ClassifiedDocument(_Answer):
    """One document's labels."""

    document_id: str | None = Field(default=None, description="As it was sent.")
    labels: list[str] = Field(description="The labels that are named: one of a classification, any number of several.")
    probabilities: list[LabelRisk]
    tokens_read: int = Field(description="Tokens that the model read; a longer text is read from its beginning.")
    attribution: list[Attribution] | None = Field(default=None, description="One a named label, where asked for.")


class ClassifyAnswer(WithDisclaimer):
    """Labels of every document, in the order of the request."""

    prediction_id: UUID
    model: ModelRef
    task: Literal["classification", "multilabel"]
    description: str
    documents: list[ClassifiedDocument]


class TaggedSpan(_Answer):
    """A labelled stretch of the text."""

    start: int = Field(ge=0, description="Its first character in the text that was sent, counted in code points.")
    end: int = Field(ge=0, description="The character behind its last.")
    label: str
    probability: float = Field(ge=0, le=1, description="That exactly this stretch has this label, by the model.")


class TaggedDocument(_Answer):
    """One document's spans."""

    document_id: str | None = Field(default=None, description="As it was sent.")
    spans: list[TaggedSpan]


class TagAnswer(WithDisclaimer):
    """Spans of every document, in the order of the request."""

    prediction_id: UUID
    model: ModelRef
    description: str
    documents: list[TaggedDocument]


class TextModelFacts(_Answer):
    """One loaded model of documents."""

    model: str = Field(description="The name under which it is asked for.")
    task: Literal["classification", "multilabel", "tagging"]
    labels: list[str]
    language: str = Field(description="`en`, `ja` or empty.")
    description: str
    created: str
    answered_by: ModelRef
    source: str = Field(description="registry, cache (MLflow did not answer at start) or directory.")
    metrics: dict[str, Any]


class TextModelsAnswer(WithDisclaimer):
    """All loaded models of documents."""

    models: list[TextModelFacts]


FIELD_NAMES = frozenset(name for model in (ClassifyRequest, TagRequest, DocumentIn) for name in model.model_fields)
