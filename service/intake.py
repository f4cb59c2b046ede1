"""A validated request to one stay as columns, and an account of every input that was not used as sent.

From `Stays` on, everything is shared with the pipelines. Nothing here repeats an input: an account names
places in the request, reasons, and declared names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.grid import GridKind
from models.intake import Columns, NoteColumns, Rejection, build_stays
from models.stay import Floats, Ints, Stays
from service.clock import Clock, TimeRefusedError, moment
from service.conversions import Conversions
from service.errors import Loc, invalid_input
from service.intake_values import Items, ValueRows, read_statics, read_values
from service.schema_answers import InputRef
from service.score_body import ScoreFields
from service.settings import Settings
from service.times import Times, end_minute
from service.vocabulary import Vocabulary

OUTSIDE_SOFT_LIMITS = "outside_soft_limits"
# The sender's own identifier of the stay goes no further than the schema.
STAY_ID = "stay"

Places = list[tuple[Loc, str]]


@dataclass(frozen=True)
class StayInput:
    """One stay, ready to be scored.

    Args:
        end_min: last minute that is scored.
        minute: (m,) of the observations that count, in the order in which they were sent.
        channel: (m,) index into the vocabulary's channels.
        value: (m,) in the canonical unit.
        notes: those that count: minute, kind and text of each.
        static: numbers by name.
        rejected: inputs that are not in it, and why.
        flagged: inputs that are in it although they are unusual.
        unused: declared names that were sent and that the model does not read.
        never_observed: channels of the model without any value in the stay.
    """

    end_min: int
    minute: Ints
    channel: NDArray[np.int16]
    value: Floats
    notes: Sequence[tuple[int, str, str]]
    static: dict[str, float]
    rejected: tuple[InputRef, ...]
    flagged: tuple[InputRef, ...]
    unused: tuple[str, ...]
    never_observed: tuple[str, ...]


@dataclass
class _Timeline:
    """Minutes at which the inputs of one kind became known, and why some of them, by their place, do not count."""

    minute: Ints
    reason: dict[int, str]

    @property
    def kept(self) -> Ints:
        """Places of the inputs that count."""
        if not self.reason:
            return np.arange(len(self.minute))
        counts = np.ones(len(self.minute), dtype=bool)
        counts[list(self.reason)] = False
        return np.flatnonzero(counts)

    def latest(self) -> int:
        """Last minute of an input that counts; 0 if there is none or it is before admission."""
        return int((self.minute[self.kept] if self.reason else self.minute).max(initial=0))

    def refuse_after(self, end: int) -> None:
        """Takes out what became known after the end."""
        for i in np.flatnonzero(self.minute > end).tolist():
            self.reason.setdefault(i, str(Rejection.AFTER_END))


class Intake:
    """Reads requests for one model.

    Args:
        vocabulary: names that the model's service understands.
        bundle: the model's facts; its grid bounds the number of time steps.
        settings: limits.
    """

    def __init__(self, vocabulary: Vocabulary, bundle: Bundle, settings: Settings) -> None:
        self._vocabulary, self._bundle, self._settings = vocabulary, bundle, settings
        self._conversions = Conversions(vocabulary)
        self._tolerance = timedelta(seconds=settings.clock_tolerance_s)
        self._channels = tuple(c.name for c in vocabulary.channels)
        self._statics = tuple(s.name for s in vocabulary.statics)

    def read(self, request: ScoreFields, *, now: datetime | None = None) -> StayInput:
        """Turns a request into a stay.

        Args:
            request: what was sent.
            now: the current time; for tests.

        Raises:
            Problem: 422 with the places that do not hold.
        """
        sent, notes_sent = request.get("observations", ()), request.get("notes", ())
        self._check_counts(sent, notes_sent)
        places: Places = []
        clock = self._clock(request, now or datetime.now(UTC))
        times = Times(clock)
        minutes = _minutes("observations", sent, times, places)
        values = read_values(sent, minutes, self._vocabulary, self._conversions, places)
        observations, notes = _Timeline(minutes, values.reason), _read_notes(notes_sent, times, places)
        static_sent = request.get("static", {})
        static, static_rejected = read_statics(static_sent, self._vocabulary, places)
        end = end_minute(request, clock, places)
        end = max(observations.latest(), notes.latest()) if end is None else end
        self._check_steps(end, (observations, notes), places)
        if places:
            raise invalid_input(places)
        for timeline in (observations, notes):
            timeline.refuse_after(end)
        kept = observations.kept
        return StayInput(
            end_min=end,
            minute=minutes[kept],
            channel=values.channel[kept],
            value=values.value[kept],
            notes=[
                (int(notes.minute[i]), notes_sent[i].get("kind", "note"), notes_sent[i]["text"])
                for i in notes.kept.tolist()
            ],
            static=static,
            rejected=(*_refs("observation", observations), *_refs("note", notes), *static_rejected),
            flagged=_flagged(values, kept),
            unused=self._unused(values, static_sent.keys()),
            never_observed=self._never_observed(values.channel[kept]),
        )

    def stays(self, inputs: Sequence[StayInput]) -> Stays:
        """Stays side by side, in this order."""
        counts, charted = [len(one.minute) for one in inputs], [len(one.notes) for one in inputs]
        notes = [note for one in inputs for note in one.notes]
        stays, _ = build_stays(
            stay_id=[f"{STAY_ID}-{i}" for i in range(len(inputs))],
            end_min=np.array([one.end_min for one in inputs], dtype=np.int64),
            columns=Columns(
                stay=np.repeat(np.arange(len(inputs), dtype=np.int64), counts),
                time_min=np.concatenate([one.minute for one in inputs]),
                channel=np.concatenate([one.channel for one in inputs]),
                value=np.concatenate([one.value for one in inputs]),
            ),
            channels=self._channels,
            static=np.array(
                [[one.static.get(name, math.nan) for name in self._statics] for one in inputs], dtype=np.float64
            ),
            static_names=self._statics,
            notes=NoteColumns(
                stay=np.repeat(np.arange(len(inputs), dtype=np.int64), charted),
                time_min=np.array([minute for minute, _, _ in notes], dtype=np.int64),
                kind=[kind for _, kind, _ in notes],
                text=[text for _, _, text in notes],
            ),
        )
        return stays

    def _clock(self, request: ScoreFields, now: datetime) -> Clock:
        try:
            clock = Clock(moment(request.get("admission")), now + self._tolerance)
            clock.check_admission()
        except TimeRefusedError as refusal:
            raise invalid_input([(("admission",), str(refusal))]) from None
        return clock

    def _check_counts(self, observations: Items, notes: Items) -> None:
        settings, places = self._settings, Places()
        for name, items, limit in (
            ("observations", observations, settings.max_observations),
            ("notes", notes, settings.max_notes),
        ):
            if len(items) > limit:
                places.append(((name,), f"must hold at most {limit} items"))
        places += [
            (("notes", i, "text"), f"must be at most {settings.max_note_chars} characters long")
            for i, note in enumerate(notes)
            if len(note["text"]) > settings.max_note_chars
        ]
        if places:
            raise invalid_input(places)

    def _check_steps(self, end: int, timelines: tuple[_Timeline, ...], places: Places) -> None:
        grid = self._bundle.encoding.grid
        if grid.kind is GridKind.FIXED:
            steps = math.ceil(max(end, 0) / grid.width_min) + 2
        elif sum(len(t.minute) for t in timelines) <= self._settings.max_steps:
            return
        else:
            steps = len(set().union(*(t.minute.tolist() for t in timelines))) + 2
        if steps > self._settings.max_steps + 2:
            limit = self._settings.max_steps
            places.append((("as_of",), f"must leave at most {limit} time steps of this model's grid"))

    def _unused(self, values: ValueRows, statics: Iterable[str]) -> tuple[str, ...]:
        vocabulary = self._vocabulary
        sent = {self._channels[i] for i in set(values.channel.tolist())}
        return tuple(sorted((sent - vocabulary.used_channels) | (set(statics) - vocabulary.used_statics)))

    def _never_observed(self, channel: NDArray[np.int16]) -> tuple[str, ...]:
        seen = {self._channels[i] for i in set(channel.tolist())}
        return tuple(name for name in self._bundle.encoding.channels.names if name not in seen)


def _minutes(name: str, items: Items, times: Times, places: Places) -> Ints:
    """(items,) minute at which each became known: its time, or its later `available_time`."""
    return np.array(times.known(name, items, places), dtype=np.int64)


def _read_notes(notes: Items, times: Times, places: Places) -> _Timeline:
    minutes = _minutes("notes", notes, times, places)
    seen: set[tuple[int, str, str]] = set()
    reason: dict[int, str] = {}
    for i, (minute, note) in enumerate(zip(minutes.tolist(), notes, strict=True)):
        key = (minute, note.get("kind", "note"), note["text"])
        if key in seen:
            reason[i] = str(Rejection.DUPLICATE)
        seen.add(key)
    return _Timeline(minutes, reason)


def _refs(kind: Literal["observation", "note"], timeline: _Timeline) -> list[InputRef]:
    return [InputRef(input=kind, index=i, reason=timeline.reason[i]) for i in sorted(timeline.reason)]


def _flagged(values: ValueRows, kept: Ints) -> tuple[InputRef, ...]:
    places = kept[values.unusual[kept]].tolist()
    return tuple(InputRef(input="observation", index=i, reason=OUTSIDE_SOFT_LIMITS) for i in places)
