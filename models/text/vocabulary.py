"""Words of texts in, the numbers that a tagging network reads out: known words, characters, shape and affixes.

A word or a character is known only if the texts of enough groups (patients, reports) hold it, so that a name does
not reach the artifact. What is not known is still read: by its characters, and by its shape and affixes, which are
hashed and stored nowhere.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ArtifactError, ConfigError, DataError
from models.record import from_plain, to_plain
from models.text.words import known_form, normalised, split_words

PAD, UNKNOWN, _BEGIN, _END = 0, 1, 2, 3
FIRST_WORD, FIRST_CHARACTER = 2, 4
SHAPES, AFFIXES = 256, 1 << 14
"""Numbers that shapes and affixes are hashed to."""
AFFIX_LENGTHS = (3, 4, 5)
_CASES = ((re.compile("[0-9]"), "0"), (re.compile("[A-Z]"), "A"), (re.compile("[a-z]"), "a"))
_REPEATED = re.compile(r"(.)\1+")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class VocabularyConfig:
    """Choices for a tagger's words.

    Args:
        words: upper bound of the number of known words.
        characters: upper bound of the number of known characters.
        min_groups: distinct groups (patients, reports) whose texts must hold a word or a character.
        longest: characters of a word that are read; of a longer word its first and last ones.
    """

    words: int = 10000
    characters: int = 3000
    min_groups: int = 5
    longest: int = 24

    def __post_init__(self) -> None:
        """Refuses numbers that do not hold."""
        for name in ("words", "characters", "min_groups", "longest"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}; choose a positive number")


@dataclass(frozen=True)
class WordBatch:
    """Windows of words as tensors; every distinct word's features stand once.

    Args:
        index: (batch, time) int64, row of each word among the distinct ones; 0 at padding.
        valid: (batch, time) bool, False at padding.
        words: (distinct,) int64 number of the known word, `UNKNOWN` otherwise.
        characters: (distinct, length) int64, `PAD` behind the last.
        shapes: (distinct,) int64 below `SHAPES`.
        affixes: (distinct, 2 * len(AFFIX_LENGTHS)) int64 below `AFFIXES`.
    """

    index: Tensor
    valid: Tensor
    words: Tensor
    characters: Tensor
    shapes: Tensor
    affixes: Tensor

    def to(self, device: torch.device | str) -> WordBatch:
        """The same batch on a device."""
        return WordBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class WordTable:
    """Features of all distinct words of some sequences, and the sequences as rows of them."""

    sequences: tuple[Ints, ...]
    words: Ints
    characters: Ints
    shapes: Ints
    affixes: Ints

    def batch(self, rows: Sequence[int]) -> WordBatch:
        """The sequences at these indices, padded behind their last word to the longest of them."""
        picked = [self.sequences[row] for row in rows]
        lengths = np.array([len(sequence) for sequence in picked])
        distinct, inverse = np.unique(np.concatenate(picked), return_inverse=True)
        valid = np.arange(max(1, lengths.max()))[None] < lengths[:, None]
        index = np.zeros(valid.shape, dtype=np.int64)
        index[valid] = inverse
        characters = self.characters[distinct]
        longest = max(1, int((characters != PAD).sum(1).max(initial=0)))
        arrays = (index, valid, self.words[distinct], characters[:, :longest])
        return WordBatch(*map(torch.from_numpy, (*arrays, self.shapes[distinct], self.affixes[distinct])))


class WordVocabulary:
    """Known words and characters.

    Args:
        words: known words, in the order of their numbers.
        characters: known characters, in the order of their numbers.
        config: the choices it was trained with.
    """

    def __init__(self, words: Sequence[str], characters: Sequence[str], config: VocabularyConfig) -> None:
        self.config = config
        self._words = {word: FIRST_WORD + i for i, word in enumerate(words)}
        self._characters = {character: FIRST_CHARACTER + i for i, character in enumerate(characters)}

    @property
    def words(self) -> tuple[str, ...]:
        """The known words, in the order of their numbers, the first of which is `FIRST_WORD`."""
        return tuple(self._words)

    @property
    def word_count(self) -> int:
        """Number of word numbers, padding and unknown included."""
        return FIRST_WORD + len(self._words)

    @property
    def character_count(self) -> int:
        """Number of character numbers, padding, unknown and a word's edges included."""
        return FIRST_CHARACTER + len(self._characters)

    @classmethod
    def train(cls, texts: Sequence[str], groups: Sequence[str], config: VocabularyConfig) -> WordVocabulary:
        """Learns from the texts of the training part.

        Raises:
            DataError: if groups are not one a text.
        """
        if len(texts) != len(groups):
            raise DataError(f"groups must be one a text, got {len(groups)} for {len(texts)}; name each text's group")
        words: dict[str, set[str]] = {}
        for text, group in zip(texts, groups, strict=True):
            words.setdefault(group, set()).update(words_of(text))
        having = Counter(form for own in words.values() for form in {known_form(word) for word in own})
        holding = Counter(character for own in words.values() for character in set("".join(own)))
        return cls(
            _commonest(having, config.min_groups, config.words),
            _commonest(holding, config.min_groups, config.characters),
            config,
        )

    def table(self, sequences: Iterable[Sequence[str]]) -> WordTable:
        """Features of the words of sequences of normalised words."""
        rows: dict[str, int] = {}
        indices = tuple(
            np.array([rows.setdefault(word, len(rows)) for word in words], dtype=np.int64) for words in sequences
        )
        characters = np.zeros((len(rows), self.config.longest + 2), dtype=np.int64)
        for word, row in rows.items():
            numbers = self._spelt(word)
            characters[row, : len(numbers)] = numbers
        numbers = [self._words.get(known_form(word), UNKNOWN) for word in rows]
        affixes = np.array([_affixes(word) for word in rows], dtype=np.int64).reshape(len(rows), 2 * len(AFFIX_LENGTHS))
        shapes = np.array([_hashed(word_shape(word), SHAPES) for word in rows], dtype=np.int64)
        return WordTable(indices, np.array(numbers, dtype=np.int64), characters, shapes, affixes)

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        stored = {"words": list(self._words), "characters": list(self._characters), "config": to_plain(self.config)}
        return json.dumps({"format": 1, **stored})

    @classmethod
    def from_json(cls, text: str) -> WordVocabulary:
        """The vocabulary that `to_json` wrote.

        Raises:
            ArtifactError: if the text is not such a vocabulary.
        """
        try:
            stored = json.loads(text)
            if stored["format"] != 1:
                raise ValueError("another format")
            config = from_plain(VocabularyConfig, stored["config"], where="vocabulary")
            return cls([str(word) for word in stored["words"]], [str(c) for c in stored["characters"]], config)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"vocabulary must be JSON written by WordVocabulary.to_json, got {len(text)} other characters; "
                "fetch the artifact again"
            ) from error

    def _spelt(self, word: str) -> list[int]:
        longest = self.config.longest
        half = longest // 2
        read = word if len(word) <= longest else word[: longest - half] + word[len(word) - half :]
        return [_BEGIN, *(self._characters.get(character, UNKNOWN) for character in read), _END]


def words_of(text: str) -> list[str]:
    """The normalised words of a text."""
    return [normalised(text[first:behind]) for first, behind in split_words(text).tolist()]


def _commonest(having: Counter[str], min_groups: int, most: int) -> list[str]:
    known = [item for item, groups in having.items() if groups >= min_groups]
    return sorted(known, key=lambda item: (-having[item], item))[:most]


def word_shape(word: str) -> str:
    """The word with its letters and digits by kind, repeated ones once: `Aa` of a capitalised word."""
    for pattern, kind in _CASES:
        word = pattern.sub(kind, word)
    return _REPEATED.sub(r"\1", word)


def _affixes(word: str) -> list[int]:
    edged = f"<{word.lower()}>"
    parts = [part for length in AFFIX_LENGTHS for part in (f"{length}{edged[:length]}", f"-{length}{edged[-length:]}")]
    return [_hashed(part, AFFIXES) for part in parts]


def _hashed(text: str, numbers: int) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % numbers
