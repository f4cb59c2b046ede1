"""Members' logits of the calibration part and the hold-out in, calibrated scores of all and of some of them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.calibration import Calibration
from models.ensemble import Ensemble, MemberKind, combine
from models.forward import score_members
from models.stay import Floats
from pipelines.baselines import BaselineScores, part_scores
from pipelines.config import RunConfig
from pipelines.dataset import Dataset
from pipelines.members import Members
from pipelines.scores import MINUTES_PER_HOUR
from pipelines.split import Part

NETWORKS_ALONE, SINGLE_NETWORK = "networks_alone", "single_network"


@dataclass(frozen=True)
class MemberLogits:
    """What every member says of every time step.

    Args:
        calibration: (steps, members, outputs) of the calibration part.
        test: (steps, members, outputs) of the hold-out.
    """

    calibration: Floats
    test: Floats

    @classmethod
    def of(cls, ensemble: Ensemble, data: Dataset) -> MemberLogits:
        """Scores both parts."""
        return cls(*(score_members(ensemble, data.parts[p].encoded) for p in (Part.CALIBRATION, Part.TEST)))


@dataclass(frozen=True)
class Calibrated:
    """Weighted members with a calibration of their own.

    Args:
        calibration: fitted on the combined logit of the calibration part.
        scores: of both parts, calibrated.
    """

    calibration: Calibration
    scores: BaselineScores


def calibrated(logits: MemberLogits, weights: Sequence[float], data: Dataset, config: RunConfig) -> Calibrated:
    """Combines members with these weights (0: left out) and calibrates what comes of it."""
    combined = combine(logits.calibration, weights)
    part = data.saw("calibration", data.parts[Part.CALIBRATION])
    calibration = Calibration.fit(
        combined,
        part.label,
        time_h=part.encoded.time_min / MINUTES_PER_HOUR,
        stay_index=np.repeat(np.arange(len(part.encoded)), part.encoded.lengths),
        kind=config.task.kind,
        scope=config.task.scope,
        method=config.calibration.method,
        strength=config.calibration.strength,
        mean=data.scale[0],
        scale=data.scale[1],
    )
    scored = (part, combined), (data.parts[Part.TEST], combine(logits.test, weights))
    return Calibrated(calibration, BaselineScores(*(part_scores(p, logit, calibration) for p, logit in scored)))


def members_alone(
    members: Members, logits: MemberLogits, data: Dataset, config: RunConfig
) -> dict[str, BaselineScores]:
    """What the ensemble gains: the networks without the trees, and the first of several networks, each calibrated."""
    networks = [spec.weight if spec.kind is MemberKind.NETWORK else 0.0 for spec in members.specs]
    first = [1.0, *(0.0 for _ in members.specs[1:])]
    chosen = {NETWORKS_ALONE: networks} if members.trees is not None else {}
    if len(members.fits) > 1:
        chosen[SINGLE_NETWORK] = first
    return {name: calibrated(logits, weights, data, config).scores for name, weights in chosen.items()}
