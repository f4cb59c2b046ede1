"""Trains a network: encoded stays and targets in, the best epoch's weights and the run's history out."""

from __future__ import annotations

import contextlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from models.encoded import Encoded
from models.errors import RefusedError, SequelaError
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.task import TaskSpec
from pipelines.auxiliary import AuxiliaryTargets, check_auxiliary
from pipelines.base_rate import TargetSums, set_output_bias
from pipelines.checkpoints import RunFolder, check_identity, run_identity
from pipelines.epochs import LIGHTNING_WARNING, Epochs, OnEpoch, best_row, stop_on_signal
from pipelines.labels import StepTargets
from pipelines.module import TapeModule
from pipelines.objective import Objective
from pipelines.rate_finder import RateSweep, find_learning_rate
from pipelines.start_weights import new_network, take_weights, weights_digest
from pipelines.tapes import Tapes
from pipelines.training_config import TrainingConfig
from pipelines.validation import Measure

Part = tuple[Encoded, StepTargets]


# Module, callback, settings, folder and whether to resume: what runs the training processes.
Launch = Callable[[TapeModule, Epochs, TrainingConfig, RunFolder, bool], None]


class Interrupted(SequelaError):  # noqa: N818  nothing went wrong: the run was asked to stop and can go on
    """Raised when training was asked to stop; a checkpoint in its folder continues it."""

    exit_status = 75  # sysexits' EX_TEMPFAIL: run it again


@dataclass(frozen=True)
class FitResult:
    """What training leaves.

    Args:
        network: the best epoch's weights, in evaluation mode, on the CPU.
        history: one row an epoch: epoch, train_loss, validation_loss, the monitored figure, learning_rate (at
            the epoch's end), gradient_norm (mean, before clipping), seconds.
        best_epoch: index of the best row.
        learning_rate: peak of the schedule.
        seconds: of this call.
        gradient_norms: norms of the loss's total derivative by `h` (and `c`), (epochs, layers, time).
        sweep: what the learning-rate finder saw; None where it was not asked for, or before a resumption.
    """

    network: RecurrentNetwork
    history: list[dict[str, float]]
    best_epoch: int
    learning_rate: float
    seconds: float
    gradient_norms: dict[str, NDArray[Any]] = field(default_factory=dict)
    sweep: RateSweep | None = None


def fit_network(
    *,
    train: Part,
    validation: Part,
    network: NetworkConfig,
    notes: NotesConfig | None = None,
    vocabulary_size: int = 0,
    task: TaskSpec,
    training: TrainingConfig,
    seed: int,
    folder: Path,
    resume: bool = False,
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    measure: Measure | None = None,
    launch: Launch | None = None,
    title: str = "",
    initial: Mapping[str, Tensor] | None = None,
    auxiliary: AuxiliaryTargets | None = None,
) -> FitResult:
    """Trains on tapes with truncated BPTT and keeps the best epoch.

    Args:
        train: encoded training stays and their targets.
        validation: the stays that decide the best epoch and early stopping.
        network: shape of the network.
        notes: how notes are read; None where there are none.
        vocabulary_size: number of token ids.
        task: what is predicted.
        training: settings of the loop.
        seed: of weights, order and dropout.
        folder: where checkpoints go.
        resume: continue exactly where the newest checkpoint in the folder stands, if there is one.
        progress: show a progress bar on standard error.
        on_epoch: receives each epoch's row as soon as it is known (with several devices: at the end).
        measure: further figures of the validation stays' logits, which join each epoch's row.
        launch: how the training processes are started; on this machine where left out.
        title: what the progress bar says is trained.
        initial: weights to start from (`pipelines.start_weights`); only heads may be missing or of another shape.
        auxiliary: targets of the heads that `training.auxiliary` asks for.

    Raises:
        Interrupted: if SIGTERM came; a checkpoint is in the folder.
        DataError: if nothing is supervised.
        ConfigError: if the checkpoint to resume from belongs to another run, `initial` to another network, or
            `auxiliary` is missing.
        RefusedError: if no epoch gave a finite validation figure.
    """
    began = time.monotonic()
    here = training.devices == 1 and launch is None
    check_auxiliary(training.auxiliary, auxiliary, bidirectional=network.bidirectional)
    sums = TargetSums.of(train[1], task)
    files = RunFolder(folder)
    settings = {"network": network, "notes": notes, "task": task, "training": training, "seed": seed}
    identity = run_identity(settings | {"initial": weights_digest(initial)}, encoded=train[0], sums=sums)
    checkpoint = _checkpoint(files, identity, resume=resume)
    objective = Objective.of(task, training)
    with torch.random.fork_rng(), stoppable(files):
        torch.manual_seed(seed)
        built = new_network(network, train[0], task, notes=notes, vocabulary_size=vocabulary_size)
        set_output_bias(built, sums, task, positive_weight=training.positive_weight)
        take_weights(built, initial)
        rate, sweep = _learning_rate(built, train, objective, training, seed, checkpoint)
        if checkpoint is None or not _ended(checkpoint):
            module = TapeModule(
                built,
                objective=objective,
                training=training,
                train=train,
                learning_rate=rate,
                seed=seed,
                auxiliary=auxiliary,
            )
            epochs = Epochs(
                folder=files,
                validation=validation,
                task=task,
                training=training,
                facts={"identity": identity, "learning_rate": rate},
                progress=progress,
                title=title,
                on_epoch=on_epoch if here else None,
                measure=measure,
            )
            (launch or run_trainer)(module, epochs, training, files, checkpoint is not None)
    result = _result(files, built, training, sweep, time.monotonic() - began)
    _repeat(result, None if here else on_epoch)
    return result


