"""A stay's facts to what one model reads of them: canonical values by the encoding's channels, and what counts not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.bundle import Bundle
from models.intake import Columns, NoteColumns, Rejection, build_stays
from models.stay import Floats, Ints, Stays
from service.intake import OUTSIDE_SOFT_LIMITS, STAY_ID
from service.intake_values import MISSING, read_statics
from service.live.columns import Codes
from service.live.facts import Note, Observation, Profile, StayFacts
from service.schema import StaticValue
from service.vocabulary import Vocabulary

# A model that came later may not accept a unit that the one before did.
UNIT = "unit_not_accepted"
UNUSED = -1
# Units are the sender's words; what they teach must not fill the memory.
MAX_RULES = 10_000


class Reading(NamedTuple):
    """One observation as a model reads it.

    Args:
        minute: from which it was known.
        channel: the encoding's number; `UNUSED` where the model reads no such channel.
        value: in the canonical unit.
    """

    minute: int
    channel: int
    value: float


class Charted(NamedTuple):
    """One note as a model reads it."""

    minute: int
    kind: str
    text: str


class _Rule(NamedTuple):
    channel: int
    factor: float
    offset: float
    low: float
    high: float
    usual_low: float
    usual_high: float
    used: bool


@dataclass(frozen=True)
class Rules:
    """What a reader makes of the codes of `columns`, one entry each; a code that does not count has no limits to meet.

    Args:
        channel: the encoding's; `UNUSED` where the model reads none.
        factor: of the conversion.
        offset: likewise.
        low: hard limit, in the canonical unit.
        high: likewise.
    """

    channel: NDArray[np.int16]
    factor: Floats
    offset: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, rules: Sequence[_Rule | None]) -> Rules:
        """The rules side by side; None is a unit that the model does not accept."""
        none = _Rule(UNUSED, 0.0, 0.0, math.inf, -math.inf, 0.0, 0.0, used=False)
        table = [rule or none for rule in rules]
        columns = (np.array([rule[k] for rule in table], dtype=np.float64) for k in range(1, 5))
        return cls(np.array([rule.channel for rule in table], dtype=np.int16), *columns)


_UNKNOWN = _Rule(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, used=False)


@dataclass(frozen=True)
class Taken:
    """What a model makes of facts.

    Args:
        readings: those that count, in the order given.
        charted: notes that count; empty for a model that reads none.
        end_min: latest minute of anything that counts, also of what the model does not read; at least 0.
        rejected: place among the observations, and why it does not count.
        flagged: places of observations outside the usual limits.
        unused: names of channels that the model does not read.
    """

    readings: list[Reading]
    charted: list[Charted]
    end_min: int
    rejected: list[tuple[int, str]]
    flagged: list[int]
    unused: set[str]

    @property
    def minutes(self) -> list[int]:
        """Minutes of what the model reads."""
        minutes = [r.minute for r in self.readings]
        return minutes + [c.minute for c in self.charted] if self.charted else minutes


class Reader:
    """Reads facts for one model.

    Args:
        bundle: the model's facts.
        vocabulary: names that senders use.
        reads_notes: whether the model has a tokenizer.
    """

    def __init__(self, bundle: Bundle, vocabulary: Vocabulary, *, reads_notes: bool) -> None:
        self.bundle, self.vocabulary, self.reads_notes = bundle, vocabulary, reads_notes
        self._numbers = bundle.encoding.channels.numbers
        self._rules: dict[tuple[str, str], _Rule | None] = {}
        self._coded = (Codes(), Rules.of(()))

    def names(self, channel: str) -> str | None:
        """The declared name behind a name or `loinc:` code; None if there is none."""
        index = self.vocabulary.channel_index.get(channel)
        return None if index is None else self.vocabulary.channels[index].name

    def accepts(self, channel: str, unit: str) -> bool:
        """Whether a declared channel accepts the unit."""
        return self._rule(channel, unit) is not None

    def units(self, channel: str) -> tuple[str, ...]:
        """Units that a declared channel accepts."""
        declared = self.vocabulary.channels[self.vocabulary.channel_index[channel]]
        return (declared.unit, *declared.accepts)

    def take(self, observations: Sequence[Observation], notes: Iterable[Note]) -> Taken:
        """What the model makes of facts."""
        readings: list[Reading] = []
        rejected: list[tuple[int, str]] = []
        flagged: list[int] = []
        unused: set[str] = set()
        end, rules = 0, self._rules
        for place, (_, name, sent, unit, _, minute) in enumerate(observations):
            rule = rules.get((name, unit), _UNKNOWN)
            if rule is _UNKNOWN:
                rule = self._rule(name, unit)
            if rule is None or sent is None:
                rejected.append((place, UNIT if rule is None else MISSING))
                continue
            channel, factor, offset, low, high, usual_low, usual_high, used = rule
            # Adding zero makes minus zero zero, as whole stays have it.
            value = sent * factor + offset + 0.0
            if not low <= value <= high:
                rejected.append((place, str(Rejection.OUTSIDE_HARD_LIMITS)))
                continue
            if minute > end:
                end = minute
            if not usual_low <= value <= usual_high:
                flagged.append(place)
            if not used:
                unused.add(name)
            if channel != UNUSED:
                readings.append(Reading(minute, channel, value))
        charted = [Charted(note.known_min, note.kind, note.text) for note in notes]
        end = max((end, *(note.minute for note in charted)))
        return Taken(readings, charted if self.reads_notes else [], end, rejected, flagged, unused)

    def rules(self, codes: Codes) -> Rules:
        """What the model makes of every code of the process's one table."""
        known, rules = self._coded
        if known is not codes or len(rules.channel) < len(codes.pairs):
            rules = Rules.of([self._make_rule(channel, unit) for channel, unit in list(codes.pairs)])
            self._coded = (codes, rules)
        return rules

    def _rule(self, channel: str, unit: str) -> _Rule | None:
        key = (channel, unit)
        rule = self._rules.get(key, _UNKNOWN)
        if rule is _UNKNOWN:
            if len(self._rules) >= MAX_RULES:
                self._rules.clear()
            rule = self._rules[key] = self._make_rule(channel, unit)
        return rule

    def _make_rule(self, name: str, unit: str) -> _Rule | None:
        index = self.vocabulary.channel_index.get(name)
        declared = None if index is None else self.vocabulary.channels[index]
        conversion = None if declared is None else declared.conversion(unit)
        if declared is None or conversion is None:
            return None
        usual = declared.soft or (-math.inf, math.inf)
        number, used = self._numbers.get(declared.name, UNUSED), declared.name in self.vocabulary.used_channels
        return _Rule(number, conversion.factor, conversion.offset, *declared.hard, *usual, used=used)

    def stays(self, facts: StayFacts, *, end_min: int | None = None, taken: Taken | None = None) -> Stays:
        """The facts as one stay, as a whole-stay score takes it.

        Args:
            facts: the stay's facts.
            end_min: last minute that is scored; None: the latest that counts.
            taken: what the model makes of the facts, where it is known already.
        """
        taken = taken or self.take(facts.observations, facts.notes)
        names = self.bundle.encoding.channels.names
        readings = taken.readings
        charted = taken.charted
        stays, _ = build_stays(
            stay_id=(STAY_ID,),
            end_min=np.array([taken.end_min if end_min is None else end_min], dtype=np.int64),
            columns=Columns(
                stay=np.zeros(len(readings), dtype=np.int64),
                time_min=np.array([r.minute for r in readings], dtype=np.int64),
                channel=np.array([r.channel for r in readings], dtype=np.int16),
                value=np.array([r.value for r in readings], dtype=np.float64),
            ),
            channels=names,
            static=self.static_row(facts.profile),
            static_names=self.static_names,
            notes=NoteColumns(
                stay=np.zeros(len(charted), dtype=np.int64),
                time_min=np.array([n.minute for n in charted], dtype=np.int64),
                kind=tuple(n.kind for n in charted),
                text=tuple(n.text for n in charted),
            ),
        )
        return stays

    def start(self, profile: Profile) -> Stays:
        """A stay of which only what is known at admission is known."""
        return self.stays(StayFacts(profile=profile))

    @property
    def static_names(self) -> tuple[str, ...]:
        """Names of the columns of `static_row`."""
        return tuple(s.name for s in self.vocabulary.statics)

    def static_row(self, profile: Profile) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(1, statics) what the model knows of a stay at its admission; NaN where it knows nothing."""
        sent = _STATICS.validate_python(profile.static)
        # What this model cannot read it does not know; what was refused when it was sent never came here.
        values, _ = read_statics(sent, self.vocabulary, [])
        return np.array([[values.get(s.name, math.nan) for s in self.vocabulary.statics]], dtype=np.float64)


def joined(stays: Sequence[Stays]) -> Stays:
    """Stays that one reader made, one after the other."""
    if len(stays) == 1:
        return stays[0]
    first = stays[0]
    return Stays(
        stay_id=tuple(name for one in stays for name in one.stay_id),
        end_min=np.concatenate([one.end_min for one in stays]),
        offsets=_offsets([one.offsets for one in stays]),
        time_min=np.concatenate([one.time_min for one in stays]),
        channel=np.concatenate([one.channel for one in stays]),
        value=np.concatenate([one.value for one in stays]),
        channels=first.channels,
        static=np.concatenate([one.static for one in stays]),
        static_names=first.static_names,
        note_offsets=_offsets([one.note_offsets for one in stays]),
        note_time_min=np.concatenate([one.note_time_min for one in stays]),
        note_kind=tuple(kind for one in stays for kind in one.note_kind),
        note_text=tuple(text for one in stays for text in one.note_text),
    )


def _offsets(offsets: Sequence[Ints]) -> Ints:
    lengths = np.concatenate([np.diff(one) for one in offsets])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


_STATICS: TypeAdapter[dict[str, StaticValue | str | None]] = TypeAdapter(dict[str, StaticValue | str | None])


__all__ = ["OUTSIDE_SOFT_LIMITS", "UNUSED", "Charted", "Reader", "Reading", "Taken", "joined"]
