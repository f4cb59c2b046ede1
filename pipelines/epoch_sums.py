"""Running sums of an epoch: losses and gradient norms of its batches in, the epoch's figures out."""

from __future__ import annotations

from pytorch_lightning.strategies import Strategy
from torch import Tensor, float64, tensor, zeros


class EpochSums:
    """Sums on the CPU, of this rank.

    Args:
        values: weighted loss, weight of it over all ranks, gradient norms, optimiser steps.
    """

    def __init__(self, values: Tensor | None = None) -> None:
        self.values = zeros(4, dtype=float64) if values is None else values

    def add_loss(self, loss: float, *, normaliser: float, amount: float) -> None:
        """Adds a batch's loss, which was divided by `normaliser`, and the batch's weight over all ranks."""
        self.values += tensor([loss * normaliser, amount, 0.0, 0.0], dtype=float64)

    def add_norm(self, norm: float) -> None:
        """Adds the gradient norm of an optimiser step."""
        self.values += tensor([0.0, 0.0, norm, 1.0], dtype=float64)

    def figures(self, strategy: Strategy, *, world: int) -> dict[str, float]:
        """`train_loss` over all ranks and the mean `gradient_norm`, which is the same on every rank."""
        total = strategy.reduce(self.values.to(strategy.root_device), reduce_op="sum")
        loss, amount, norm, steps = total.tolist()
        # Every rank counts the weight of all ranks.
        return {"train_loss": loss * world / max(amount, 1e-12), "gradient_norm": norm / max(steps, 1.0)}
