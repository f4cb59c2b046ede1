"""Stays, patients and outcomes in, Arrow tables out; and back.

observations: stay, time_min, channel, value. stays: stay_id, patient_id, end_min and static columns.
outcomes: stay, outcome, time_min, value. notes: stay, time_min, kind, text. `stay`, `channel` and `outcome`
are indices: of a row of stays, of the header's channels and of its outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from models.stay import Stays
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
        "stay_id": pa.array(stays.stay_id, pa.string()),
        "patient_id": pa.array(patient_id, pa.string()),
        "end_min": stays.end_min,
        **static,
    }
    notes = {
        "stay": stays.stay_of_note(),
        "time_min": stays.note_time_min,
        "kind": pa.array(stays.note_kind, pa.string()),
        "text": pa.array(stays.note_text, pa.large_string()),
    }
    known = {
        "stay": outcomes.stay,
        "outcome": outcomes.code,
        "time_min": outcomes.time_min,
        "value": outcomes.value,
    }
    tables = {"observations": observations, "stays": facts, "outcomes": known, "notes": notes}
    return {name: pa.table(columns) for name, columns in tables.items()}


def stays_of(tables: Mapping[str, pa.Table], *, channels: Sequence[str], statics: Sequence[str]) -> Stays:
    """The stays of a cohort's tables.

    Raises:
        KeyError: if a column is missing.
        DataError: if the columns do not fit each other.
    """
    rows, facts, notes = tables["observations"], tables["stays"], tables["notes"]
    stay_id = tuple(facts["stay_id"].to_pylist())
    static = [facts[STATIC_PREFIX + name].to_numpy() for name in statics]
    edges = np.arange(len(stay_id) + 1)
    return Stays(
        stay_id=stay_id,
        end_min=facts["end_min"].to_numpy(),
        offsets=np.searchsorted(rows["stay"].to_numpy(), edges).astype(np.int64),
        time_min=rows["time_min"].to_numpy(),
        channel=rows["channel"].to_numpy(),
        value=rows["value"].to_numpy(),
        channels=tuple(channels),
        static=np.stack(static, axis=1) if static else np.zeros((len(stay_id), 0)),
        static_names=tuple(statics),
        note_offsets=np.searchsorted(notes["stay"].to_numpy(), edges).astype(np.int64),
        note_time_min=notes["time_min"].to_numpy(),
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
        stay=table["stay"].to_numpy(),
        code=table["outcome"].to_numpy(),
        time_min=table["time_min"].to_numpy(),
        value=table["value"].to_numpy(),
    )
