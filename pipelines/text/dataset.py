"""A corpus in, its parts as tokens with targets out: split by group, the tokenizer trained on the training part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.encoded import Encoded
from models.errors import DataError
from models.stay import Ints
from models.text.reading import ReadTexts, read_texts
from models.text.task import TextTask, TextTaskKind
from models.text.tokenizer import TextTokenizer
from pipelines.labels import StepTargets
from pipelines.split import Part, assert_disjoint, split_patients
from pipelines.text.config import TextRunConfig
from pipelines.text.corpus import Corpus
from pipelines.text.parent import TextParent
from pipelines.text.vector_file import Vectors, token_vectors


@dataclass(frozen=True)
class TextPart:
    """The documents of one part.

    Args:
        rows: their rows in the corpus.
        group: group of each.
        read: their tokens.
        label: (documents, targets) a class index, or 0 and 1 for every label.
    """

    rows: Ints
    group: tuple[str, ...]
    read: ReadTexts
    label: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[Ints]:
        """Token ids of every document."""
        flat = self.read.encoded.features[:, 0]
        return [flat[self.read.of_text(i)] for i in range(len(self))]


@dataclass(frozen=True)
class TextDataset:
    """Everything that a run learns from.

    Args:
        task: with the labels that there are.
        tokenizer: trained on the training part.
        parts: the labelled documents.
        unlabelled: tokens of documents without a label that no part but the training part may own.
        shift: (labels,) logarithm of the frequency of every class in the training part, centred; zeros for several
            labels a document.
        vectors: from which the embedding starts; None: from random ones.
        parent: the model whose tokenizer and weights are taken; None without.
    """

    task: TextTask
    tokenizer: TextTokenizer
    parts: dict[Part, TextPart]
    unlabelled: ReadTexts
    shift: tuple[float, ...]
    vectors: Vectors | None = None
    parent: TextParent | None = None

    @property
    def learnt(self) -> Encoded:
        """Tokens of every text that pre-training may learn from."""
        train, more = self.parts[Part.TRAIN].read.encoded, self.unlabelled.encoded
        offsets = np.concatenate([train.step_offsets, train.step_offsets[-1] + more.step_offsets[1:]])
        columns = (np.concatenate([train.features, more.features]), offsets)
        return Encoded(*columns, np.concatenate([train.time_min, more.time_min]))


def build_dataset(
    corpus: Corpus,
    config: TextRunConfig,
    parts: Mapping[Part, Ints] | None = None,
    *,
    parent: TextParent | None = None,
) -> TextDataset:
    """Splits, trains the tokenizer and reads every document.

    Args:
        corpus: documents with labels; those without are read for pre-training alone, if their group trains.
        config: the run's.
        parts: rows of every part; by default the split of `config`.
        parent: the model whose tokenizer is taken; trained here where left out.

    Raises:
        ConfigError: if `vectors` names a file that does not fit.
        DataError: if there are no labels, a part holds none, or parts share a group; or that file does not hold.
    """
    task = _with_labels(config.task, corpus)
    labelled = np.array([i for i, own in enumerate(corpus.labels) if own or _may_be_empty(task)], dtype=np.int64)
    if not len(labelled):
        raise DataError("corpus must hold documents with labels, got none; prepare one with a label column")
    if parts is None:
        own = [corpus.group[i] for i in labelled]
        parts = {part: labelled[rows] for part, rows in split_patients(own, config.split).items()}
    assert_disjoint(corpus.group, dict(parts))
    train = parts[Part.TRAIN]
    held = {corpus.group[i] for part, rows in parts.items() if part is not Part.TRAIN for i in rows}
    free = [i for i, own in enumerate(corpus.labels) if not own and corpus.group[i] not in held]
    texts = corpus.documents.text
    learnt = [*train.tolist(), *(free if config.pretraining.unlabelled and not _may_be_empty(task) else [])]
    tokenizer = _tokenizer(corpus, learnt, config) if parent is None else parent.scorer.tokenizer
    read = {part: _part(corpus, rows, task, tokenizer, config) for part, rows in parts.items()}
    extra = [texts[i] for i in learnt[len(train) :]]
    return TextDataset(
        task,
        tokenizer,
        read,
        read_texts(tokenizer, extra, max_tokens=config.network.max_tokens),
        _shift(read[Part.TRAIN].label, task),
        token_vectors(config.vectors, tokenizer, width=config.network.embedding_size),
        parent,
    )


def _tokenizer(corpus: Corpus, learnt: Sequence[int], config: TextRunConfig) -> TextTokenizer:
    texts, groups = corpus.documents.text, corpus.group
    return TextTokenizer.train([texts[i] for i in learnt], [groups[i] for i in learnt], config.tokenizer)


def _may_be_empty(task: TextTask) -> bool:
    """Whether a document without any label is one that none applies to."""
    return task.kind is TextTaskKind.MULTILABEL


def _with_labels(task: TextTask, corpus: Corpus) -> TextTask:
    if not task.labels:
        return replace(task, labels=corpus.label_names, language=task.language or corpus.language)
    strangers = len(set(corpus.label_names) - set(task.labels))
    if strangers:
        raise DataError(f"task.labels must hold every label of the corpus, got {strangers} others in it; add them")
    return replace(task, language=task.language or corpus.language)


def _part(corpus: Corpus, rows: Ints, task: TextTask, tokenizer: TextTokenizer, config: TextRunConfig) -> TextPart:
    texts = [corpus.documents.text[i] for i in rows]
    return TextPart(
        rows,
        tuple(corpus.group[i] for i in rows),
        read_texts(tokenizer, texts, max_tokens=config.network.max_tokens),
        label_table([corpus.labels[i] for i in rows], task),
    )


def label_table(labels: Sequence[Sequence[str]], task: TextTask) -> NDArray[np.float32]:
    """(documents, targets) float32 class index, or 0 and 1 for every label.

    Raises:
        DataError: if a document to be classified does not have exactly one label, or an unknown one.
    """
    number = {name: i for i, name in enumerate(task.labels)}
    if not set().union(*map(set, labels)) <= set(number):
        raise DataError("labels must be among the task's, got others; use the corpus that the task names")
    if task.kind is TextTaskKind.MULTILABEL:
        table = np.zeros((len(labels), len(number)), dtype=np.float32)
        for row, own in enumerate(labels):
            table[row, [number[name] for name in own]] = 1.0
        return table
    counts = Counter(len(own) for own in labels)
    if set(counts) - {1}:
        raise DataError(
            f"labels must be one a document for a classification, got documents with {max(counts)}; set task.kind to "
            "multilabel"
        )
    return np.array([[number[own[0]]] for own in labels], dtype=np.float32)


def _shift(label: NDArray[np.float32], task: TextTask) -> tuple[float, ...]:
    if task.kind is TextTaskKind.MULTILABEL:
        return (0.0,) * len(task.labels)
    counts = np.bincount(label[:, 0].astype(np.int64), minlength=len(task.labels)) + 0.5
    logs = np.log(counts / counts.sum())
    return tuple(float(v) for v in logs - logs.mean())


def document_targets(part: TextPart, *, truncation_length: int, replication: float) -> StepTargets:
    """Every document's label at its last token, and with less weight at the end of each chunk before."""
    offsets = part.read.encoded.step_offsets
    columns = part.label.shape[1]
    value = np.zeros((int(offsets[-1]), columns), dtype=np.float32)
    weight = np.zeros_like(value)
    for row, (first, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        if replication:
            ends = np.arange(first + truncation_length - 1, end - 1, truncation_length)
            value[ends], weight[ends] = part.label[row], replication
        value[end - 1], weight[end - 1] = part.label[row], 1.0
    return StepTargets(value, weight)
