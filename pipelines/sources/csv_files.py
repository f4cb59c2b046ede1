"""A hospital's own files and their mapping in, a cohort out.

Four tables, each a CSV file (plain, gz, xz, bz2) or Parquet: observations, stays, outcomes and, if there are any,
notes. `docs/your-own-data.md` describes them. What a file does not say, the mapping says; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DataError, UsageError
from models.intake import Columns, NoteColumns, Rejection, build_stays
from models.stay import Ints
from pipelines.cohort import Cohort, make_cohort
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import Tally
from pipelines.sources import csv_notes, csv_observations, csv_outcomes, csv_stays
from pipelines.sources.csv_mapping import TABLES, HospitalMapping, load_mapping
from pipelines.sources.csv_tables import SUFFIXES, Layout, Sheet, read_sheet


def read(
    paths: Sequence[Path],
    *,
    outcomes: Path | None = None,
    mapping: Path | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Cohort:
    """Reads a hospital's files.

    Args:
        paths: the folder that holds the files, or none where `options` name them all.
        outcomes: the outcomes file, where it is not the folder's.
        mapping: the mapping file; without one, names and units must be ours already.
        options: files by table: observations, stays, outcomes, notes.
        progress: whether to show progress bars.

    Raises:
        ConfigError: if the mapping does not hold; UsageError: if an option does not.
        DataError: for everything in the files that cannot be read, with its file and line.
    """
    hospital = load_mapping(mapping)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    unknown = sorted(set(given) - set(TABLES))
    if unknown:
        raise UsageError(f"options must be among {', '.join(TABLES)}, got {', '.join(unknown)}; rename or drop them")
    if outcomes is not None:
        given["outcomes"] = outcomes
    files = _files(paths, {name: Path(value) for name, value in given.items()}, hospital)
    sheets = _sheets(files, hospital, progress=progress)
    return _cohort(sheets, hospital)


def _files(paths: Sequence[Path], given: dict[str, Path], mapping: HospitalMapping) -> dict[str, Path]:
    """The file of every table that there is.

    Raises:
        DataError: if observations or stays are missing, or a table has several files.
    """
    if len(paths) > 1:
        raise UsageError(f"paths must be one folder, got {len(paths)} paths; name single files by options")
    folder = paths[0] if paths else None
    if folder is not None and not folder.is_dir():
        raise DataError(f"path must be a folder with observations and stays, got {folder.name}, which is none")
    files = dict(given)
    for name in TABLES:
        if name not in files and folder is not None:
            found = _in_folder(folder, name, mapping)
            if found is not None:
                files[name] = found
    for name in ("observations", "stays"):
        if name not in files:
            raise DataError(
                f"{name} must be a file such as {name}.csv, got none; put it into the folder, or name it under [files]"
            )
    return files


def _in_folder(folder: Path, name: str, mapping: HospitalMapping) -> Path | None:
    if name in mapping.files:
        return folder / mapping.files[name]
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{name} must be one file, got {names}; name the right one in the mapping under [files]")
    return found[0] if found else None


def _sheets(files: dict[str, Path], mapping: HospitalMapping, *, progress: bool) -> dict[str, Sheet]:
    layouts: dict[str, Layout] = {
        "stays": csv_stays.LAYOUT,
        "observations": csv_observations.LAYOUT,
        "outcomes": csv_outcomes.LAYOUT,
        "notes": csv_notes.LAYOUT,
    }
    return {
        name: read_sheet(files[name], layout, mapping, progress=progress)
        for name, layout in layouts.items()
        if name in files
    }


def _cohort(sheets: dict[str, Sheet], mapping: HospitalMapping) -> Cohort:
    tally = Tally()
    table = csv_stays.read_stays(sheets["stays"], tally)
    observations = csv_observations.read_observations(sheets["observations"], table.index, table.clock, tally)
    notes = csv_notes.read_notes(sheets["notes"], table.index, table.clock, tally) if "notes" in sheets else None
    stays, dropped = build_stays(
        stay_id=list(table.index.position),
        end_min=_ends(table.end_min, table.ended, observations.columns, notes),
        columns=observations.columns,
        channels=[channel.name for channel in observations.channels],
        static=table.static,
        static_names=[variable.name for variable in table.statics],
        notes=notes,
    )
    for reason, count in dropped.items():
        tally.reject(Rejection(reason), count)
    outcomes = (
        csv_outcomes.read_outcomes(sheets["outcomes"], table.index, table.clock)
        if "outcomes" in sheets
        else Outcomes.from_columns({})
    )
    return make_cohort(
        stays=stays,
        patient_id=table.index.patient_id,
        outcomes=outcomes,
        channels=observations.channels,
        statics=table.statics,
        source=mapping.source,
        licence=mapping.licence,
        tally=tally,
    )


def _ends(
    end_min: Ints, ended: np.ndarray[Any, np.dtype[np.bool_]], columns: Columns, notes: NoteColumns | None
) -> Ints:
    """(stays,) the discharge or, where it is not known, the last observation or note; at least the admission."""
    last = np.zeros(len(end_min), dtype=np.int64)
    np.maximum.at(last, columns.stay, columns.time_min)
    if notes is not None:
        np.maximum.at(last, notes.stay, notes.time_min)
    return np.where(ended, end_min, last)
