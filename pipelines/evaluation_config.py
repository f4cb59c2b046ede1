"""What a report holds: the keys of a run's `evaluation` table in, a checked `EvaluationConfig` out."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from models.errors import ConfigError
from pipelines.bootstrap import Resampling


def _age_bands() -> dict[str, tuple[float, ...]]:
    return {"age": (18.0, 45.0, 65.0, 80.0)}


@dataclass(frozen=True)
class EvaluationConfig:
    """What is reported, and how its intervals are made.

    Args:
        bootstrap: number of draws of patients.
        hours: hours into the stay at which risks are evaluated too.
        alert_rates: shares of stays (or time steps) that alert, for the sensitivities.
        level: of the intervals.
        seed: of the draws.
        decision_range: lowest and highest threshold of the decision curve; empty: from a tenth of the base rate to
            four times it, at most 0.99.
        decision_points: number of thresholds of the decision curve.
        alert_burdens: alerts per patient-day at which sensitivity and predictive value are told.
        alert_silence_h: hours after an alert in which a stay gives no other.
        lead_h: hours before the event by which an alert counts as early.
        subgroups: static variables by which the figures are broken down; one that a cohort lacks is said to be so.
        subgroup_cuts: where numeric ones are cut; a value on a cut belongs to the upper band.
        min_group: stays, and stays with and without the event, below which a group has no figure.
        min_events: patients with the event, and without it, below which figures come with a caution: so few draws of
            patients differ too little for an interval.
    """

    bootstrap: int = 1000
    hours: tuple[float, ...] = (6.0, 12.0, 24.0, 48.0)
    alert_rates: tuple[float, ...] = (0.05, 0.1, 0.2)
    level: float = 0.95
    seed: int = 0
    decision_range: tuple[float, ...] = ()
    decision_points: int = 41
    alert_burdens: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    alert_silence_h: float = 12.0
    lead_h: float = 6.0
    subgroups: tuple[str, ...] = ("age", "sex", "icu_type", "unit_2019", "hospital")
    subgroup_cuts: dict[str, tuple[float, ...]] = field(default_factory=_age_bands)
    min_group: int = 5
    min_events: int = 10

    def __post_init__(self) -> None:
        """Refuses settings that cannot hold."""
        Resampling(self.bootstrap, self.level, self.seed)
        if any(not 0.0 < rate < 1.0 for rate in self.alert_rates) or any(hour <= 0 for hour in self.hours):
            raise ConfigError(
                f"evaluation.alert_rates must lie between 0 and 1 and evaluation.hours above 0, got "
                f"{list(self.alert_rates)} and {list(self.hours)}; correct them"
            )
        self._check_decisions()
        self._check_groups()

    def _check_decisions(self) -> None:
        span = self.decision_range
        if span and not (len(span) == 2 and 0.0 < span[0] < span[1] < 1.0):
            raise ConfigError(
                f"evaluation.decision_range must be two ascending risks between 0 and 1, or empty, got {list(span)}; "
                "for example [0.02, 0.3]"
            )
        if (
            self.decision_points < 2
            or self.alert_silence_h < 0
            or self.lead_h <= 0
            or min(self.alert_burdens, default=1.0) <= 0
        ):
            raise ConfigError(
                "evaluation.decision_points must be at least 2, alert_silence_h at least 0, lead_h and alert_burdens "
                f"above 0, got {self.decision_points}, {self.alert_silence_h}, {self.lead_h} and "
                f"{list(self.alert_burdens)}; correct them"
            )

    def _check_groups(self) -> None:
        for name, cuts in self.subgroup_cuts.items():
            if not cuts or any(a >= b for a, b in pairwise(cuts)):
                raise ConfigError(
                    f"evaluation.subgroup_cuts.{name} must be ascending numbers, got {list(cuts)}; sort them"
                )
        if self.min_group < 1:
            raise ConfigError(f"evaluation.min_group must be at least 1, got {self.min_group}; 5 hides small groups")
        if self.min_events < 1:
            raise ConfigError(f"evaluation.min_events must be at least 1, got {self.min_events}; for example 10")

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.bootstrap, self.level, self.seed)
