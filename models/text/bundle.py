"""Everything of a model of documents but its weights: what `bundle.json` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from models.calibration import Calibration
from models.errors import ArtifactError
from models.text.facts import TextFacts
from models.text.network import TextNetworkConfig
from models.text.task import TextTask

KIND = "documents"
"""Stands in `bundle.json` as `kind` and tells the folder from another model's."""


class TextMemberKind(StrEnum):
    """What a member is."""

    NETWORK = "network"
    PHRASES = "phrases"


@dataclass(frozen=True)
class TextMemberSpec:
    """One member of the model.

    Args:
        kind: a recurrent network, or the linear member on phrases.
        weight: share of its logit in the model's.
        seed: of its training.
        longest: of the linear member: tokens of its longest phrase.
        phrases: likewise, how many it knows.
    """

    kind: TextMemberKind
    weight: float = 1.0
    seed: int = 0
    longest: int = 0
    phrases: int = 0


@dataclass(frozen=True)
class TextBundle(TextFacts):
    """Facts of a model that classifies; plain values.

    Args:
        name: name of the registered model.
        task: what is predicted, with its labels.
        network: shape of every network.
        members: what the model is made of.
        calibration: from logits to risks.
        shift: (labels,) what is added to the logits before that: how much commoner a class is than its loss said.
        decision: (labels,) of a classification: what is added to the logarithm of the risks before the highest one
            is named; of several labels: the risk at and above which a label is named.
    """

    name: str
    task: TextTask
    network: TextNetworkConfig
    members: tuple[TextMemberSpec, ...]
    calibration: Calibration
    shift: tuple[float, ...]
    decision: tuple[float, ...]
    kind: str = field(default=KIND, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses another kind of model, another layout, and numbers that are not one a label."""
        self.check_layout(KIND)
        if {len(self.shift), len(self.decision)} != {len(self.task.labels)}:
            raise ArtifactError(
                f"shift and decision must be one number for each of {len(self.task.labels)} labels, got "
                f"{len(self.shift)} and {len(self.decision)}; save the bundle again"
            )
        if not any(member.kind is TextMemberKind.NETWORK for member in self.members):
            raise ArtifactError("members must hold one network at least, got none; save the model again")
