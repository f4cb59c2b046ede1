"""Everything of a model but its weights: what `bundle.json` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models.calibration import Calibration
from models.channels import Channel, StaticVariable
from models.disclaimer import DISCLAIMER_EN
from models.encoding import Encoding
from models.ensemble import MemberSpec, check_members
from models.errors import ArtifactError
from models.notes import NotesConfig
from models.task import TaskSpec
from models.uncertainty import Uncertainty

SCHEMA_VERSION = 2
# What a decision threshold serves, by preference: the Event 1 of Challenge 2012, or the utility of Challenge 2019.
DECISIONS = ("event1", "utility")


@dataclass(frozen=True)
class Bundle:
    """A model's facts; plain values, so that it is written and read as JSON.

    Args:
        name: name of the registered model.
        task: what is predicted.
        channels: declarations of the channels that the cohort has: units, conversions and limits.
        statics: declarations of the static variables.
        encoding: the fitted encoding.
        members: the networks, and boosted trees, whose weighted mean logit is the model's.
        notes: how notes are read, or None where the model reads none.
        calibration: the fitted calibration.
        thresholds: decision thresholds chosen on the stays to calibrate on, by `<output>/<what it serves>`.
        uncertainty: label sets and intervals of the risk; None for a number, or where no patients were kept apart.
        metrics: figures on the hold-out, with intervals.
        config: the resolved training configuration.
        cohort: fingerprint, source, licence and counts of the training cohort.
        causal: whether a score depends on the past alone; false for networks that read whole stays.
        guards: leak guards that the run passed: `name`, `passed` and `detail` of each.
        versions: versions of the libraries that made it.
        created: UTC time, RFC 3339.
        disclaimer: the words that every answer carries.
        schema_version: version of this layout.
    """

    name: str
    task: TaskSpec
    channels: tuple[Channel, ...]
    statics: tuple[StaticVariable, ...]
    encoding: Encoding
    members: tuple[MemberSpec, ...]
    notes: NotesConfig | None
    calibration: Calibration
    thresholds: dict[str, float] = field(default_factory=dict)
    uncertainty: Uncertainty | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    cohort: dict[str, Any] = field(default_factory=dict)
    causal: bool = True
    guards: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    disclaimer: str = DISCLAIMER_EN
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuses another schema, members that make no ensemble and an encoding whose channels are not declared."""
        check_schema(self.schema_version)
        check_members(self.members)
        if self.uncertainty is not None and self.uncertainty.outputs != self.task.outputs:
            raise ArtifactError(
                f"uncertainty must be of {self.task.outputs} outputs, got {self.uncertainty.outputs}; fit it again"
            )
        declared = {c.name for c in self.channels}
        missing = sorted(set(self.encoding.channels.names) - declared)
        if missing:
            raise ArtifactError(
                f"channels must declare every encoded channel, got none for {', '.join(missing)}; save the bundle again"
            )

    def decision_threshold(self, output: str) -> float | None:
        """The risk at and above which this output alerts: for the task's published score; None without one."""
        chosen = (self.thresholds.get(f"{output}/{purpose}") for purpose in DECISIONS)
        return next((threshold for threshold in chosen if threshold is not None), None)


def check_schema(version: object) -> None:
    """Refuses what another release's layout wrote.

    Raises:
        ArtifactError: with the remedy.
    """
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"schema_version must be {SCHEMA_VERSION}, got {version!r}; "
            "load the artifact with the release that wrote it, or train again"
        )
