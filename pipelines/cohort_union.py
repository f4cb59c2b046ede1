"""Stays and outcomes of several cohorts in, one set of columns out; channels are united by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from models.channels import Channel, StaticVariable
from models.errors import DataError
from models.intake import Columns, NoteColumns, build_stays
from models.stay import Floats, Stays
from pipelines.outcomes import Outcomes

Declared = TypeVar("Declared", Channel, StaticVariable)


def united_declarations(declared: Sequence[Declared]) -> tuple[Declared, ...]:
    """Each declaration once, in order of first use.

    Raises:
        DataError: if one name is declared in two ways.
    """
    by_name: dict[str, Declared] = {}
    for declaration in declared:
        if by_name.setdefault(declaration.name, declaration) != declaration:
            raise DataError(
                f"{declaration.name} must be declared alike in all cohorts, got two declarations; "
                "prepare the cohorts again with one mapping"
            )
    return tuple(by_name.values())


def united_stays(parts: Sequence[Stays], *, channels: Sequence[str], statics: Sequence[str]) -> Stays:
    """The stays of all parts in order; a channel or static value that a part does not have is missing there.

    Raises:
        DataError: if a stay occurs twice.
    """
    first = np.cumsum([0, *(len(part) for part in parts)])
    stay_id = [i for part in parts for i in part.stay_id]
    if len(set(stay_id)) != len(stay_id):
        raise DataError("cohorts must hold different stays, got one stay in two of them; leave one cohort out")
    columns = Columns(
        stay=np.concatenate([part.stay_of_row() + start for part, start in zip(parts, first, strict=False)]),
        time_min=np.concatenate([part.time_min for part in parts]),
        channel=np.concatenate([_positions(part.channels, channels)[part.channel] for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )
    notes = NoteColumns(
        stay=np.concatenate([part.stay_of_note() + start for part, start in zip(parts, first, strict=False)]),
        time_min=np.concatenate([part.note_time_min for part in parts]),
        kind=[kind for part in parts for kind in part.note_kind],
        text=[text for part in parts for text in part.note_text],
    )
    stays, _ = build_stays(
        stay_id=stay_id,
        end_min=np.concatenate([part.end_min for part in parts]),
        columns=columns,
        channels=channels,
        static=np.concatenate([_static(part, statics) for part in parts]),
        static_names=statics,
        notes=notes,
    )
    return stays


def _positions(names: Sequence[str], within: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    position = {name: i for i, name in enumerate(within)}
    return np.array([position[name] for name in names], dtype=np.int16)


def _static(part: Stays, names: Sequence[str]) -> Floats:
    static = np.full((len(part), len(names)), np.nan)
    static[:, _positions(part.static_names, names)] = part.static
    return static


def united_outcomes(parts: Sequence[Outcomes], *, stays: Sequence[int]) -> Outcomes:
    """The outcomes of all parts; `stays` are the parts' numbers of stays."""
    first = np.cumsum([0, *stays])
    names = tuple(sorted({name for part in parts for name in part.names}))
    return Outcomes(
        names=names,
        stay=np.concatenate([part.stay + start for part, start in zip(parts, first, strict=False)]),
        code=np.concatenate([_positions(part.names, names)[part.code] for part in parts]),
        time_min=np.concatenate([part.time_min for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )
