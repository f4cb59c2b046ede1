"""What of a call is new to a stay: facts that it has already are told from those that it has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.intake import Rejection
from service.errors import invalid_input
from service.intake_values import read_statics
from service.live.facts import ContradictionError, Fact, Note, Observation, StayFacts
from service.live.intake import Sent
from service.live.reading import OUTSIDE_SOFT_LIMITS, Reader, Taken
from service.live.schema import StayRequest
from service.live.session import Known
from service.live.wording import Outcome

OTHER_FACT = "must be another one for another observation"


@dataclass(slots=True)
class Fresh:
    """What of a call is new to the stay.

    Args:
        observations: those that are new.
        notes: likewise.
        places: of these observations in the call.
        note_places: of these notes.
        repeated: what is not new, as `InputRef` has it.
    """

    observations: list[Observation]
    notes: list[Note]
    places: Sequence[int]
    note_places: Sequence[int]
    repeated: list[dict[str, Any]] = field(default_factory=list)

    @property
    def facts(self) -> list[Fact]:
        """All that is new."""
        return [*self.observations, *self.notes]


def unrepeated(sent: Sent) -> Fresh:
    """The call's facts, each once.

    Raises:
        Problem: 422 if one identifier is given to two facts.
    """
    facts = sent.facts
    named = [fact.observation_id for fact in facts if fact.observation_id is not None]
    fresh = Fresh(sent.observations, sent.notes, range(len(sent.observations)), range(len(sent.notes)))
    repeats = len(set(facts)) < len(facts) or len(set(named)) < len(named)
    return only_new(fresh, StayFacts()) if repeats else fresh


def only_new(fresh: Fresh, facts: StayFacts) -> Fresh:
    """Those facts that are new beside these, and beside each other.

    Raises:
        Problem: 422 if an identifier is known for another fact.
    """
    within = StayFacts()
    places: list[int] = []
    note_places: list[int] = []
    kept = Fresh([], [], places, note_places, list(fresh.repeated))
    groups: tuple[tuple[str, Sequence[Fact], Sequence[int]], ...] = (
        ("observation", fresh.observations, fresh.places),
        ("note", fresh.notes, fresh.note_places),
    )
    for kind, found, at in groups:
        for place, fact in zip(at, found, strict=True):
            try:
                new = facts.is_new(fact) and within.is_new(fact)
            except ContradictionError:
                raise invalid_input([((f"{kind}s", place, "observation_id"), OTHER_FACT)]) from None
            within.add([fact])
            if not new:
                kept.repeated.append({"input": kind, "index": place, "name": None, "reason": str(Rejection.DUPLICATE)})
            elif isinstance(fact, Observation):
                kept.observations.append(fact)
                places.append(place)
            else:
                kept.notes.append(fact)
                note_places.append(place)
    return kept


def may_repeat(known: Known, fresh: Fresh, taken: Taken, *, late: bool) -> bool:
    """Whether something may be known already; the stay's facts then decide.

    Args:
        known: the stay.
        fresh: what was sent.
        taken: what the model makes of it.
        late: whether some of it lies before the open step.
    """
    readings = known.fold.readings
    if readings and not set(readings).isdisjoint(taken.readings):
        return True
    if known.identifiers.may_hold(fresh.facts):
        return True
    # The open step holds what counts there; what does not count, and what was withdrawn, is in the columns alone.
    counts = len(taken.readings) == len(fresh.observations)
    return known.columns.may_hold(fresh.observations, withdrawn_only=counts and not late)


def tell(outcome: Outcome, fresh: Fresh, taken: Taken) -> None:
    """Says what became of what was sent."""
    outcome.observations, outcome.notes = len(fresh.observations), len(fresh.notes)
    outcome.rejected = fresh.repeated + [_input(fresh.places[place], reason) for place, reason in taken.rejected]
    outcome.flagged = [_input(fresh.places[place], OUTSIDE_SOFT_LIMITS) for place in taken.flagged]
    outcome.unused = sorted(taken.unused)


def tell_statics(outcome: Outcome, request: StayRequest, reader: Reader) -> None:
    """Says what became of the static values that were sent."""
    _, rejected = read_statics(request.static, reader.vocabulary, [])
    outcome.rejected = [ref.model_dump() for ref in rejected]
    outcome.unused = sorted(request.static.keys() - reader.vocabulary.used_statics)


def _input(place: int, reason: str) -> dict[str, Any]:
    return {"input": "observation", "index": place, "name": None, "reason": reason}
