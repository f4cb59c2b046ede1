"""Texts with their identifiers and language in, checked columns of documents out; and a labelled stretch of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import DataError

LANGUAGES = ("en", "ja", "")


@dataclass(frozen=True, order=True)
class Span:
    """A labelled stretch of a document.

    Args:
        start: index of its first character in the original text.
        end: index behind its last character.
        label: what it names, for example `Disease`.
    """

    start: int
    end: int
    label: str

    def __post_init__(self) -> None:
        """Refuses an empty stretch, or one that begins before the text."""
        if not 0 <= self.start < self.end:
            raise DataError(
                f"span must begin at 0 or later and end behind its start, got {self.start} to {self.end}; correct it"
            )


@dataclass(frozen=True)
class Documents:
    """Documents of one language, as columns.

    Args:
        document_id: identifier of every document, each once.
        text: the documents' own characters, not normalised.
        language: `en`, `ja`, or empty where it is neither or not known.
    """

    document_id: tuple[str, ...]
    text: tuple[str, ...]
    language: str = ""

    def __post_init__(self) -> None:
        """Refuses columns that do not fit each other."""
        if len(self.text) != len(self.document_id):
            raise DataError(
                f"text must be one a document, got {len(self.text)} for {len(self.document_id)}; give each its text"
            )
        if len(set(self.document_id)) != len(self.document_id):
            raise DataError("document_id must name each document once, got one twice; rename or drop the second")
        if self.language not in LANGUAGES:
            raise DataError(f"language must be en, ja or empty, got {self.language!r}; leave it empty for another one")

    def __len__(self) -> int:
        return len(self.document_id)

    def select(self, rows: Sequence[int]) -> Documents:
        """The documents of these rows, in this order."""
        ids, texts = tuple(self.document_id[i] for i in rows), tuple(self.text[i] for i in rows)
        return Documents(ids, texts, self.language)
