"""What may identify a person in a text, as closed kinds, and where it was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class IdentifierKind(StrEnum):
    """Kinds of identifiers that are looked for."""

    NAME = "name"
    DATE = "date"
    PHONE = "phone"
    RECORD_NUMBER = "record_number"
    EMAIL = "email"
    ADDRESS = "address"


@dataclass(frozen=True, order=True)
class Finding:
    """A stretch of a text that may identify a person.

    Args:
        start: index of its first character.
        end: index behind its last.
        kind: what it looks like.
    """

    start: int
    end: int
    kind: IdentifierKind
