"""Answers of the stays API as JSON; a type that holds a risk requires the disclaimer, so no answer can lack it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schema_answers import (
    BinaryAnswer,
    ModelRef,
    MulticlassAnswer,
    RegressionAnswer,
    ScoreAnswer,
    WithDisclaimer,
)


class Accepted(BaseModel):
    """Inputs of the call that are now facts of the stay."""

    observations: int
    notes: int


class LiveFields(ScoreAnswer):
    """What an answer about a live stay says beside the score."""

    revision: int = Field(description="Version of the stay with this call; it grows by one with every accepted call.")
    accepted: Accepted
    replayed_from_h: float | None = Field(
        description="Where the call said something about what had been scored before, the hour from which the stay was "
        "scored anew; null otherwise."
    )
    identifiers: list[str] | None = Field(
        default=None, description="Of the call's observations and then its notes, by which they can be corrected."
    )


class LiveBinaryAnswer(LiveFields, BinaryAnswer):
    """Current risk of an outcome, at one or several horizons."""

    change: float | None = Field(description="Of `risk` since the answer before; null for the first.")


class LiveMulticlassAnswer(LiveFields, MulticlassAnswer):
    """Current probabilities of every class."""

    change: list[float] | None = Field(description="Of every class since the answer before; null for the first.")


class LiveRegressionAnswer(LiveFields, RegressionAnswer):
    """Current predicted number."""

    change: float | None = Field(description="Of `value` since the answer before; null for the first.")


LiveAnswer = LiveBinaryAnswer | LiveMulticlassAnswer | LiveRegressionAnswer


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class Point(_Read):
    """Values at one time step, in the order of `outputs`."""

    time_h: float
    values: list[float]


class AnsweredPoint(Point):
    """What was answered at the time, which later facts do not change."""

    prediction_id: str
    revision: int
    answered: str = Field(description="When, RFC 3339.")
    digest: str
    version: str | None


class LastObservation(_Read):
    """The latest value of a channel, as it was sent."""

    observation_id: str
    channel: str
    value: float | None
    unit: str
    time_h: float


class StaySummary(_Read):
    """A stay without its observations."""

    stay_id: str
    revision: int
    created: str
    updated: str


class StayView(WithDisclaimer):
    """A live stay: its risks as now known, and as they were answered."""

    stay_id: str
    revision: int
    created: str
    updated: str
    admission: str | None
    model: ModelRef
    kind: Literal["binary", "multiclass", "regression"]
    outputs: list[str]
    as_of_h: float
    observations: int
    notes: int
    current: list[Point] = Field(description="At every time step, with all that is known now.")
    answered: list[AnsweredPoint]
    last: list[LastObservation] = Field(description="Of every channel.")


class StayPage(_Read):
    """Stays in the order of their identifiers."""

    stays: list[StaySummary]
    next: str | None = Field(description="To be sent as `after` for the next page; null on the last.")
