"""Bodies of the stays API as JSON; everything that their form alone can refuse is refused here.

Observations are typed dictionaries, not model objects: they are read on every call, and building objects would cost
as much as the model's own step.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

# Pydantic reads a typed dictionary's fields from this one until Python 3.12.
from typing_extensions import TypedDict

from service.errors import from_validation
from service.schema import Hours, Moment, StaticValue, Unit
from service.strict_json import read_strict

T = TypeVar("T")

_DOTS = frozenset({".", ".."})

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
RFC_3339 = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:[0-5]\d)$"

# A text here, read as a time later: a validator in Python would cost more than all the rest.
WrittenMoment = Annotated[str, Field(pattern=RFC_3339, max_length=40, description="RFC 3339 with an offset.")]
KnownAt = Annotated[WrittenMoment | None, Field(description="When it became known, if later than `time`.")]
ChannelName = Annotated[
    str,
    Field(min_length=1, max_length=100, description="Name, or `loinc:` and a LOINC code; GET /v1/model lists them."),
]
Value = Annotated[float | None, Field(description="null is missing: it is counted as rejected, never guessed.")]
OwnIdentifier = Annotated[
    str, Field(min_length=1, max_length=200, description="Removes duplicates, and names it for PATCH and DELETE.")
]
NoteKind = Annotated[str, Field(max_length=100)]
NoteText = Annotated[str, Field(min_length=1)]


class ObservationFields(TypedDict):
    """One value of one channel; exactly one of `time` and `time_h`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]  # pydantic's documented way to configure a typed dictionary

    channel: ChannelName
    value: Value
    unit: Unit
    observation_id: NotRequired[OwnIdentifier | None]
    time: NotRequired[WrittenMoment | None]
    time_h: NotRequired[Hours | None]
    available_time: NotRequired[KnownAt]
    available_time_h: NotRequired[Hours | None]


class NoteFields(TypedDict):
    """One note; it enters the stay at the time at which it was charted; exactly one of `time` and `time_h`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    text: NoteText
    kind: NotRequired[NoteKind]
    observation_id: NotRequired[OwnIdentifier | None]
    time: NotRequired[WrittenMoment | None]
    time_h: NotRequired[Hours | None]
    available_time: NotRequired[KnownAt]
    available_time_h: NotRequired[Hours | None]


class ObservationsRequest(TypedDict):
    """Observations and notes of a stay, in any order; the answer is the risk with them."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    # The first item that does not hold ends the reading: a body may hold a million of them.
    observations: NotRequired[Annotated[list[ObservationFields], Field(fail_fast=True)]]
    notes: NotRequired[Annotated[list[NoteFields], Field(fail_fast=True)]]
    as_of: NotRequired[Annotated[WrittenMoment | None, Field(description="Time of the score; default the last input.")]]
    as_of_h: NotRequired[Annotated[float | None, Field(ge=0, le=1_000_000)]]
    trajectory: NotRequired[Annotated[bool, Field(description="Whether the score at every time step is wanted.")]]
    identifiers: NotRequired[Annotated[bool, Field(description="Whether the identifier of every input is wanted.")]]
    disclaimer_language: NotRequired[Literal["en", "ja"]]


class CorrectionRequest(TypedDict):
    """What an observation or note is to be; fields that are left out stay as they are."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    value: NotRequired[Value]
    unit: NotRequired[Unit]
    text: NotRequired[NoteText]
    kind: NotRequired[NoteKind]
    time: NotRequired[WrittenMoment | None]
    time_h: NotRequired[Hours | None]
    available_time: NotRequired[KnownAt]
    available_time_h: NotRequired[Hours | None]


class StayRequest(BaseModel):
    """What is known of a stay at admission."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "admission": "2026-01-31T08:00:00+09:00",
                    "static": {"age": {"value": 63, "unit": "a"}, "sex": "female"},
                }
            ]
        },
    )

    admission: Annotated[
        Moment | None, Field(description="Needed where a time is absolute; without it all are hours since admission.")
    ] = None
    static: Annotated[
        dict[str, StaticValue | str | None],
        Field(max_length=200, description="By variable: a number with its unit, or a category's name."),
    ] = {}


OBSERVATIONS: TypeAdapter[ObservationsRequest] = TypeAdapter(ObservationsRequest)
CORRECTION: TypeAdapter[CorrectionRequest] = TypeAdapter(CorrectionRequest)
STAY: TypeAdapter[StayRequest] = TypeAdapter(StayRequest)
OBSERVATIONS_EXAMPLE: dict[str, Any] = {
    "observations": [
        {"channel": "heart_rate", "time_h": 0.5, "value": 96, "unit": "/min", "observation_id": "hl7-4711"},
        {"channel": "sbp", "time_h": 0.5, "value": 15.2, "unit": "kPa"},
    ]
}
FIELDS = frozenset(
    name
    for kind in (ObservationFields, NoteFields, ObservationsRequest, CorrectionRequest)
    for name in kind.__annotations__
)


def parse(adapter: TypeAdapter[T], body: bytes, *, known: frozenset[str]) -> T:
    """The body as the schema has it.

    Args:
        adapter: one of the three above.
        body: the request's body.
        known: words that may stand in the path of an error.

    Raises:
        Problem: 422 with the places that do not hold.
    """
    value = read_strict(body)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise from_validation(error, known=known | FIELDS) from None


def identifier_holds(stay_id: str) -> bool:
    """Whether a stay's identifier in a path is one: of 1 to 200 printable characters, in UTF-8."""
    return 1 <= len(stay_id) <= 200 and stay_id.isprintable() and "\ufffd" not in stay_id and stay_id not in _DOTS


def has_dot_segment(identifier: str) -> bool:
    """Whether senders would make another address of one that ends with the identifier, as RFC 3986 has them do.

    `DELETE /v1/stays/a/observations/..` leaves many a client as `DELETE /v1/stays/a`.
    """
    return "." in identifier and not _DOTS.isdisjoint(identifier.split("/"))
