"""What Lightning trains: batches of tapes in, optimiser steps and the carried state of every tape out.

Automatic optimisation: one batch is one ordinary `training_step`. The state of the last batch is kept
detached, so the gradient ends at a chunk's edge while the information flows on.
"""

# ruff: noqa: ARG002  Lightning gives a hook all its arguments, wanted or not

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from models.encoded import Encoded
from models.state import State
from models.streaming import StreamingNetwork
from pipelines.auxiliary import AuxiliaryTargets
from pipelines.auxiliary_heads import AuxiliaryHeads, head_inputs, no_loss, trained_parts
from pipelines.averaging import AveragedNetwork
from pipelines.epoch_sums import EpochSums
from pipelines.labels import StepTargets
from pipelines.objective import Objective
from pipelines.optimisers import build_optimizer, clip_gradients, rate_factor
from pipelines.tapes import TapeBatch, Tapes
from pipelines.training_config import TrainingConfig


class TapeModule(pl.LightningModule):
    """Trains a network on tapes.

    Args:
        network: what is trained.
        objective: its loss.
        training: settings of the loop.
        train: encoded training stays and their targets.
        learning_rate: peak of the schedule.
        seed: of the order of the stays and of dropout.
        auxiliary: targets of heads beside the task's own, which are trained here and end here.
    """

    def __init__(
        self,
        network: StreamingNetwork,
        *,
        objective: Objective,
        training: TrainingConfig,
        train: tuple[Encoded, StepTargets],
        learning_rate: float,
        seed: int,
        auxiliary: AuxiliaryTargets | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.auxiliary, self.heads = auxiliary, _heads_beside(network, auxiliary)
        self.average = AveragedNetwork(network, training.average_decay) if training.average_decay else None
        self.objective, self.training_settings = objective, training
        self.learning_rate, self.seed = learning_rate, seed
        self.validation_losses: list[float] = []
        self.train_part = train
        self._tapes: Tapes | None = None
        self._carry: State | None = None
        self._restored: dict[str, Any] | None = None
        self.sums = EpochSums()
        self.steps_now = False

    @property
    def best_network(self) -> StreamingNetwork:
        """The weights that are validated and kept: the averaged ones, or the trained ones."""
        return self.network if self.average is None else self.average.network

    @property
    def trained(self) -> nn.Module:
        """Everything whose weights are trained: the network, and the heads beside its own."""
        return trained_parts(self.network, self.heads)

    def train_dataloader(self) -> Tapes:
        """This rank's rows of the tapes."""
        training = self.training_settings
        self._tapes = Tapes(
            *self.train_part,
            rows=training.rows,
            truncation_length=training.truncation_length,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            accumulate=training.accumulate_batches,
            reduction=training.reduction,
            auxiliary=self.auxiliary,
        )
        return self._tapes

    def configure_optimizers(self) -> Optimizer:
        """The optimiser; its rate is set before every batch, so no scheduler object holds state."""
        self._clipped = list(self.trained.parameters())
        return build_optimizer(self.trained, self.training_settings, learning_rate=self.learning_rate)

    def on_train_start(self) -> None:
        """Moves the tapes to where a checkpoint left them, or seeds dropout for a new run."""
        if self._restored is not None and self._tapes is not None:
            # Lightning leaves this out when the checkpoint stands at the end of an epoch.
            self._tapes.load_state_dict(self._restored["cursor"])
            return
        torch.manual_seed(self.seed * 1000 + 1 + self.global_rank)

    def on_train_batch_start(self, batch: TapeBatch, batch_idx: int) -> None:
        """Sets the learning rate, and once after a resumption the random state."""
        if self._restored is not None:
            _set_random_state(self._restored["random"])
            self._carry = None if self._carry is None else self._carry.to(self.device)
            self._restored = None
        self.steps_now = batch.steps
        rate = current_rate(self, batch_idx)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["share"]

    def training_step(self, batch: TapeBatch, batch_idx: int) -> Tensor:
        """The loss of one chunk of every tape; the state moves on whether or not anything is supervised."""
        state = self._carry or self.network.initial_state(len(batch.chunk.reset))
        if not batch.supervised:
            with torch.no_grad():
                self._carry = self.network(batch.chunk, state)[1]
            return no_loss(self.trained)
        loss, after = self._loss(batch, state)
        self._carry = after.detach()
        # Lightning averages over ranks and accumulated batches; the normaliser has counted them already.
        loss = loss * (self.trainer.world_size * self.training_settings.accumulate_batches)
        if self.trainer.world_size > 1 or self.network.leaves_parts_unused:
            loss = loss + no_loss(self.trained)
        return loss + self.objective.penalty(self.trained) if self.objective.l1 else loss

    def _loss(self, batch: TapeBatch, state: State) -> tuple[Tensor, State]:
        """The task's loss, to which the other heads' are added, and the state after the chunk."""
        with head_inputs(self.network) as read:
            logits, after = self.network(batch.chunk, state)
        if batch.amount > 0:
            loss = self.objective.total(logits, batch.target, batch.weight, batch.normaliser)
            self.sums.add_loss(float(loss.detach()), normaliser=batch.normaliser, amount=batch.amount)
        else:
            loss = logits.sum() * 0.0
        if self.heads is not None and batch.auxiliary is not None:
            loss = loss + self.heads.loss(read[0], batch.auxiliary)
        return loss, after

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step; none where no step of these batches is supervised, so nothing decays or gathers momentum."""
        if not self.steps_now:
            if optimizer_closure is not None:
                optimizer_closure()
            return
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.average is not None:
            self.average.update(self.network)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm over all parameters, and adds it, as it was before, to the epoch's figures."""
        self.sums.add_norm(clip_gradients(self._clipped, gradient_clip_val or float("inf")))

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drops the gradients; torch's own way to do so takes several times as long."""
        for parameter in self._clipped:
            parameter.grad = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds cursor, carried state, random state and running sums of every rank."""
        if self._tapes is None:
            return
        mine = {
            "cursor": self._tapes.state_dict(),
            "carry": None if self._carry is None else [t.cpu() for t in self._carry.tensors],
            "random": _random_state(),
            "sums": self.sums.values,
            "updates": 0 if self.average is None else self.average.updates,
        }
        ranks: list[Any] = [mine]
        if self.trainer.world_size > 1:
            ranks = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(ranks, mine)
        checkpoint["tapes"] = ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes this rank's part; the random state follows once Lightning has set up everything else."""
        mine = checkpoint["tapes"][self.global_rank]
        self._restored = mine
        self.sums = EpochSums(mine["sums"])
        if self.average is not None:
            self.average.updates = mine["updates"]
        if mine["carry"] is not None:
            names = self.network.initial_state(1).names
            self._carry = State(names, tuple(mine["carry"]))


def _heads_beside(network: StreamingNetwork, auxiliary: AuxiliaryTargets | None) -> AuxiliaryHeads | None:
    """Heads that read what the network's own reads, where there is more to learn than the task."""
    if auxiliary is None:
        return None
    return AuxiliaryHeads(network.head.in_features if isinstance(network.head, nn.Linear) else 0, auxiliary.groups)


def current_rate(module: TapeModule, batch_idx: int) -> float:
    """The learning rate at a batch of the current epoch."""
    batches, training = int(module.trainer.num_training_batches), module.training_settings
    progress = (module.current_epoch * batches + batch_idx) / (training.max_epochs * batches)
    return module.learning_rate * rate_factor(training, progress, module.validation_losses)


def _random_state() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
