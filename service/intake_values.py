"""Sent values and units to canonical ones: observations as columns, static variables as numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.channels import StaticKind, StaticVariable
from models.intake import Rejection
from models.stay import Floats, Ints
from service.conversions import REFUSED, Conversions, units
from service.errors import Loc
from service.schema import StaticValue
from service.schema_answers import InputRef
from service.vocabulary import Vocabulary

MISSING = "missing"
UNKNOWN_CHANNEL = "must be a declared channel or loinc:<code>; GET /v1/model lists the model's"
OTHER_FACT = "must be another one for another observation"
Places = list[tuple[Loc, str]]
Items = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ValueRows:
    """Observations as columns, in the order in which they were sent.

    Args:
        channel: (m,) index into the vocabulary's channels.
        value: (m,) in the canonical unit; NaN where missing.
        unusual: (m,) bool, True = within the hard limits and outside the soft ones.
        reason: why an observation does not count, by its place; those that count are not named.
    """

    channel: NDArray[np.int16]
    value: Floats
    unusual: NDArray[np.bool_]
    reason: dict[int, str]


def read_values(
    observations: Items, minutes: Ints, vocabulary: Vocabulary, conversions: Conversions, places: Places
) -> ValueRows:
    """Converts every observation; what the request must not hold is added to `places`.

    Args:
        observations: as sent.
        minutes: (m,) minutes at which they became known.
        vocabulary: names that are understood.
        conversions: of the vocabulary.
        places: gains unknown channels, refused units and contradictory identifiers.
    """
    found = conversions.rows.get
    rows = np.array([found((item["channel"], item["unit"]), REFUSED) for item in observations], dtype=np.intp)
    if REFUSED in rows:
        _name_refused(observations, vocabulary, places)
        rows = np.maximum(rows, 0)
    # None becomes NaN.
    sent = np.array([item["value"] for item in observations], dtype=np.float64)
    value, within, unusual = conversions.canonical(rows, sent)
    reason = {
        i: MISSING if observations[i]["value"] is None else str(Rejection.OUTSIDE_HARD_LIMITS)
        for i in np.flatnonzero(~within).tolist()
    }
    channel = conversions.channel[rows]
    _mark_repeats(minutes, channel, value, reason)
    _check_identifiers(observations, minutes, channel, places)
    return ValueRows(channel, value, unusual, reason)


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


def _name_refused(observations: Items, vocabulary: Vocabulary, places: Places) -> None:
    """Names channels that nobody declares, and the first of each channel with a unit that it does not accept."""
    refused: set[tuple[int, str]] = set()
    for i, item in enumerate(observations):
        index, unit = vocabulary.channel_index.get(item["channel"]), item["unit"]
        if index is None:
            places.append((("observations", i, "channel"), UNKNOWN_CHANNEL))
        elif unit not in units(vocabulary, index) and (index, unit) not in refused:
            refused.add((index, unit))
            expected = f"must be {' or '.join(units(vocabulary, index))} for {vocabulary.channels[index].name}"
            places.append((("observations", i, "unit"), expected))


def _mark_repeats(minutes: Ints, channel: NDArray[np.int16], value: Floats, reason: dict[int, str]) -> None:
    """Rejects what says the same again."""
    columns = minutes.tolist(), channel.tolist(), value.tolist()
    if len(set(zip(*columns, strict=True))) == len(minutes):
        return
    facts = list(zip(*columns, strict=True))
    said: set[tuple[int, int, float]] = set()
    for i, fact in enumerate(facts):
        if fact in said and i not in reason:
            reason[i] = str(Rejection.DUPLICATE)
        said.add(fact)


def _check_identifiers(observations: Items, minutes: Ints, channel: NDArray[np.int16], places: Places) -> None:
    """Refuses one identifier for two different facts."""
    if not any("observation_id" in item for item in observations):
        return
    by_identifier: dict[str, tuple[int, int, float | None, str]] = {}
    for i, item in enumerate(observations):
        identifier = item.get("observation_id")
        if identifier is not None:
            said = (int(minutes[i]), int(channel[i]), item["value"], item["unit"])
            if by_identifier.setdefault(identifier, said) != said:
                places.append((("observations", i, "observation_id"), OTHER_FACT))


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
    conversion = variable.conversion(given.unit)
    if conversion is None:
        accepted = " or ".join((variable.unit, *variable.accepts))
        places.append(((*where, "unit"), f"must be {accepted} for {variable.name}"))
        return None
    # A sender may well send 1e308: its conversion overflows, and infinity lies outside any limits.
    value = given.value * conversion.factor + conversion.offset
    low, high = variable.hard
    return value if low <= value <= high else math.nan
