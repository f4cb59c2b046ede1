"""Scores of the calibration part in, its calibration and its uncertainty out, each fitted on patients of its own.

Label sets keep their promise only if neither the network nor the calibration has seen their patients. So the
part is split again by a keyed hash of the patient: most patients calibrate, the others are kept apart.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.calibration import CANDIDATES, Calibration, CalibrationMethod
from models.errors import DataError
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind, TaskSpec
from models.uncertainty import Uncertainty
from pipelines.calibration_config import CalibrationConfig
from pipelines.scores import MINUTES_PER_HOUR, StepScores
from pipelines.split import patient_fraction

# Added to the split's key: a patient's share of this split does not follow from that of the other one.
PURPOSE = "/conformal"


def kept_apart(patient_id: Sequence[str], config: CalibrationConfig, key: str) -> NDArray[np.bool_]:
    """(n,) whether a stay's patient is kept apart for label sets and intervals.

    Args:
        patient_id: patient of every stay of the calibration part.
        config: names the share.
        key: of the split.
    """
    fraction = {p: patient_fraction(key + PURPOSE, p) for p in set(patient_id)}
    return np.array([fraction[p] < config.conformal_share for p in patient_id], dtype=np.bool_)


def fit_calibration(
    scores: StepScores,
    task: TaskSpec,
    config: CalibrationConfig,
    *,
    key: str,
    mean: float = 0.0,
    scale: float = 1.0,
    shifted: bool = False,
) -> Calibration:
    """Fits on the patients of the calibration part who are not kept apart.

    Args:
        scores: of the calibration part; their logits are read, their risks are not.
        task: what is predicted.
        config: how.
        key: of the split.
        mean: of the regression target that the network was trained to standardise.
        scale: likewise, its standard deviation.
        shifted: whether the logits are of another level than the patients, because a class weight or patients with
            another share of events taught the network: what has no intercept is then no candidate of `auto`.

    Raises:
        DataError: if these patients do not have two classes.
    """
    apart = kept_apart(scores.patient_id, conformal_config(config, task), key)
    own = scores.select(np.flatnonzero(~apart))
    return Calibration.fit(
        own.logit,
        own.label,
        time_h=own.time_min / MINUTES_PER_HOUR,
        stay_index=own.stay_of_step,
        kind=task.kind,
        scope=task.scope,
        method=config.method,
        strength=config.strength,
        mean=mean,
        scale=scale,
        patient_index=own.patient_index[own.stay_of_step],
        candidates=[method for method in CANDIDATES if not shifted or method is not CalibrationMethod.TEMPERATURE],
    )


def fit_uncertainty(scores: StepScores, task: TaskSpec, config: CalibrationConfig, *, key: str) -> Uncertainty | None:
    """Fits on the patients of the calibration part who are kept apart; None for a number, or where none shall be.

    Args:
        scores: of the calibration part, with the risks that are served.
        task: what is predicted.
        config: the share and the levels.
        key: of the split.

    Raises:
        DataError: if no patient with a label is kept apart.
    """
    if conformal_config(config, task).conformal_share == 0:
        return None
    apart = np.flatnonzero(kept_apart(scores.patient_id, config, key))
    if not len(apart):
        raise DataError(
            f"calibration part must hold patients to keep apart for label sets, got none of "
            f"{len(set(scores.patient_id))}; bring more patients or set calibration.conformal_share = 0"
        )
    own = scores.select(apart)
    steps = candidate_steps(own, task, key)
    return Uncertainty.fit(
        own.risk[steps.rows],
        own.label[steps.rows],
        patient_index=steps.patient_index,
        order=steps.order,
        kind=task.kind,
        levels=config.conformal_levels,
    )


def conformal_config(config: CalibrationConfig, task: TaskSpec) -> CalibrationConfig:
    """The configuration as it holds for a task: a predicted number has no label sets, so nobody is kept apart."""
    return replace(config, conformal_share=0.0) if task.kind is TargetKind.REGRESSION else config


def with_calibration(scores: StepScores, calibration: Calibration) -> StepScores:
    """The same steps with the risks that a calibration gives their logits."""
    return replace(scores, risk=calibration.apply(scores.logit, scores.time_min / MINUTES_PER_HOUR))


@dataclass(frozen=True)
class CandidateSteps:
    """Steps among which one a patient counts: every stay's last one for a label a stay, else all.

    Args:
        rows: (m,) their rows.
        patient_index: (m,) whose they are.
        order: (m,) which comes first: drawn from the key, the stay and the minute alone, not from what happened.
    """

    rows: Ints
    patient_index: Ints
    order: Floats


def candidate_steps(scores: StepScores, task: TaskSpec, key: str) -> CandidateSteps:
    """Those of some stays; see `CandidateSteps`."""
    rows = scores.last_rows if task.scope is LabelScope.STAY else np.arange(len(scores.label), dtype=np.int64)
    rows = rows[np.any(~np.isnan(scores.label[rows]), axis=1)]
    stay = scores.stay_of_step[rows]
    secret = (key + PURPOSE).encode()
    names = [f"{scores.stay_id[s]}:{scores.time_min[r]}".encode() for s, r in zip(stay, rows, strict=True)]
    digests = [int.from_bytes(hmac.digest(secret, name, hashlib.sha256)[:8], "big") for name in names]
    return CandidateSteps(rows, scores.patient_index[stay], np.array(digests, dtype=np.float64) / 2**64)
