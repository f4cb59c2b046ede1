"""The training loss: logits, targets and weights of time steps in, one number out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.task import TargetKind, TaskSpec
from pipelines.training_config import Reduction, RegressionLoss, TrainingConfig


@dataclass(frozen=True)
class Objective:
    """Masked loss of one task.

    Args:
        kind: binary (cross-entropy), multiclass (cross-entropy over classes) or regression (squared error).
        reduction: `mean` divides by the supervised weight, `sum` by the number of supervised rows, so that a
            row's time steps are averaged or summed.
        regression_loss: `rmse` takes the root of the reduced squared error.
        positive_weight: factor of the loss of positive binary labels.
        l1: factor of the sum of the absolute values of all weight matrices.
    """

    kind: TargetKind
    reduction: Reduction = Reduction.MEAN
    regression_loss: RegressionLoss = RegressionLoss.MSE
    positive_weight: float = 1.0
    l1: float = 0.0

    @staticmethod
    def of(task: TaskSpec, training: TrainingConfig) -> Objective:
        """The objective that a run's task and training settings ask for."""
        return Objective(task.kind, training.reduction, training.regression_loss, training.positive_weight, training.l1)

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(..., targets) loss of every time step; logits (..., outputs), targets (..., targets)."""
        logits = logits.to(target.dtype)
        match self.kind:
            case TargetKind.BINARY:
                factor = torch.tensor(self.positive_weight, dtype=logits.dtype, device=logits.device)
                return functional.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=factor)
            case TargetKind.MULTICLASS:
                flat = functional.cross_entropy(logits.flatten(0, -2), target.long().flatten(), reduction="none")
                return flat.view_as(target)
            case TargetKind.REGRESSION:
                return (logits - target).square()

    def total(self, logits: Tensor, target: Tensor, weight: Tensor, normaliser: float | None = None) -> Tensor:
        """The reduced loss of a batch.

        Args:
            logits: (batch, time, outputs).
            target: (batch, time, targets).
            weight: (batch, time, targets); 0 = not supervised.
            normaliser: what the weighted sum is divided by; by default the batch's own, at least 1e-12.
        """
        if normaliser is None:
            normaliser = max(self.normaliser(weight), 1e-12)
        # Where the weight is 0 the loss is taken out, not multiplied: nothing that stands there may matter.
        losses = torch.where(weight > 0, self.each(logits, target) * weight, 0.0)
        loss = losses.sum() / normaliser
        if self.kind is TargetKind.REGRESSION and self.regression_loss is RegressionLoss.RMSE:
            return torch.sqrt(loss + 1e-12)
        return loss

    def normaliser(self, weight: Tensor) -> float:
        """What a batch with these weights (batch, time, targets) is divided by; 0 = nothing is supervised."""
        if self.reduction is Reduction.MEAN:
            return float(weight.sum())
        return float((weight > 0).flatten(1).any(1).sum())

    def penalty(self, network: nn.Module) -> Tensor | float:
        """The L1 penalty; biases are free of it."""
        if not self.l1:
            return 0.0
        return self.l1 * torch.stack([p.abs().sum() for p in network.parameters() if p.ndim > 1]).sum()
