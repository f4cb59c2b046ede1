"""What Lightning trains for tagging: batches of windows in, optimiser steps and averaged weights out."""

# ruff: noqa: ARG002  Lightning gives a hook all its arguments, wanted or not

from __future__ import annotations

import copy
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import AdamW, Optimizer

from models.text.tagging_network import TaggingNetwork
from pipelines.optimisers import clip_gradients
from pipelines.text.tagging_config import TaggingTraining
from pipelines.text.tagging_data import TaggedBatch, TaggedWindows, WindowLoader

# Share of the peak to which the learning rate falls.
_LAST_RATE = 0.02


class TaggingModule(pl.LightningModule):
    """Trains a tagging network on windows.

    Args:
        network: what is trained.
        train: the training part.
        training: settings of the loop.
        seed: of the order of the windows and of dropout.
    """

    def __init__(self, network: TaggingNetwork, train: TaggedWindows, training: TaggingTraining, *, seed: int) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.training_settings, self.seed = training, seed
        self.losses: list[float] = []
        self._windows = WindowLoader(train, batch_windows=training.batch_windows, seed=seed)
        self._drawn: dict[str, Any] | None = None

    def train_dataloader(self) -> WindowLoader:
        """The training part's windows."""
        return self._windows

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the next epoch draws from: the order of the windows, and dropout's generators."""
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        checkpoint["drawn"] = {"order": self._windows.drawn(), "cpu": torch.get_rng_state(), "cuda": cuda}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up what `on_save_checkpoint` added."""
        self._drawn = checkpoint["drawn"]

    def configure_optimizers(self) -> Optimizer:
        """AdamW; weight matrices decay, biases and the chain do not."""
        chain = {id(parameter) for parameter in self.network.crf.parameters()}
        weights = [p for p in self.network.parameters() if p.ndim > 1 and id(p) not in chain]
        others = [p for p in self.network.parameters() if p.ndim <= 1 or id(p) in chain]
        decay = self.training_settings.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=self.training_settings.learning_rate, betas=(0.9, 0.98), fused=True)

    def on_train_start(self) -> None:
        """Seeds dropout, or goes on where a checkpoint stood."""
        if self._drawn is None:
            torch.manual_seed(self.seed)
            return
        self._windows.go_on(self._drawn["order"])
        torch.set_rng_state(self._drawn["cpu"])
        if self._drawn["cuda"]:
            torch.cuda.set_rng_state_all(self._drawn["cuda"])

    def on_train_batch_start(self, batch: TaggedBatch, batch_idx: int) -> None:
        """Sets the learning rate."""
        steps = self.training_settings.max_epochs * int(self.trainer.num_training_batches)
        rate = self.training_settings.learning_rate * rate_share(
            self.global_step / steps, self.training_settings.warmup_fraction
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: TaggedBatch, batch_idx: int) -> Tensor:
        """The negative log-likelihood of a batch's tags, by word."""
        loss = self.network.loss(batch.words, batch.tags)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm over all parameters."""
        clip_gradients(list(self.network.parameters()), gradient_clip_val or math.inf)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Any = None,
    ) -> None:
        """One step, which the averaged weights follow: closely at first, slowly later."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        done = self.global_step
        keep = min(self.training_settings.average_decay, (1 + done) / (10 + done))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)


def rate_share(progress: float, warmup: float) -> float:
    """Share of the peak learning rate, of the part of the run that is done."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    rest = (progress - warmup) / (1 - warmup)
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * rest)) / 2
