"""What every network of a model offers: a chunk and the state before it in, logits and the state after it out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.batch import Chunk
from models.state import State


class StreamingNetwork(nn.Module, ABC):
    """A network that training, evaluation and serving call alike, whatever it reads.

    Attributes:
        width: number of columns of a time step that it reads.
        outputs: number of logits at a time step.
        head: the layer that makes the logits; has a `bias`.
    """

    width: int
    outputs: int
    head: nn.Module

    @property
    @abstractmethod
    def streams(self) -> bool:
        """Whether a sequence can be read chunk by chunk."""

    @property
    def leaves_parts_unused(self) -> bool:
        """Whether a batch may leave some of the parameters without a gradient."""
        return False

    @abstractmethod
    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` sequences that begin; by default on the network's device and in its precision."""

    @abstractmethod
    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) and the state after the last time step."""
