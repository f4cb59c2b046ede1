"""Runs a training loop: a network to build and its data in, the best epoch's weights and the course of the run out."""

from __future__ import annotations

import contextlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from models.encoded import Encoded
from models.errors import ConfigError, RefusedError, SequelaError
from models.streaming import StreamingNetwork
from models.task import TaskSpec
from pipelines.auxiliary import AuxiliaryTargets
from pipelines.base_rate import TargetSums, set_output_bias
from pipelines.checkpoints import RunFolder, check_identity, run_identity
from pipelines.epochs import LIGHTNING_WARNING, Epochs, OnEpoch, best_row, judge_of, stop_on_signal
from pipelines.labels import StepTargets
from pipelines.module import TapeModule
from pipelines.objective import Objective
from pipelines.rate_finder import RateSweep, find_learning_rate
from pipelines.start_weights import HEADS, take_weights, weights_digest
from pipelines.tapes import Tapes
from pipelines.training_config import TrainingConfig
from pipelines.validation import Measure

Part = tuple[Encoded, StepTargets]
Network = TypeVar("Network", bound=StreamingNetwork)


# Module, callback, settings, folder and whether to resume: what runs the training processes.
Launch = Callable[[TapeModule, Epochs, TrainingConfig, RunFolder, bool], None]


class Interrupted(SequelaError):  # noqa: N818  nothing went wrong: the run was asked to stop and can go on
    """Raised when training was asked to stop; a checkpoint in its folder continues it."""

    exit_status = 75  # sysexits' EX_TEMPFAIL: run it again


@dataclass(frozen=True)
class Course:
    """How a training went.

    Args:
        history: one row an epoch: epoch, train_loss, validation_loss, the monitored figure, learning_rate (at
            the epoch's end), gradient_norm (mean, before clipping), seconds.
        best_epoch: index of the best row.
        learning_rate: peak of the schedule.
        seconds: of this call.
        gradient_norms: norms of the loss's total derivative by `h` (and `c`), (epochs, layers, time).
        sweep: what the learning-rate finder saw; None where it was not asked for, or before a resumption.
    """

    history: list[dict[str, float]]
    best_epoch: int
    learning_rate: float
    seconds: float
    gradient_norms: dict[str, NDArray[Any]] = field(default_factory=dict)
    sweep: RateSweep | None = None


def train_network(
    make: Callable[[], Network],
    *,
    settings: dict[str, Any],
    objective: Objective,
    train: Part,
    validation: Part,
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
    skippable: tuple[str, ...] = HEADS,
) -> tuple[Network, Course]:
    """Trains whatever network `make` builds, on tapes with truncated BPTT, and keeps the best epoch.

    Args:
        make: builds the network; called under the seed.
        settings: what decides the run, as plain values or dataclasses: a checkpoint of others is refused.
        objective: the loss.
        train: encoded training sequences and their targets.
        validation: those that decide the best epoch and early stopping.
        task: what is predicted.
        training: settings of the loop.
        seed: of weights, order and dropout.
        folder: where checkpoints go.
        resume: continue exactly where the newest checkpoint in the folder stands, if there is one.
        progress: show a progress bar on standard error.
        on_epoch: receives each epoch's row as soon as it is known (with several devices: at the end).
        measure: further figures of the validation part's logits, which join each epoch's row.
        launch: how the training processes are started; on this machine where left out.
        title: what the progress bar says is trained.
        initial: weights to start from (`pipelines.start_weights`); only heads may be missing or of another shape.
        auxiliary: targets of heads beside the task's own.
        skippable: beginnings of the names that `initial` need not fit.

    Raises:
        Interrupted: if SIGTERM came; a checkpoint is in the folder.
        DataError: if nothing is supervised.
        ConfigError: if the checkpoint to resume from belongs to another run, or `initial` to another network.
        RefusedError: if no epoch gave a finite validation figure.
    """
    began = time.monotonic()
    here = training.devices == 1 and launch is None
    sums = TargetSums.of(train[1], task)
    # Processes of a cluster work elsewhere than this one: a relative place would be another there.
    files = RunFolder(folder.resolve())
    identity = run_identity(settings | {"initial": weights_digest(initial)}, encoded=train[0], sums=sums)
    checkpoint = _checkpoint(files, identity, resume=resume)
    with torch.random.fork_rng(), stoppable(files):
        torch.manual_seed(seed)
        built = make()
        set_output_bias(built, sums, task, positive_weight=training.positive_weight)
        take_weights(built, initial, skippable=skippable)
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
    course = _course(files, built, training, sweep, time.monotonic() - began)
    _repeat(course, None if here else on_epoch)
    return built, course


def _repeat(course: Course, on_epoch: OnEpoch | None) -> None:
    """Hands on the rows that other processes made."""
    if on_epoch is not None:
        for row in course.history:
            on_epoch(dict(row))


def _checkpoint(files: RunFolder, identity: str, *, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to continue from, which must be this run's."""
    checkpoint = files.begin(resume=resume)
    if checkpoint is not None:
        check_identity(checkpoint, identity)
    return checkpoint


def _learning_rate(
    network: StreamingNetwork,
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
        trainer = _trainer(prepare, settings)
        # A SIGTERM before the first batch reaches Lightning's own handler too; the checkpoint is there by then.
        with contextlib.suppress(SIGTERMException):
            trainer.fit(module, ckpt_path=files.checkpoint if resumes else None, weights_only=True)


def _trainer(prepare: Callable[[dict[str, Any]], pl.Trainer], settings: dict[str, Any]) -> pl.Trainer:
    try:
        return prepare(settings)
    except MisconfigurationException as error:
        raise ConfigError(
            f"training.accelerator and devices must be what this machine has, got {settings['accelerator']} and "
            f"{settings['devices']}; set training.accelerator to auto, or take fewer devices"
        ) from error


def _course(
    files: RunFolder, network: StreamingNetwork, training: TrainingConfig, sweep: RateSweep | None, seconds: float
) -> Course:
    """Reads what the run left on disk, where every process of it wrote; the network takes the best weights."""
    checkpoint = files.read()
    if not _ended(checkpoint):
        raise _interrupted()
    kept = checkpoint["callbacks"]["Epochs"]
    best = best_row(kept["history"], training.monitor)
    if best is None:
        raise RefusedError(
            f"training must give a finite {judge_of(training.monitor)} in some epoch, got NaN or infinity in all "
            f"{len(kept['history'])}; lower training.learning_rate or set training.gradient_clip"
        )
    files.load_best(network)
    network.cpu().eval()
    norms = {name: torch.stack(values).numpy() for name, values in kept["gradient_norms"].items()}
    rate = float(checkpoint["learning_rate"])
    return Course(kept["history"], best, rate, seconds, norms, sweep)


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
