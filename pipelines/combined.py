"""Members' logits of stays to calibrate on and of the hold-out in, calibrated scores of all and of some members out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.calibration import Calibration
from models.ensemble import Ensemble, MemberKind, MemberSpec, combine
from models.forward import score_members
from models.network import Reads
from models.stay import Floats
from models.uncertainty import Uncertainty
from pipelines.baselines import BaselineScores, part_scores
from pipelines.calibrate import fit_calibration, fit_uncertainty, with_calibration
from pipelines.config import RunConfig
from pipelines.members import Members
from pipelines.part_data import Dataset
from pipelines.scores import StepScores
from pipelines.split import Part

NETWORKS_ALONE, SINGLE_NETWORK = "networks_alone", "single_network"
WITHOUT_NOTES, NOTES_ALONE = "without_notes", "notes_alone"


@dataclass(frozen=True)
class MemberLogits:
    """What every member says of every time step.

    Args:
        calibration: (steps, members, outputs) of the stays to calibrate on; NaN where the member learnt from the stay.
        test: (steps, members, outputs) of the hold-out.
    """

    calibration: Floats
    test: Floats

    @classmethod
    def of(cls, members: Members, data: Dataset) -> MemberLogits:
        """Scores both."""
        test = score_members(members.ensemble, data.parts[Part.TEST].encoded)
        return cls(calibration_logits(members.ensemble, members.specs, data), test)


def calibration_logits(ensemble: Ensemble, specs: Sequence[MemberSpec], data: Dataset) -> Floats:
    """(steps, members, outputs) of the stays to calibrate on; NaN where the member learnt from the stay."""
    part = data.calibration.encoded
    if data.folds is None:
        return score_members(ensemble, part)
    logits = np.full((len(part.time_min), len(ensemble), ensemble.outputs), np.nan)
    every = list(ensemble)
    for fold in np.unique(data.folds).tolist():
        left = data.stays_left_out(fold)
        chosen = np.array([number for number, spec in enumerate(specs) if spec.fold == fold])
        scored = score_members(Ensemble([every[k] for k in chosen]), part.select(np.flatnonzero(left)))
        rows = np.flatnonzero(np.repeat(left, part.lengths))
        logits[np.ix_(rows, chosen)] = scored
    return logits


def combine_known(logits: Floats, weights: Sequence[float]) -> Floats:
    """`combine` over the members whose logit is known at a step, (steps, outputs).

    Example:
        >>> combine_known(np.array([[[1.0], [np.nan], [3.0]]]), (0.2, 0.6, 0.2)).tolist()
        [[2.0]]
    """
    if not np.isnan(logits).any():
        return combine(logits, weights)
    known = ~np.isnan(logits)
    weight = known * np.asarray(weights)[:, None]
    return np.asarray(np.sum(np.where(known, logits, 0.0) * weight, axis=1) / weight.sum(axis=1))


@dataclass(frozen=True)
class Fitted:
    """What turns a combined logit into a risk.

    Args:
        calibration: fitted on stays that the members never saw.
        uncertainty: fitted on patients among them who are kept apart; None where nobody is.
        scores: of these stays, calibrated.
    """

    calibration: Calibration
    uncertainty: Uncertainty | None
    scores: StepScores


@dataclass(frozen=True)
class Calibrated:
    """Weighted members with a calibration of their own.

    Args:
        fitted: the calibration.
        scores: of the stays that it was fitted on and of the hold-out, calibrated.
    """

    fitted: Fitted
    scores: BaselineScores


def fit_combined(logits: Floats, weights: Sequence[float], data: Dataset, config: RunConfig) -> Fitted:
    """Combines the members' logits of `Dataset.calibration` with these weights, and fits what makes risks of them."""
    part = data.saw("calibration", data.calibration)
    task, settings, key = config.task, config.calibration, config.split.key
    raw = part_scores(part, combine_known(logits, weights), Calibration.identity(task.kind, task.outputs))
    mean, scale = data.scale
    weighted = config.training.positive_weight != 1.0
    calibration = fit_calibration(raw, task, settings, key=key, mean=mean, scale=scale, shifted=weighted)
    scores = with_calibration(raw, calibration)
    uncertainty = fit_uncertainty(scores, task, settings, key=key)
    if uncertainty is not None:
        data.saw("uncertainty", part)
    return Fitted(calibration, uncertainty, scores)


def calibrated(
    logits: MemberLogits, weights: Sequence[float], data: Dataset, config: RunConfig, *, like: Sequence[float] = ()
) -> Calibrated:
    """Combines members with these weights (0: left out) and calibrates what comes of it.

    Args:
        logits: of the members.
        weights: of the members.
        data: the parts.
        config: of the run.
        like: weights on the stays to calibrate on, where they are other ones: every stay needs a member that never
            saw it.
    """
    fitted = fit_combined(logits.calibration, like or weights, data, config)
    test = part_scores(data.parts[Part.TEST], combine(logits.test, weights), fitted.calibration)
    return Calibrated(fitted, BaselineScores(fitted.scores, test))


def members_alone(
    members: Members, logits: MemberLogits, data: Dataset, config: RunConfig
) -> dict[str, BaselineScores]:
    """What the ensemble gains, each calibrated.

    The networks without the trees, the first of several networks, and where members differ in it, those that read no
    notes and those that read nothing else.
    """
    networks = [spec.weight if spec.kind is MemberKind.NETWORK else 0.0 for spec in members.specs]
    first = [1.0, *(0.0 for _ in members.specs[1:])]
    # The networks that are as the first one, but for the fold that they leave out.
    rounds = [float(number < max(config.ensemble.folds, 1)) for number in range(len(members.specs))]
    found = {}
    if members.trees:
        found[NETWORKS_ALONE] = calibrated(logits, networks, data, config).scores
    if len(members.fits) > 1:
        found[SINGLE_NETWORK] = calibrated(logits, first, data, config, like=rounds).scores
    apart = any(spec.network is not None and spec.network.reads is not Reads.ALL for spec in members.specs)
    for name, chosen in notes_weights(members.specs).items():
        if apart and config.notes.enabled and 0 < np.count_nonzero(chosen) < len(chosen):
            found[name] = calibrated(logits, chosen, data, config).scores
    return found


def notes_weights(specs: Sequence[MemberSpec]) -> dict[str, list[float]]:
    """Weights of the members that read no notes, and of those that read nothing else; 0 for all others."""
    reads = [Reads.SIGNALS if spec.network is None else spec.network.reads for spec in specs]
    return {
        name: [spec.weight if own is wanted else 0.0 for spec, own in zip(specs, reads, strict=True)]
        for name, wanted in ((WITHOUT_NOTES, Reads.SIGNALS), (NOTES_ALONE, Reads.NOTES))
    }
