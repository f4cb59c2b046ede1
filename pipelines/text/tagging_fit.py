"""Trains a tagging network: annotated windows in, the best epoch's calibrated weights and the run's history out."""

# ruff: noqa: ARG002  Lightning gives a hook all its arguments, wanted or not

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from models.errors import RefusedError
from models.record import to_plain
from models.text.tagger import by_length
from models.text.tagging_network import TaggingNetwork
from pipelines.checkpoints import RunFolder, check_identity
from pipelines.epochs import LIGHTNING_WARNING, OnEpoch, stop_on_signal
from pipelines.text.tagging_config import KeptEpoch, TaggingTraining
from pipelines.text.tagging_data import TaggedBatch, TaggedWindows
from pipelines.text.tagging_module import TaggingModule
from pipelines.training_loop import stop_if_asked, stoppable

# Words of a batch that is scored without gradients, padding included.
_BATCH_WORDS = 16384
# Factors of all scores among which the calibration part chooses.
_SHARPNESS = tuple(float(factor) for factor in np.geomspace(0.25, 2.0, 25))


@dataclass(frozen=True)
class TaggingFit:
    """What training leaves.

    Args:
        network: the best epoch's averaged weights, calibrated, in evaluation mode, on the CPU.
        history: one row an epoch: epoch, train_loss, validation_loss, validation_f1, seconds.
        best_epoch: index of the best row.
        sharpness: factor of all scores that the calibration part chose; below 1 where training made them too sure.
    """

    network: TaggingNetwork
    history: list[dict[str, float]]
    best_epoch: int
    sharpness: float


def fit_tagger(
    make: Callable[[], TaggingNetwork],
    *,
    train: TaggedWindows,
    validation: TaggedWindows,
    calibration: TaggedWindows,
    training: TaggingTraining,
    seed: int,
    folder: Path,
    settings: dict[str, Any] | None = None,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
) -> TaggingFit:
    """Trains on windows and keeps the epoch with the best exact-span F1 on the validation part.

    Args:
        make: builds the network; called under the seed.
        train: what the weights are fitted on.
        validation: what decides the best epoch.
        calibration: what decides how sure the scores are.
        training: settings of the loop.
        seed: of weights, order and dropout.
        folder: where checkpoints go.
        settings: what else decides the run, as plain values or dataclasses: a checkpoint of others is refused.
        resume: go on after the last whole epoch in the folder, if there is one, to the same end as without a stop.
        on_epoch: receives each epoch's row as soon as it is known.

    Raises:
        ConfigError: if the checkpoint to resume from belongs to another run.
        Interrupted: if SIGTERM came; what the epoch had learnt is lost, the epochs before are in the folder.
        RefusedError: if no epoch gave a finite loss.
    """
    files = RunFolder(folder.resolve())
    identity = _identity({**(settings or {}), "training": training, "seed": seed}, train)
    checkpoint = files.begin(resume=resume)
    if checkpoint is not None:
        check_identity(checkpoint, identity)
    with torch.random.fork_rng(), stoppable(files):
        torch.manual_seed(seed)
        module = TaggingModule(make(), train, training, seed=seed)
        keeper = TaggingEpochs(files, identity, validation, on_epoch, keep=training.keep)
        if checkpoint is not None:
            keeper.load_state_dict(checkpoint["callbacks"][keeper.state_key])
        if len(keeper.history) < training.max_epochs:
            _run(module, keeper, training, files, resumes=checkpoint is not None)
    if keeper.best is None:
        raise RefusedError(
            "training must give a finite validation_loss in some epoch, got NaN or infinity in all "
            f"{len(keeper.history)}; lower training.learning_rate"
        )
    network = module.network.cpu().eval()
    network.load_state_dict(keeper.weights)
    sharpness = best_sharpness(network, calibration)
    scale_scores(network, sharpness)
    return TaggingFit(network, keeper.history, keeper.best, sharpness)


@torch.no_grad()
def window_figures(network: TaggingNetwork, part: TaggedWindows) -> dict[str, float]:
    """Loss by word and exact-span F1 of windows."""
    loss, words, correct, marked = 0.0, 0, 0, 0
    for batch, emissions in scored(network, part):
        likelihood = network.crf.log_likelihood(emissions, batch.tags, batch.words.valid)
        loss, words = loss - float(likelihood.sum()), words + int(batch.words.valid.sum())
        best = network.crf.viterbi(emissions, batch.words.valid)
        for found, annotated, length in zip(best, batch.tags, batch.words.valid.sum(1).tolist(), strict=True):
            ours, gold = (set(network.tag_set.runs(tags[:length].cpu().numpy())) for tags in (found, annotated))
            correct, marked = correct + len(ours & gold), marked + len(ours) + len(gold)
    return {"validation_loss": loss / max(1, words), "validation_f1": 2.0 * correct / max(1, marked)}


