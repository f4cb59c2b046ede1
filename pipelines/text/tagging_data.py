"""A corpus with spans in, its parts as windows of words with tags, and batches of them, out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.errors import DataError
from models.stay import Ints
from models.text.documents import Span
from models.text.spans import OUTSIDE, TagSet
from models.text.tagger import Window, read_windows
from models.text.vocabulary import WordBatch, WordTable, WordVocabulary
from pipelines.split import Part, SplitConfig, assert_disjoint, split_patients
from pipelines.text.corpus import Corpus

# Batches whose windows are sorted by length together: enough that little is padded, few enough that order is random.
_POOL_BATCHES = 8


@dataclass(frozen=True)
class TaggedBatch:
    """Windows of words with their tags.

    Args:
        words: the windows.
        tags: (batch, time) int64.
    """

    words: WordBatch
    tags: Tensor

    def to(self, device: torch.device | str) -> TaggedBatch:
        """The same batch on a device."""
        return TaggedBatch(self.words.to(device), self.tags.to(device))


@dataclass(frozen=True)
class TaggedWindows:
    """The windows of a part's documents.

    Args:
        windows: which document each is of, and its words' places.
        table: the words' features, in the same order.
        tags: (words,) of every window.
        left_out: spans that no tags of a window can express.
    """

    windows: list[Window]
    table: WordTable
    tags: list[Ints]
    left_out: int

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, rows: Sequence[int]) -> TaggedBatch:
        """The windows at these indices."""
        words = self.table.batch(rows)
        tags = torch.full(words.valid.shape, OUTSIDE, dtype=torch.int64)
        for place, row in enumerate(rows):
            tags[place, : len(self.tags[row])] = torch.from_numpy(self.tags[row])
        return TaggedBatch(words, tags)


def read_tagged(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], vocabulary: WordVocabulary, tag_set: TagSet, limit: int
) -> TaggedWindows:
    """The windows of annotated texts; a span that crosses the edge of a window is left out of training."""
    windows, table = read_windows(texts, vocabulary, limit)
    tags: list[Ints] = []
    expressed = 0
    for window in windows:
        first, behind = window.offsets[0, 0], window.offsets[-1, 1]
        own = [span for span in spans[window.text] if first <= span.start and span.end <= behind]
        tagged = tag_set.tag(window.offsets, own)
        expressed += len(own) - tagged.left_out
        tags.append(tagged.tags)
    return TaggedWindows(windows, table, tags, sum(map(len, spans)) - expressed)


class WindowLoader:
    """The batches of an epoch, in another order every time; windows of similar lengths stand together.

    Args:
        part: what is read.
        batch_windows: windows of a batch.
        seed: of the order.
    """

    def __init__(self, part: TaggedWindows, *, batch_windows: int, seed: int) -> None:
        self._part, self._size = part, batch_windows
        self._random = np.random.default_rng(seed)

    def drawn(self) -> str:
        """Where the order of the next epoch is drawn from, as JSON text."""
        return json.dumps(self._random.bit_generator.state)

    def go_on(self, drawn: str) -> None:
        """Draws the next epoch's order from where `drawn` was asked."""
        self._random.bit_generator.state = json.loads(drawn)

    def __len__(self) -> int:
        return -(-len(self._part) // self._size)

    def __iter__(self) -> Iterator[TaggedBatch]:
        order = self._random.permutation(len(self._part))
        batches: list[Ints] = []
        for start in range(0, len(order), self._size * _POOL_BATCHES):
            pool = order[start : start + self._size * _POOL_BATCHES]
            lengths = [len(self._part.tags[row]) for row in pool]
            sorted_pool = pool[np.argsort(lengths, kind="stable")]
            batches += [sorted_pool[i : i + self._size] for i in range(0, len(pool), self._size)]
        for number in self._random.permutation(len(batches)):
            yield self._part.batch(batches[number].tolist())


def split_documents(corpus: Corpus, split: SplitConfig, held_out: Sequence[str]) -> dict[Part, Ints]:
    """Rows of the documents of every part, by their groups.

    Args:
        corpus: the documents.
        split: shares of groups.
        held_out: parts of the source that are the hold-out; the others are split, and what would be tested trains.

    Raises:
        DataError: if a part would be empty, or a group is in two.
    """
    if not held_out:
        return split_patients(corpus.group, split)
    if missing := sorted(set(held_out) - set(corpus.part)):
        raise DataError(
            f"held_out must name parts of the corpus, got {len(missing)} that it does not have; see `sequela prepare`"
        )
    rest = np.array([row for row, part in enumerate(corpus.part) if part not in held_out], dtype=np.int64)
    test = np.array([row for row, part in enumerate(corpus.part) if part in held_out], dtype=np.int64)
    parts = {part: rest[rows] for part, rows in split_patients([corpus.group[row] for row in rest], split).items()}
    parts[Part.TRAIN] = np.sort(np.concatenate([parts[Part.TRAIN], parts[Part.TEST]]))
    parts[Part.TEST] = test
    assert_disjoint(corpus.group, parts)
    return parts
