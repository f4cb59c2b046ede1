"""Note texts in, token ids out: a tokenizer trained on the training patients' notes.

Works for English and Japanese without a download: NFKC, byte-pair merges, and bytes for whatever has no token.
A token enters only if the notes of enough distinct patients hold it, so that names do not reach the artifact.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from models.errors import ArtifactError, ConfigError, DataError
from models.stay import Ints

PAD = 0
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
# The mark of a space is always a token: bytes would lose it in decoding.
_SPACE = "▁"
_RESERVED = ("<pad>", *_BYTES, _SPACE)
# Separates words where all of a patient's notes are looked at together; no token holds it.
_BETWEEN = "\0"
# Japanese is written without spaces; longer pieces would be whole clauses.
_LONGEST_TOKEN = 16


@dataclass(frozen=True)
class NotesConfig:
    """Choices for notes.

    Args:
        enabled: whether the model reads notes.
        vocabulary_size: upper bound of the number of tokens, the 258 of padding, bytes and the space included.
        min_patients: distinct patients whose notes must hold a token for it to enter.
        max_tokens: tokens of a note that are read: its first ones.
        embedding_size: width of a token's embedding.
        hidden_size: width of the note's encoder.
    """

    enabled: bool = False
    vocabulary_size: int = 4000
    min_patients: int = 5
    max_tokens: int = 256
    embedding_size: int = 32
    hidden_size: int = 32

    def __post_init__(self) -> None:
        """Refuses choices that do not hold."""
        if self.vocabulary_size < len(_RESERVED):
            raise ConfigError(
                f"vocabulary_size must be at least {len(_RESERVED)}, got {self.vocabulary_size}; bytes need as many"
            )
        for name in ("min_patients", "max_tokens", "embedding_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}; choose a positive number")


class NoteTokenizer:
    """A trained tokenizer; id 0 is padding and never given to text.

    Args:
        tokenizer: normalisation, pieces, merges and decoding.
        max_tokens: tokens of a note that are read.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, padding included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, by id."""
        ids: dict[str, int] = self._tokenizer.get_vocab()
        return tuple(sorted(ids, key=lambda token: ids[token]))

    @classmethod
    def train(cls, texts: Sequence[str], patient_ids: Sequence[str], config: NotesConfig) -> NoteTokenizer:
        """Trains on the notes of training patients.

        Args:
            texts: the notes; none at all gives a tokenizer of bytes.
            patient_ids: each note's patient.
            config: choices.

        Raises:
            DataError: if the two are not of one length.
        """
        if len(texts) != len(patient_ids):
            raise DataError(
                f"patient_ids must be one a text, got {len(patient_ids)} for {len(texts)}; name each patient"
            )
        patients = _pieces_by_patient(texts, patient_ids)
        room = config.vocabulary_size - len(_RESERVED)
        common = _common_characters(patients, config.min_patients, room)
        corpus = ("".join(c if c in common or c == _SPACE else _BETWEEN for c in text) for text in patients)
        trainer = trainers.BpeTrainer(
            vocab_size=room + 1,  # the space is learned too, and is reserved already
            min_frequency=config.min_patients,
            max_token_length=_LONGEST_TOKEN,
            show_progress=False,
        )
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.Split(_BETWEEN, "removed")
        raw.train_from_iterator(corpus, trainer)
        return cls(_build(json.loads(raw.to_str())["model"], patients, config.min_patients), config.max_tokens)

    def encode(self, text: str) -> list[int]:
        """Token ids of the note's first `max_tokens` tokens; a note without text is one token, a space."""
        # The cut bounds the work for a very long note; a token stands for far fewer characters than that.
        readable = text[: self.max_tokens * _LONGEST_TOKEN * 4]
        ids: list[int] = self._tokenizer.encode(readable).ids[: self.max_tokens]
        return ids or [1 + ord(" ")]

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], Ints]:
        """Token ids of all notes, end to end, and the (notes + 1,) offsets."""
        notes = [np.array(self.encode(text), dtype=np.int32) for text in texts]
        offsets = np.cumsum([0, *(len(ids) for ids in notes)], dtype=np.int64)
        return np.concatenate([np.zeros(0, dtype=np.int32), *notes]), offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, normalised by NFKC."""
        return str(self._tokenizer.decode(list(ids)))

    def to_json(self) -> str:
        """The tokenizer as JSON text."""
        return json.dumps({"max_tokens": self.max_tokens, "tokenizer": json.loads(self._tokenizer.to_str())})

    @classmethod
    def from_json(cls, text: str) -> NoteTokenizer:
        """The tokenizer that `to_json` wrote.

        Raises:
            ArtifactError: if the text is not such a tokenizer.
        """
        try:
            stored = json.loads(text)
            return cls(Tokenizer.from_str(json.dumps(stored["tokenizer"])), int(stored["max_tokens"]))
        except Exception as error:  # the tokenizers library raises bare Exception for a bad file
            raise ArtifactError(
                f"tokenizer must be JSON written by NoteTokenizer.to_json, got {len(text)} other characters; "
                "fetch the artifact again"
            ) from error


def _normalizer() -> normalizers.Normalizer:
    return normalizers.NFKC()


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Metaspace()


def _pieces_by_patient(texts: Sequence[str], patient_ids: Sequence[str]) -> list[str]:
    """All of a patient's notes as one normalised text, its words separated by `_BETWEEN`; one a patient."""
    normalizer, pre_tokenizer = _normalizer(), _pre_tokenizer()
    pieces: dict[str, list[str]] = defaultdict(list)
    for text, patient in zip(texts, patient_ids, strict=True):
        words = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text.replace(_BETWEEN, " ")))
        pieces[patient].extend(word for word, _ in words)
    return [_BETWEEN.join(words) for words in pieces.values()]


def _common_characters(patients: Sequence[str], min_patients: int, room: int) -> frozenset[str]:
    """The `room` characters that most patients' notes hold, of those that at least `min_patients` hold."""
    having = Counter(character for text in patients for character in set(text))
    common = [c for c, number in having.items() if number >= min_patients and c not in (_BETWEEN, *_RESERVED)]
    return frozenset(sorted(common, key=lambda c: (-having[c], c))[:room])


def _held_by_enough(token: str, patients: Sequence[str], min_patients: int) -> bool:
    holders = (text for text in patients if token in text)
    return sum(1 for _ in islice(holders, min_patients)) == min_patients


def _build(model: dict[str, Any], patients: Sequence[str], min_patients: int) -> Tokenizer:
    """A tokenizer of padding, bytes and those of the trained tokens that enough patients' notes hold.

    Whoever holds a token holds its parts, so that every merge that makes a kept token has its parts kept too.
    """
    ranked = sorted(model["vocab"], key=lambda token: int(model["vocab"][token]))
    kept = [token for token in ranked if _held_by_enough(token, patients, min_patients)]
    vocabulary = {token: i for i, token in enumerate([*_RESERVED, *(t for t in kept if t not in _RESERVED)])}
    merges = [(left, right) for left, right in model["merges"] if left + right in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tokenizer