@torch.no_grad()
def best_sharpness(network: TaggingNetwork, part: TaggedWindows) -> float:
    """The factor of emissions and chain under which the part's tags are most probable.

    One factor leaves the best tags as they are; it only moves their probabilities (temperature scaling).

    Source: Guo et al. 2017.
    """
    read = [(emissions, batch) for batch, emissions in scored(network, part)]
    kept = [parameter.clone() for parameter in network.crf.parameters()]
    likelihoods = []
    for factor in _SHARPNESS:
        for parameter, value in zip(network.crf.parameters(), kept, strict=True):
            parameter.copy_(value * factor)
        found = (network.crf.log_likelihood(e * factor, batch.tags, batch.words.valid).sum() for e, batch in read)
        likelihoods.append(sum(map(float, found)))
    for parameter, value in zip(network.crf.parameters(), kept, strict=True):
        parameter.copy_(value)
    return _SHARPNESS[int(np.argmax(likelihoods))]


@torch.no_grad()
def scale_scores(network: TaggingNetwork, factor: float) -> None:
    """Multiplies all scores of tags and of the chain."""
    for parameter in (*network.head.parameters(), *network.crf.parameters()):
        parameter.mul_(factor)


def scored(network: TaggingNetwork, part: TaggedWindows) -> Iterator[tuple[TaggedBatch, Tensor]]:
    """Batches of a part with the network's scores."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    for rows in by_length([len(tags) for tags in part.tags], _BATCH_WORDS):
        batch = part.batch(rows).to(device)
        yield batch, network(batch.words)
    network.train(was_training)


class TaggingEpochs(pl.Callback):
    """Validates the averaged weights after every epoch, keeps the best or the last, and writes checkpoints.

    Args:
        files: where checkpoints go.
        identity: by which a checkpoint knows its run.
        validation: what decides the best epoch.
        on_epoch: receives each epoch's row.
        keep: which epoch's weights.
    """

    def __init__(
        self,
        files: RunFolder,
        identity: str,
        validation: TaggedWindows,
        on_epoch: OnEpoch | None,
        *,
        keep: KeptEpoch = KeptEpoch.BEST,
    ) -> None:
        self.history: list[dict[str, float]] = []
        self.best: int | None = None
        self.weights: dict[str, Tensor] = {}
        self._files, self._identity = files, identity
        self._validation, self._on_epoch = validation, on_epoch
        self._keep = keep
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """History, best epoch and its weights."""
        return {"history": self.history, "best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a checkpoint's state."""
        self.history, self.best = state_dict["history"], state_dict["best"]
        self.weights = state_dict["weights"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the run's identity."""
        checkpoint["identity"] = self._identity

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes SIGTERM over from Lightning, whose handler would end the process at once."""
        stop_on_signal(self._files.stop)
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the run here if it was asked to: it goes on after the last whole epoch."""
        stop_if_asked(self._files)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Figures of the epoch, and the decision whether it is the best."""
        module = cast("TaggingModule", pl_module)
        figures = window_figures(module.average, self._validation)
        row = {
            "epoch": float(trainer.current_epoch),
            "train_loss": float(np.mean(module.losses)),
            **figures,
            "seconds": time.monotonic() - self._began,
        }
        module.losses.clear()
        self.history.append(row)
        best = -1.0 if self.best is None or self._keep is KeptEpoch.LAST else self.history[self.best]["validation_f1"]
        if np.isfinite(row["validation_loss"]) and row["validation_f1"] > best:
            self.best = len(self.history) - 1
            self.weights = {name: t.detach().cpu().clone() for name, t in module.average.state_dict().items()}
        beside = self._files.checkpoint.with_suffix(".part")
        trainer.save_checkpoint(beside)
        beside.replace(self._files.checkpoint)
        if self._on_epoch is not None:
            self._on_epoch(dict(row))
        self._began = time.monotonic()


def _identity(settings: dict[str, Any], train: TaggedWindows) -> str:
    """Digest of settings and training windows by which a checkpoint knows its run."""
    digest = hashlib.sha256(json.dumps(to_plain(settings), sort_keys=True).encode())
    table = train.table
    for array in (*train.tags, *table.sequences, table.words, table.characters):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _run(
    module: TaggingModule, keeper: TaggingEpochs, training: TaggingTraining, files: RunFolder, *, resumes: bool
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="GPU available but not used")
        warnings.filterwarnings("ignore", message=LIGHTNING_WARNING, category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        settings: dict[str, Any] = {
            "max_epochs": training.max_epochs,
            "accelerator": "auto",
            "devices": 1,
            "gradient_clip_val": training.gradient_clip or None,
            "callbacks": [keeper],
            "default_root_dir": files.path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        checkpoint = files.checkpoint if resumes else None
        pl.Trainer(**settings).fit(module, ckpt_path=checkpoint, weights_only=True)
