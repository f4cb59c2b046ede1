"""What a call adds to a stay in, a refusal out where the stay would hold more than one stay may."""

from __future__ import annotations

from collections import Counter

from models.grid import GridSpec
from service.errors import Problem, invalid_input
from service.live.fold import Fold
from service.live.news import Fresh
from service.live.reading import Taken
from service.live.session import Known
from service.settings import Settings

# A time step is computed anew with every observation in it.
MOST_IN_STEP = 10_000


def check_room(known: Known, fresh: Fresh, taken: Taken, settings: Settings) -> None:
    """Refuses more observations or notes than a stay, or one of its time steps, may have.

    Raises:
        Problem: 422 with what is too many.
    """
    columns = known.columns
    if columns.observations + len(fresh.observations) > settings.max_observations:
        raise _too_many("observations", settings.max_observations)
    if columns.notes + len(fresh.notes) > settings.max_notes:
        raise _too_many("notes", settings.max_notes)
    held, grid = known.fold.readings, known.stepper.grid
    if len(held) + len(taken.readings) > MOST_IN_STEP:
        in_steps = Counter(grid.step_of(reading.minute) for reading in (*held, *taken.readings))
        if max(in_steps.values()) > MOST_IN_STEP:
            expected = f"must leave at most {MOST_IN_STEP} observations in one time step of this model's grid"
            raise invalid_input([(("observations",), expected)])


def _too_many(name: str, limit: int) -> Problem:
    return invalid_input([((name,), f"must leave at most {limit} {name} in the stay")])


def check_end(fold: Fold, grid: GridSpec, taken: Taken, as_of_min: int | None, *, most_steps: int) -> None:
    """Refuses a score before what is known, and more time steps than are allowed.

    Raises:
        Problem: 422 with the place that does not hold.
    """
    end = max(fold.end_min, taken.end_min)
    if as_of_min is not None and as_of_min < end:
        raise invalid_input([(("as_of",), "must not lie before the latest input of the stay")])
    steps = fold.steps_with(grid, taken.minutes, max(end, as_of_min or 0))
    if steps > most_steps + 2:
        expected = f"must leave at most {most_steps} time steps of this model's grid"
        raise invalid_input([(("observations",), expected)])
