"""What a network learns before its task: the keys of `[pretraining]` in, a checked `PretrainingConfig` out."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import ConfigError


@dataclass(frozen=True)
class PretrainingConfig:
    """Self-supervised training on the training stays, before the task's own training.

    Args:
        epochs: passes over the training stays; 0 = none.
        mask_share: share of a stay's observations (all of one channel in one time step) that are taken out before
            encoding, so that no feature knows them.
        masked_value_weight: share in the loss of the values that were taken out, each predicted at its own time step.
        next_value_weight: share in the loss of the values that the next time step of the stay observes.
        learning_rate: highest rate of the schedule.
    """

    epochs: int = 0
    mask_share: float = 0.15
    masked_value_weight: float = 0.5
    next_value_weight: float = 0.5
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Refuses numbers that have no meaning."""
        for name, holds, expected in (
            ("epochs", self.epochs >= 0, "at least 0"),
            ("mask_share", 0 <= self.mask_share < 1, "at least 0 and below 1"),
            ("masked_value_weight", self.masked_value_weight >= 0, "at least 0"),
            ("next_value_weight", self.next_value_weight >= 0, "at least 0"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
        ):
            if not holds:
                raise ConfigError(
                    f"pretraining.{name} must be {expected}, got {getattr(self, name)}; correct the number"
                )
        if self.epochs and not self.masked_value_weight + self.next_value_weight > 0:
            raise ConfigError(
                "pretraining.masked_value_weight or next_value_weight must be above 0 where there are epochs, got 0 "
                "and 0; give one a weight"
            )
        if self.epochs and (self.mask_share == 0) != (self.masked_value_weight == 0):
            raise ConfigError(
                f"pretraining.mask_share must be above 0 exactly if masked_value_weight is, got {self.mask_share} and "
                f"{self.masked_value_weight}; set both or none to 0"
            )
