"""A stay as JSON: the body of `POST /v1/score`; everything that its form alone can refuse is refused here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Beyond this many hours (114 years) no time is one of a stay, and minutes would lose their exactness.
MAX_HOURS = 1_000_000.0
RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:[0-5]\d)")


def _require_rfc_3339(value: Any) -> Any:
    """Refuses what a lenient parser takes for a time: numbers, dates, times without an offset."""
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-01-31T08:05:00+09:00")
    return value


Moment = Annotated[
    AwareDatetime,
    Field(strict=False, description="RFC 3339 with an offset."),
    BeforeValidator(_require_rfc_3339),
]
Hours = Annotated[
    float, Field(ge=-MAX_HOURS, le=MAX_HOURS, description="Hours since admission; negative is history before it.")
]
Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Unit = Annotated[str, Field(min_length=1, max_length=40, description="UCUM code, such as mm[Hg].")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class _Timed(_Strict):
    time: Moment | None = None
    time_h: Hours | None = None
    available_time: Annotated[Moment | None, Field(description="When it became known, if later than `time`.")] = None
    available_time_h: Hours | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.time is None) == (self.time_h is None):
            raise ValueError("must have exactly one of time and time_h")
        if self.available_time is not None and self.available_time_h is not None:
            raise ValueError("must have at most one of available_time and available_time_h")
        return self


class ObservationIn(_Timed):
    """One value of one channel."""

    channel: Annotated[str, Field(min_length=1, max_length=100, description="Name, or `loinc:` and a LOINC code.")]
    value: Annotated[float | None, Field(description="null is missing: it is counted as rejected, never guessed.")]
    unit: Unit
    observation_id: Identifier | None = None


class NoteIn(_Timed):
    """One note; it enters the stay at the time at which it was charted."""

    kind: Annotated[str, Field(max_length=100)] = "note"
    text: Annotated[str, Field(min_length=1)]


class StaticValue(_Strict):
    """A number known at admission."""

    value: Annotated[float | None, Field(description="null is missing.")]
    unit: Unit


EXAMPLE: dict[str, Any] = {
    "admission": "2026-01-31T08:00:00+09:00",
    "as_of": "2026-01-31T20:00:00+09:00",
    "observations": [
        {"channel": "heart_rate", "time": "2026-01-31T08:05:00+09:00", "value": 96, "unit": "/min"},
        {"channel": "loinc:8310-5", "time": "2026-01-31T08:10:00+09:00", "value": 100.9, "unit": "[degF]"},
        {
            "channel": "lactate",
            "time": "2026-01-31T09:00:00+09:00",
            "available_time": "2026-01-31T09:40:00+09:00",
            "value": 2.4,
            "unit": "mmol/L",
        },
    ],
    "notes": [{"time": "2026-01-31T09:30:00+09:00", "kind": "progress", "text": "Resting comfortably."}],
    "static": {"age": {"value": 63, "unit": "a"}, "sex": "female"},
    "trajectory": True,
}
EXAMPLE_HOURS: dict[str, Any] = {
    "as_of_h": 12,
    "observations": [
        {"channel": "heart_rate", "time_h": 0.5, "value": 96, "unit": "/min"},
        {"channel": "sbp", "time_h": 0.5, "value": 15.2, "unit": "kPa"},
    ],
}


class ScoreRequest(_Strict):
    """A stay so far. Times are either RFC 3339 with `admission`, or hours since admission."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, EXAMPLE_HOURS]})

    stay_id: Annotated[Identifier | None, Field(description="Opaque; neither logged, stored nor returned.")] = None
    admission: Annotated[Moment | None, Field(description="Needed where a time is absolute.")] = None
    as_of: Annotated[Moment | None, Field(description="Time of the last score; default the last input.")] = None
    as_of_h: Annotated[float | None, Field(ge=0, le=MAX_HOURS)] = None
    # The first item that does not hold ends the reading: a body may hold a million of them.
    observations: Annotated[list[ObservationIn], Field(fail_fast=True)] = []
    notes: Annotated[list[NoteIn], Field(fail_fast=True)] = []
    static: Annotated[
        dict[str, StaticValue | str | None],
        Field(max_length=200, description="By variable: a number with its unit, or a category's name."),
    ] = {}
    trajectory: Annotated[bool, Field(description="Whether the score at every time step is wanted.")] = False
    disclaimer_language: Annotated[
        Literal["en", "ja"] | None, Field(description="Default: that of the header Accept-Language.")
    ] = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.as_of is not None and self.as_of_h is not None:
            raise ValueError("must have at most one of as_of and as_of_h")
        return self


FIELD_NAMES = frozenset(
    name for model in (ScoreRequest, ObservationIn, NoteIn, StaticValue) for name in model.model_fields
)
