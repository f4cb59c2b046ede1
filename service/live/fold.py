"""Readings of a live stay in, its current score out: a committed state, and one open time step that more may enter.

The latest time step stays open: observations that arrive later may lie in it, so its score is provisional, and the
state before it is kept. It is committed once a later step opens. What lies before the open step cannot be folded in;
the stay is then folded anew from its facts. Any order of arrival so ends where encoding the final facts at once does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from models.grid import GridKind, GridSpec
from service.live.reading import Charted, Reading

# Number of the step that admission opens, on either kind of grid.
ADMISSION = 0
# A state is kept after every so many steps, and so many of them at most, whatever the stay's length.
KEPT_EVERY, MOST_KEPT = 64, 6


class LateError(ValueError):
    """Raised for readings before the open time step: the stay must be folded anew."""


class Step(NamedTuple):
    """One time step as a model takes it; sorted, and without repetitions.

    Args:
        time_min: its stamp.
        readings: what was observed in it.
        charted: its notes.
    """

    time_min: int
    readings: tuple[Reading, ...] = ()
    charted: tuple[Charted, ...] = ()


class Score(NamedTuple):
    """What a model says at one time step.

    Args:
        time_min: stamp of the step.
        values: calibrated risks, probabilities or the number, one an output.
        spread: how much the members disagree about each; None for one member.
        intervals: lower and upper end of each; None where the model has none.
        label_sets: per target and level, whether each label is compatible; None where the model has none.
    """

    time_min: int
    values: Sequence[float]
    spread: Sequence[float] | None = None
    intervals: Sequence[Sequence[float]] | None = None
    label_sets: Sequence[Sequence[Sequence[bool]]] | None = None


class StepModel(Protocol):
    """Takes time steps of stays; a state is the model's own and is never changed in place."""

    async def step(self, state: Any, step: Step) -> tuple[Score, Any]:
        """The score at the step, and the state after it."""
        ...

    async def run(self, state: Any, steps: Sequence[Step]) -> Any:
        """The state after many steps, without their scores."""
        ...


class Kept(NamedTuple):
    """A state on the way to where the stay is, to go back to when something is said late.

    Args:
        before: number of the step that opened next: the state is that after all earlier ones.
        committed: their number.
        state: the model's.
    """

    before: int
    committed: int
    state: Any


class Opened(NamedTuple):
    """The open time step as it was last scored: its score and the state after it."""

    step: Step
    score: Score
    state: Any


