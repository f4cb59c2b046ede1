"""From patient identifiers to training, validation, calibration and test parts, by a keyed hash.

A patient's part depends on the key and the patient alone, so that a retrained model's hold-out never
held a patient on whom the champion was trained, however the cohort grows.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.errors import ConfigError, DataError
from models.stay import Ints


class Part(StrEnum):
    """What a patient's stays are used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True)
class SplitConfig:
    """Shares of patients.

    Args:
        key: names the split; another key is another split.
        train: share of patients that the network is fitted on.
        validation: share for early stopping.
        calibration: share for calibration and thresholds.
        test: share of the hold-out; the four add up to 1.
    """

    key: str = "sequela"
    train: float = 0.7
    validation: float = 0.1
    calibration: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        """Refuses shares that are not positive or do not add up to 1: no model is judged without a hold-out."""
        shares = (self.train, self.validation, self.calibration, self.test)
        if min(shares) <= 0 or abs(sum(shares) - 1.0) > 1e-9:
            raise ConfigError(f"split must hold shares above 0 that add up to 1, got {shares}; correct the shares")


def patient_fraction(key: str, patient_id: str) -> float:
    """A number in [0, 1) that depends on the key and the patient alone."""
    digest = hmac.new(key.encode(), patient_id.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def patient_folds(patient_id: Sequence[str], key: str, folds: int) -> Ints:
    """(n,) the fold of every stay's patient, which depends on the key and the patient alone."""
    return np.array([int(patient_fraction(key, p) * folds) for p in patient_id], dtype=np.int64)


def split_patients(patient_id: Sequence[str], config: SplitConfig) -> dict[Part, Ints]:
    """Indices of the stays of every part.

    Raises:
        DataError: if a part would be empty.
    """
    bounds = np.cumsum([config.train, config.validation, config.calibration])
    fractions = {p: patient_fraction(config.key, p) for p in set(patient_id)}
    part_of_stay = np.searchsorted(bounds, [fractions[p] for p in patient_id], side="right")
    parts = {part: np.flatnonzero(part_of_stay == i).astype(np.int64) for i, part in enumerate(Part)}
    for part in Part:
        if len(parts[part]) == 0:
            raise DataError(
                f"cohort must hold enough patients for the {part} part, got {len(fractions)} patients and none for it; "
                "bring more patients or change split"
            )
    assert_disjoint(patient_id, parts)
    return parts


def assert_disjoint(patient_id: Sequence[str], parts: dict[Part, Ints]) -> None:
    """Refuses parts that share a patient.

    Raises:
        DataError: if a patient is in two parts.
    """
    seen: dict[str, Part] = {}
    for part, stays in parts.items():
        for stay in stays:
            if seen.setdefault(patient_id[stay], part) is not part:
                raise DataError("parts must not share a patient, got one in two parts; split by patient")
