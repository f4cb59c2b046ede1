"""Note texts in, ids of the terms in them out: lines and words that enough patients' notes hold.

What forms and flowsheets write are few lines that recur word for word; a bag of them says what a note says, and
hundreds of stays are enough to learn from it. As with tokens, nothing that few patients share reaches the artifact.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError, DataError
from models.notes import NotesConfig
from models.stay import Ints

# Two ids besides the terms': padding, and a note without any known term.
_RESERVED = ("<pad>", "<none>")
_WORD = re.compile(r"[^\W_]+(?:[.,][0-9]+)*|[+-][0-9]+")
# Written without spaces: every pair of neighbouring characters is a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
# A longer line is prose, which never recurs.
_LONGEST_LINE = 160


class NoteTerms:
    """A trained vocabulary of terms.

    Args:
        terms: by id, those reserved first.
        max_tokens: terms of a note that are read: its first ones.
    """

    def __init__(self, terms: Sequence[str], max_tokens: int) -> None:
        self.vocabulary = tuple(terms)
        self.max_tokens = max_tokens
        self._ids = {term: number for number, term in enumerate(self.vocabulary)}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, reserved ones included."""
        return len(self.vocabulary)

    @classmethod
    def train(cls, texts: Sequence[str], patient_ids: Sequence[str], config: NotesConfig) -> NoteTerms:
        """The terms of most patients, of those that at least `min_patients` have.

        Args:
            texts: the notes.
            patient_ids: each note's patient.
            config: choices.

        Raises:
            DataError: if the two are not of one length.
        """
        if len(texts) != len(patient_ids):
            raise DataError(
                f"patient_ids must be one a text, got {len(patient_ids)} for {len(texts)}; name each patient"
            )
        of_patient: dict[str, set[str]] = defaultdict(set)
        for text, patient in zip(texts, patient_ids, strict=True):
            of_patient[patient].update(terms_of(text))
        having = Counter(term for terms in of_patient.values() for term in terms)
        common = [term for term, number in having.items() if number >= config.min_patients]
        room = config.vocabulary_size - len(_RESERVED)
        return cls((*_RESERVED, *sorted(common, key=lambda term: (-having[term], term))[:room]), config.max_tokens)

    def encode(self, text: str) -> list[int]:
        """Ids of the note's known terms, each once, in the order in which they first occur."""
        known = (self._ids[term] for term in terms_of(text) if term in self._ids)
        return list(dict.fromkeys(known))[: self.max_tokens] or [1]

    def encode_all(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], Ints]:
        """Ids of all notes, end to end, and the (notes + 1,) offsets."""
        notes = [np.array(self.encode(text), dtype=np.int32) for text in texts]
        offsets = np.cumsum([0, *(len(ids) for ids in notes)], dtype=np.int64)
        return np.concatenate([np.zeros(0, dtype=np.int32), *notes]), offsets

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        return json.dumps({"max_tokens": self.max_tokens, "terms": self.vocabulary[len(_RESERVED) :]})

    @classmethod
    def from_json(cls, text: str) -> NoteTerms:
        """The vocabulary that `to_json` wrote.

        Raises:
            ArtifactError: if the text is not such a vocabulary.
        """
        try:
            stored = json.loads(text)
            return cls((*_RESERVED, *(str(term) for term in stored["terms"])), int(stored["max_tokens"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"terms must be JSON written by NoteTerms.to_json, got {len(text)} other characters; "
                "fetch the artifact again"
            ) from error


def terms_of(text: str) -> Iterator[str]:
    """Terms of a text in order, a line before its words; a term may come several times.

    Example:
        >>> list(terms_of("Motor Score: 6"))
        ['=motor score 6', 'motor', 'score', '6']
    """
    for line in unicodedata.normalize("NFKC", text).casefold().splitlines():
        words = [word for piece in _WORD.findall(line) for word in _split(piece)]
        if len(words) > 1 and len(line) <= _LONGEST_LINE:
            yield "=" + " ".join(words)
        yield from words


def _split(piece: str) -> Iterator[str]:
    """A word as it is; of a script without spaces its pairs of characters."""
    end = 0
    for run in _UNSPACED.finditer(piece):
        if run.start() > end:
            yield piece[end : run.start()]
        characters, end = run.group(), run.end()
        yield from (characters[i : i + 2] for i in range(max(len(characters) - 1, 1)))
    if end < len(piece):
        yield piece[end:]