@dataclass(slots=True)
class Fold:
    """A live stay as a model knows it; never changed once made.

    Args:
        state: after the last committed step.
        committed: number of committed steps.
        open: number of the open step on the grid; None before anything is known.
        readings: of the open step, sorted and distinct.
        charted: notes of the open step, sorted and distinct.
        end_min: latest minute of anything that counts; at least 0.
        seen: bit k is set once the encoding's channel k was observed.
        opened: the open step as it was last scored; it spares committing it anew.
        kept: states on the way, the earliest first.
    """

    state: Any
    committed: int = 0
    open: int | None = None
    readings: tuple[Reading, ...] = ()
    charted: tuple[Charted, ...] = ()
    end_min: int = 0
    seen: int = 0
    opened: Opened | None = None
    kept: tuple[Kept, ...] = ()

    def is_late(self, grid: GridSpec, minutes: Iterable[int]) -> bool:
        """Whether one of these minutes lies before the open step."""
        if self.open is None:
            return False
        earliest = min(minutes, default=None)  # what lies later never belongs to an earlier step
        return earliest is not None and grid.step_of(earliest) < self.open

    def steps_with(self, grid: GridSpec, minutes: Iterable[int], end_min: int) -> int:
        """No fewer than the steps that the stay has with something at these minutes, scored until `end_min`."""
        opened = ADMISSION if self.open is None else self.open
        if grid.kind is GridKind.EVENT:
            return self.committed + 2 + len({minute for minute in minutes if minute > opened})
        latest = max((grid.step_of(minute) for minute in minutes), default=opened)
        return self.committed + 2 + max(latest, end_min // grid.width_min, opened) - opened


async def advance(
    fold: Fold,
    model: StepModel,
    grid: GridSpec,
    *,
    readings: Sequence[Reading] = (),
    charted: Sequence[Charted] = (),
    end_min: int = 0,
) -> Fold:
    """Takes readings and notes in; steps that they close are committed.

    Args:
        fold: stays as it is.
        model: takes the steps.
        grid: the model's.
        readings: in any order, none before the open step.
        charted: the same of notes.
        end_min: latest minute of anything that counts.

    Raises:
        LateError: if something lies before the open step.
    """
    arrived = _by_step(grid, readings, charted)
    end_min = max(fold.end_min, end_min)
    if not arrived:
        return fold if end_min == fold.end_min else replace(fold, end_min=end_min)
    numbers = sorted(arrived)
    if fold.open is not None and numbers[0] < fold.open:
        raise LateError
    number = min(numbers[0], ADMISSION) if fold.open is None else fold.open
    held = _Open(number, fold.readings, fold.charted)
    closing: list[_Open] = []
    for wanted in numbers:
        while held.number < wanted:
            closing.append(held)
            held = _Open(wanted if grid.kind is GridKind.EVENT else held.number + 1, (), ())
        held = held.joined(*arrived[wanted])
    seen = fold.seen
    for reading in readings:
        seen |= 1 << reading.channel
    if not closing:
        return Fold(fold.state, fold.committed, *held, end_min, seen, fold.opened, fold.kept)
    state, kept = await _committed(fold, [*closing, held], model, grid)
    return Fold(state, fold.committed + len(closing), *held, end_min, seen, None, kept)


async def evaluate(fold: Fold, model: StepModel, grid: GridSpec, *, as_of_min: int = 0) -> tuple[Score, int, Fold]:
    """The current score.

    Args:
        fold: the stay.
        model: takes the steps.
        grid: the model's.
        as_of_min: minute up to which the stay is scored, if later than the last of what is known.

    Returns:
        The score, the number of steps behind it, and the fold, which now holds the open step as it was scored.
    """
    end = max(fold.end_min, as_of_min)
    number = ADMISSION if fold.open is None else fold.open
    step = Step(grid.stamp(number, end), fold.readings, fold.charted)
    opened = fold.opened
    if opened is None or opened.step != step:
        score, state = await model.step(fold.state, step)
        opened = Opened(step, score, state)
        held = (fold.open, fold.readings, fold.charted, fold.end_min, fold.seen)
        fold = Fold(fold.state, fold.committed, *held, opened, fold.kept)
    tail = _tail(grid, number, end)
    score, state = opened.score, opened.state
    if len(tail) > 1:
        state = await model.run(state, tail[:-1])
    if tail:
        score, _ = await model.step(state, tail[-1])
    return score, fold.committed + 1 + len(tail), fold


class _Open(NamedTuple):
    """A step while it is open: its number on the grid, and what is in it, sorted and distinct."""

    number: int
    readings: tuple[Reading, ...]
    charted: tuple[Charted, ...]

    def joined(self, readings: list[Reading], charted: list[Charted]) -> _Open:
        """The step with more in it."""
        both = {*self.readings, *readings} if self.readings else set(readings)
        all_charted = tuple(sorted({*self.charted, *charted})) if charted else self.charted
        return _Open(self.number, tuple(sorted(both)), all_charted)


async def _committed(
    fold: Fold, opened: Sequence[_Open], model: StepModel, grid: GridSpec
) -> tuple[Any, tuple[Kept, ...]]:
    """The state after all these steps but the last, which stays open, and what is kept on the way.

    A step that was scored just so needs no second computation.
    """
    state, kept, done = fold.state, fold.kept, 0
    steps = [Step(_closed_stamp(grid, held.number), held.readings, held.charted) for held in opened[:-1]]
    if fold.opened is not None and fold.opened.step == steps[0]:
        state, done = fold.opened.state, 1
    for end in range(KEPT_EVERY - fold.committed % KEPT_EVERY, len(steps) + 1, KEPT_EVERY):
        if end > done:
            state, done = await model.run(state, steps[done:end]), end
        kept = thinned((*kept, Kept(opened[end].number, fold.committed + end, state)))
    return (await model.run(state, steps[done:]) if done < len(steps) else state), kept


def thinned(kept: tuple[Kept, ...]) -> tuple[Kept, ...]:
    """No more states than are kept: the nearer to the present, the closer they stand."""
    if len(kept) <= MOST_KEPT:
        return kept
    latest, steps = kept[-1].committed, (0, *(one.committed for one in kept))
    # What is left out leaves a gap: the one that is least beside how long ago it is.
    wide = [(steps[i + 2] - steps[i]) / (latest - steps[i + 1]) for i in range(len(kept) - 1)]
    least = wide.index(min(wide))
    return kept[:least] + kept[least + 1 :]


def _closed_stamp(grid: GridSpec, number: int) -> int:
    return number if grid.kind is GridKind.EVENT else (number + 1) * grid.width_min


def _tail(grid: GridSpec, number: int, end: int) -> list[Step]:
    """Empty steps behind the open one up to the end."""
    if grid.kind is GridKind.EVENT:
        return [Step(end)] if end > number else []
    bins = max(-(-end // grid.width_min), 1)
    return [Step(grid.stamp(k, end)) for k in range(number + 1, bins)]


def _by_step(
    grid: GridSpec, readings: Sequence[Reading], charted: Sequence[Charted]
) -> dict[int, tuple[list[Reading], list[Charted]]]:
    arrived: dict[int, tuple[list[Reading], list[Charted]]] = {}
    last: int | None = None  # most readings are of the minute of the one before
    for reading in readings:
        if reading.minute != last:
            last = reading.minute
            held, _ = arrived.setdefault(grid.step_of(last), ([], []))
        held.append(reading)
    for note in charted:
        arrived.setdefault(grid.step_of(note.minute), ([], []))[1].append(note)
    return arrived
