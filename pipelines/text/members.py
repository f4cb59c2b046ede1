"""A text dataset in, its fitted members as one ensemble out: networks of several seeds, and the linear one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.ensemble import Ensemble
from models.stay import Floats
from models.task import TargetKind
from models.text.network import TextNetwork
from models.text.phrases import PhraseMember
from models.text.scoring import document_logits
from models.text.task import TextTask, TextTaskKind
from pipelines.epochs import OnEpoch
from pipelines.split import Part
from pipelines.text.config import TextRunConfig
from pipelines.text.dataset import TextDataset, TextPart, document_targets
from pipelines.text.objective import SparseObjective
from pipelines.text.phrase_fit import fit_phrases
from pipelines.text.pretrain import BEYOND_VECTORS, HEADS, PretrainedText, pretrain_text
from pipelines.text.vector_file import digest_of, started
from pipelines.training_loop import Course, train_network

Say = Callable[[str], None]
# Shares of the linear member among which the validation part chooses.
_SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
_LEAST_SHARE = 0.02


@dataclass(frozen=True)
class TextMembers:
    """What was fitted.

    Args:
        ensemble: every member with its weight.
        courses: how the training of each network went.
        pretrained: what pre-training left; None without.
        phrase_share: weight of the linear member; 0 without one.
        history: one row an epoch of every network, with the `member`'s number.
    """

    ensemble: Ensemble
    courses: tuple[Course, ...]
    pretrained: PretrainedText | None
    phrase_share: float
    history: list[dict[str, float]]


def fit_members(
    data: TextDataset,
    config: TextRunConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = False,
    say: Say = lambda _: None,
    on_epoch: OnEpoch | None = None,
) -> TextMembers:
    """Pre-trains once, trains a network a seed, fits the linear member, and weighs it on the validation part.

    Raises:
        Interrupted: if SIGTERM came; checkpoints are in the folder.
    """
    pretrained = _pretrained(data, config, folder / "pretraining", resume=resume, progress=progress, say=say)
    fitted: list[tuple[TextNetwork, Course]] = []
    history: list[dict[str, float]] = []
    for number in range(config.members.networks):

        def keep(row: dict[str, float], number: int = number) -> None:
            history.append({"member": number, **row})
            if on_epoch is not None:
                on_epoch(history[-1])

        where = folder / f"member-{number}"
        fitted.append(
            _network(data, config, number, pretrained, where, resume=resume, progress=progress, on_epoch=keep)
        )
        say(f"  trained network {number} in {fitted[-1][1].seconds:.0f} s")
    networks = [network for network, _ in fitted]
    ensemble, share = _weighed(networks, data, config)
    if share:
        say(f"  linear member on phrases: share {share:g}")
    return TextMembers(ensemble, tuple(course for _, course in fitted), pretrained, share, history)


def _pretrained(
    data: TextDataset, config: TextRunConfig, folder: Path, *, resume: bool, progress: bool, say: Say
) -> PretrainedText | None:
    found = pretrain_text(
        data.learnt,
        network=config.network,
        vocabulary_size=data.tokenizer.vocabulary_size,
        config=config.pretraining,
        training=config.training,
        seed=config.seed,
        folder=folder,
        resume=resume,
        progress=progress,
        vectors=data.vectors,
    )
    if found is None or found.course is None:
        return found
    losses = [row["train_loss"] for row in found.course.history]
    say(f"  pre-trained in {found.course.seconds:.0f} s: loss {losses[0]:.3f} to {losses[-1]:.3f} a token")
    return found


def _network(
    data: TextDataset,
    config: TextRunConfig,
    number: int,
    pretrained: PretrainedText | None,
    folder: Path,
    *,
    resume: bool,
    progress: bool,
    on_epoch: OnEpoch,
) -> tuple[TextNetwork, Course]:
    """One network of the task, from the pre-trained weights, or a parent's, where there are any."""
    size, outputs, seed = data.tokenizer.vocabulary_size, len(data.task.labels), config.seed + number
    initial = None if pretrained is None else pretrained.weights
    if data.parent is not None:
        initial = data.parent.weights(number, data.task)
    vectors_alone = data.parent is None and (pretrained is None or pretrained.course is None)
    length = config.training.truncation_length
    parts = {
        part: (
            data.parts[part].read.encoded,
            document_targets(data.parts[part], truncation_length=length, replication=share),
        )
        for part, share in ((Part.TRAIN, config.loss.replication), (Part.VALIDATION, 0.0))
    }
    return train_network(
        lambda: started(TextNetwork(config.network, vocabulary_size=size, outputs=outputs, at_ends=True), data.vectors),
        settings={
            "network": config.network,
            "task": data.task,
            "training": config.training,
            "loss": config.loss,
            "seed": seed,
            "vectors": digest_of(data.vectors),
        },
        objective=objective(data, config),
        train=parts[Part.TRAIN],
        validation=parts[Part.VALIDATION],
        task=data.task.spec(config.name),
        training=config.training,
        seed=seed,
        folder=folder,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
        title=f"network {number}",
        initial=initial,
        skippable=BEYOND_VECTORS if vectors_alone else HEADS,
    )


