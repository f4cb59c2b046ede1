"""How logits become risks: the keys of a run's `calibration` table in, a checked `CalibrationConfig` out."""

from __future__ import annotations

from dataclasses import dataclass

from models.calibration import CalibrationMethod
from models.errors import ConfigError
from models.uncertainty import LEVELS, check_levels


@dataclass(frozen=True)
class CalibrationConfig:
    """How logits become risks, and how sure these are.

    Args:
        method: what is fitted on the calibration part.
        strength: of the prior that holds the slope near 1 at the end of the stay; more for fewer events,
            0 fits everything freely.
        include_validation: calibrate on the validation part too; only where it decided nothing
            (training.monitor = "last_epoch").
        conformal_share: share of the calibration part's patients who are kept apart from the calibration, for
            label sets and intervals; 0 ships a model without them.
        conformal_levels: of the label sets.
    """

    method: CalibrationMethod = CalibrationMethod.PLATT
    strength: float = 1.0
    include_validation: bool = False
    conformal_share: float = 0.3
    conformal_levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        """Refuses what cannot hold."""
        if self.strength < 0:
            raise ConfigError(f"calibration.strength must be at least 0, got {self.strength}; raise it")
        if not 0.0 <= self.conformal_share < 1.0:
            raise ConfigError(
                f"calibration.conformal_share must be at least 0 and below 1, got {self.conformal_share}; "
                "somebody must be left to calibrate on"
            )
        check_levels(self.conformal_levels)
