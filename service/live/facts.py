"""What is known of a stay, as it was sent: admission, static values, observations and notes by identifier.

Facts are kept in the sender's units and in whole minutes since admission, so that any model, also a later one, reads
them for itself. What is said twice is one fact; what was withdrawn stays so, however late a copy of it arrives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

# Identifiers that are made of what they identify; a sender's own may not look like one.
DERIVED = "content:"


class Observation(NamedTuple):
    """One value as it was sent.

    Args:
        observation_id: the sender's identifier; None where it gave none.
        channel: declared name of the channel.
        value: in `unit`; None is missing.
        unit: as sent.
        time_min: minute at which it was true.
        known_min: minute from which it was known, never before `time_min`.
    """

    observation_id: str | None
    channel: str
    value: float | None
    unit: str
    time_min: int
    known_min: int

    @property
    def identifier(self) -> str:
        """The sender's identifier, or one made of the content."""
        return self.observation_id or _derived(self[1:])


class Note(NamedTuple):
    """One note; arguments as of `Observation`."""

    observation_id: str | None
    kind: str
    text: str
    time_min: int
    known_min: int

    @property
    def identifier(self) -> str:
        """The sender's identifier, or one made of the content."""
        return self.observation_id or _derived(self[1:])


Fact = Observation | Note


def _derived(content: tuple[Any, ...]) -> str:
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return DERIVED + hashlib.blake2b(written, digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known at admission.

    Args:
        admission: RFC 3339; None where times are hours since admission alone.
        static: by variable: a number with its unit, a category's name, or None.
    """

    admission: str | None = None
    static: dict[str, Any] = field(default_factory=dict)

    @property
    def admitted(self) -> datetime | None:
        """The admission as a time."""
        return None if self.admission is None else datetime.fromisoformat(self.admission)


class ContradictionError(ValueError):
    """Raised where one identifier is given to two different facts."""


@dataclass
class StayFacts:
    """The facts of one stay after some of its journal.

    Args:
        profile: what is known at admission.
        held: observations and notes that count, by identifier.
        first: what was first said under every identifier that was ever accepted.
    """

    profile: Profile = field(default_factory=Profile)
    held: dict[str, Fact] = field(default_factory=dict)
    first: dict[str, Fact] = field(default_factory=dict)

    def is_new(self, fact: Fact) -> bool:
        """Whether nothing with the fact's identifier was accepted before.

        Raises:
            ContradictionError: if something else was accepted under it.
        """
        said = self.first.get(fact.identifier)
        if said is not None and (type(said) is not type(fact) or said[1:] != fact[1:]):
            raise ContradictionError
        return said is None

    def add(self, facts: Iterable[Fact]) -> None:
        """Takes facts in; what was accepted before stays as it is."""
        for fact in facts:
            identifier = fact.identifier
            if identifier not in self.first:
                self.first[identifier] = self.held[identifier] = fact

    def accepted(self) -> Iterable[Fact]:
        """Everything that was ever accepted, as it was first said."""
        return self.first.values()

    def correct(self, identifier: str, fact: Fact) -> None:
        """Puts another fact in the place of one that counts."""
        self.held[identifier] = fact

    def withdraw(self, identifier: str) -> None:
        """Takes a fact out; its identifier stays known."""
        self.held.pop(identifier, None)

    @property
    def observations(self) -> list[Observation]:
        """Observations that count, in the order of arrival."""
        return [fact for fact in self.held.values() if isinstance(fact, Observation)]

    @property
    def notes(self) -> list[Note]:
        """Notes that count, in the order of arrival."""
        return [fact for fact in self.held.values() if isinstance(fact, Note)]
