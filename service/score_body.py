"""The bytes of `POST /v1/score` to plain dictionaries, refusing what `schema.ScoreRequest` refuses.

Typed dictionaries, because building one object an observation costs more than scoring the stay; a property test holds
the two forms together.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError

# Pydantic reads a typed dictionary's fields from this one until Python 3.12.
from typing_extensions import TypedDict

from service.errors import Problem, from_validation
from service.live.schema import STRICT, NoteFields, ObservationFields, WrittenMoment
from service.schema import MAX_HOURS, Identifier, ScoreRequest, StaticValue
from service.strict_json import read_strict


class ScoreFields(TypedDict):
    """A stay so far; fields as of `schema.ScoreRequest`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]  # pydantic's documented way to configure a typed dictionary

    stay_id: NotRequired[Identifier | None]
    admission: NotRequired[WrittenMoment | None]
    as_of: NotRequired[WrittenMoment | None]
    as_of_h: NotRequired[Annotated[float | None, Field(ge=0, le=MAX_HOURS)]]
    observations: NotRequired[Annotated[list[ObservationFields], Field(fail_fast=True)]]
    notes: NotRequired[Annotated[list[NoteFields], Field(fail_fast=True)]]
    static: NotRequired[Annotated[dict[str, StaticValue | str | None], Field(max_length=200)]]
    trajectory: NotRequired[bool]
    disclaimer_language: NotRequired[Literal["en", "ja"]]


_BODY: TypeAdapter[ScoreFields] = TypeAdapter(ScoreFields)


def read_score(body: bytes, *, known: frozenset[str]) -> ScoreFields:
    """What a request holds; whether its times exist and its names are known is for `service.intake` to say.

    Args:
        body: the request's body.
        known: words that may stand in the path of an error.

    Raises:
        Problem: 422 with the places that do not hold.
    """
    value = read_strict(body)
    try:
        return _BODY.validate_python(value)
    except ValidationError as error:
        raise _refusal(value, error, known) from None


def _refusal(value: object, error: ValidationError, known: frozenset[str]) -> Problem:
    """The refusal in the words of the schema that is published."""
    try:
        ScoreRequest.model_validate(value)
    except ValidationError as published:
        return from_validation(published, known=known)
    return from_validation(error, known=known)
