"""Sent values and units to canonical ones: observations as columns, static variables as numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.channels import Channel, StaticKind, StaticVariable
from models.errors import UnitError
from models.intake import Rejection, canonical_values, outside_soft_limits
from models.stay import Floats, Ints
from service.errors import Loc
from service.schema import ObservationIn, StaticValue
from service.schema_answers import InputRef
from service.vocabulary import Vocabulary

MISSING = "missing"
Places = list[tuple[Loc, str]]


@dataclass(frozen=True)
class ValueRows:
    """Observations as columns, in the order in which they were sent.

    Args:
        channel: (m,) index into the vocabulary's channels.
        value: (m,) in the canonical unit; NaN where missing.
        unusual: (m,) bool, True = outside the soft limits.
        reason: why an observation does not count, or None.
    """

    channel: NDArray[np.int16]
    value: Floats
    unusual: NDArray[np.bool_]
    reason: tuple[str | None, ...]


def read_values(
    observations: Sequence[ObservationIn], minutes: Ints, vocabulary: Vocabulary, places: Places
) -> ValueRows:
    """Converts every observation; what the request must not hold is added to `places`.

    Args:
        observations: as sent.
        minutes: (m,) minutes at which they became known.
        vocabulary: names that are understood.
        places: gains unknown channels, refused units and contradictory identifiers.
    """
    count = len(observations)
    channel = np.zeros(count, dtype=np.int16)
    value = np.full(count, np.nan)
    within = np.zeros(count, dtype=bool)
    for (index, unit), members in _by_channel_and_unit(observations, vocabulary, places).items():
        declared = vocabulary.channels[index]
        sent = [observations[i].value for i in members]
        raw = np.array([math.nan if v is None else v for v in sent], dtype=np.float64)
        channel[members] = index
        try:
            value[members], within[members] = _canonical(declared, unit, raw)
        except UnitError:
            places.append((("observations", members[0], "unit"), _expected_unit(declared)))
    reason: list[str | None] = [None] * count
    for i in np.flatnonzero(~within).tolist():
        reason[i] = MISSING if observations[i].value is None else str(Rejection.OUTSIDE_HARD_LIMITS)
    _mark_repeats(observations, minutes, channel, value, reason, places)
    unusual = outside_soft_limits(vocabulary.channels, channel, value)
    return ValueRows(channel, value, unusual, tuple(reason))


def read_statics(
    sent: Mapping[str, StaticValue | str | None], vocabulary: Vocabulary, places: Places
) -> tuple[dict[str, float], list[InputRef]]:
    """Static variables as numbers (a category as its index) by name, and those that do not count."""
    values: dict[str, float] = {}
    rejected: list[InputRef] = []
    for name, given in sent.items():
        index = vocabulary.static_index.get(name)
        if index is None:
            places.append((("static", "*"), "must be a declared static variable; GET /v1/model lists the model's"))
            continue
        variable = vocabulary.statics[index]
        missing = given is None or (isinstance(given, StaticValue) and given.value is None)
        value = None if missing else _static_number(variable, given, places)
        if value is None or math.isnan(value):
            reason = MISSING if missing else str(Rejection.OUTSIDE_HARD_LIMITS)
            rejected.append(InputRef(input="static", name=variable.name, reason=reason))
        else:
            values[variable.name] = value
    return values, rejected


def _by_channel_and_unit(
    observations: Sequence[ObservationIn], vocabulary: Vocabulary, places: Places
) -> dict[tuple[int, str], list[int]]:
    groups: dict[tuple[int, str], list[int]] = {}
    for i, item in enumerate(observations):
        index = vocabulary.channel_index.get(item.channel)
        if index is None:
            expected = "must be a declared channel or loinc:<code>; GET /v1/model lists the model's"
            places.append((("observations", i, "channel"), expected))
        else:
            groups.setdefault((index, item.unit), []).append(i)
    return groups


def _mark_repeats(
    observations: Sequence[ObservationIn],
    minutes: Ints,
    channel: NDArray[np.int16],
    value: Floats,
    reason: list[str | None],
    places: Places,
) -> None:
    """Rejects what says the same again, and refuses one identifier for two different facts."""
    facts: set[tuple[int, int, float]] = set()
    by_identifier: dict[str, tuple[int, int, float | None, str]] = {}
    for i, item in enumerate(observations):
        minute, index = int(minutes[i]), int(channel[i])
        if item.observation_id is not None:
            said = (minute, index, item.value, item.unit)
            if by_identifier.setdefault(item.observation_id, said) != said:
                expected = "must be another one for another observation"
                places.append((("observations", i, "observation_id"), expected))
        fact = (minute, index, float(value[i]))
        if reason[i] is None and fact in facts:
            reason[i] = str(Rejection.DUPLICATE)
        facts.add(fact)


def _static_number(variable: StaticVariable, given: StaticValue | str | None, places: Places) -> float | None:
    """The number of a static value; NaN if it lies outside the hard limits, None if it was refused."""
    where: Loc = ("static", variable.name)
    if variable.kind is StaticKind.CATEGORICAL:
        if isinstance(given, str) and given in variable.categories:
            return float(variable.categories.index(given))
        places.append((where, f"must be one of {', '.join(variable.categories)}"))
        return None
    if not isinstance(given, StaticValue) or given.value is None:
        places.append((where, 'must be a number with its unit, such as {"value": …, "unit": …}'))
        return None
    try:
        value, within = _canonical(variable, given.unit, np.array([given.value]))
    except UnitError:
        places.append(((*where, "unit"), _expected_unit(variable)))
        return None
    return float(value[0]) if within[0] else math.nan


def _canonical(declared: Channel | StaticVariable, unit: str, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    # A sender may well send 1e308: its conversion overflows, and infinity lies outside any limits.
    with np.errstate(over="ignore", invalid="ignore"):
        return canonical_values(declared, unit, values)


def _expected_unit(declared: Channel | StaticVariable) -> str:
    return f"must be {' or '.join((declared.unit, *declared.accepts))} for {declared.name}"
