"""How a model's notes are read: their texts in, ids out, without excluded sections; trained, stored and loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError
from models.note_sections import SectionRule
from models.note_terms import NoteTerms
from models.notes import NoteReading, NotesConfig, NoteTokenizer
from models.stay import Ints


class NoteReader(Protocol):
    """Ids of a note's text; id 0 is padding."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, padding included."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What each id stands for."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a note, at least one."""
        ...

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], Ints]:
        """Ids of all notes, end to end, and the (notes + 1,) offsets."""
        ...

    def to_json(self) -> str:
        """All of it as JSON text."""
        ...


class SectionReader:
    """Reads what a rule leaves of a note.

    Args:
        rule: which sections are left out.
        reader: of what remains.
    """

    def __init__(self, rule: SectionRule, reader: NoteReader) -> None:
        self.rule, self.reader = rule, reader

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, padding included."""
        return self.reader.vocabulary_size

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What each id stands for."""
        return self.reader.vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids of what remains of a note."""
        return self.reader.encode(self.rule.kept(text))

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], Ints]:
        """Ids of what remains of all notes, end to end, and the (notes + 1,) offsets."""
        return self.reader.encode_all([self.rule.kept(text) for text in texts])

    def to_json(self) -> str:
        """Rule and reader as JSON text."""
        stored = {"exclude": self.rule.exclude, "exclude_lines": self.rule.exclude_lines}
        return json.dumps({**stored, "reader": json.loads(self.reader.to_json())})


def train_reader(texts: Sequence[str], patient_ids: Sequence[str], config: NotesConfig) -> NoteReader:
    """Trains on the notes of training patients, without the sections and lines that the configuration excludes.

    Args:
        texts: the notes.
        patient_ids: each note's patient.
        config: choices.

    Raises:
        DataError: if the two are not of one length.
    """
    rule = SectionRule(config.exclude, config.exclude_lines)
    kept = [rule.kept(text) for text in texts]
    kind = NoteTerms if config.reading is NoteReading.TERMS else NoteTokenizer
    reader: NoteReader = kind.train(kept, patient_ids, config)
    return SectionReader(rule, reader) if config.exclude or config.exclude_lines else reader


def reader_from_json(text: str) -> NoteReader:
    """The reader that `to_json` wrote.

    Raises:
        ArtifactError: if the text is no reader.
    """
    try:
        stored = json.loads(text)
        known = set(stored)
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"tokenizer must be JSON written by a note reader, got {len(text)} other characters; "
            "fetch the artifact again"
        ) from error
    if {"exclude", "reader"} <= known:
        rule = SectionRule(stored["exclude"], stored.get("exclude_lines", ()))
        return SectionReader(rule, reader_from_json(json.dumps(stored["reader"])))
    return NoteTerms.from_json(text) if "terms" in known else NoteTokenizer.from_json(text)