def objective(data: TextDataset, config: TextRunConfig) -> SparseObjective:
    """The loss of the task's networks."""
    single = data.task.kind is TextTaskKind.CLASSIFICATION
    shift = tuple(config.loss.balance * v for v in data.shift) if single else ()
    return SparseObjective(
        TargetKind.MULTICLASS if single else TargetKind.BINARY,
        config.training.reduction,
        shift=shift,
        smoothing=config.loss.smoothing,
    )


def _weighed(networks: list[TextNetwork], data: TextDataset, config: TextRunConfig) -> tuple[Ensemble, float]:
    """All members as one: networks weigh alike, and the validation part says how much the linear one does."""
    if not config.members.phrases:
        return Ensemble(networks), 0.0
    linear = _linear([data.parts[Part.TRAIN]], data, config)
    share = config.members.phrase_share or _best_share(networks, linear, data.parts[Part.VALIDATION], data.task)
    return (Ensemble(networks), 0.0) if share < _LEAST_SHARE else (_together(networks, linear, share), share)


def refitted(members: TextMembers, data: TextDataset, config: TextRunConfig) -> TextMembers:
    """The same members, the linear one fitted on everything that is not held out."""
    if not members.phrase_share or not config.phrases.refit:
        return members
    linear = _linear([part for name, part in data.parts.items() if name is not Part.TEST], data, config)
    networks = [member for member in members.ensemble if isinstance(member, TextNetwork)]
    return replace(members, ensemble=_together(networks, linear, members.phrase_share))


def _linear(parts: list[TextPart], data: TextDataset, config: TextRunConfig) -> PhraseMember:
    return fit_phrases(parts, data.task, config.phrases, vocabulary_size=data.tokenizer.vocabulary_size)


def _together(networks: Sequence[TextNetwork], linear: PhraseMember, share: float) -> Ensemble:
    return Ensemble([*networks, linear], [*((1 - share) / len(networks),) * len(networks), share])


def _best_share(networks: Sequence[TextNetwork], linear: PhraseMember, part: TextPart, task: TextTask) -> float:
    ours, theirs = document_logits(Ensemble(networks), part.read), document_logits(Ensemble([linear]), part.read)
    return best_share(ours, theirs, part.label, task)


def best_share(networks: Floats, linear: Floats, label: np.ndarray, task: TextTask) -> float:
    """The linear member's share under which the part's labels are most probable, at each share's best temperature."""
    losses = [_sharpest((1 - share) * networks + share * linear, label, task) for share in _SHARES]
    return _SHARES[int(np.argmin(losses))]


def _sharpest(logits: Floats, label: np.ndarray, task: TextTask) -> float:
    return min(_log_loss(logits * factor, label, task) for factor in np.geomspace(0.25, 8.0, 21))


def _log_loss(logits: Floats, label: np.ndarray, task: TextTask) -> float:
    if task.kind is TextTaskKind.MULTILABEL:
        return float(np.mean(np.logaddexp(0.0, logits) - label * logits))
    own = logits[np.arange(len(logits)), label[:, 0].astype(np.int64)]
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - own))
