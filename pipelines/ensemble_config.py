"""Which members a model has: the keys of a run's `ensemble` table in, a checked `EnsembleConfig` out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.cells import Cell
from models.ensemble import MemberKind, MemberSpec
from models.errors import ConfigError
from models.network import NetworkConfig


@dataclass(frozen=True)
class EnsembleConfig:
    """The members of a model; they read one encoding, and the model's logit is their weighted mean.

    Args:
        members: recurrent networks; the first is trained from the run's seed, each other from the next.
        cells: the cells that the networks take in turn; empty: all take network.cell.
        trees: boosted trees over the features of a step are one more member, with the settings of `[baselines]`.
        trees_weight: share of the trees in the model's logit; the networks share the rest evenly.
    """

    members: int = 1
    cells: tuple[Cell, ...] = ()
    trees: bool = False
    trees_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuses what makes no ensemble."""
        if self.members < 1:
            raise ConfigError(f"ensemble.members must be at least 1, got {self.members}; raise the number")
        if len(self.cells) > self.members:
            raise ConfigError(
                f"ensemble.cells must be at most {self.members}, one a member, got {len(self.cells)}; "
                "raise ensemble.members or drop cells"
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
        share = (1.0 - self.trees_weight if self.trees else 1.0) / self.members
        cells = self.cells or (network.cell,)
        networks = tuple(
            MemberSpec(MemberKind.NETWORK, share, seed + k, replace(network, cell=cells[k % len(cells)]))
            for k in range(self.members)
        )
        return (*networks, MemberSpec(MemberKind.TREES, self.trees_weight, seed)) if self.trees else networks
