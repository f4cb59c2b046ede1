"""Texts in, labelled spans with places in the original text and their probabilities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import DataError
from models.text.documents import Span
from models.text.spans import TagSet
from models.text.tagging_network import TaggingNetwork
from models.text.vocabulary import WordBatch, WordTable, WordVocabulary
from models.text.words import normalised, sentence_windows, split_words

# Words of a batch, padding included; bounds the memory of a long document.
_BATCH_WORDS = 8192


@dataclass(frozen=True)
class TaggedSpan:
    """A labelled stretch that a model found.

    Args:
        span: its place in the original text, and its label.
        probability: that exactly this stretch has this label, by the model.
    """

    span: Span
    probability: float


@dataclass(frozen=True)
class Window:
    """Words that are read together.

    Args:
        text: index of their text.
        offsets: (words, 2) their places in the original text.
    """

    text: int
    offsets: NDArray[np.int32]


class Tagger:
    """A tagging network with its vocabulary.

    Args:
        network: scores of tags; put into evaluation mode.
        vocabulary: the words it reads.
    """

    def __init__(self, network: TaggingNetwork, vocabulary: WordVocabulary) -> None:
        self.network = network.eval()
        self.vocabulary = vocabulary

    @property
    def tag_set(self) -> TagSet:
        """The tags of the network's labels."""
        return self.network.tag_set

    @torch.inference_mode()
    def tag(self, texts: Sequence[str]) -> list[tuple[TaggedSpan, ...]]:
        """The spans of every text, by place; a text without words has none.

        Raises:
            DataError: if a text is not a string.
        """
        if any(not isinstance(text, str) for text in texts):
            raise DataError("texts must be strings, got another type; decode them first")
        windows, table = read_windows(texts, self.vocabulary, self.network.config.window)
        found: list[list[TaggedSpan]] = [[] for _ in texts]
        device = next(self.network.parameters()).device
        for rows in by_length([len(window.offsets) for window in windows], _BATCH_WORDS):
            batch = table.batch(rows).to(device)
            for row, spans in zip(rows, self._spans(batch, [windows[row] for row in rows]), strict=True):
                found[windows[row].text] += spans
        return [tuple(sorted(spans, key=lambda tagged: tagged.span)) for spans in found]

    def _spans(self, batch: WordBatch, windows: Sequence[Window]) -> Iterator[list[TaggedSpan]]:
        emissions = self.network(batch)
        tags = self.network.crf.viterbi(emissions, batch.valid).cpu().numpy()
        single, pairs = (p.cpu() for p in self.network.crf.posterior(emissions, batch.valid))
        for row, window in enumerate(windows):
            own = tags[row, : len(window.offsets)]
            yield [
                TaggedSpan(span, run_probability(single[row], pairs[row], run, self.tag_set))
                for run in self.tag_set.runs(own)
                for span in self.tag_set.spans(window.offsets[run[0] : run[1]], own[run[0] : run[1]])
            ]


def run_probability(single: Tensor, pairs: Tensor, run: tuple[int, int, int], tag_set: TagSet) -> float:
    """Posterior probability that a span of this label begins and ends exactly here.

    Given the text the tags are a Markov chain, whose steps follow from its single and paired probabilities.

    Args:
        single: (time, tags) of `LinearChainCrf.posterior`.
        pairs: (time - 1, tags, tags) likewise.
        run: first word, the one behind the last, and the label's number.
        tag_set: the tags.
    """
    first, behind, label = run
    begin = tag_set.begin(label)
    inner = begin + 1
    probability = float(single[first, begin])
    tag = begin
    for word in range(first, behind):
        within = float(single[word, tag])
        goes_on = float(pairs[word, tag, inner]) / within if word < len(pairs) and within > 0.0 else 0.0
        probability *= goes_on if word + 1 < behind else 1.0 - goes_on
        tag = inner
    return min(max(probability, 0.0), 1.0)


def read_windows(texts: Sequence[str], vocabulary: WordVocabulary, limit: int) -> tuple[list[Window], WordTable]:
    """Windows of whole sentences of every text, and their words' features in the same order."""
    windows: list[Window] = []
    sequences: list[list[str]] = []
    for number, text in enumerate(texts):
        offsets = split_words(text)
        words = [normalised(text[first:behind]) for first, behind in offsets.tolist()]
        for first, behind in sentence_windows(text, offsets, limit):
            windows.append(Window(number, offsets[first:behind]))
            sequences.append(words[first:behind])
    return windows, vocabulary.table(sequences)


def by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows in batches of similar lengths, each of at most `most` steps with its padding, or of one row."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
