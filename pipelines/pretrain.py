"""Self-supervised pre-training: the training stays in, weights from which the task's training can start out.

Observations are taken out before encoding (`pipelines.masking`) and predicted at their own time step, and so are the
values that the next time step observes. Which ones are taken out is drawn once a run: every epoch sees the same,
so the stays are encoded once more and no oftener. The loop is the task's own: tapes, checkpoints and resumption.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import ConfigError, DataError
from models.network import NetworkConfig
from models.note_reader import NoteReader
from models.notes import NotesConfig
from models.stay import Stays
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.auxiliary import ValueReader, blocks, flushed, new_targets
from pipelines.auxiliary_config import AuxiliaryConfig
from pipelines.fit import FitResult, fit_network
from pipelines.held_folder import private_folder
from pipelines.labels import StepTargets
from pipelines.masking import mask_stays
from pipelines.pretraining_config import PretrainingConfig
from pipelines.start_weights import HEADS
from pipelines.training_config import Monitor, Reduction, RegressionLoss, TrainingConfig

# Training stays on which the loop makes its figures; the last epoch is kept whatever they are.
_WATCHED = 64


@dataclass(frozen=True)
class ValuesTask(TaskSpec):
    """The task of predicting standardised values.

    Args:
        columns: names of what is predicted, one output each.
    """

    columns: tuple[str, ...] = ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the network's outputs, in order."""
        return self.columns


@dataclass(frozen=True)
class Pretrained:
    """What pre-training leaves.

    Args:
        weights: by name, without those of heads, for `fit_network(initial=...)`.
        fit: what the training loop left.
    """

    weights: dict[str, Tensor]
    fit: FitResult


def pretrain(
    stays: Stays,
    encoded: Encoded,
    encoding: Encoding,
    *,
    tokenizer: NoteReader | None,
    network: NetworkConfig,
    notes: NotesConfig | None,
    config: PretrainingConfig,
    training: TrainingConfig,
    seed: int,
    folder: Path,
    resume: bool = False,
    progress: bool = False,
    title: str = "",
) -> Pretrained:
    """Pre-trains a network on the training stays, and on nothing else.

    Args:
        stays: the training stays.
        encoded: the same, encoded.
        encoding: what encoded them.
        tokenizer: of their notes; None where notes are not read.
        network: shape of the network.
        notes: how notes are read; None where they are not.
        config: what is learnt.
        training: settings of the task's training; epochs and learning rate are `config`'s.
        seed: of what is taken out, weights, order and dropout.
        folder: where checkpoints go; features go below it as long as this runs.
        resume: continue from the newest checkpoint in the folder, if there is one.
        progress: show a progress bar on standard error.
        title: what the progress bar says is trained.

    Raises:
        Interrupted: if SIGTERM came; a checkpoint is in the folder.
        ConfigError: if the encoding has no value or mask, or the network reads each stay from its end too.
    """
    if network.bidirectional:
        raise ConfigError(
            "pretraining.epochs must be 0 for a bidirectional network, which has read what it would predict, got "
            f"{config.epochs}; set network.bidirectional to false"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with private_folder(folder, "masked-") as private:
        masked = stays
        if config.mask_share:
            masked = mask_stays(stays, encoding, share=config.mask_share, seed=seed, notes=tokenizer is not None)
        features = encoding.encode(masked, tokenizer=tokenizer, out=private / "features.npy")
        targets = value_targets(encoded, features, encoding, config, folder=private)
        watched = np.arange(min(_WATCHED, len(features)))
        fit = fit_network(
            train=(features, targets),
            validation=(features.select(watched), targets.select(features.step_offsets, watched)),
            # Curves tell of a step's own values, which are what is to be predicted.
            network=replace(network, skip_pieces=0),
            notes=notes,
            vocabulary_size=tokenizer.vocabulary_size if tokenizer is not None else 0,
            task=values_task(encoding, config),
            training=_loop(training, config),
            seed=seed,
            folder=folder,
            resume=resume,
            progress=progress,
            title=title,
        )
    weights = {name: t for name, t in fit.network.state_dict().items() if not name.startswith(HEADS)}
    return Pretrained(weights, fit)


def values_task(encoding: Encoding, config: PretrainingConfig) -> ValuesTask:
    """What is predicted: the next step's value of every channel, then the masked value of every channel."""
    kinds = [
        kind
        for kind, weight in (("next", config.next_value_weight), ("masked", config.masked_value_weight))
        if weight > 0
    ]
    names = tuple(f"{name}.{kind}" for kind in kinds for name in encoding.channels.names)
    return ValuesTask("values", kind=TargetKind.REGRESSION, scope=LabelScope.STEP, columns=names)


def value_targets(
    whole: Encoded, masked: Encoded, encoding: Encoding, config: PretrainingConfig, *, folder: Path
) -> StepTargets:
    """Targets of `values_task` at every time step: standardised values, and what weighs where one was observed.

    The weights of each kind of value add up to the same over all steps, times its share in the loss.

    Args:
        whole: the stays as they are.
        masked: the same stays without what was taken out; what the network reads.
        encoding: what encoded both.
        config: the shares.
        folder: exists; receives the targets, which are mapped and not held in memory.

    Raises:
        DataError: if taking observations out moved the time steps.
    """
    if not np.array_equal(whole.time_min, masked.time_min) or len(whole) != len(masked):
        raise DataError("masked must keep the time steps of the stays, got other ones; mask the same stays")
    reader, steps = ValueReader.of(encoding), len(whole.time_min)
    targets = new_targets(steps, len(values_task(encoding, config).columns), folder / "values")
    begin_column = 0
    if config.next_value_weight > 0:
        columns = slice(0, reader.channels)
        for begin, end, value, observed in reader.following(whole):
            targets.value[begin:end, columns] = np.where(observed, value, 0.0)
            targets.weight[begin:end, columns] = observed
        _share_out(targets, columns, config.next_value_weight)
        begin_column = reader.channels
    if config.masked_value_weight > 0:
        columns = slice(begin_column, begin_column + reader.channels)
        for begin, end in blocks(steps):
            value, observed = reader.read(whole, begin, end)
            taken = observed & ~reader.read(masked, begin, end)[1]
            targets.value[begin:end, columns] = np.where(taken, value, 0.0)
            targets.weight[begin:end, columns] = taken
        _share_out(targets, columns, config.masked_value_weight)
    return flushed(targets)


def _share_out(targets: StepTargets, columns: slice, share: float) -> None:
    """Scales the weights of these columns so that they add up to `share` a time step, on average."""
    steps = len(targets.weight)
    total = sum(float(targets.weight[begin:end, columns].sum(dtype=np.float64)) for begin, end in blocks(steps))
    for begin, end in blocks(steps) if total else ():
        targets.weight[begin:end, columns] *= share * steps / total


def _loop(training: TrainingConfig, config: PretrainingConfig) -> TrainingConfig:
    """The task's own loop with what belongs to the task taken out."""
    return replace(
        training,
        max_epochs=config.epochs,
        learning_rate=config.learning_rate,
        find_learning_rate=False,
        monitor=Monitor.LAST,
        patience=0,
        reduction=Reduction.MEAN,
        regression_loss=RegressionLoss.MSE,
        target_replication=0.0,
        positive_weight=1.0,
        auxiliary=AuxiliaryConfig(),
    )
