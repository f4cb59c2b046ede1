"""A finished model and real stays in, the proof that no score knows its future out.

What happens after a time step is changed in two ways and scored through the whole path: encoding, network, calibration.
With the rows kept, scores up to the step stay bit-equal; with rows and notes removed and added, shapes change and
scores stay equal within the rounding that other shapes bring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.scorer import Scorer, Trajectories
from models.stay import Floats, Ints, Stays
from pipelines.leak_finding import Finding, LeakError
from pipelines.part_data import PartData

GUARD = "future"
STAYS = 16
# Enough to see a leak and few enough to take about a second; one stay is looked at however long it is.
MAX_STEPS = 20_000
LONG_STEPS = 336
TOLERANCE, LONG_TOLERANCE = 1e-6, 1e-5
# Read where the stays hold no note of their own.
NOTE_TEXT = "seen again, unchanged"


@dataclass(frozen=True)
class _Cut:
    """Where the future of every stay begins.

    Args:
        steps: (n,) time steps whose scores must stay, at least 1.
        minute: (n,) stamp of the last of them, before the stay's end.
    """

    steps: Ints
    minute: Ints


def check_future(scorer: Scorer, part: PartData, *, seed: int) -> Finding:
    """Changes everything after a time step of some stays, and compares the scores up to it.

    Args:
        scorer: the model as it is about to be saved.
        part: real stays on which it was not fitted.
        seed: of the choice of stays, time steps and changes.

    Raises:
        LeakError: if a score changes.
    """
    if not scorer.network.streams:
        return Finding(GUARD, "causal: false; the network reads whole stays, so its scores are for closed stays alone")
    random = np.random.default_rng((seed, 0x1EA4))
    stays, cut = _choose(part, random)
    if not len(stays):
        return Finding(GUARD, "causal: true; no stay has a time step before its end, so there is no future to change")
    before = scorer.score(stays)
    _compare(before, scorer.score(_with_other_values(stays, cut, random)), cut, tolerance=0.0)
    longest = int(np.diff(before.step_offsets).max())
    tolerance = TOLERANCE if longest <= LONG_STEPS else LONG_TOLERANCE
    _compare(before, scorer.score(_with_other_rows(stays, cut, random)), cut, tolerance=tolerance)
    return Finding(
        GUARD,
        f"causal: true; {int(cut.steps.sum()):,} scores of {len(stays)} stays: bit-equal with other values after them, "
        f"within {tolerance:g} with other rows and notes after them",
    )


def _choose(part: PartData, random: np.random.Generator) -> tuple[Stays, _Cut]:
    """Stays with a time step before their end, and where to cut each."""
    encoded, end_min = part.encoded, part.stays.end_min
    early = encoded.time_min < np.repeat(end_min, encoded.lengths)
    candidates = np.add.reduceat(early.astype(np.int64), encoded.step_offsets[:-1])
    order = random.permutation(np.flatnonzero(candidates))
    fits = np.cumsum(encoded.lengths[order]) <= MAX_STEPS
    fits[:1] = True
    chosen = order[fits][:STAYS]
    steps = random.integers(1, candidates[chosen], endpoint=True).astype(np.int64)
    minute = encoded.time_min[encoded.step_offsets[chosen] + steps - 1]
    return part.stays.select(chosen), _Cut(steps, minute)


def _with_other_values(stays: Stays, cut: _Cut, random: np.random.Generator) -> Stays:
    """The same rows, with other values after the cut."""
    stay = stays.stay_of_row()
    later = stays.time_min > cut.minute[stay]
    change = random.uniform(0.5, 2.0, len(later)) * random.choice([-1.0, 1.0], len(later))
    value = np.where(later, stays.value + (1.0 + np.abs(stays.value)) * change, stays.value)
    return _sorted(stays, stay, stays.time_min, stays.channel, value)


def _with_other_rows(stays: Stays, cut: _Cut, random: np.random.Generator) -> Stays:
    """Half of the rows after the cut are gone, every channel has a new one, and all later notes are others."""
    stay = stays.stay_of_row()
    kept = (stays.time_min <= cut.minute[stay]) | (random.random(len(stay)) < 0.5)
    new = np.repeat(np.arange(len(stays)), len(stays.channels))
    minute = random.integers(cut.minute[new] + 1, stays.end_min[new], endpoint=True)
    channel = np.tile(np.arange(len(stays.channels), dtype=stays.channel.dtype), len(stays))
    changed = _sorted(
        stays,
        np.concatenate([stay[kept], new]),
        np.concatenate([stays.time_min[kept], minute]),
        np.concatenate([stays.channel[kept], channel]),
        np.concatenate([stays.value[kept], random.normal(0.0, 100.0, len(new))]),
    )
    return _with_other_notes(changed, cut)


def _sorted(stays: Stays, stay: Ints, minute: Ints, channel: NDArray[np.int16], value: Floats) -> Stays:
    order = np.lexsort((value, channel, minute, stay))
    return replace(
        stays,
        offsets=np.searchsorted(stay[order], np.arange(len(stays) + 1)).astype(np.int64),
        time_min=minute[order],
        channel=channel[order],
        value=value[order],
    )


def _with_other_notes(stays: Stays, cut: _Cut) -> Stays:
    """Without the notes after the cut, and with two new ones a stay: right after it and at the end."""
    stay = stays.stay_of_note()
    kept = np.flatnonzero(stays.note_time_min <= cut.minute[stay])
    n = len(stays)
    owner = np.concatenate([stay[kept], np.repeat(np.arange(n), 2)])
    minute = np.concatenate([stays.note_time_min[kept], np.stack([cut.minute + 1, stays.end_min], axis=1).ravel()])
    text = [stays.note_text[i] for i in kept] + [max(stays.note_text, key=len, default=NOTE_TEXT), NOTE_TEXT] * n
    kind = [stays.note_kind[i] for i in kept] + ["other"] * (2 * n)
    order = np.lexsort((minute, owner))
    return replace(
        stays,
        note_offsets=np.searchsorted(owner[order], np.arange(n + 1)).astype(np.int64),
        note_time_min=minute[order],
        note_kind=tuple(kind[i] for i in order),
        note_text=tuple(text[i] for i in order),
    )


def _compare(before: Trajectories, after: Trajectories, cut: _Cut, *, tolerance: float) -> None:
    """Refuses scores up to the cut that differ by more than the tolerance."""
    if np.any(np.diff(after.step_offsets) < cut.steps):
        raise _leaks("time steps that are gone with it")
    rows = [_rows(scored.step_offsets, cut.steps) for scored in (before, after)]
    if not np.array_equal(before.time_min[rows[0]], after.time_min[rows[1]]):
        raise _leaks("time steps that move with it")
    change = np.abs(before.risk[rows[0]] - after.risk[rows[1]])
    if not np.all(change <= tolerance):
        raise _leaks(
            f"{int((change > tolerance).any(axis=1).sum()):,} of {len(change):,} scores that change by up to "
            f"{float(change.max()):.1g}, where {tolerance:g} is allowed"
        )


def _rows(step_offsets: Ints, steps: Ints) -> Ints:
    """The first so many time steps of every stay."""
    within = np.arange(steps.sum()) - np.repeat(np.cumsum(steps) - steps, steps)
    rows: Ints = np.repeat(step_offsets[:-1], steps) + within
    return rows


def _leaks(got: str) -> LeakError:
    return LeakError(
        GUARD,
        expected="scores that do not depend on what happens after them",
        got=got,
        remedy="make the encoding, the network and the calibration read the past alone, or declare the network "
        "bidirectional, for closed stays",
    )
