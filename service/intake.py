"""A validated request to one stay as columns, and an account of every input that was not used as sent.

From `Stays` on, everything is shared with the pipelines. Nothing here repeats an input: an account names
places in the request, reasons, and declared names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from models.bundle import Bundle
from models.grid import GridKind
from models.intake import Columns, NoteColumns, Rejection, build_stays
from models.stay import Ints, Stays
from service.clock import Clock, TimeRefusedError
from service.errors import Loc, invalid_input
from service.intake_values import ValueRows, read_statics, read_values
from service.schema import NoteIn, ObservationIn, ScoreRequest
from service.schema_answers import InputRef
from service.settings import Settings
from service.vocabulary import Vocabulary

OUTSIDE_SOFT_LIMITS = "outside_soft_limits"
# The sender's own identifier of the stay goes no further than the schema.
STAY_ID = "stay"

Places = list[tuple[Loc, str]]


@dataclass(frozen=True)
class StayInput:
    """One stay, ready to be scored.

    Args:
        stays: the stay, alone.
        rejected: inputs that are not in it, and why.
        flagged: inputs that are in it although they are unusual.
        unused: declared names that were sent and that the model does not read.
        never_observed: channels of the model without any value in the stay.
    """

    stays: Stays
    rejected: tuple[InputRef, ...]
    flagged: tuple[InputRef, ...]
    unused: tuple[str, ...]
    never_observed: tuple[str, ...]


@dataclass
class _Timeline:
    """Minutes at which the inputs of one kind became known, and why some of them do not count."""

    minute: Ints
    reason: list[str | None] = field(default_factory=list)

    def latest(self) -> int:
        """Last minute of an input that counts; 0 if there is none or it is before admission."""
        return max((int(m) for m, r in zip(self.minute, self.reason, strict=True) if r is None), default=0)

    def refuse_after(self, end: int) -> None:
        """Takes out what became known after the end."""
        for i in np.flatnonzero(self.minute > end).tolist():
            self.reason[i] = self.reason[i] or str(Rejection.AFTER_END)

    @property
    def kept(self) -> Ints:
        """Places of the inputs that count."""
        return np.array([i for i, r in enumerate(self.reason) if r is None], dtype=np.int64)


def read_stay(
    request: ScoreRequest, *, vocabulary: Vocabulary, bundle: Bundle, settings: Settings, now: datetime | None = None
) -> StayInput:
    """Turns a request into a stay.

    Args:
        request: what was sent.
        vocabulary: names that the model's service understands.
        bundle: the model's facts; its grid bounds the number of time steps.
        settings: limits.
        now: the current time; for tests.

    Raises:
        Problem: 422 with the places that do not hold.
    """
    _check_counts(request, settings)
    places: Places = []
    clock = Clock(request.admission, (now or datetime.now(UTC)) + timedelta(seconds=settings.clock_tolerance_s))
    try:
        clock.check_admission()
    except TimeRefusedError as refusal:
        raise invalid_input([(("admission",), str(refusal))]) from None
    minutes = _minutes("observations", request.observations, clock, places)
    values = read_values(request.observations, minutes, vocabulary, places)
    observations = _Timeline(minutes, list(values.reason))
    notes = _read_notes(request.notes, clock, places)
    static, static_rejected = read_statics(request.static, vocabulary, places)
    end = _end_minute(request, clock, (observations, notes), places)
    _check_steps(bundle, end, (observations, notes), settings, places)
    if places:
        raise invalid_input(places)
    for timeline in (observations, notes):
        timeline.refuse_after(end)
    stays = _stays(request, values, observations, notes, static, vocabulary, end)
    return StayInput(
        stays=stays,
        rejected=(*_refs("observation", observations), *_refs("note", notes), *static_rejected),
        flagged=_flagged(values, observations),
        unused=_unused(request, values, vocabulary),
        never_observed=bundle.encoding.never_observed(stays),
    )


def _check_counts(request: ScoreRequest, settings: Settings) -> None:
    places: Places = []
    for name, count, limit in (
        ("observations", len(request.observations), settings.max_observations),
        ("notes", len(request.notes), settings.max_notes),
    ):
        if count > limit:
            places.append(((name,), f"must hold at most {limit} items"))
    places += [
        (("notes", i, "text"), f"must be at most {settings.max_note_chars} characters long")
        for i, note in enumerate(request.notes)
        if len(note.text) > settings.max_note_chars
    ]
    if places:
        raise invalid_input(places)


def _minutes(name: str, items: Sequence[ObservationIn | NoteIn], clock: Clock, places: Places) -> Ints:
    """(items,) minute at which each became known: its time, or its later `available_time`."""
    minutes = np.zeros(len(items), dtype=np.int64)
    for i, item in enumerate(items):
        at = "time" if item.time is not None else "time_h"
        known = "available_time" if item.available_time is not None else "available_time_h"
        try:
            minutes[i] = clock.minute(item.time, item.time_h)
            at = known
            if item.available_time is not None or item.available_time_h is not None:
                minutes[i] = max(int(minutes[i]), clock.minute(item.available_time, item.available_time_h))
        except TimeRefusedError as refusal:
            places.append(((name, i, at), str(refusal)))
    return minutes


def _read_notes(notes: list[NoteIn], clock: Clock, places: Places) -> _Timeline:
    minutes = _minutes("notes", notes, clock, places)
    seen: set[tuple[int, str, str]] = set()
    reasons: list[str | None] = []
    for minute, note in zip(minutes.tolist(), notes, strict=True):
        key = (minute, note.kind, note.text)
        reasons.append(str(Rejection.DUPLICATE) if key in seen else None)
        seen.add(key)
    return _Timeline(minutes, reasons)


def _end_minute(request: ScoreRequest, clock: Clock, timelines: tuple[_Timeline, ...], places: Places) -> int:
    if request.as_of is None and request.as_of_h is None:
        return max(0, *(t.latest() for t in timelines))
    where: Loc = ("as_of",) if request.as_of is not None else ("as_of_h",)
    try:
        end = clock.minute(request.as_of, request.as_of_h)
    except TimeRefusedError as refusal:
        places.append((where, str(refusal)))
        return 0
    if end < 0:
        places.append((where, "must not lie before admission"))
    return end


def _check_steps(
    bundle: Bundle, end: int, timelines: tuple[_Timeline, ...], settings: Settings, places: Places
) -> None:
    grid = bundle.encoding.grid
    if grid.kind is GridKind.FIXED:
        steps = math.ceil(max(end, 0) / grid.width_min) + 2
    else:
        steps = len(set().union(*(t.minute.tolist() for t in timelines))) + 2
    if steps > settings.max_steps + 2:
        places.append((("as_of",), f"must leave at most {settings.max_steps} time steps of this model's grid"))


def _stays(
    request: ScoreRequest,
    values: ValueRows,
    observations: _Timeline,
    notes: _Timeline,
    static: dict[str, float],
    vocabulary: Vocabulary,
    end: int,
) -> Stays:
    rows, charted = observations.kept, notes.kept
    names = tuple(s.name for s in vocabulary.statics)
    stays, _ = build_stays(
        stay_id=(STAY_ID,),
        end_min=np.array([end], dtype=np.int64),
        columns=Columns(
            stay=np.zeros(len(rows), dtype=np.int64),
            time_min=observations.minute[rows],
            channel=values.channel[rows],
            value=values.value[rows],
        ),
        channels=tuple(c.name for c in vocabulary.channels),
        static=np.array([[static.get(name, math.nan) for name in names]], dtype=np.float64),
        static_names=names,
        notes=NoteColumns(
            stay=np.zeros(len(charted), dtype=np.int64),
            time_min=notes.minute[charted],
            kind=tuple(request.notes[i].kind for i in charted.tolist()),
            text=tuple(request.notes[i].text for i in charted.tolist()),
        ),
    )
    return stays


def _refs(kind: Literal["observation", "note"], timeline: _Timeline) -> list[InputRef]:
    return [
        InputRef(input=kind, index=i, reason=reason) for i, reason in enumerate(timeline.reason) if reason is not None
    ]


def _flagged(values: ValueRows, timeline: _Timeline) -> tuple[InputRef, ...]:
    return tuple(
        InputRef(input="observation", index=int(i), reason=OUTSIDE_SOFT_LIMITS)
        for i in timeline.kept
        if values.unusual[i]
    )


def _unused(request: ScoreRequest, values: ValueRows, vocabulary: Vocabulary) -> tuple[str, ...]:
    sent = {vocabulary.channels[i].name for i in np.unique(values.channel).tolist()}
    unused = (sent - vocabulary.used_channels) | (set(request.static) - vocabulary.used_statics)
    return tuple(sorted(unused))
