"""Note texts in, token ids out: a tokenizer trained on the training patients' notes.

Works for English and Japanese without a download: NFKC, byte-pair merges, and bytes for whatever has no token.
A token enters only if the notes of enough distinct patients hold it, so that names do not reach the artifact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from models.errors import ArtifactError, ConfigError, DataError
from models.stay import Ints
from models.text.subwords import (
    LONGEST_TOKEN,
    PAD,
    RESERVED,
    SubwordTokenizer,
    assembled,
    group_texts,
    learn_bpe,
    pieces_of,
)

__all__ = ["PAD", "NoteFusion", "NoteReading", "NoteTokenizer", "NotesConfig"]


class NoteReading(StrEnum):
    """What a note is to the model: its tokens in their order, or the terms in it, in none."""

    TOKENS = "tokens"
    TERMS = "terms"


class NoteFusion(StrEnum):
    """Where what was written meets what was measured.

    EARLY: a note enters the cell at its time step. LATE: the outputs add what all notes so far say to what the cell
    says. GATED: likewise, as far as a gate lets them, which reads both.
    """

    EARLY = "early"
    LATE = "late"
    GATED = "gated"


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
        reading: a note is read token by token, or as a bag of terms (lines, words).
        fusion: where notes meet measurements.
        exclude: sections that state the outcome: words of headings whose sections are not read.
        exclude_lines: what states the outcome wherever it stands: words of lines that are not read.
    """

    enabled: bool = False
    vocabulary_size: int = 4000
    min_patients: int = 5
    max_tokens: int = 256
    embedding_size: int = 32
    hidden_size: int = 32
    reading: NoteReading = NoteReading.TOKENS
    fusion: NoteFusion = NoteFusion.EARLY
    exclude: tuple[str, ...] = ()
    exclude_lines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses choices that do not hold."""
        if self.reading is NoteReading.TOKENS and self.vocabulary_size < len(RESERVED):
            raise ConfigError(
                f"vocabulary_size must be at least {len(RESERVED)}, got {self.vocabulary_size}; bytes need as many"
            )
        for name in ("min_patients", "max_tokens", "embedding_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}; choose a positive number")


class NoteTokenizer(SubwordTokenizer):
    """A trained tokenizer; id 0 is padding and never given to text.

    Args:
        tokenizer: normalisation, pieces, merges and decoding.
        max_tokens: tokens of a note that are read.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        super().__init__(tokenizer)
        self.max_tokens = max_tokens

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
        patients = group_texts(texts, patient_ids, _pieces)
        room = config.vocabulary_size - len(RESERVED)
        return cls(_build(learn_bpe(patients, room=room, min_groups=config.min_patients)), config.max_tokens)

    def encode(self, text: str) -> list[int]:
        """Token ids of the note's first `max_tokens` tokens; a note without text is one token, a space."""
        # The cut bounds the work for a very long note; a token stands for far fewer characters than that.
        readable = text[: self.max_tokens * LONGEST_TOKEN * 4]
        ids: list[int] = self._tokenizer.encode(readable).ids[: self.max_tokens]
        return ids or [1 + ord(" ")]

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], Ints]:
        """Token ids of all notes, end to end, and the (notes + 1,) offsets."""
        notes = [np.array(self.encode(text), dtype=np.int32) for text in texts]
        offsets = np.cumsum([0, *(len(ids) for ids in notes)], dtype=np.int64)
        return np.concatenate([np.zeros(0, dtype=np.int32), *notes]), offsets

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


def _pieces(text: str) -> Iterator[str]:
    """The normalised text's words."""
    return pieces_of(text, _normalizer(), _pre_tokenizer())


def _build(model: models.BPE) -> Tokenizer:
    return assembled(model, _normalizer(), _pre_tokenizer())
