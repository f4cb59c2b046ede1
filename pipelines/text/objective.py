"""The loss of texts: logits of tokens with their targets in, one number out, rare classes weighing as set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.task import TargetKind
from pipelines.objective import Objective


@dataclass(frozen=True)
class TextObjective(Objective):
    """Masked loss of one task on texts.

    Args:
        shift: added to the logits before the loss, one number a class: the logarithm of its frequency, as far as
            classes are balanced; empty: nothing.
        smoothing: share of every label that is spread over all classes.
    """

    shift: tuple[float, ...] = ()
    smoothing: float = 0.0

    def each(self, logits: Tensor, target: Tensor) -> Tensor:
        """(..., targets) loss of every token."""
        if self.shift:
            logits = logits + torch.tensor(self.shift, dtype=logits.dtype, device=logits.device)
        if self.kind is not TargetKind.MULTICLASS:
            spread = target * (1 - self.smoothing) + self.smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits.to(target.dtype), spread, reduction="none")
        flat = functional.cross_entropy(
            logits.to(target.dtype).flatten(0, -2),
            target.long().flatten(),
            reduction="none",
            label_smoothing=self.smoothing,
        )
        return flat.view_as(target)


class SparseObjective(TextObjective):
    """The same loss computed at supervised tokens alone, which matters where the outputs are a whole vocabulary."""

    def total(self, logits: Tensor, target: Tensor, weight: Tensor, normaliser: float | None = None) -> Tensor:
        """The reduced loss of a batch; see `Objective.total`."""
        if normaliser is None:
            normaliser = max(self.normaliser(weight), 1e-12)
        kept = weight[..., 0] > 0
        losses = self.each(logits[kept], target[kept]) * weight[kept]
        return losses.sum() / normaliser
