"""Running sums of an epoch: losses and gradient norms of its batches in, the epoch's figures out."""

from __future__ import annotations

from pytorch_lightning.strategies import Strategy
from torch import Tensor, float64, tensor


class EpochSums:
    """Sums on the CPU, of this rank.

    Args:
        values: weighted loss, weight of it over all ranks, gradient norms, optimiser steps.
    """

    def __init__(self, values: Tensor | None = None) -> None:
        # Numbers, as a tensor a batch would cost more than the sums.
        sums: list[float] = [0.0] * 4 if values is None else values.tolist()
        self._loss, self._amount, self._norm, self._steps = sums

    @property
    def values(self) -> Tensor:
        """(4,) float64 the sums, as they are stored."""
        return tensor([self._loss, self._amount, self._norm, self._steps], dtype=float64)

    def add_loss(self, loss: float, *, normaliser: float, amount: float) -> None:
        """Adds a batch's loss, which was divided by `normaliser`, and the batch's weight over all ranks."""
        self._loss += loss * normaliser
        self._amount += amount

    def add_norm(self, norm: float) -> None:
        """Adds the gradient norm of an optimiser step."""
        self._norm += norm
        self._steps += 1.0

    def figures(self, strategy: Strategy, *, world: int) -> dict[str, float]:
        """`train_loss` over all ranks and the mean `gradient_norm`, which is the same on every rank."""
        total = strategy.reduce(self.values.to(strategy.root_device), reduce_op="sum")
        loss, amount, norm, steps = total.tolist()
        # Every rank counts the weight of all ranks.
        return {"train_loss": loss * world / max(amount, 1e-12), "gradient_norm": norm / max(steps, 1.0)}
