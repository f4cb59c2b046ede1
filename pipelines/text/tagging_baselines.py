"""Annotated documents in, two taggers to be beaten out: a dictionary of their mentions and a linear chain.

Both read the words that our own tagger reads, and learn from the same part.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.text.documents import Span
from models.text.spans import TagSet
from models.text.words import known_form, normalised, sentence_windows, split_words
from pipelines.text.linear_features import word_features

_Mention = tuple[str, ...]
# Optimisation of the linear chain: weights of both penalties and the most rounds, as commonly used with it.
_CHAIN = {"c1": 0.1, "c2": 0.01, "max_iterations": 100}
_WINDOW = 40


class SpanTagger(Protocol):
    """What finds spans in texts."""

    def tag(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """The spans of every text."""
        ...


class DictionaryTagger:
    """Every mention of the training part wherever its words occur, the longest first.

    A mention whose words stand unmarked more often than marked is no entry.

    Args:
        entries: label of every mention, by its words without case and digits.
    """

    def __init__(self, entries: dict[_Mention, str]) -> None:
        self._entries = entries
        self._longest = max(map(len, entries), default=0)

    @classmethod
    def train(cls, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> DictionaryTagger:
        """Learns from annotated texts."""
        marked: Counter[tuple[_Mention, str]] = Counter()
        for text, own in zip(texts, spans, strict=True):
            marked.update((_mention(text[span.start : span.end]), span.label) for span in own)
        # The later of two labels wins, so that of several the most frequent does.
        labels = {mention: label for (mention, label), _ in reversed(marked.most_common()) if mention}
        occurring = _occurrences(texts, labels)
        return cls({m: label for m, label in labels.items() if 2 * marked[m, label] >= occurring[m]})

    def tag(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """The entries that occur in every text."""
        return [tuple(self._found(text)) for text in texts]

    def _found(self, text: str) -> list[Span]:
        offsets = split_words(text).tolist()
        words = _mention(text)
        found: list[Span] = []
        word = 0
        while word < len(words):
            lengths = range(min(self._longest, len(words) - word), 0, -1)
            length = next((n for n in lengths if words[word : word + n] in self._entries), 0)
            if length:
                label = self._entries[words[word : word + length]]
                found.append(Span(offsets[word][0], offsets[word + length - 1][1], label))
            word += max(1, length)
        return found


class LinearChainTagger:
    """A linear chain over features of words, by CRFsuite.

    Source: Okazaki 2007 (CRFsuite); features of words, their shapes, affixes and neighbours.

    Args:
        model: the trained model, as CRFsuite writes it.
        tag_set: its tags.
    """

    def __init__(self, model: bytes, tag_set: TagSet) -> None:
        self._model = model
        self._tag_set = tag_set

    @classmethod
    def train(cls, texts: Sequence[str], spans: Sequence[Sequence[Span]], labels: tuple[str, ...]) -> LinearChainTagger:
        """Learns from annotated texts."""
        import pycrfsuite

        tag_set = TagSet(labels)
        trainer = pycrfsuite.Trainer(verbose=False)
        trainer.set_params(_CHAIN)
        for text, own in zip(texts, spans, strict=True):
            offsets = split_words(text)
            tags = tag_set.tag(offsets, own).tags
            for first, behind in sentence_windows(text, offsets, _WINDOW):
                words = _normalised_words(text, offsets[first:behind])
                trainer.append(word_features(words), [str(tag) for tag in tags[first:behind]])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chain.crfsuite"
            trainer.train(str(path))
            return cls(path.read_bytes(), tag_set)

    def tag(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """The spans of the most probable tags of every text."""
        import pycrfsuite

        tagger = pycrfsuite.Tagger()
        with tagger.open_inmemory(self._model):
            return [self._found(tagger, text) for text in texts]

    def _found(self, tagger: Any, text: str) -> tuple[Span, ...]:
        offsets = split_words(text)
        found: list[Span] = []
        for first, behind in sentence_windows(text, offsets, _WINDOW):
            words = _normalised_words(text, offsets[first:behind])
            tags = np.array([int(tag) for tag in tagger.tag(word_features(words))], dtype=np.int64)
            found += self._tag_set.spans(offsets[first:behind], tags)
        return tuple(found)


def _mention(text: str) -> _Mention:
    return tuple(known_form(word) for word in _normalised_words(text, split_words(text)))


def _normalised_words(text: str, offsets: Any) -> list[str]:
    return [normalised(text[first:behind]) for first, behind in offsets.tolist()]


def _occurrences(texts: Sequence[str], mentions: dict[_Mention, str]) -> Counter[_Mention]:
    """How often the words of every mention stand in the texts, marked or not."""
    lengths = sorted({len(mention) for mention in mentions})
    occurring: Counter[_Mention] = Counter()
    for text in texts:
        words = _mention(text)
        for length in lengths:
            runs = (words[i : i + length] for i in range(len(words) - length + 1))
            occurring.update(run for run in runs if run in mentions)
    return occurring
