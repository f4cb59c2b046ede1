"""Which members a model has: the keys of a run's `ensemble` table in, a checked `EnsembleConfig` out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from models.ensemble import MemberKind, MemberSpec
from models.errors import ConfigError
from models.network import NetworkConfig
from models.record import from_plain, to_plain
from pipelines.training_config import TrainingConfig

# Keys of [training] in which members may differ: those of the loop. What is learnt is one for all members.
VARIED = (
    "truncation_length",
    "rows",
    "max_epochs",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "average_decay",
    "curve_rate",
    "curve_decay",
)


@dataclass(frozen=True)
class Variant:
    """One kind of network among an ensemble's members.

    Args:
        network: keys of [network] in which it differs.
        training: keys of [training] in which it differs.
        weight: of its members' logits among the networks', relative to the other kinds.
    """

    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuses keys that members cannot differ in, and a weight that leaves a kind out."""
        if not self.weight > 0:
            raise ConfigError(f"ensemble.variants.weight must be above 0, got {self.weight}; drop the kind for none")
        other = sorted(set(self.training) - set(VARIED))
        if other:
            raise ConfigError(
                f"ensemble.variants.training must hold only the keys {', '.join(VARIED)}, got {', '.join(other)}; "
                "set them for all members in [training]"
            )


@dataclass(frozen=True)
class EnsembleConfig:
    """The members of a model; they read one encoding, and the model's logit is their weighted mean.

    Args:
        members: recurrent networks; the first is trained from the run's seed, each other from the next.
        folds: 0: members learn from the split's training part, and are calibrated on its calibration part. More: they
            learn from everyone before the hold-out but for one of so many folds of the patients, the next member
            without the next fold, and are calibrated on what they say of the patients whom they never saw.
        variants: kinds of networks; so many members in a row as there are folds are of one kind. Empty: all are
            as [network] and [training] say.
        trees: boosted trees over the features of a step are members too, one a fold, with the settings of
            `[baselines]`.
        trees_weight: share of the trees in the model's logit; the networks share the rest, by their kinds' weights.
        fit_weights: kinds of members are weighed against each other by what they say of patients whom they never saw;
            the weights above are then where that begins. Needs folds.
    """

    members: int = 1
    folds: int = 0
    variants: tuple[Variant, ...] = ()
    trees: bool = False
    trees_weight: float = 0.5
    fit_weights: bool = False

    def __post_init__(self) -> None:
        """Refuses what makes no ensemble."""
        if self.members < 1:
            raise ConfigError(f"ensemble.members must be at least 1, got {self.members}; raise the number")
        if self.folds < 0 or self.folds == 1 or (self.folds and self.members % self.folds):
            raise ConfigError(
                f"ensemble.folds must be 0 or a number from 2 that divides ensemble.members, got {self.folds} of "
                f"{self.members}; every fold needs as many members that never saw it"
            )
        if len(self.variants) * max(self.folds, 1) > self.members:
            raise ConfigError(
                f"ensemble.variants must be at most {self.members // max(self.folds, 1)}, one for each round of folds, "
                f"got {len(self.variants)}; raise ensemble.members or drop variants"
            )
        if self.fit_weights and not self.folds:
            raise ConfigError(
                "ensemble.fit_weights must go with ensemble.folds, got 0 folds: weights are fitted on patients whom "
                "members never saw; set ensemble.folds to 4"
            )
        if not 0 < self.trees_weight < 1:
            raise ConfigError(
                f"ensemble.trees_weight must lie between 0 and 1, got {self.trees_weight}; "
                "set ensemble.trees to false for none"
            )

    def specs(self, network: NetworkConfig, seed: int) -> tuple[MemberSpec, ...]:
        """The members, networks first.

        Example:
            >>> [member.weight for member in EnsembleConfig(members=2, trees=True).specs(NetworkConfig(), seed=0)]
            [0.25, 0.25, 0.5]
        """
        weights = [self._variant(k).weight for k in range(self.members)]
        share = (1.0 - self.trees_weight if self.trees else 1.0) / math.fsum(weights)
        networks = tuple(
            MemberSpec(MemberKind.NETWORK, share * weight, seed + k, self.network(network, k), self._fold(k))
            for k, weight in enumerate(weights)
        )
        forests = max(self.folds, 1) if self.trees else 0
        trees = (
            MemberSpec(MemberKind.TREES, self.trees_weight / forests, seed, fold=self._fold(k)) for k in range(forests)
        )
        return (*networks, *trees)

    def network(self, network: NetworkConfig, number: int) -> NetworkConfig:
        """The shape of a member, with what its variant changes in `network`."""
        changes = self._variant(number).network
        return from_plain(NetworkConfig, to_plain(network) | changes, where="network") if changes else network

    def training(self, training: TrainingConfig, number: int) -> TrainingConfig:
        """The settings of a member's loop, with what its variant changes in `training`."""
        changes = self._variant(number).training
        if not changes:
            return training
        table = {name: value for name, value in to_plain(training).items() if name != "auxiliary"}
        changed = from_plain(TrainingConfig, table | changes, where="training")
        return replace(changed, auxiliary=training.auxiliary)

    def _variant(self, number: int) -> Variant:
        if not self.variants:
            return Variant()
        return self.variants[number // max(self.folds, 1) % len(self.variants)]

    def _fold(self, number: int) -> int | None:
        return number % self.folds if self.folds else None
