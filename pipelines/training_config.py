"""How a network is trained: the keys of a run's `training` table in, a checked `TrainingConfig` out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from models.errors import ConfigError
from pipelines.auxiliary_config import AuxiliaryConfig


class Optimizer(StrEnum):
    """Rule that turns gradients into steps."""

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    ADAGRAD = "adagrad"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate moves over the run, after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    ONE_CYCLE = "one_cycle"
    EXPONENTIAL = "exponential"
    PLATEAU = "plateau"


class Reduction(StrEnum):
    """How losses of time steps become one number."""

    MEAN = "mean"
    SUM = "sum"


class RegressionLoss(StrEnum):
    """Loss of a regression target."""

    MSE = "mse"
    RMSE = "rmse"


class Monitor(StrEnum):
    """What decides the best epoch and early stopping."""

    LOSS = "validation_loss"
    AUROC = "auroc"
    AUPRC = "auprc"
    LAST = "last_epoch"


class Precision(StrEnum):
    """Number format of training; the carried state is float32 in either case."""

    FLOAT32 = "32-true"
    BF16 = "bf16-mixed"


@dataclass(frozen=True)
class TrainingConfig:
    """Everything about the training loop.

    Args:
        truncation_length: time steps per backward pass; at least the longest stay is full BPTT.
        rows: tapes, that is stays read side by side; shared out over the devices.
        max_epochs: passes over the training stays.
        optimizer: rule of the steps.
        learning_rate: highest rate of the schedule.
        weight_decay: L2 on weight matrices (decoupled for adamw).
        curve_decay: likewise, on the curves of network.skip_pieces.
        curve_rate: learning rate of those curves, as a multiple of learning_rate.
        l1: L1 on weight matrices.
        momentum: of sgd and rmsprop.
        nesterov: Nesterov's form of sgd's momentum.
        schedule: course of the learning rate.
        warmup_fraction: part of the run over which the rate rises from zero (one_cycle: to its peak).
        gradient_clip: largest norm of the gradient; 0 = not clipped.
        reduction: mean or sum over the time steps.
        regression_loss: of a regression target.
        target_replication: for a label a stay, the weight its steps before the last share.
        positive_weight: factor of the loss of positive labels (binary targets).
        monitor: what decides the best epoch; `last_epoch` keeps the last, whatever the validation part says: the
            right choice where that part holds few events and would pick an epoch by chance.
        patience: epochs without improvement before training stops; 0 = never stops early.
        precision: number format.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: processes; more than one trains data-parallel.
        accumulate_batches: batches whose gradients make one step.
        find_learning_rate: sweep for a rate before training, and use it.
        checkpoint_every_steps: optimiser steps between checkpoints within an epoch; 0 = at epoch ends alone.
        average_decay: decay of the moving average of the weights that is validated and kept; 0 = none.
        auxiliary: what the network learns beside its task.
    """

    truncation_length: int = 64
    rows: int = 64
    max_epochs: int = 20
    optimizer: Optimizer = Optimizer.ADAMW
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    curve_decay: float = 0.1
    curve_rate: float = 3.0
    l1: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    schedule: Schedule = Schedule.COSINE
    warmup_fraction: float = 0.05
    gradient_clip: float = 1.0
    reduction: Reduction = Reduction.MEAN
    regression_loss: RegressionLoss = RegressionLoss.MSE
    target_replication: float = 0.0
    positive_weight: float = 1.0
    monitor: Monitor = Monitor.LOSS
    patience: int = 0
    precision: Precision = Precision.FLOAT32
    accelerator: str = "auto"
    devices: int = 1
    accumulate_batches: int = 1
    find_learning_rate: bool = False
    checkpoint_every_steps: int = 0
    average_decay: float = 0.0
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)

    def __post_init__(self) -> None:
        """Refuses numbers that have no meaning and settings that contradict each other."""
        for name in ("truncation_length", "rows", "max_epochs", "devices", "accumulate_batches"):
            self._require(getattr(self, name) >= 1, name, "at least 1", "raise the number")
        for name in ("l1", "weight_decay", "curve_decay", "gradient_clip", "patience", "checkpoint_every_steps"):
            self._require(getattr(self, name) >= 0, name, "at least 0", "raise the number")
        for name in ("learning_rate", "curve_rate", "positive_weight"):
            self._require(getattr(self, name) > 0, name, "above 0", "raise the number")
        for name in ("momentum", "warmup_fraction", "average_decay"):
            self._require(0 <= getattr(self, name) < 1, name, "at least 0 and below 1", "give a fraction")
        self._require(0 <= self.target_replication <= 1, "target_replication", "from 0 to 1", "give a fraction")
        self._require(self.accelerator in ("auto", "cpu", "gpu"), "accelerator", "auto, cpu or gpu", "choose one")
        self._require(self.rows % self.devices == 0, "rows", "a multiple of devices", "every device needs its rows")
        self._require(
            self.patience == 0 or self.monitor is not Monitor.LAST,
            "patience",
            "0 with last_epoch",
            "choose one of them",
        )
        self._require(
            not self.nesterov or (self.optimizer is Optimizer.SGD and self.momentum > 0),
            "nesterov",
            "used with sgd and a momentum",
            "set optimizer to sgd or drop nesterov",
        )
        self._require(
            self.regression_loss is RegressionLoss.MSE or self.devices * self.accumulate_batches == 1,
            "regression_loss",
            "mse with several devices or accumulated batches, as a root does not add up",
            "choose mse",
        )

    def _require(self, holds: bool, name: str, expected: str, remedy: str) -> None:
        if not holds:
            raise ConfigError(f"training.{name} must be {expected}, got {getattr(self, name)}; {remedy}")
