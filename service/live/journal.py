"""Entries of a stay's journal as JSON, and the stay's facts and answers back from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from models.errors import ArtifactError
from service.live.facts import Fact, Note, Observation, Profile, StayFacts
from service.live.store import Entry


class Change(StrEnum):
    """What an entry changes."""

    PROFILE = "profile"
    FACTS = "facts"
    CORRECTION = "correction"
    WITHDRAWAL = "withdrawal"


class Answered(NamedTuple):
    """A score as it was answered, which later facts do not change.

    Args:
        prediction_id: the answer's identifier.
        as_of_min: minute of the score.
        steps: time steps that the network had read.
        values: the risks, probabilities or number that were answered.
        digest: digest of the model's artifact.
        model_version: its version in the registry.
        version: the stay's version with the entry; 0 before it is written.
        at_s: Unix time of the answer; 0 before it is written.
    """

    prediction_id: str
    as_of_min: int
    steps: int
    values: tuple[float, ...]
    digest: str
    model_version: str | None
    version: int = 0
    at_s: float = 0.0


# What of an answer its entry holds; the rest, the store says.
_WRITTEN = 6


def profile_entry(profile: Profile, answered: Answered) -> bytes:
    """An entry that says what is known at admission."""
    return _entry(Change.PROFILE, answered, p=[profile.admission, profile.static])


def facts_entry(observations: Sequence[Observation], notes: Sequence[Note], answered: Answered) -> bytes:
    """An entry that adds facts."""
    return _entry(Change.FACTS, answered, o=observations, n=notes)


def correction_entry(identifier: str, fact: Fact, answered: Answered) -> bytes:
    """An entry that puts another fact in the place of one."""
    return _entry(Change.CORRECTION, answered, i=identifier, **{"o" if isinstance(fact, Observation) else "n": [fact]})


def withdrawal_entry(identifier: str, answered: Answered) -> bytes:
    """An entry that takes a fact out."""
    return _entry(Change.WITHDRAWAL, answered, i=identifier)


def _entry(change: Change, answered: Answered, **content: Any) -> bytes:
    a = answered
    return orjson.dumps({"k": change, **content, "a": a[:_WRITTEN]}, default=tuple)


@dataclass
class Journal:
    """What a stay's entries say, up to one of them.

    Args:
        facts: the facts that they leave.
        answered: the scores that were answered, in their order.
        version: number of the last entry that was read.
    """

    facts: StayFacts = field(default_factory=StayFacts)
    answered: list[Answered] = field(default_factory=list)
    version: int = 0

    def read(self, entries: Iterable[Entry]) -> Journal:
        """Takes further entries in, and returns itself.

        Raises:
            ArtifactError: if an entry is none that this release wrote, or one is missing.
        """
        for entry in entries:
            if entry.version != self.version + 1:
                raise ArtifactError(
                    f"entries must follow each other, got {entry.version} after {self.version}; restore the store"
                )
            try:
                self._take(orjson.loads(entry.payload), entry)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise _foreign() from error
            self.version = entry.version
        return self

    def _take(self, content: dict[str, Any], entry: Entry) -> None:
        match Change(content["k"]):
            case Change.PROFILE:
                self.facts.profile = Profile(*content["p"])
            case Change.FACTS:
                self.facts.add(facts_of(content))
            case Change.CORRECTION:
                (fact,) = facts_of(content)
                self.facts.correct(content["i"], fact)
            case Change.WITHDRAWAL:
                self.facts.withdraw(content["i"])
        self.answered.append(_answer(content, entry))


def answer_in(entry: Entry) -> Answered:
    """The answer that an entry holds, whatever its change was.

    Raises:
        ArtifactError: if the entry is none that this release reads.
    """
    try:
        return _answer(orjson.loads(entry.payload), entry)
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign() from error


def _answer(content: dict[str, Any], entry: Entry) -> Answered:
    prediction_id, as_of_min, steps, values, digest, model_version = content["a"]
    return Answered(prediction_id, as_of_min, steps, tuple(values), digest, model_version, entry.version, entry.at_s)


def _foreign() -> ArtifactError:
    return ArtifactError("entry must be one that this release reads, got another; serve with the release that wrote it")


def facts_of(content: dict[str, Any]) -> list[Fact]:
    """The facts that an entry's content holds."""
    observations: list[Fact] = [Observation(*row) for row in content.get("o", ())]
    return observations + [Note(*row) for row in content.get("n", ())]
