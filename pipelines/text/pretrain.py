"""Language-model pre-training: tokens of the training texts in, weights from which the task's networks start out.

Every next token is predicted, or tokens that were taken out, or both, through the same tapes as the task: a text of
any length trains in the memory of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from models.encoded import Encoded
from models.task import LabelScope, TargetKind
from models.text.network import TextNetwork, TextNetworkConfig
from models.text.task import OutputsTask
from pipelines.labels import StepTargets
from pipelines.text.config import TextPretrainingConfig
from pipelines.text.objective import SparseObjective
from pipelines.text.vector_file import Vectors, digest_of, start_from, started
from pipelines.text.vectors import token_vectors
from pipelines.training_config import Monitor, Reduction, TrainingConfig
from pipelines.training_loop import Course, train_network

HEADS = ("head.", "pools.")
BEYOND_VECTORS = (*HEADS, "stack.")
# Texts on which the loop makes its figures; the last epoch is kept whatever they are.
_WATCHED = 8
_MASK = 0


@dataclass(frozen=True)
class PretrainedText:
    """What pre-training leaves.

    Args:
        weights: by name, without those of heads and pooling; vectors alone where no language model was trained.
        course: how the training of the language model went; None without one.
    """

    weights: dict[str, Tensor]
    course: Course | None


def pretrain_text(
    encoded: Encoded,
    *,
    network: TextNetworkConfig,
    vocabulary_size: int,
    config: TextPretrainingConfig,
    training: TrainingConfig,
    seed: int,
    folder: Path,
    resume: bool = False,
    progress: bool = False,
    vectors: Vectors | None = None,
) -> PretrainedText | None:
    """Pre-trains a network on texts of the training part: its vectors, then the whole; None where neither is asked.

    Args:
        encoded: their tokens.
        network: shape of the network.
        vocabulary_size: number of token ids.
        config: what is learnt.
        training: settings of the task's loop; epochs and learning rate are `config`'s.
        seed: of what is taken out, weights, order and dropout.
        folder: where checkpoints go.
        resume: continue from the newest checkpoint in the folder, if there is one.
        progress: show a progress bar on standard error.
        vectors: from which the embedding starts; random ones where left out.

    Raises:
        Interrupted: if SIGTERM came; a checkpoint is in the folder.
    """
    counted = _counted(encoded, network, vocabulary_size, config, seed, vectors)
    if not config.epochs:
        return PretrainedText(counted, None) if counted else None
    read, targets = token_targets(encoded, config, seed=seed)
    task = token_task(vocabulary_size)
    watched = np.arange(min(_WATCHED, len(read)))
    settings = {"network": network, "config": config, "training": training, "seed": seed, "size": vocabulary_size}
    built, course = train_network(
        lambda: started(
            TextNetwork(network, vocabulary_size=vocabulary_size, outputs=vocabulary_size, predicts_tokens=True),
            vectors,
        ),
        settings=settings | {"vectors": digest_of(vectors)},
        objective=SparseObjective(TargetKind.MULTICLASS),
        train=(read, targets),
        validation=(read.select(watched), targets.select(read.step_offsets, watched)),
        task=task,
        training=_loop(training, config),
        seed=seed,
        folder=folder,
        resume=resume,
        progress=progress,
        title="pre-training",
        initial=counted or None,
        skippable=BEYOND_VECTORS,
    )
    weights = {name: t for name, t in built.state_dict().items() if not name.startswith(HEADS)}
    return PretrainedText(weights, course)


def _counted(
    encoded: Encoded,
    network: TextNetworkConfig,
    vocabulary_size: int,
    config: TextPretrainingConfig,
    seed: int,
    given: Vectors | None,
) -> dict[str, Tensor]:
    """Vectors made by counting, with given ones in the place of those that a file knows, as weights by name.

    None where they are not asked for.
    """
    if not config.vectors_window:
        return {}
    made = token_vectors(
        encoded,
        vocabulary_size=vocabulary_size,
        width=network.embedding_size,
        window=config.vectors_window,
        spread=config.vectors_spread,
        seed=seed,
    )
    embedding = nn.Embedding(made.shape[0], made.shape[1], _weight=made)
    start_from(embedding, given)
    return {"embedding.weight": embedding.weight.detach()}


def token_task(vocabulary_size: int) -> OutputsTask:
    """Which token stands next, or stood where one was taken out."""
    names = tuple(f"token_{i}" for i in range(vocabulary_size))
    return OutputsTask("tokens", kind=TargetKind.MULTICLASS, scope=LabelScope.STEP, classes=names, columns=names)


def token_targets(encoded: Encoded, config: TextPretrainingConfig, *, seed: int) -> tuple[Encoded, StepTargets]:
    """What is read, some tokens taken out, and what is predicted at each token.

    A masked token is predicted where it stood, every other one by the token before it: one target a token, and the
    two kinds never meet in one.
    """
    ids = np.asarray(encoded.features[:, 0])
    taken = np.zeros(len(ids), dtype=bool)
    if config.masked_token_weight > 0:
        taken = np.random.default_rng((seed, 0x746F6B)).random(len(ids)) < config.mask_share
    value = np.zeros((len(ids), 1), dtype=np.float32)
    weight = np.zeros_like(value)
    if config.next_token_weight > 0:
        value[:-1, 0], weight[:-1, 0] = ids[1:], config.next_token_weight
        weight[encoded.step_offsets[1:] - 1] = 0.0
    value[taken, 0], weight[taken, 0] = ids[taken], config.masked_token_weight
    read = np.where(taken, _MASK, ids)
    return replace(encoded, features=read[:, None]), StepTargets(value, weight)


def _loop(training: TrainingConfig, config: TextPretrainingConfig) -> TrainingConfig:
    """The task's own loop with what belongs to the task taken out."""
    return replace(
        training,
        max_epochs=config.epochs,
        rows=config.rows,
        truncation_length=config.truncation_length or training.truncation_length,
        learning_rate=config.learning_rate,
        find_learning_rate=False,
        monitor=Monitor.LAST,
        patience=0,
        reduction=Reduction.MEAN,
        positive_weight=1.0,
    )
