"""Members' logits of the calibration part and the hold-out in, calibrated scores of all and of some of them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.calibration import Calibration
from models.ensemble import Ensemble, MemberKind, combine
from models.forward import score_members
from models.stay import Floats
from models.uncertainty import Uncertainty
from pipelines.baselines import BaselineScores, part_scores
from pipelines.calibrate import fit_calibration, fit_uncertainty, with_calibration
from pipelines.config import RunConfig
from pipelines.dataset import Dataset
from pipelines.members import Members
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
        uncertainty: fitted on patients of that part who are kept apart; None where nobody is.
        scores: of both parts, calibrated.
    """

    calibration: Calibration
    uncertainty: Uncertainty | None
    scores: BaselineScores


def calibrated(logits: MemberLogits, weights: Sequence[float], data: Dataset, config: RunConfig) -> Calibrated:
    """Combines members with these weights (0: left out) and calibrates what comes of it."""
    combined = combine(logits.calibration, weights)
    part = data.saw("calibration", data.parts[Part.CALIBRATION])
    task, settings, key = config.task, config.calibration, config.split.key
    raw = part_scores(part, combined, Calibration.identity(task.kind, task.outputs))
    calibration = fit_calibration(raw, task, settings, key=key, mean=data.scale[0], scale=data.scale[1])
    scores = with_calibration(raw, calibration)
    uncertainty = fit_uncertainty(scores, task, settings, key=key)
    if uncertainty is not None:
        data.saw("uncertainty", part)
    test = part_scores(data.parts[Part.TEST], combine(logits.test, weights), calibration)
    return Calibrated(calibration, uncertainty, BaselineScores(scores, test))


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