def _repeat(result: FitResult, on_epoch: OnEpoch | None) -> None:
    """Hands on the rows that other processes made."""
    if on_epoch is not None:
        for row in result.history:
            on_epoch(dict(row))


def _checkpoint(files: RunFolder, identity: str, *, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to continue from, which must be this run's."""
    checkpoint = files.begin(resume=resume)
    if checkpoint is not None:
        check_identity(checkpoint, identity)
    return checkpoint


def _learning_rate(
    network: RecurrentNetwork,
    train: Part,
    objective: Objective,
    training: TrainingConfig,
    seed: int,
    checkpoint: dict[str, Any] | None,
) -> tuple[float, RateSweep | None]:
    """The peak of the schedule: the checkpoint's, the finder's, or the configured one."""
    if checkpoint is not None:
        return float(checkpoint["learning_rate"]), None
    if not training.find_learning_rate:
        return training.learning_rate, None
    tapes = Tapes(*train, rows=training.rows, truncation_length=training.truncation_length, seed=seed)
    sweep = find_learning_rate(network, tapes, objective, training, seed=seed)
    return sweep.chosen, sweep


def run_trainer(
    module: TapeModule,
    epochs: Epochs,
    training: TrainingConfig,
    files: RunFolder,
    resumes: bool,
    prepare: Callable[[dict[str, Any]], pl.Trainer] = lambda settings: pl.Trainer(**settings),
) -> None:
    """Runs Lightning to the end of the training or until it is asked to stop.

    Args:
        module: what is trained; on the CPU.
        epochs: the callback that validates, keeps and stops.
        training: settings of the loop.
        files: where checkpoints go.
        resumes: whether to go on from the newest checkpoint.
        prepare: makes the trainer from its settings.
    """
    with warnings.catch_warnings():
        # Choosing the CPU on a machine with a GPU is a choice.
        warnings.filterwarnings("ignore", message="GPU available but not used")
        warnings.filterwarnings("ignore", message=LIGHTNING_WARNING, category=FutureWarning)
        settings: dict[str, Any] = dict(  # noqa: C408  as the trainer's own arguments read
            max_epochs=training.max_epochs,
            accelerator=training.accelerator,
            devices=training.devices,
            strategy="ddp_spawn" if training.devices > 1 else "auto",
            precision=training.precision.value,
            gradient_clip_val=training.gradient_clip or None,
            accumulate_grad_batches=training.accumulate_batches,
            callbacks=[epochs],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=files.path,
        )
        trainer = prepare(settings)
        # A SIGTERM before the first batch reaches Lightning's own handler too; the checkpoint is there by then.
        with contextlib.suppress(SIGTERMException):
            trainer.fit(module, ckpt_path=files.checkpoint if resumes else None, weights_only=True)


def _result(
    files: RunFolder, network: RecurrentNetwork, training: TrainingConfig, sweep: RateSweep | None, seconds: float
) -> FitResult:
    """Reads what the run left on disk, where every process of it wrote."""
    checkpoint = files.read()
    if not _ended(checkpoint):
        raise _interrupted()
    kept = checkpoint["callbacks"]["Epochs"]
    best = best_row(kept["history"], training.monitor)
    if best is None:
        raise RefusedError(
            f"training must give a finite {training.monitor}, got none in {len(kept['history'])} epochs; lower "
            "training.learning_rate or set training.gradient_clip"
        )
    files.load_best(network)
    norms = {name: torch.stack(values).numpy() for name, values in kept["gradient_norms"].items()}
    rate = float(checkpoint["learning_rate"])
    return FitResult(network.cpu().eval(), kept["history"], best, rate, seconds, norms, sweep)


def _ended(checkpoint: dict[str, Any]) -> bool:
    return bool(checkpoint["callbacks"]["Epochs"]["ended"])


def stop_if_asked(files: RunFolder) -> None:
    """Ends a run of several trainings between two of them.

    Raises:
        Interrupted: if SIGTERM came since `stoppable` was entered with these files.
    """
    if files.stop.exists():
        raise _interrupted()


def _interrupted() -> Interrupted:
    return Interrupted(
        "training must reach its last epoch, got a request to stop; run again with resume to go on exactly from its "
        "checkpoint"
    )


@contextlib.contextmanager
def stoppable(files: RunFolder) -> Iterator[None]:
    """SIGTERM asks the run to stop; the handlers from before come back at the end."""
    before = stop_on_signal(files.stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
