"""Columns of stays in, the stays folded by one model out: many together, or one from a state that was kept before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.grid import GridKind
from models.intake import Columns as Observed
from models.intake import build_stays
from models.stay import Floats, Ints, Stays
from service.live.columns import ROW, Codes, Columns
from service.live.facts import Profile
from service.live.fold import Fold, advance
from service.live.reading import Reader, Reading, Taken
from service.live.session import Known
from service.live.stepper import Stepper

# A step that is taken by itself costs about as much as so many of a replay of the whole stay.
WORTH = 4


class Held(NamedTuple):
    """What is held of one stay.

    Args:
        rows: of `ROW`, as bytes.
        profile: what is known at admission.
    """

    rows: bytes
    profile: Profile


@dataclass(frozen=True)
class Readings:
    """Observations of `n` stays as one model reads them.

    Args:
        stay: (m,) index of the stay, ascending.
        minute: (m,) minutes from which they were known.
        channel: (m,) the encoding's channels.
        value: (m,) in canonical units.
        end_min: (n,) latest minute of anything that counts, also of what the model does not read.
    """

    stay: Ints
    minute: Ints
    channel: NDArray[np.int16]
    value: Floats
    end_min: Ints

    @classmethod
    def of(cls, rows: Sequence[bytes], reader: Reader, codes: Codes) -> Readings:
        """What a model reads of these stays' columns."""
        said = np.frombuffer(b"".join(rows), ROW)
        stay = np.repeat(np.arange(len(rows)), [len(one) // ROW.itemsize for one in rows])
        rules = reader.rules(codes)
        code, minute = said["code"], said["minute"].astype(np.int64)
        # Adding zero makes minus zero zero, as whole stays have it.
        with np.errstate(over="ignore"):  # too great for its conversion: infinite, and so outside the limits
            value = said["value"] * rules.factor[code] + rules.offset[code] + 0.0
        counts = (value >= rules.low[code]) & (value <= rules.high[code])
        end_min = np.zeros(len(rows), dtype=np.int64)
        np.maximum.at(end_min, stay[counts], minute[counts])
        channel = rules.channel[code]
        read = counts & (channel >= 0)
        return cls(stay[read], minute[read], channel[read], value[read], end_min)

    def taken(self, number: int) -> Taken:
        """One stay's as a list."""
        own = self.stay == number
        columns = (self.minute[own].tolist(), self.channel[own].tolist(), self.value[own].tolist())
        return Taken(list(map(Reading, *columns)), [], int(self.end_min[number]), [], [], set())


def refolded(stepper: Stepper, held: Sequence[Held], codes: Codes) -> list[Fold]:
    """Stays folded by a model, as stepping through them would; for the thread that may compute."""
    reader = stepper.reader
    found = Readings.of([one.rows for one in held], reader, codes)
    latest = np.full(len(held), -1, dtype=np.int64)
    np.maximum.at(latest, found.stay, found.minute)
    whole = latest >= 0
    folds = _whole_folds(stepper, held, found, latest, whole) if whole.any() else []
    others = iter(folds)
    return [
        next(others) if there else stepper.fold_taken(held[number].profile, found.taken(number))
        for number, there in enumerate(whole.tolist())
    ]


async def refolded_from(known: Known, columns: Columns, since_min: int) -> Fold | None:
    """The stay folded anew from a kept state before a minute on; None where folding it as a whole is better.

    Args:
        known: the stay.
        columns: its observations as they are to be.
        since_min: the earliest minute of what they say otherwise.
    """
    stepper, fold = known.stepper, known.fold
    grid = stepper.grid
    kept = [one for one in fold.kept if one.before <= grid.step_of(since_min)]
    if not kept or not columns.whole or WORTH * (fold.committed - kept[-1].committed) > fold.committed:
        return None
    base, found = kept[-1], Readings.of([bytes(columns.rows)], stepper.reader, columns.codes)
    begin = base.before if grid.kind is GridKind.EVENT else base.before * grid.width_min
    later = found.minute >= begin
    if not later.any():
        return None
    opened = int(found.minute[later].min()) if grid.kind is GridKind.EVENT else base.before
    seen = sum(1 << channel for channel in set(found.channel.tolist()))
    begun = Fold(base.state, base.committed, opened, (), (), int(found.end_min[0]), seen, None, tuple(kept))
    rows = (found.minute[later].tolist(), found.channel[later].tolist(), found.value[later].tolist())
    return await advance(begun, stepper, grid, readings=list(map(Reading, *rows)))


def _whole_folds(
    stepper: Stepper, held: Sequence[Held], found: Readings, latest: Ints, whole: NDArray[np.bool_]
) -> list[Fold]:
    """Folds of the stays that have a reading since admission."""
    reader, numbers = stepper.reader, np.flatnonzero(whole)
    place, own = np.cumsum(whole) - 1, whole[found.stay]
    stays, _ = build_stays(
        stay_id=tuple(map(str, range(len(numbers)))),
        end_min=latest[numbers],
        columns=Observed(place[found.stay[own]], found.minute[own], found.channel[own], found.value[own]),
        channels=reader.bundle.encoding.channels.names,
        static=np.concatenate([reader.static_row(held[number].profile) for number in numbers.tolist()]),
        static_names=reader.static_names,
    )
    states = stepper.live.replay(stays, leave_last=True)
    opened, committed, inside, seen = _opened(stepper, stays)
    minute, channel, value = (part[inside].tolist() for part in (stays.time_min, stays.channel, stays.value))
    rows = list(map(Reading, minute, channel, value))
    ends = np.cumsum(np.bincount(stays.stay_of_row()[inside], minlength=len(stays))).tolist()
    begins = [0, *ends[:-1]]
    facts = zip(states, committed, opened, begins, ends, found.end_min[numbers].tolist(), seen, strict=True)
    return [Fold(state, c, o, tuple(rows[b:e]), (), end, s) for state, c, o, b, e, end, s in facts]


def _opened(stepper: Stepper, stays: Stays) -> tuple[list[int], list[int], NDArray[np.bool_], list[int]]:
    """Every stay's open step, the steps before it, which rows lie in it, and the channels seen as bits."""
    grid, stay, minute = stepper.grid, stays.stay_of_row(), stays.time_min
    first, count = minute[stays.offsets[:-1]], len(stays)
    if grid.kind is GridKind.FIXED:
        opened = stays.end_min // grid.width_min
        inside = minute // grid.width_min == opened[stay]
        committed = opened + (first < 0)
    else:
        opened, inside = stays.end_min, minute == stays.end_min[stay]
        fresh = np.ones(len(minute), dtype=bool)
        fresh[1:] = (minute[1:] != minute[:-1]) | (stay[1:] != stay[:-1])
        committed = np.bincount(stay[fresh], minlength=count) - 1 + (first > 0)
    met = np.zeros((count, len(stays.channels)), dtype=bool)
    met[stay, stays.channel] = True
    packed = np.packbits(met, axis=1, bitorder="little")
    return opened.tolist(), committed.tolist(), inside, [int.from_bytes(row.tobytes(), "little") for row in packed]
