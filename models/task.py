"""What a model predicts: the outcome, its kind, the horizons, and the names of the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from models.errors import ConfigError


class TargetKind(StrEnum):
    """Kind of target: a yes or no, one of several classes, or a number."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class LabelScope(StrEnum):
    """Whether a stay has one label, or every time step its own."""

    STAY = "stay"
    STEP = "step"


class AfterEvent(StrEnum):
    """What time steps at or after a timed event are: still positive, or not supervised."""

    POSITIVE = "positive"
    IGNORED = "ignored"


@dataclass(frozen=True)
class TaskSpec:
    """The task of a model; travels inside the artifact.

    Args:
        outcome: name of the outcome in the cohort.
        kind: binary, multiclass or regression.
        scope: `stay` (one label a stay) or `step` (a label at every time step).
        horizons_h: hours ahead; one output each, ascending. Empty: by the end of the stay.
            Needs scope `step` and an outcome with a time.
        after_event: for horizons, what steps at or after the event are.
        classes: names of the classes (multiclass only).
        unit: unit of the target (regression only).
        description: what the risk is a risk of, in words, for answers and cards.
    """

    outcome: str
    kind: TargetKind = TargetKind.BINARY
    scope: LabelScope = LabelScope.STAY
    horizons_h: tuple[float, ...] = ()
    after_event: AfterEvent = AfterEvent.IGNORED
    classes: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Refuses combinations that have no meaning."""
        if not self.outcome:
            raise ConfigError("task.outcome must be the name of an outcome, got nothing; name one of the cohort's")
        if any(h <= 0 for h in self.horizons_h) or any(a >= b for a, b in pairwise(self.horizons_h)):
            raise ConfigError(
                f"task.horizons_h must be positive and ascending, got {list(self.horizons_h)}; sort the hours"
            )
        if self.horizons_h and (self.scope is not LabelScope.STEP or self.kind is not TargetKind.BINARY):
            raise ConfigError(
                f"task.horizons_h must go with scope 'step' and kind 'binary', got scope '{self.scope}' and "
                f"kind '{self.kind}'; drop the horizons or change the scope"
            )
        if (self.kind is TargetKind.MULTICLASS) != (len(self.classes) > 1):
            raise ConfigError(
                f"task.classes must be two or more names exactly if kind is 'multiclass', got {len(self.classes)} "
                f"with kind '{self.kind}'; list the classes or change the kind"
            )

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the network's outputs, in order: horizons, classes, or the outcome itself."""
        if self.kind is TargetKind.MULTICLASS:
            return self.classes
        if self.horizons_h:
            return tuple(f"{self.outcome}_{h:g}h" for h in self.horizons_h)
        return (self.outcome,)

    @property
    def outputs(self) -> int:
        """Number of logits at a time step."""
        return len(self.output_names)

    @property
    def targets(self) -> int:
        """Number of target columns at a time step: one class index, or one value an output."""
        return 1 if self.kind is TargetKind.MULTICLASS else self.outputs
