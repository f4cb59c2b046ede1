"""A sheet of notes in, note columns out; an empty text is counted and left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.intake import NoteColumns, Rejection
from pipelines.prepare_report import Tally
from pipelines.sources.csv_observations import StayIndex, available_minutes
from pipelines.sources.csv_tables import Layout, Sheet
from pipelines.sources.csv_times import Clock

LAYOUT = Layout(
    name="notes",
    required=("stay_id", "kind", "text"),
    optional=("patient_id", "available_time", "available_time_h"),
    one_of=("time", "time_h"),
    repeated=("stay_id", "patient_id", "kind"),
)


def read_notes(sheet: Sheet, stays: StayIndex, clock: Clock, tally: Tally) -> NoteColumns:
    """Reads a sheet; a note enters at its charted time or, where it is given, when it became available.

    Raises:
        DataError: for an unknown stay, a time that is none, or an availability before the note.
    """
    stay = stays.of_rows(sheet)
    time_min, _ = clock.minutes(sheet, "time", stay, required=True)
    time_min = available_minutes(sheet, clock, stay, time_min)
    texts = [text or "" for text in sheet.column("text").cast(pa.string()).to_pylist()]
    kinds = [(kind or "").strip() for kind in sheet.column("kind").cast(pa.string()).to_pylist()]
    rows = np.array([i for i, text in enumerate(texts) if text.strip()], dtype=np.int64)
    tally.reject(Rejection.MISSING_CODE, len(texts) - len(rows), "notes")
    return NoteColumns(stay[rows], time_min[rows], [kinds[i] for i in rows], [texts[i] for i in rows])
