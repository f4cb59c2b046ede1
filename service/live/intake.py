"""Observations and notes as they were sent to facts of a stay; what a call must not hold is refused with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from service.clock import Clock, TimeRefusedError
from service.errors import Loc, invalid_input
from service.intake_values import UNKNOWN_CHANNEL, read_statics
from service.live.facts import DERIVED, Fact, Note, Observation, Profile
from service.live.reading import Reader
from service.live.schema import CorrectionRequest, ObservationsRequest, StayRequest, has_dot_segment
from service.schema import StaticValue
from service.settings import Settings
from service.times import Times, end_minute

Places = list[tuple[Loc, str]]
# What a fact of either kind cannot have.
_OBSERVATION_ONLY, _NOTE_ONLY = frozenset({"value", "unit"}), frozenset({"text", "kind"})
# Fields of an observation that says no more than it must.
_PLAIN = 4
_STATICS: TypeAdapter[Any] = TypeAdapter(dict[str, StaticValue | str | None])


@dataclass(frozen=True, slots=True)
class Sent:
    """A call's facts.

    Args:
        observations: in the order in which they were sent.
        notes: likewise.
        as_of_min: minute of the score that is asked for; None: of the last input.
    """

    observations: list[Observation]
    notes: list[Note]
    as_of_min: int | None

    @property
    def facts(self) -> list[Fact]:
        """All of them."""
        return [*self.observations, *self.notes]


class Intake:
    """Reads calls.

    Args:
        settings: limits, and the tolerance for clocks that differ.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tolerance = timedelta(seconds=settings.clock_tolerance_s)

    def clock(self, profile: Profile) -> Clock:
        """The stay's time line as of now."""
        return Clock(profile.admitted, datetime.now(UTC) + self._tolerance)

    def profile(self, request: StayRequest, reader: Reader) -> Profile:
        """What is known at admission.

        Raises:
            Problem: 422 for an admission that has not come, or a static value that is not one.
        """
        admission = None if request.admission is None else request.admission.isoformat()
        static = _STATICS.dump_python(dict(request.static))
        profile = Profile(admission, static)
        places: Places = []
        try:
            self.clock(profile).check_admission()
        except TimeRefusedError as refusal:
            places.append((("admission",), str(refusal)))
        read_statics(request.static, reader.vocabulary, places)
        if places:
            raise invalid_input(places)
        return profile

    def facts(self, request: ObservationsRequest, profile: Profile, reader: Reader) -> Sent:
        """A call's observations and notes.

        Raises:
            Problem: 422 with the places that do not hold.
        """
        observations, notes = request.get("observations", ()), request.get("notes", ())
        self._check_counts(observations, notes)
        clock, places = self.clock(profile), Places()
        times = Times(clock)
        read = _observations(observations, times, reader, places)
        written = [_note(i, item, times, places) for i, item in enumerate(notes)]
        as_of = end_minute(request, clock, places)
        if places:
            raise invalid_input(places)
        return Sent(read, written, as_of)

    def correction(self, request: CorrectionRequest, fact: Fact, profile: Profile, reader: Reader) -> Fact:
        """What a fact is to be.

        Raises:
            Problem: 422 with the places that do not hold.
        """
        wrong = (_NOTE_ONLY if isinstance(fact, Observation) else _OBSERVATION_ONLY) & set(request)
        places: Places = [((name,), "must be left out for what this identifier names") for name in sorted(wrong)]
        if len(request) == 0:
            places.append(((), "must hold what is to be corrected"))
        clock = self.clock(profile)
        time_min, known_min = fact.time_min, fact.known_min
        if not {"time", "time_h", "available_time", "available_time_h"}.isdisjoint(request):
            times = request if {"time", "time_h"} & set(request) else {**request, "time_h": fact.time_min / 60}
            time_min, known_min = Times(clock).of((), times, places)
            if {"available_time", "available_time_h"}.isdisjoint(request) and fact.known_min > fact.time_min:
                known_min = max(time_min, fact.known_min)  # what nobody knew yet must not enter earlier scores
        if isinstance(fact, Note):
            text = request.get("text", fact.text)
            self._check_text((), text, places)
            corrected: Fact = Note(fact.observation_id, request.get("kind", fact.kind), text, time_min, known_min)
        else:
            unit = request.get("unit", fact.unit)
            _check_unit(("unit",), fact.channel, unit, reader, places)
            value = request.get("value", fact.value)
            corrected = Observation(fact.observation_id, fact.channel, value, unit, time_min, known_min)
        if places:
            raise invalid_input(places)
        return corrected

    def _check_counts(self, observations: Sequence[Any], notes: Sequence[Any]) -> None:
        places: Places = []
        if len(observations) > self._settings.max_observations:
            places.append((("observations",), f"must hold at most {self._settings.max_observations} items"))
        if len(notes) > self._settings.max_notes:
            places.append((("notes",), f"must hold at most {self._settings.max_notes} items"))
        for i, item in enumerate(notes):
            self._check_text(("notes", i), item["text"], places)
        if places:
            raise invalid_input(places)

    def _check_text(self, where: Loc, text: str, places: Places) -> None:
        if len(text) > self._settings.max_note_chars:
            places.append(((*where, "text"), f"must be at most {self._settings.max_note_chars} characters long"))


def _observations(
    items: Sequence[Mapping[str, Any]], times: Times, reader: Reader, places: Places
) -> list[Observation]:
    declared, met, read = reader.vocabulary.declared.get, times.met.get, []
    for i, item in enumerate(items):
        get, unit = item.get, item["unit"]
        identifier = get("observation_id")
        if identifier is not None:
            _check_identifier(("observations", i), identifier, places)
        channel = declared((item["channel"], unit))
        if channel is None:
            channel = _refused_channel(("observations", i), item["channel"], unit, reader, places)
        # Of no more than channel, value, unit and time, as nearly all are, nothing else can be said of the minutes.
        minutes = met(get("time")) if len(item) == _PLAIN else None
        time_min, known_min = minutes or times.of(("observations", i), item, places)
        read.append(Observation(identifier, channel, item["value"], unit, time_min, known_min))
    return read


def _refused_channel(where: Loc, sent: str, unit: str, reader: Reader, places: Places) -> str:
    """Says what is wrong with a channel or its unit; stands for the channel until the call is refused."""
    channel = reader.names(sent)
    if channel is None:
        places.append(((*where, "channel"), UNKNOWN_CHANNEL))
        return ""
    _check_unit((*where, "unit"), channel, unit, reader, places)
    return channel


def _note(i: int, item: Mapping[str, Any], times: Times, places: Places) -> Note:
    where = ("notes", i)
    identifier = item.get("observation_id")
    if identifier is not None:
        _check_identifier(where, identifier, places)
    time_min, known_min = times.of(where, item, places)
    return Note(identifier, item.get("kind", "note"), item["text"], time_min, known_min)


def _check_identifier(where: Loc, identifier: str, places: Places) -> None:
    if identifier.startswith(DERIVED):
        places.append(((*where, "observation_id"), f"must not begin with {DERIVED}"))
    elif has_dot_segment(identifier):
        places.append(((*where, "observation_id"), "must not be `.` or `..`, nor hold one between slashes"))


def _check_unit(where: Loc, channel: str, unit: str, reader: Reader, places: Places) -> None:
    if not reader.accepts(channel, unit):
        places.append((where, f"must be {' or '.join(reader.units(channel))} for {channel}"))
