"""What happens around a training step: the trained module in, epoch figures, checkpoints and early stopping out.

A Lightning callback. Its own state (history, gradient norms, whether training has ended) is part of every
checkpoint, so a resumed run stops, keeps and reports exactly what an uninterrupted one does.
"""

# ruff: noqa: ARG002  Lightning gives a hook all its arguments, wanted or not

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from models.encoded import Encoded
from models.network import RecurrentNetwork
from models.task import TaskSpec
from pipelines.checkpoints import RunFolder
from pipelines.epoch_sums import EpochSums
from pipelines.gradients import Norms, hidden_gradient_norms, sample_chunk
from pipelines.labels import StepTargets
from pipelines.module import TapeModule, current_rate
from pipelines.training_config import Monitor, TrainingConfig
from pipelines.validation import Measure, validate

OnEpoch = Callable[[dict[str, float]], None]
# Here, as every process of a run reads this module: Lightning's hints on standard error are of no use to people.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

# Lightning's own use of a part of torch that is going away.
LIGHTNING_WARNING = ".*LeafSpec"

_SAMPLE_STAYS = 32
_SAMPLE_STEPS = 64


class Epochs(pl.Callback):
    """Validates after every epoch, keeps the best weights, writes checkpoints, stops early or when asked.

    Args:
        folder: where checkpoints go.
        validation: encoded validation stays and their targets.
        task: the task.
        training: settings of the loop.
        facts: plain values that every checkpoint carries.
        progress: show a progress bar.
        title: what the bar says is trained.
        on_epoch: receives each epoch's figures.
        measure: further figures of the validation stays, from their logits.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        validation: tuple[Encoded, StepTargets],
        task: TaskSpec,
        training: TrainingConfig,
        facts: dict[str, Any],
        progress: bool,
        on_epoch: OnEpoch | None,
        measure: Measure | None = None,
        title: str = "",
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.gradient_norms: dict[str, list[torch.Tensor]] = {}
        self.ended = False
        self.interrupted = False
        self._folder, self._validation, self._task, self._training = folder, validation, task, training
        self._facts, self._progress, self._on_epoch, self._measure = facts, progress, on_epoch, measure
        self._title = title
        self._bar: Any = None
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """History, gradient norms and whether training has ended."""
        return {"history": self.history, "gradient_norms": self.gradient_norms, "ended": self.ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a checkpoint's state."""
        self.history = state_dict["history"]
        self.gradient_norms = state_dict["gradient_norms"]
        self.ended = state_dict["ended"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Silences, in the processes of a data-parallel run, what the first process has silenced."""
        if multiprocessing.parent_process() is not None:
            warnings.filterwarnings("ignore", message=LIGHTNING_WARNING, category=FutureWarning)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the run's facts."""
        checkpoint.update(self._facts)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes SIGTERM over from Lightning, whose handler would end the process at once."""
        stop_on_signal(self._folder.stop)
        cast("TapeModule", pl_module).validation_losses = [row[str(Monitor.LOSS)] for row in self.history]
        self._began = time.monotonic()
        if self._progress and trainer.is_global_zero:
            batches = int(trainer.num_training_batches)
            self._bar = tqdm(desc=self._title or None, total=self._training.max_epochs * batches, unit="batch")
            self._bar.update(trainer.current_epoch * batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Checkpoints within an epoch, and stops here if the run was asked to."""
        if self._bar is not None:
            self._bar.update()
        number, every = batch_idx + 1, self._training.checkpoint_every_steps
        # Gradients that wait to be accumulated are in no checkpoint; an epoch's end writes its own.
        if number % self._training.accumulate_batches or number == trainer.num_training_batches:
            return
        stop = self._asked_to_stop(trainer)
        if stop or (every and (number // self._training.accumulate_batches) % every == 0):
            self._save(trainer)
        if stop:
            self.interrupted = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Figures of the epoch, best weights, checkpoint and the decision to go on."""
        if self.interrupted:
            return
        module = cast("TapeModule", pl_module)
        row = self._figures(trainer, module)
        self.history.append(row)
        module.validation_losses.append(row[str(Monitor.LOSS)])
        if trainer.is_global_zero:
            self._keep(module)
        self.ended = len(self.history) >= self._training.max_epochs or self._waited_enough()
        self._save(trainer)
        if self._on_epoch is not None and trainer.is_global_zero:
            self._on_epoch(dict(row))
        self.interrupted = not self.ended and self._asked_to_stop(trainer)
        trainer.should_stop = self.ended or self.interrupted
        self._began = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _figures(self, trainer: pl.Trainer, module: TapeModule) -> dict[str, float]:
        figures = module.sums.figures(trainer.strategy, world=trainer.world_size)
        module.sums = EpochSums()
        rate = current_rate(module, int(trainer.num_training_batches) - 1)
        measured: dict[str, float] = {}
        if trainer.is_global_zero:
            measured = validate(
                module.best_network,
                *self._validation,
                objective=module.objective,
                task=self._task,
                monitor=self._training.monitor,
                truncation_length=self._training.truncation_length,
                measure=self._measure,
            )
        # One rank measures and all ranks hear it: they must agree on when to stop.
        measured = trainer.strategy.broadcast(measured)
        seconds = time.monotonic() - self._began
        if self._bar is not None:
            self._bar.set_postfix({k: f"{v:.4f}" for k, v in measured.items()})
        return {"epoch": trainer.current_epoch, **figures, **measured, "learning_rate": rate, "seconds": seconds}

    def _keep(self, module: TapeModule) -> None:
        """Saves the weights if this epoch is the best, and traces gradients over time."""
        if best_row(self.history, self._training.monitor) == len(self.history) - 1:
            self._folder.save_best(module.best_network)
        for name, values in _trace(module).items():
            self.gradient_norms.setdefault(name, []).append(torch.from_numpy(values))

    def _waited_enough(self) -> bool:
        best = best_row(self.history, self._training.monitor)
        waited = len(self.history) - 1 - (0 if best is None else best)
        return bool(self._training.patience) and waited >= self._training.patience

    def _asked_to_stop(self, trainer: pl.Trainer) -> bool:
        asked = self._folder.stop.exists()
        return bool(trainer.strategy.broadcast(asked)) if trainer.world_size > 1 else asked

    def _save(self, trainer: pl.Trainer) -> None:
        beside = self._folder.checkpoint.with_suffix(".part")
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            beside.replace(self._folder.checkpoint)


def _trace(module: TapeModule) -> Norms:
    """Norms of gradients over time on some training stays; none for a bidirectional network or one of texts."""
    if not isinstance(module.network, RecurrentNetwork) or not module.network.streams:
        return {}
    sample = sample_chunk(*module.train_part, stays=_SAMPLE_STAYS, length=_SAMPLE_STEPS)
    target, weight = (part.to(module.device) for part in (sample.target, sample.weight))
    return hidden_gradient_norms(module.network, sample.chunk.to(module.device), target, weight, module.objective)


def best_row(history: list[dict[str, float]], monitor: Monitor) -> int | None:
    """The first best epoch, or the last where that is asked for; None while no figure is finite."""
    sign = 1.0 if judge_of(monitor) is Monitor.LOSS else -1.0
    figures = [sign * row[str(judge_of(monitor))] for row in history]
    finite = [i for i, value in enumerate(figures) if math.isfinite(value)]
    if monitor is Monitor.LAST:
        return finite[-1] if finite else None
    return min(finite, key=lambda i: figures[i]) if finite else None


def judge_of(monitor: Monitor) -> Monitor:
    """The figure that must be finite for an epoch to be kept."""
    return Monitor.LOSS if monitor is Monitor.LAST else monitor


def stop_on_signal(stop: Path) -> dict[signal.Signals, Any]:
    """SIGTERM asks the run to stop at the next step; gives back the handlers that were there before.

    Only the main thread may set handlers; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}

    def ask(*_: object) -> None:
        with contextlib.suppress(OSError):
            stop.touch()

    return {signal.SIGTERM: signal.signal(signal.SIGTERM, ask)}
