"""The `[retrain]` and `[retrain.gate]` tables of a configuration: where a job's data is, and when it may promote."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.errors import ConfigError


@dataclass(frozen=True)
class GateConfig:
    """What a version must show on the hold-out before it is promoted.

    Args:
        auroc_margin: least lower bound of the paired difference in AUROC, candidate minus champion.
        auprc_margin: the same for AUPRC.
        rmse_margin: for a predicted number, the largest upper bound of the difference in error, as a share of
            the champion's error.
        min_events: least number of events in the hold-out.
        slope: lowest and highest calibration slope.
        max_intercept: largest calibration intercept, in logits, either way.
        level: level of the interval of the paired differences.
        bootstrap: draws of patients.
        seed: of the draws.
    """

    auroc_margin: float = -0.01
    auprc_margin: float = -0.01
    rmse_margin: float = 0.01
    min_events: int = 50
    slope: tuple[float, float] = (0.8, 1.25)
    max_intercept: float = 0.5
    level: float = 0.95
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses limits that nothing, or everything, would pass."""
        for name in ("auroc_margin", "auprc_margin"):
            value = getattr(self, name)
            if not -1.0 <= value <= 1.0:
                raise ConfigError(f"retrain.gate.{name} must be within -1 and 1, got {value}; give a difference")
        if self.min_events < 1 or self.bootstrap < 100:
            raise ConfigError(
                f"retrain.gate must ask for at least 1 event and 100 draws, got {self.min_events} and "
                f"{self.bootstrap}; raise them"
            )
        if not (self.rmse_margin >= 0.0 and self.max_intercept > 0.0):
            raise ConfigError(
                f"retrain.gate.rmse_margin must be at least 0 and max_intercept above it, got {self.rmse_margin} and "
                f"{self.max_intercept}; correct them"
            )
        if not 0.0 < self.slope[0] < 1.0 < self.slope[1]:
            raise ConfigError(
                f"retrain.gate.slope must be a lower bound below 1 and an upper one above it, got {list(self.slope)}; "
                "write for example [0.8, 1.25]"
            )
        if not 0.5 <= self.level < 1.0:
            raise ConfigError(f"retrain.gate.level must be at least 0.5 and below 1, got {self.level}; write 0.95")


@dataclass(frozen=True)
class RetrainConfig:
    """One whole training job.

    The hold-out is the split's test part: a patient's part depends on the split's key and the patient
    alone, so that a later job's hold-out never held a patient on whom an earlier version was trained.

    Args:
        source: name of the source, as for `sequela prepare`.
        paths: its files or folders.
        cohort: folder of the prepared cohort; written again only when the source changed.
        outcomes: the outcomes file, where the source has one.
        mapping: the mapping file (source `csv`).
        options: further options of the source.
        alias: alias that a version which passes the gate receives.
        lease_s: seconds without renewal after which a dead job's lease is free again.
        gate: what a version must show.
    """

    source: str
    cohort: str
    paths: tuple[str, ...] = ()
    outcomes: str = ""
    mapping: str = ""
    options: dict[str, str] = field(default_factory=dict)
    alias: str = "champion"
    lease_s: float = 120.0
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        """Refuses a job without data, a folder or a usable alias."""
        if not self.source or not self.cohort:
            raise ConfigError("retrain must name a source and a cohort folder, got nothing for one; add the key")
        if not self.alias.replace("-", "").replace("_", "").isalnum() or self.alias in ("challenger", "previous"):
            raise ConfigError(
                f"retrain.alias must be letters, digits, - and _, and neither challenger nor previous, got "
                f"{self.alias!r}; write champion"
            )
        if not self.lease_s >= 1.0:
            raise ConfigError(f"retrain.lease_s must be at least 1 second, got {self.lease_s}; write for example 120")
