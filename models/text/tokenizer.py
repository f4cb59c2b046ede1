"""Texts in, token ids with character offsets into the original text out: a tokenizer trained on the training texts.

Works for English and Japanese without a download: NFKC, sub-words (byte pairs or unigram) and bytes for whatever
has no token. Powers and fractions keep their form (10³ is read as 10^3, never as 103), and a number's digits are
tokens of their own, so that a number never seen before is read as well as a common one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers

from models.errors import ArtifactError, ConfigError, DataError
from models.record import from_plain, to_plain
from models.text.subwords import (
    PAD,
    RESERVED,
    SPACE,
    SubwordTokenizer,
    assembled,
    group_texts,
    learn_bpe,
    learn_unigram,
    pieces_of,
)

__all__ = ["PAD", "Subwords", "TextTokenizer", "TokenizedText", "TokenizerConfig"]

_POWERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = np.array([1 + ord(" ")], dtype=np.int32)


class Subwords(StrEnum):
    """How words are cut into tokens."""

    BPE = "bpe"
    UNIGRAM = "unigram"


@dataclass(frozen=True)
class TokenizerConfig:
    """Choices for the tokenizer.

    Args:
        kind: byte-pair merges or a unigram model.
        vocabulary_size: upper bound of the number of tokens, the 258 of padding, bytes and the space included.
        min_groups: distinct groups (patients, reports) whose texts must hold a token for it to enter.
        lowercase: whether upper and lower case are read alike.
        single_digits: whether every digit is a token of its own; otherwise frequent numbers are.
    """

    kind: Subwords = Subwords.BPE
    vocabulary_size: int = 8000
    min_groups: int = 5
    lowercase: bool = False
    single_digits: bool = True

    def __post_init__(self) -> None:
        """Refuses choices that do not hold."""
        if self.vocabulary_size < len(RESERVED):
            raise ConfigError(
                f"vocabulary_size must be at least {len(RESERVED)}, got {self.vocabulary_size}; bytes need as many"
            )
        if self.min_groups < 1:
            raise ConfigError(f"min_groups must be at least 1, got {self.min_groups}; choose a positive number")


@dataclass(frozen=True)
class TokenizedText:
    """A text as tokens.

    Args:
        ids: (tokens,) int32, never padding, at least one.
        offsets: (tokens, 2) int32: every token's first character in the original text and the one behind its last.
            A token's own space does not count; a token of nothing but a space that the text does not hold is empty.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer(SubwordTokenizer):
    """A trained tokenizer; id 0 is padding and never given to text.

    Args:
        tokenizer: normalisation, pieces, sub-words and decoding.
        config: the choices it was trained with.
    """

    def __init__(self, tokenizer: Tokenizer, config: TokenizerConfig) -> None:
        super().__init__(tokenizer)
        self.config = config

    @classmethod
    def train(cls, texts: Sequence[str], groups: Sequence[str], config: TokenizerConfig) -> TextTokenizer:
        """Trains on the texts of the training part.

        Args:
            texts: the texts; none at all gives a tokenizer of bytes.
            groups: each text's patient or report.
            config: choices.

        Raises:
            DataError: if the two are not of one length.
        """
        if len(texts) != len(groups):
            raise DataError(f"groups must be one a text, got {len(groups)} for {len(texts)}; name each text's group")
        joined = group_texts([_readable(text) for text in texts], groups, lambda text: _pieces(text, config))
        room = config.vocabulary_size - len(RESERVED)
        if config.kind is Subwords.BPE:
            return cls(_build(learn_bpe(joined, room=room, min_groups=config.min_groups), config, None), config)
        model, known = learn_unigram(joined, room=room, min_groups=config.min_groups)
        return cls(_build(model, config, known), config)

    def encode(self, text: str) -> TokenizedText:
        """All tokens of a text; a text without any is one token, a space."""
        return _tokenized(text, self._tokenizer.encode(_readable(text)))

    def encode_all(self, texts: Sequence[str]) -> list[TokenizedText]:
        """All tokens of every text; faster than one by one."""
        encodings = self._tokenizer.encode_batch([_readable(text) for text in texts])
        return [_tokenized(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def to_json(self) -> str:
        """The tokenizer as JSON text."""
        tokenizer = json.loads(self._tokenizer.to_str())
        return json.dumps({"format": 1, "config": to_plain(self.config), "tokenizer": tokenizer})

    @classmethod
    def from_json(cls, text: str) -> TextTokenizer:
        """The tokenizer that `to_json` wrote.

        Raises:
            ArtifactError: if the text is not such a tokenizer.
        """
        try:
            stored = json.loads(text)
            if stored["format"] != 1:
                raise ValueError("another format")
            config = from_plain(TokenizerConfig, stored["config"], where="tokenizer")
            return cls(Tokenizer.from_str(json.dumps(stored["tokenizer"])), config)
        except Exception as error:  # the tokenizers library raises bare Exception for a bad file
            raise ArtifactError(
                f"tokenizer must be JSON written by TextTokenizer.to_json, got {len(text)} other characters; "
                "fetch the artifact again"
            ) from error


def _readable(text: str) -> str:
    """The text without half characters, which the tokenizers library refuses; offsets stay the same."""
    return _SURROGATE.sub("\ufffd", text)


def _pieces(text: str, config: TokenizerConfig) -> Iterator[str]:
    """The normalised text's words."""
    return pieces_of(text, _normalizer(config), _pre_tokenizer(config, None))


def _normalizer(config: TokenizerConfig) -> normalizers.Normalizer:
    powers = [normalizers.Replace(Regex(f"(?<=[^{''.join(_POWERS)}])(?=[{''.join(_POWERS)}])"), "^")]
    plain = [normalizers.Replace(power, digit) for power, digit in _POWERS.items()]
    fractions = [normalizers.Replace(sign, f" {words}") for sign, words in _FRACTIONS.items()]
    lower = [normalizers.Lowercase()] if config.lowercase else []
    return normalizers.Sequence([*powers, *plain, *fractions, normalizers.NFKC(), *lower])


def _pre_tokenizer(config: TokenizerConfig, known: frozenset[str] | None) -> pre_tokenizers.PreTokenizer:
    """Words, each digit and each mark; for a unigram model every unknown character apart too.

    Such a model reads neighbouring unknown characters as one, and their offsets would be lost.
    """
    steps: list[Any] = [pre_tokenizers.Metaspace()]
    if config.single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    steps.append(pre_tokenizers.Punctuation("isolated"))
    if known is not None:
        unknown = "".join(rf"\x{{{ord(c):X}}}" for c in sorted(known | {SPACE}))
        steps.append(pre_tokenizers.Split(Regex(f"[^{unknown}]"), "isolated"))
    return pre_tokenizers.Sequence(steps)


def _build(model: models.BPE | models.Unigram, config: TokenizerConfig, known: frozenset[str] | None) -> Tokenizer:
    return assembled(model, _normalizer(config), _pre_tokenizer(config, known))


def _tokenized(text: str, encoding: Encoding) -> TokenizedText:
    """Ids and offsets: characters that normalisation joined belong to their token, spaces before it do not."""
    ids = np.array(encoding.ids, dtype=np.int32)
    if not len(ids):
        return TokenizedText(_BLANK.copy(), np.array([[0, len(text)]], dtype=np.int32))
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    start, end = offsets[:, 0], offsets[:, 1]
    # A letter and its combining mark become one character, to which the library gives the letter's place alone.
    following = np.append(start[1:], np.int32(len(text)))
    end = np.where(end == start, end, np.maximum(end, following))
    for i in range(len(ids) - 1, 0, -1):
        if start[i] == start[i - 1] and end[i - 1] > start[i]:
            end[i - 1] = max(end[i - 1], end[i])
    return TokenizedText(ids, _without_spaces(text, encoding.tokens, start, end))


def _without_spaces(
    text: str, tokens: Sequence[str], start: NDArray[np.int32], end: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Offsets of tokens that begin with a space, from their first character behind it."""
    trimmed = np.stack([start, end], axis=1)
    for i, token in enumerate(tokens):
        if token.startswith(SPACE):
            first, last = int(start[i]), int(end[i])
            if token == SPACE:
                if not text[first:last].strip() or first == last:
                    continue
                trimmed[i, 1] = first + (1 if text[first].isspace() else 0)
            else:
                while first < last - 1 and text[first].isspace():
                    first += 1
                trimmed[i, 0] = first
    return trimmed
