"""Trains a network of stays: encoded stays and targets in, the best epoch's weights and the run's history out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

from torch import Tensor

from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.task import TaskSpec
from pipelines.auxiliary import AuxiliaryTargets, check_auxiliary
from pipelines.epochs import OnEpoch
from pipelines.objective import Objective
from pipelines.start_weights import new_network
from pipelines.training_config import TrainingConfig
from pipelines.training_loop import (
    Course,
    Interrupted,
    Launch,
    Part,
    run_trainer,
    stop_if_asked,
    stoppable,
    train_network,
)
from pipelines.validation import Measure

__all__ = ["FitResult", "Interrupted", "Launch", "fit_network", "run_trainer", "stop_if_asked", "stoppable"]


@dataclass(frozen=True, kw_only=True)
class FitResult(Course):
    """What training leaves.

    Args:
        network: the best epoch's weights, in evaluation mode, on the CPU.
    """

    network: RecurrentNetwork


class Loop(TypedDict):
    """What `train_network` is told beside the network and its objective; keys and meaning are that function's."""

    train: Part
    validation: Part
    task: TaskSpec
    training: TrainingConfig
    seed: int
    folder: Path
    resume: NotRequired[bool]
    progress: NotRequired[bool]
    on_epoch: NotRequired[OnEpoch | None]
    measure: NotRequired[Measure | None]
    launch: NotRequired[Launch | None]
    title: NotRequired[str]
    initial: NotRequired[Mapping[str, Tensor] | None]
    auxiliary: NotRequired[AuxiliaryTargets | None]


def fit_network(
    *, network: NetworkConfig, notes: NotesConfig | None = None, vocabulary_size: int = 0, **loop: Unpack[Loop]
) -> FitResult:
    """Trains on tapes with truncated BPTT and keeps the best epoch.

    Args:
        network: shape of the network.
        notes: how notes are read; None where there are none.
        vocabulary_size: number of token ids.
        **loop: data, task and settings, as `train_network` takes them.

    Raises:
        Interrupted: if SIGTERM came; a checkpoint is in the folder.
        DataError: if nothing is supervised.
        ConfigError: if the checkpoint to resume from belongs to another run, `initial` to another network, or
            `auxiliary` is missing.
        RefusedError: if no epoch gave a finite validation figure.
    """
    train, task, training = loop["train"], loop["task"], loop["training"]
    check_auxiliary(training.auxiliary, loop.get("auxiliary"), bidirectional=network.bidirectional)
    built, course = train_network(
        lambda: new_network(network, train[0], task, notes=notes, vocabulary_size=vocabulary_size),
        settings={"network": network, "notes": notes, "task": task, "training": training, "seed": loop["seed"]},
        objective=Objective.of(task, training),
        **loop,
    )
    return FitResult(**vars(course), network=built)
