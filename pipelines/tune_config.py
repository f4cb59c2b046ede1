"""How hyper-parameters are searched: the keys of a run's `tune` table in, a checked `TuneConfig` out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from models.errors import ConfigError


class TuneMetric(StrEnum):
    """What a trial is judged by, on stays that its network was not fitted on."""

    AUPRC = "auprc"
    AUROC = "auroc"
    LOG_LOSS = "log_loss"
    RMSE = "rmse"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Whether more of it is better."""
        return "maximize" if self in (TuneMetric.AUPRC, TuneMetric.AUROC) else "minimize"


class PrunerKind(StrEnum):
    """Rule that ends a trial early."""

    MEDIAN = "median"
    HYPERBAND = "hyperband"


@dataclass(frozen=True)
class TuneConfig:
    """Everything about a search.

    Args:
        trials: how many trials end with a value or are pruned.
        metric: what a trial is judged by; always without the weights of the training's loss, so that trials
            which draw those weights compare.
        pruning: whether a trial that looks worse than the others at the same point is ended there.
        pruner: `median` (worse than the median of the earlier trials) or `hyperband`.
        startup_trials: trials that are drawn at random, and that no trial is pruned before.
        folds: 1: fitted on the training part, judged on the validation part. More: so many folds of the patients of
            both parts, each judged once; the mean counts.
        seed: of the draws; a trial's draw depends on it, the trial's number and the trials before alone.
        heartbeat_s: seconds between the signs of life of a running trial; one that gives none for three times as
            long is taken for dead and run again.
        space: what is searched, by dotted key: a list of choices, or a table with `low`, `high` and where wanted
            `log`, `step` and `integer`; empty: sizes, dropout, learning rate and weight decay.
    """

    trials: int = 20
    metric: TuneMetric = TuneMetric.AUPRC
    pruning: bool = True
    pruner: PrunerKind = PrunerKind.MEDIAN
    startup_trials: int = 5
    folds: int = 1
    seed: int = 0
    heartbeat_s: int = 20
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses numbers that have no meaning."""
        for name in ("trials", "startup_trials", "folds", "heartbeat_s"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tune.{name} must be at least 1, got {getattr(self, name)}; raise the number")
        if self.seed < 0:
            raise ConfigError(f"tune.seed must be at least 0, got {self.seed}; give another")
