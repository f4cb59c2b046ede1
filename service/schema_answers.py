"""Answers as JSON; a type that holds a risk requires the disclaimer, so no answer can lack it."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class WithDisclaimer(_Answer):
    """What holds, or speaks of, a risk."""

    disclaimer: str = Field(description="In the language that was asked for.", examples=[DISCLAIMER_EN])
    disclaimer_ja: str = Field(examples=[DISCLAIMER_JA])


SPREAD = Field(
    default=None,
    ge=0,
    description="Standard deviation of the members' own values: how much they disagree; null for one member.",
)


class ModelRef(_Answer):
    """Which model answered."""

    name: str
    version: str | None = Field(description="Version in the registry; null for an artifact folder.")
    digest: str = Field(examples=["sha256:5d0c…"])


class InputRef(_Answer):
    """An input that was not used as it was sent, by its place in the request; never its content."""

    input: Literal["observation", "note", "static"]
    index: int | None = Field(default=None, description="Place in `observations` or `notes`.")
    name: str | None = Field(default=None, description="Declared name of the static variable.")
    reason: str = Field(examples=["outside_hard_limits"])


class ScoreAnswer(WithDisclaimer):
    """What every score says beside its numbers."""

    prediction_id: UUID
    model: ModelRef
    outcome: str
    description: str
    as_of_h: float = Field(description="Hours since admission of the last score.")
    steps: int = Field(description="Time steps that the network read.")
    rejected: list[InputRef] = Field(description="Inputs that no score used.")
    flagged: list[InputRef] = Field(description="Inputs that were used although they are unusual.")
    unused: list[str] = Field(description="Sent channels and static variables that the model does not use.")
    never_observed: list[str] = Field(description="Channels of the model without any usable value in this stay.")


class Risk(_Answer):
    """Calibrated probability of the outcome."""

    outcome: str = Field(description="Name of the output.")
    horizon_h: float | None = Field(description="Hours ahead; null: by the end of the stay.")
    risk: float = Field(ge=0, le=1)
    threshold: float | None = Field(default=None, description="Decision threshold chosen on the stays that calibrated.")
    interval: tuple[float, float] | None = Field(
        default=None,
        description="Venn-Abers interval: how often patients of such a risk had the outcome, if this one joins them "
        "without and with it. Not a confidence interval: far apart where such patients were few, but not wide enough "
        "to hold their chance; the risk may lie outside. Null where the model has none.",
    )
    label_set: list[Literal["event", "no_event"]] | None = Field(
        default=None,
        description="Labels that are compatible with the risk. Of patients with the event, and of those without, at "
        "least the share `label_set_level` have their label in the set, at one step a patient, if they are like those "
        "who calibrated the model. Both: cannot tell. None of them: the risk is unlike either. Null where the model "
        "has no label sets.",
    )
    label_set_level: float | None = Field(default=None, description="Share that `label_set` promises.")
    spread: float | None = SPREAD


class RiskPoint(_Answer):
    """Risks at one time step."""

    time_h: float
    risk: float = Field(ge=0, le=1, description="Of the first output.")
    risks: list[float] = Field(description="Of every output, in the order of the answer's `risks`.")


class BinaryAnswer(ScoreAnswer):
    """Risk of an outcome, at one or several horizons."""

    kind: Literal["binary"] = "binary"
    risk: float = Field(ge=0, le=1, description="Of the first output, at the end of the stay so far.")
    risks: list[Risk]
    trajectory: list[RiskPoint] | None = None


class ClassProbability(_Answer):
    """Calibrated probability of one class."""

    name: str
    probability: float = Field(ge=0, le=1)
    spread: float | None = SPREAD


class ClassPoint(_Answer):
    """Probabilities at one time step, in the order of `classes`."""

    time_h: float
    probabilities: list[float]


class MulticlassAnswer(ScoreAnswer):
    """Probabilities of every class; they sum to 1."""

    kind: Literal["multiclass"] = "multiclass"
    classes: list[ClassProbability]
    label_set: list[str] | None = Field(
        default=None,
        description="Classes that are compatible with the probabilities: of the patients of each class at least the "
        "share `label_set_level` have it in the set. Null where the model has no label sets.",
    )
    label_set_level: float | None = Field(default=None, description="Share that `label_set` promises.")
    trajectory: list[ClassPoint] | None = None


class NumberPoint(_Answer):
    """Predicted number at one time step."""

    time_h: float
    value: float


class RegressionAnswer(ScoreAnswer):
    """A predicted number in its unit."""

    kind: Literal["regression"] = "regression"
    value: float
    unit: str
    spread: float | None = SPREAD
    trajectory: list[NumberPoint] | None = None


class ChannelFacts(_Answer):
    """How a channel is sent."""

    name: str
    title: str
    loinc: list[str]
    unit: str
    accepted_units: list[str]
    hard_limits: tuple[float, float]
    soft_limits: tuple[float, float] | None


class StaticFacts(_Answer):
    """How a static variable is sent."""

    name: str
    kind: str
    unit: str | None
    accepted_units: list[str]
    categories: list[str]


class ModelFacts(WithDisclaimer):
    """What the model is, what it reads and how good it was."""

    name: str
    version: str | None
    digest: str
    source: str = Field(description="registry, cache (MLflow did not answer at start) or directory.")
    device: str
    created: str
    task: dict[str, Any]
    outputs: list[str]
    channels: list[ChannelFacts]
    static: list[StaticFacts]
    grid: dict[str, Any]
    reads_notes: bool
    members: list[dict[str, Any]] = Field(description="Networks and trees whose mean logit is the model's.")
    calibration: dict[str, Any]
    thresholds: dict[str, float]
    metrics: dict[str, Any]
    cohort: dict[str, Any]
    versions: dict[str, str]


class ModelStanding(_Answer):
    """What a name of a model stands for at this moment."""

    model: str = Field(description="Its name in the registry; empty for a folder.")
    version: str = Field(description="The version that answers; empty where there is none.")
    aside: str = Field(description="The version that is tried, or kept from before; empty without.")
    phase: Literal["steady", "shadow", "switching", "keeping"]
    refused: str = Field(description="The version that was refused last, if the name points to it.")


class TextModelStanding(_Answer):
    """What a name of a model of documents stands for at this moment."""

    name: str = Field(description="Under which it is asked for.")
    model: str = Field(description="Its name in the registry; empty for a folder.")
    version: str = Field(description="The version that answers; empty for a folder.")
    refused: str = Field(description="The version that was refused last, if the name points to it.")


class Health(_Answer):
    """Whether the process lives or can score."""

    status: Literal["live", "ready", "starting", "store_fails"]
    source: str | None = Field(default=None, description="Of the model of stays; null without one.")
    models: list[ModelStanding] | None = None
    text_models: list[TextModelStanding] | None = None
    disclaimer: str = DISCLAIMER_EN
