"""A cohort's stays in, what they are told apart by out: static values and how densely they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.channels import StaticVariable
from models.errors import DataError
from models.stay import Floats, Stays
from pipelines.cohort import Cohort

MINUTES_PER_HOUR = 60


@dataclass(frozen=True)
class StayFacts:
    """Facts of `n` scored stays, in the order of their scores.

    Args:
        statics: declarations of the columns of `static`.
        static: (n, statics) numbers or indices of categories; NaN where not recorded.
        observations_per_hour: (n,) observations over the hours from admission, or the first one before it, to the
            end of the stay.
    """

    statics: tuple[StaticVariable, ...]
    static: Floats
    observations_per_hour: Floats


def facts_of_cohort(cohort: Cohort, stay_id: Sequence[str]) -> StayFacts:
    """Facts of the named stays.

    Raises:
        DataError: if the cohort does not hold one of them.
    """
    position = {stay: i for i, stay in enumerate(cohort.stays.stay_id)}
    missing = sum(stay not in position for stay in stay_id)
    if missing:
        raise DataError(
            f"scores must be of stays of the cohort, got {missing} of other stays; name the cohort that was scored"
        )
    return facts_of(cohort.stays.select([position[stay] for stay in stay_id]), cohort.statics)


def facts_of(stays: Stays, statics: Sequence[StaticVariable]) -> StayFacts:
    """Facts of these stays."""
    return StayFacts(tuple(statics), stays.static, observations_per_hour(stays))


def observations_per_hour(stays: Stays) -> Floats:
    """(n,) observations an hour; a stay of less than an hour counts as one of an hour."""
    count = np.diff(stays.offsets)
    first = np.zeros(len(stays), dtype=np.int64)
    held = count > 0
    first[held] = np.minimum(stays.time_min[stays.offsets[:-1][held]], 0)
    hours = np.maximum(stays.end_min - first, MINUTES_PER_HOUR) / MINUTES_PER_HOUR
    return np.asarray(count / hours, dtype=np.float64)
