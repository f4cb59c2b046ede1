"""Heads beside the task's own: what that one reads in, one weighted loss out; they end with the training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.streaming import StreamingNetwork
from pipelines.auxiliary import AuxiliaryBatch, AuxiliaryGroup
from pipelines.objective import Objective


class AuxiliaryHeads(nn.Module):
    """A linear layer over the same hidden states that the task's head reads, dropout included.

    Args:
        width: width of those hidden states.
        groups: the losses, by column.

    Source: Harutyunyan et al. 2019, Multitask learning and benchmarking with clinical time series data.
    """

    def __init__(self, width: int, groups: tuple[AuxiliaryGroup, ...]) -> None:
        super().__init__()
        self.groups = groups
        self.linear = nn.Linear(width, groups[-1].end)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def loss(self, hidden: Tensor, batch: AuxiliaryBatch) -> Tensor:
        """The weighted sum of the groups' losses, each divided by its own normaliser.

        Args:
            hidden: (batch, time, width).
            batch: targets of the same time steps.
        """
        outputs: Tensor = self.linear(hidden)
        total = outputs.sum() * 0.0
        for group, normaliser, amount in zip(self.groups, batch.normaliser, batch.amount, strict=True):
            if amount > 0:
                own = slice(group.begin, group.end)
                target, weight = batch.target[..., own], batch.weight[..., own]
                total = total + group.weight * Objective(group.kind).total(
                    outputs[..., own], target, weight, normaliser
                )
        return total


@contextlib.contextmanager
def head_inputs(network: StreamingNetwork) -> Iterator[list[Tensor]]:
    """Collects what the task's head reads, (batch, time, width) a call, while the network runs."""
    read: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        read.append(inputs[0])

    handle = network.head.register_forward_pre_hook(keep)
    try:
        yield read
    finally:
        handle.remove()


def trained_parts(network: StreamingNetwork, heads: AuxiliaryHeads | None) -> nn.Module:
    """The network, and the heads beside its own where there are any: everything whose weights are trained."""
    return network if heads is None else nn.ModuleList([network, heads])


def no_loss(trained: nn.Module) -> Tensor:
    """Zero, with every parameter in its graph: ranks must agree on which gradients they exchange."""
    return torch.stack([p.sum() for p in trained.parameters()]).sum() * 0.0
