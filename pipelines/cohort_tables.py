"""Stays, patients and outcomes in, Arrow tables out; and back.

observations: stay, time_min, channel, value. stays: stay_id, patient_id, end_min and static columns.
outcomes: stay, outcome, time_min, value. notes: stay, time_min, kind, text. `stay`, `channel` and `outcome`
are indices: of a row of stays, of the header's channels and of its outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.stay import Stays
from pipelines.arrow import numbers_from_arrow, numbers_to_arrow, texts_to_arrow
from pipelines.outcomes import Outcomes

STATIC_PREFIX = "static."  # a static variable may be called like another column


def tables_of(stays: Stays, patient_id: Sequence[str], outcomes: Outcomes) -> dict[str, pa.Table]:
    """The four tables of a cohort, by name."""
    static = {STATIC_PREFIX + name: stays.static[:, i] for i, name in enumerate(stays.static_names)}
    observations = {
        "stay": stays.stay_of_row().astype(np.int32),
        "time_min": stays.time_min,
        "channel": stays.channel,
        "value": stays.value,
    }
    facts = {
        "stay_id": texts_to_arrow(stays.stay_id),
        "patient_id": texts_to_arrow(patient_id),
        "end_min": stays.end_min,
        **static,
    }
    notes = {
        "stay": stays.stay_of_note(),
        "time_min": stays.note_time_min,
        "kind": texts_to_arrow(stays.note_kind),
        "text": texts_to_arrow(stays.note_text),
    }
    known = {
        "stay": outcomes.stay,
        "outcome": outcomes.code,
        "time_min": outcomes.time_min,
        "value": outcomes.value,
    }
    tables = {"observations": observations, "stays": facts, "outcomes": known, "notes": notes}
    return {name: pa.table({n: _to_arrow(c) for n, c in columns.items()}) for name, columns in tables.items()}


def _to_arrow(column: pa.Array | NDArray[Any]) -> pa.Array:
    return numbers_to_arrow(column) if isinstance(column, np.ndarray) else column


def stays_of(tables: Mapping[str, pa.Table], *, channels: Sequence[str], statics: Sequence[str]) -> Stays:
    """The stays of a cohort's tables.

    Raises:
        KeyError: if a column is missing.
        DataError: if the columns do not fit each other.
    """
    rows, facts, notes = tables["observations"], tables["stays"], tables["notes"]
    stay_id = tuple(facts["stay_id"].to_pylist())
    static = [numbers_from_arrow(facts[STATIC_PREFIX + name]) for name in statics]
    edges = np.arange(len(stay_id) + 1)
    return Stays(
        stay_id=stay_id,
        end_min=numbers_from_arrow(facts["end_min"]),
        offsets=np.searchsorted(numbers_from_arrow(rows["stay"]), edges).astype(np.int64),
        time_min=numbers_from_arrow(rows["time_min"]),
        channel=numbers_from_arrow(rows["channel"]),
        value=numbers_from_arrow(rows["value"]),
        channels=tuple(channels),
        static=np.stack(static, axis=1) if static else np.zeros((len(stay_id), 0)),
        static_names=tuple(statics),
        note_offsets=np.searchsorted(numbers_from_arrow(notes["stay"]), edges).astype(np.int64),
        note_time_min=numbers_from_arrow(notes["time_min"]),
        note_kind=tuple(notes["kind"].to_pylist()),
        note_text=tuple(notes["text"].to_pylist()),
    )


def patients_of(tables: Mapping[str, pa.Table]) -> tuple[str, ...]:
    """The patient of every stay."""
    return tuple(tables["stays"]["patient_id"].to_pylist())


def outcomes_of(tables: Mapping[str, pa.Table], *, names: Sequence[str]) -> Outcomes:
    """The outcomes of a cohort's tables; `names` are those that `outcome` indexes."""
    table = tables["outcomes"]
    return Outcomes(
        names=tuple(names),
        stay=numbers_from_arrow(table["stay"]),
        code=numbers_from_arrow(table["outcome"]),
        time_min=numbers_from_arrow(table["time_min"]),
        value=numbers_from_arrow(table["value"]),
    )
