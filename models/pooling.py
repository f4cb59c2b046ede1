"""Running pooling over time: hidden states and what was pooled so far in, one pooled vector a time step out.

Every pooling is causal: the vector at a time step depends on this step and earlier ones alone, and what it
needs of the past is carried as part of the state, so that chunks, whole stays and single steps agree.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor, nn

# Attention scores are squashed into [-5, 5]: weights then differ by a factor of up to e^10 and running sums of
# them need no rescaling, however long the stay.
_SCORE_BOUND = 5.0


class Pooling(StrEnum):
    """What the head reads at a time step: its own hidden state, or the mean, maximum or attention up to it."""

    LAST = "last"
    MEAN = "mean"
    MAX = "max"
    ATTENTION = "attention"


class RunningPool(nn.Module):
    """Pools hidden states (batch, time, width) up to each time step.

    Args:
        pooling: kind of pooling.
        width: width of the hidden states.
    """

    def __init__(self, pooling: Pooling, width: int) -> None:
        super().__init__()
        self.pooling = pooling
        self.width = width
        if pooling is Pooling.ATTENTION:
            self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is carried over time."""
        match self.pooling:
            case Pooling.LAST:
                return ()
            case Pooling.MAX:
                return ("pool_max",)
            case Pooling.MEAN | Pooling.ATTENTION:
                return ("pool_sum", "pool_weight")

    def initial(self, batch: int, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Tensors (1, batch, width or 1) of a stay of which nothing was pooled yet."""
        match self.pooling:
            case Pooling.LAST:
                return ()
            case Pooling.MAX:
                # No hidden state lies below -1, so -1 is an empty maximum that stays finite.
                return (torch.full((1, batch, self.width), -1.0, device=device, dtype=dtype),)
            case Pooling.MEAN | Pooling.ATTENTION:
                widths = (self.width, 1)
                return tuple(torch.zeros(1, batch, w, device=device, dtype=dtype) for w in widths)

    def forward(self, hidden: Tensor, carried: tuple[Tensor, ...], valid: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Pooled vectors (batch, time, width) and what is carried on; padding adds nothing.

        Args:
            hidden: (batch, time, width).
            carried: the tensors that `names` lists.
            valid: (batch, time) bool.
        """
        match self.pooling:
            case Pooling.LAST:
                return hidden, ()
            case Pooling.MAX:
                masked = hidden.masked_fill(~valid[..., None], -1.0)
                running = torch.cummax(torch.cat([carried[0].transpose(0, 1), masked], dim=1), dim=1).values[:, 1:]
                return running, (running[:, -1:].transpose(0, 1),)
            case Pooling.MEAN:
                return self._weighted(hidden, valid[..., None].to(hidden.dtype), carried)
            case Pooling.ATTENTION:
                return self._weighted(hidden, self._attention(hidden, valid), carried)

    def last(self, hidden: Tensor, carried: tuple[Tensor, ...], valid: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What `forward` gives at the last valid step of each row, (batch, 1, width), without that of the others.

        A row without a valid step keeps what is carried; what it pools then means nothing.
        """
        match self.pooling:
            case Pooling.LAST:
                place = (valid.sum(1) - 1).clamp_min(0)[:, None, None].expand(-1, 1, self.width)
                return hidden.gather(1, place), ()
            case Pooling.MAX:
                highest = torch.maximum(hidden.masked_fill(~valid[..., None], -1.0).amax(1), carried[0][0])
                return highest[:, None], (highest[None],)
            case Pooling.MEAN:
                return self._summed(hidden, valid[..., None].to(hidden.dtype), carried)
            case Pooling.ATTENTION:
                return self._summed(hidden, self._attention(hidden, valid), carried)

    def _attention(self, hidden: Tensor, valid: Tensor) -> Tensor:
        score = _SCORE_BOUND * torch.tanh(self.score(hidden).to(hidden.dtype) / _SCORE_BOUND)
        return score.exp() * valid[..., None]

    @staticmethod
    def _summed(hidden: Tensor, weight: Tensor, carried: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `_weighted`, for the last step alone: a sum takes a fraction of the time of all running ones."""
        sums = carried[0] + (weight.transpose(1, 2) @ hidden).transpose(0, 1)
        weights = carried[1] + weight.sum(1)[None]
        return (sums / weights.clamp_min(1e-3)).transpose(0, 1), (sums, weights)

    @staticmethod
    def _weighted(hidden: Tensor, weight: Tensor, carried: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        before_sum, before_weight = (c.transpose(0, 1) for c in carried)
        sums = torch.cumsum(torch.cat([before_sum, hidden * weight], dim=1), dim=1)[:, 1:]
        weights = torch.cumsum(torch.cat([before_weight, weight], dim=1), dim=1)[:, 1:]
        # A row without any valid step has weight 0; the smallest true weight is e^-5.
        pooled = sums / weights.clamp_min(1e-3)
        return pooled, (sums[:, -1:].transpose(0, 1), weights[:, -1:].transpose(0, 1))
