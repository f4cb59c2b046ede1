"""The text tables of the eICU demo in, note columns out: what one table says of a stay in one minute is one note.

Every row is a line `heading: detail` of its note. A row counts from when it was entered, not from the time it speaks
of, and columns that tell the rest of the stay (`activeupondischarge`) are not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.intake import NoteColumns, Rejection
from pipelines.prepare_report import Tally
from pipelines.sources.icu_demo_tables import numbers, read_table, texts


@dataclass(frozen=True)
class TextTable:
    """One table of text.

    Args:
        name: of the file, and the kind of its notes.
        offsets: columns of minutes since admission; a row is known from the latest of them.
        path: column that says where in the form the row stands.
        value: column of what stands there; "" where the path's end says it.
        separator: pattern between the parts of a path.
        dropped: parts of every path that say nothing.
    """

    name: str
    offsets: tuple[str, ...]
    path: str
    value: str = ""
    separator: str = r"\|"
    dropped: tuple[str, ...] = ()


# A slash between spaces belongs to a part's own name.
_SLASH = r"(?<! )/(?! )"
_FORM = ("notes", "Progress Notes", "Procedure Notes", "Shared")
TABLES = (
    TextTable("note", ("noteoffset", "noteenteredoffset"), "notepath", "notetext", _SLASH, _FORM),
    TextTable(
        "physicalexam",
        ("physicalexamoffset",),
        "physicalexampath",
        "physicalexamtext",
        _SLASH,
        (*_FORM, "Physical Exam"),
    ),
    TextTable("diagnosis", ("diagnosisoffset",), "diagnosisstring"),
    TextTable("treatment", ("treatmentoffset",), "treatmentstring"),
    TextTable(
        "pasthistory",
        ("pasthistoryoffset", "pasthistoryenteredoffset"),
        "pasthistorypath",
        "pasthistoryvaluetext",
        _SLASH,
        (*_FORM, "Past History", "Organ Systems"),
    ),
    TextTable(
        "admissiondx",
        ("admitdxenteredoffset",),
        "admitdxpath",
        dropped=("admission diagnosis", "All Diagnosis", "Diagnosis", "Organ System"),
    ),
    TextTable(
        "nurseassessment",
        ("nurseassessoffset", "nurseassessentryoffset"),
        "cellattributepath",
        "cellattributevalue",
        dropped=("flowsheet", "Flowsheet Cell Labels", "Nursing Assessment"),
    ),
)


def read_notes(folder: Path, stays: Mapping[str, int], tally: Tally) -> NoteColumns:
    """Reads all text tables; rows without a time or text, and of other stays, are counted.

    Args:
        folder: of the tables.
        stays: index of every stay, by the source's identifier.
        tally: receives what was left out.

    Raises:
        DataError: if a table is missing or damaged.
    """
    stay: list[int] = []
    minute: list[int] = []
    kind: list[str] = []
    text: list[str] = []
    for table in TABLES:
        for (number, time), lines in sorted(_lines(folder, table, stays, tally).items()):
            stay.append(number)
            minute.append(time)
            kind.append(table.name)
            text.append("\n".join(dict.fromkeys(lines)))
    return NoteColumns(np.array(stay, dtype=np.int64), np.array(minute, dtype=np.int64), kind, text)


def line_of(table: TextTable, path: str, value: str) -> str:
    """A row as a line: where it stands, a colon, what stands there.

    Example:
        >>> line_of(TABLES[1], "notes/Progress Notes/Physical Exam/Physical Exam/Neurologic/GCS/Motor Score/6", "6")
        'Neurologic GCS Motor Score: 6'
    """
    parts = [part.strip().rstrip(":") for part in re.split(table.separator, path)]
    parts = [part for part in parts if part and part not in table.dropped]
    parts = [part for i, part in enumerate(parts) if not i or part != parts[i - 1]]
    # The form's own value repeats the path's end, but for its spaces; a number typed into it does not.
    if value and (not parts or _bare(value) != _bare(parts[-1])):
        parts.append(" ".join(value.split()))
    if not parts:
        return ""
    return f"{' '.join(parts[:-1])}: {parts[-1]}" if parts[1:] else parts[0]


def _bare(text: str) -> str:
    return re.sub(r"\W", "", text).casefold()


def _lines(folder: Path, table: TextTable, stays: Mapping[str, int], tally: Tally) -> dict[tuple[int, int], list[str]]:
    """Lines of every (stay, minute), in the order of the file."""
    columns = ["patientunitstayid", *table.offsets, table.path, *([table.value] if table.value else [])]
    rows = read_table(folder, table.name, columns)
    # A row with any of its times missing has no time: it may not enter earlier than it was known.
    known = np.max(np.stack([numbers(rows, column) for column in table.offsets]), axis=0)
    values = texts(rows, table.value) if table.value else [""] * len(rows)
    lines: dict[tuple[int, int], list[str]] = defaultdict(list)
    rejected = {Rejection.UNKNOWN_STAY: 0, Rejection.MISSING_CODE: 0}
    for name, time, path, value in zip(
        texts(rows, "patientunitstayid"), known.tolist(), texts(rows, table.path), values, strict=True
    ):
        line = line_of(table, path, value)
        if name not in stays:
            rejected[Rejection.UNKNOWN_STAY] += 1
        elif np.isnan(time) or not line:
            rejected[Rejection.MISSING_CODE] += 1
        else:
            lines[stays[name], int(np.ceil(time))].append(line)
    for reason, count in rejected.items():
        tally.reject(reason, count, table.name)
    return lines
