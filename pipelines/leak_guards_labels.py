"""A cohort and what is read of it in, the proof that no column that is read is an outcome under another name out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.channels import StaticKind
from models.encoding import Encoding
from models.static_encoding import aligned
from models.stay import Floats, Ints, Stays
from pipelines.leak_finding import Finding, LeakError
from pipelines.outcomes import Outcomes

GUARD = "labels"
# A copy is told from a column that is merely good by so many stays of either kind.
FEWEST = 10
# An outcome with more values than that counts as a number.
MOST_CLASSES = 10
# Rank correlation, either way, of a number with its copy, which may be rounded.
COPIED = 0.9999


def check_labels(outcomes: Outcomes, index: Ints, stays: Stays, encoding: Encoding) -> Finding:
    """Compares every column that the encoding reads with every outcome.

    Args:
        outcomes: of the whole cohort.
        index: positions of the training stays in it.
        stays: the training stays.
        encoding: says which channels and static variables are read.

    Raises:
        LeakError: if a column has an outcome's name or tells an outcome of every stay.
    """
    statics = tuple(v.name for v in encoding.statics.variables)
    for name in sorted({*encoding.channels.names, *statics} & set(outcomes.names)):
        raise _is_label(f"{name!r}, the name of an outcome")
    position = np.full(max(int(index.max(initial=0)), int(outcomes.stay.max(initial=0))) + 1, -1, dtype=np.int64)
    position[index] = np.arange(len(index))
    columns = dict(_columns(stays, encoding))
    for code, name in enumerate(outcomes.names):
        mine = (outcomes.code == code) & (position[outcomes.stay] >= 0)
        value = np.full(len(index), np.nan)
        value[position[outcomes.stay[mine]]] = outcomes.value[mine]
        for column, read in columns.items():
            if is_copy(read, value):
                raise _is_label(f"{column}, which tells {name!r}")
    return Finding(GUARD, f"{len(columns)} columns and {len(outcomes.names)} outcomes: no name in common and no copy")


def is_copy(column: Floats, outcome: Floats) -> bool:
    """Whether the column tells the outcome of every stay that has both: a class by a threshold, a number by its rank.

    Args:
        column: (n,) NaN = missing.
        outcome: (n,) NaN = not known.

    Returns:
        also False where fewer than `FEWEST` stays of either kind have both: chance does the same there.

    Example:
        >>> death = np.repeat([0.0, 1.0], 10)
        >>> is_copy(3.0 - 2.0 * death, death), is_copy(np.arange(20.0) % 10, death)
        (True, False)
    """
    known = ~np.isnan(column) & ~np.isnan(outcome)
    column, outcome = column[known], outcome[known]
    values = np.unique(outcome)
    if len(values) <= MOST_CLASSES:
        return any(_separates(column, outcome == value) for value in values)
    if len(np.unique(column)) <= MOST_CLASSES:
        return False
    return bool(abs(np.corrcoef(rankdata(column), rankdata(outcome))[0, 1]) >= COPIED)


def _separates(column: Floats, positive: NDArray[np.bool_]) -> bool:
    """Whether a threshold parts the two kinds of stays, that is an AUROC of 1 or 0."""
    inside, outside = column[positive], column[~positive]
    if min(len(inside), len(outside)) < FEWEST:
        return False
    return bool(inside.min() > outside.max() or inside.max() < outside.min())


def _columns(stays: Stays, encoding: Encoding) -> Iterator[tuple[str, Floats]]:
    """Name and (n,) values of every column: static values, channels' last values, and what is missing."""
    variables = encoding.statics.variables
    for variable, value in zip(variables, aligned(stays, variables).T, strict=True):
        yield f"missing static {variable.name}", np.isnan(value).astype(np.float64)
        if variable.kind is StaticKind.NUMERIC:
            yield f"static {variable.name}", value
        for i, category in enumerate(variable.categories):
            yield f"static {variable.name} = {category}", np.where(np.isnan(value), np.nan, value == i)
    last = np.full(len(stays) * len(stays.channels), -1, dtype=np.int64)
    last[stays.stay_of_row() * len(stays.channels) + stays.channel] = np.arange(len(stays.value))
    # A parent's encoding may know channels that these stays lack: no value of theirs can be a label.
    for name in (n for n in encoding.channels.numbers if n in stays.channels):
        row = last[stays.channels.index(name) :: len(stays.channels)]
        yield f"presence of channel {name}", (row >= 0).astype(np.float64)
        yield f"last value of channel {name}", np.where(row >= 0, stays.value[row], np.nan)


def _is_label(got: str) -> LeakError:
    return LeakError(
        GUARD,
        expected="no column that is an outcome",
        got=got,
        remedy="name the others in encoding.channels or encoding.statics, or prepare the cohort without it",
    )
