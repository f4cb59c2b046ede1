"""A moving average of a network's weights: the weights after every step in, smoother ones out."""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.streaming import StreamingNetwork


class AveragedNetwork(nn.Module):
    """Exponential moving average, faster at the beginning.

    Args:
        network: the network whose weights are followed.
        decay: share of the old average that one update keeps, in the long run.

    Source: Polyak and Juditsky 1992; the ramp (1 + t) / (10 + t) follows common practice.
    """

    def __init__(self, network: StreamingNetwork, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: StreamingNetwork) -> None:
        """Moves the average towards the weights of `network`."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - keep)
        self.updates += 1
