"""Emissions of tags at every token in; log-likelihoods, best tag sequences and posterior probabilities out.

Source: Lafferty, McCallum and Pereira 2001 (linear-chain conditional random fields); Lample et al. 2016 (their use
above a recurrent network). The gradient of the partition function is its marginals, so that training needs one
pass in each direction and no graph over the time steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.errors import DataError

NO_TAG = -1
"""Stands at padding where tags are returned."""

_FORBIDDEN = float("-inf")


class LinearChainCrf(nn.Module):
    """A chain of tags, each of which scores with the tag before it.

    Padding stands behind a sequence's tokens, never between them; a row of padding alone has log-likelihood zero.

    Args:
        allowed: (tags, tags) bool, whether the second may follow the first.
        first: (tags,) bool, whether a sequence may begin with the tag.

    Raises:
        DataError: if the shapes do not fit, or no sequence is possible.

    Example:
        >>> crf = LinearChainCrf(torch.ones(2, 2, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
        >>> emissions = torch.tensor([[[0.0, 1.0], [2.0, 0.0], [0.0, 9.0]]])
        >>> crf.viterbi(emissions, torch.tensor([[True, True, False]])).tolist()
        [[1, 0, -1]]
    """

    allowed: Tensor
    first: Tensor

    def __init__(self, allowed: Tensor, first: Tensor) -> None:
        super().__init__()
        if allowed.ndim != 2 or allowed.shape[0] != allowed.shape[1] or first.shape != allowed.shape[:1]:
            raise DataError(
                f"allowed and first must be (tags, tags) and (tags,), got {tuple(allowed.shape)} and "
                f"{tuple(first.shape)}; build both with models.text.spans.TagSet"
            )
        if not first.any() or not allowed.any(1).all():
            raise DataError("allowed must let every tag be followed and a sequence begin, got none; allow one")
        tags = len(first)
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.starts = nn.Parameter(torch.zeros(tags))
        self.ends = nn.Parameter(torch.zeros(tags))
        self.register_buffer("allowed", allowed.bool(), persistent=False)
        self.register_buffer("first", first.bool(), persistent=False)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, valid: Tensor) -> Tensor:
        """Log-probability of tag sequences.

        Args:
            emissions: (batch, time, tags) floating point.
            tags: (batch, time) int64; of a sequence that is not allowed it is minus infinity.
            valid: (batch, time) bool, False at padding.

        Returns:
            (batch,) float64.

        Raises:
            DataError: if the shapes do not fit, or padding stands before a token.
        """
        emissions = self._checked(emissions, valid)
        if tags.shape != valid.shape:
            raise DataError(f"tags must be of shape {tuple(valid.shape)}, got {tuple(tags.shape)}; pad them alike")
        tags = torch.where(valid, tags, 0)
        transitions, starts = self._scores(emissions)
        ends = self.ends.to(emissions)
        partition = _partition(emissions, transitions, starts, ends, valid)
        here = emissions.gather(2, tags[:, :, None])[:, :, 0]
        stepped = transitions[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(1, (valid.sum(1, keepdim=True) - 1).clamp_min(0))[:, 0]
        path = torch.where(valid, here, 0.0).sum(1) + torch.where(valid[:, 1:], stepped, 0.0).sum(1)
        return torch.where(valid[:, 0], path + starts[tags[:, 0]] + ends[last] - partition, 0.0)

    @torch.no_grad()
    def viterbi(self, emissions: Tensor, valid: Tensor) -> Tensor:
        """The most probable allowed sequences, (batch, time) int64 with `NO_TAG` at padding."""
        emissions = self._checked(emissions, valid)
        transitions, best = self._scores(emissions)
        best = best + emissions[:, 0]
        stay = torch.arange(best.shape[1], device=best.device).expand_as(best)
        came: list[Tensor] = []
        for time in range(1, emissions.shape[1]):
            scores, source = (best[:, :, None] + transitions).max(1)
            here = valid[:, time, None]
            best = torch.where(here, scores + emissions[:, time], best)
            came.append(torch.where(here, source, stay))
        tag = (best + self.ends.to(best)).argmax(1)
        path = [tag]
        for source in reversed(came):
            tag = source.gather(1, tag[:, None])[:, 0]
            path.append(tag)
        return torch.where(valid, torch.stack(path[::-1], dim=1), NO_TAG)

    @torch.no_grad()
    def posterior(self, emissions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """How probable tags and pairs of tags are, given the whole sequence.

        Returns:
            (batch, time, tags) float64 probability of every tag, zero at padding, and (batch, time - 1, tags, tags)
            probability of every pair of neighbours, zero where the second is padding.
        """
        emissions = self._checked(emissions, valid)
        transitions, starts = self._scores(emissions)
        ends = self.ends.to(emissions)
        forward, backward, partition = _passes(emissions, transitions, starts, ends, valid)
        return _marginals(forward, backward, partition, emissions, transitions, valid)

    def _scores(self, emissions: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of transitions and of the first tag, minus infinity where forbidden."""
        transitions = self.transitions.to(emissions).masked_fill(~self.allowed, _FORBIDDEN)
        return transitions, self.starts.to(emissions).masked_fill(~self.first, _FORBIDDEN)

    def _checked(self, emissions: Tensor, valid: Tensor) -> Tensor:
        tags = len(self.first)
        if emissions.ndim != 3 or emissions.shape[2] != tags or valid.shape != emissions.shape[:2]:
            raise DataError(
                f"emissions must be (batch, time, {tags}) and valid (batch, time), got {tuple(emissions.shape)} and "
                f"{tuple(valid.shape)}; give both of one batch"
            )
        if not emissions.shape[1] or (valid[:, 1:] & ~valid[:, :-1]).any():
            raise DataError("valid must hold a time step and its padding last, got otherwise; pad behind the tokens")
        return emissions.double()  # sums over hundreds of tokens lose digits that differences then need


class _Partition(torch.autograd.Function):
    """Log of the summed scores of all sequences, whose gradient is the expected number of tags and transitions."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, starts: Tensor, ends: Tensor, valid: Tensor
    ) -> Tensor:
        forward, backward, partition = _passes(emissions, transitions, starts, ends, valid)
        ctx.save_for_backward(forward, backward, partition, emissions, transitions, valid)
        return partition

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        forward, backward, partition, emissions, transitions, valid = ctx.saved_tensors
        single, pairs = _marginals(forward, backward, partition, emissions, transitions, valid)
        single = single * gradients[0][:, None, None]
        last = (valid.sum(1) - 1).clamp_min(0)[:, None, None].expand(-1, 1, single.shape[2])
        paired = (pairs * gradients[0][:, None, None, None]).sum((0, 1))
        return single, paired, single[:, 0].sum(0), single.gather(1, last).sum((0, 1)), None


def _partition(emissions: Tensor, transitions: Tensor, starts: Tensor, ends: Tensor, valid: Tensor) -> Tensor:
    found: Tensor = _Partition.apply(emissions, transitions, starts, ends, valid)  # type: ignore[no-untyped-call]
    return found


def _passes(
    emissions: Tensor, transitions: Tensor, starts: Tensor, ends: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and backward scores (batch, time, tags), each with its own end's score, and the partition (batch,).

    The forward scores hold the emission at their own time step, the backward scores do not.
    """
    time = emissions.shape[1]
    forward, backward = torch.empty_like(emissions), torch.empty_like(emissions)
    forward[:, 0] = before = starts + emissions[:, 0]
    for t in range(1, time):
        entered = torch.logsumexp(before[:, :, None] + transitions, 1) + emissions[:, t]
        forward[:, t] = before = torch.where(valid[:, t, None], entered, before)
    backward[:, -1] = after = ends.expand(len(emissions), -1)
    for t in range(time - 2, -1, -1):
        left = torch.logsumexp((after + emissions[:, t + 1])[:, None, :] + transitions, 2)
        backward[:, t] = after = torch.where(valid[:, t + 1, None], left, ends)
    return forward, backward, torch.logsumexp(before + ends, 1)


def _marginals(
    forward: Tensor, backward: Tensor, partition: Tensor, emissions: Tensor, transitions: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Probabilities of single tags (batch, time, tags) and of neighbours (batch, time - 1, tags, tags)."""
    total = partition[:, None, None]
    single = (forward + backward - total).exp() * valid[:, :, None]
    arriving = (backward + emissions)[:, 1:, None, :] - total[:, :, :, None]
    pairs = (forward[:, :-1, :, None] + transitions + arriving).exp() * valid[:, 1:, None, None]
    return single, pairs
