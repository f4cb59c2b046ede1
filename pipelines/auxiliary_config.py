"""What a network learns beside its task: the keys of `[training.auxiliary]` in, a checked `AuxiliaryConfig` out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.errors import ConfigError
from models.task import LabelScope, TargetKind, TaskSpec


@dataclass(frozen=True)
class AuxiliaryOutcome:
    """A further outcome of the cohort that a head of its own predicts in training.

    Args:
        outcome: name of the outcome in the cohort.
        kind: binary, or regression (standardised on the training stays).
        scope: `stay` is weighted over a stay's steps as the task's own label is (`training.target_replication`);
            `step` weighs every step alike and reads the outcome's time.
        weight: of its loss; the task's own has 1.
    """

    outcome: str
    kind: TargetKind = TargetKind.REGRESSION
    scope: LabelScope = LabelScope.STAY
    weight: float = 0.1

    def __post_init__(self) -> None:
        """Refuses classes and weights that have no meaning."""
        if self.kind is TargetKind.MULTICLASS:
            raise ConfigError(
                "training.auxiliary.outcomes.kind must be binary or regression, got multiclass; split the classes"
            )
        _check_weight("training.auxiliary.outcomes.weight", self.weight)

    @property
    def task(self) -> TaskSpec:
        """The outcome as a task of its own."""
        return TaskSpec(self.outcome, kind=self.kind, scope=self.scope)


@dataclass(frozen=True)
class AuxiliaryConfig:
    """Heads beside the task's own; they shape the hidden states in training and are not part of the model.

    Args:
        next_value_weight: of the forecast of the values that the next time step of the stay observes, standardised:
            squared error, averaged over all observed values; 0 = none. The task's own loss has weight 1.
        outcomes: further outcomes.
    """

    next_value_weight: float = 0.0
    outcomes: tuple[AuxiliaryOutcome, ...] = ()

    def __post_init__(self) -> None:
        """Refuses weights below 0 and an outcome named twice."""
        _check_weight("training.auxiliary.next_value_weight", self.next_value_weight)
        names = [o.outcome for o in self.outcomes]
        if len(set(names)) < len(names):
            raise ConfigError("training.auxiliary.outcomes must be distinct, got a name twice; remove the repetition")

    @property
    def enabled(self) -> bool:
        """Whether anything has a weight."""
        return self.next_value_weight > 0 or any(o.weight > 0 for o in self.outcomes)


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ConfigError(f"{name} must be a number of at least 0, got {weight}; give such as 0.1")
