"""Stays, patients and outcomes of a source in, a verified cohort out, in memory and on disk.

A cohort is columnar and carries its channels' declarations and a fingerprint, so that what a model was
trained on can be told from the model alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.channels import Channel, StaticVariable
from models.errors import ConfigError, DataError
from models.record import from_plain, to_plain
from models.stay import Stays
from pipelines.cohort_files import TABLES, read_header, read_table, write_folder
from pipelines.cohort_tables import outcomes_of, patients_of, stays_of, tables_of
from pipelines.cohort_union import united_declarations, united_outcomes, united_stays
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import PrepareReport, Tally, make_report

if TYPE_CHECKING:  # see pipelines/outcomes.py
    import pandas as pd

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Cohort:
    """Stays with their patients and outcomes.

    Args:
        stays: the stays' columns.
        patient_id: patient of every stay.
        outcome_rows: known outcomes.
        channels: declarations of `stays.channels`, in that order.
        statics: declarations of `stays.static_names`, in that order.
        source: where the data come from.
        licence: licence of the data.
        report: what was read and what was rejected.
    """

    stays: Stays
    patient_id: tuple[str, ...]
    outcome_rows: Outcomes
    channels: tuple[Channel, ...]
    statics: tuple[StaticVariable, ...]
    source: str
    licence: str
    report: PrepareReport

    def __post_init__(self) -> None:
        """Refuses parts that do not fit each other."""
        if len(self.patient_id) != len(self.stays):
            raise DataError(
                f"patient_id must be of length {len(self.stays)}, got {len(self.patient_id)}; give one a stay"
            )
        if tuple(c.name for c in self.channels) != self.stays.channels:
            raise DataError("channels must be declared in the stays' order, got other names; declare each of them")
        if tuple(s.name for s in self.statics) != self.stays.static_names:
            raise DataError("statics must be declared in the stays' order, got other names; declare each of them")
        rows = self.outcome_rows.stay
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.stays):
            raise DataError(f"outcomes must index {len(self.stays)} stays, got an index beyond them; leave them out")

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Known outcomes as a table: stay (index), outcome, time_min (Int64, NA where untimed), value."""
        return self.outcome_rows.frame()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over declarations and every column, whatever the encoding on disk."""
        digest = hashlib.sha256()
        stays, outcomes = self.stays, self.outcome_rows
        texts = [_declared(self.channels), _declared(self.statics), json.dumps(outcomes.names)]
        columns = (stays.stay_id, self.patient_id, stays.note_kind, stays.note_text)
        for text in [*texts, *map(json.dumps, columns)]:
            digest.update(text.encode("ascii") + b"\n")
        integers: list[NDArray[Any]] = [stays.end_min, stays.offsets, stays.time_min, stays.channel, stays.note_offsets]
        for column in [*integers, stays.note_time_min, outcomes.stay, outcomes.code]:
            digest.update(f"{len(column)} integers\n".encode("ascii"))
            digest.update(np.ascontiguousarray(column, dtype="<i8").data)
        for values in (stays.value, stays.static, outcomes.time_min, outcomes.value):
            # One NaN has many bit patterns; adding 0 makes minus zero zero.
            plain = np.where(np.isnan(values), np.nan, values + 0.0).ravel()
            digest.update(f"{len(plain)} numbers\n".encode("ascii"))
            digest.update(np.ascontiguousarray(plain, dtype="<f8").data)
        return "sha256:" + digest.hexdigest()


def _declared(declarations: Sequence[Channel | StaticVariable]) -> str:
    """Declarations as text; a limit of 0 is one of 0.0, as reading from disk makes it."""
    return json.dumps(json.loads(json.dumps(to_plain(declarations)), parse_int=float))


def make_cohort(
    *,
    stays: Stays,
    patient_id: Sequence[str],
    outcomes: Outcomes | pd.DataFrame,
    channels: Sequence[Channel],
    statics: Sequence[StaticVariable],
    source: str,
    licence: str,
    tally: Tally | None = None,
) -> Cohort:
    """A cohort with its report.

    Args:
        stays: the stays' columns.
        patient_id: patient of every stay.
        outcomes: known outcomes, as columns or as a table (see `Outcomes.from_frame`).
        channels: declarations of `stays.channels`.
        statics: declarations of `stays.static_names`.
        source: where the data come from.
        licence: licence of the data.
        tally: what the source rejected.

    Raises:
        DataError: if the parts do not fit each other.
    """
    rows = outcomes if isinstance(outcomes, Outcomes) else Outcomes.from_frame(outcomes)
    patients = tuple(patient_id)
    report = make_report(stays, patients, rows, tuple(channels), tally or Tally())
    return Cohort(stays, patients, rows, tuple(channels), tuple(statics), source, licence, report)


def write_cohort(cohort: Cohort, path: Path) -> None:
    """Writes a folder: all of it, or nothing. A cohort that is there already is replaced.

    Raises:
        DataError: if `path` holds anything but a cohort.
    """
    header = {
        "schema_version": SCHEMA_VERSION,
        "source": cohort.source,
        "licence": cohort.licence,
        "fingerprint": cohort.fingerprint,
        "channels": to_plain(cohort.channels),
        "statics": to_plain(cohort.statics),
        "outcomes": list(cohort.outcome_rows.names),
        "report": to_plain(cohort.report),
    }
    write_folder(tables_of(cohort.stays, cohort.patient_id, cohort.outcome_rows), header, path)


def read_cohort(path: Path) -> Cohort:
    """Reads what `write_cohort` wrote, and verifies its fingerprint.

    Raises:
        DataError: if the folder is no cohort, is damaged or was altered.
    """
    header = read_header(path, schema_version=SCHEMA_VERSION)
    tables = {name: read_table(path, name) for name in TABLES}
    try:
        cohort = _from_tables(tables, header)
        fingerprint = header["fingerprint"]
    except (KeyError, TypeError, ValueError, IndexError, ConfigError, pa.ArrowException) as error:
        raise DataError(
            f"cohort must hold columns that fit each other, got damaged ones in {path}; prepare it again"
        ) from error
    if cohort.fingerprint != fingerprint:
        raise DataError(f"cohort must hold what its fingerprint says, got altered content in {path}; prepare it again")
    return cohort


def _from_tables(tables: dict[str, pa.Table], header: dict[str, Any]) -> Cohort:
    channels = tuple(from_plain(Channel, c, where="channels") for c in header["channels"])
    statics = tuple(from_plain(StaticVariable, s, where="statics") for s in header["statics"])
    return Cohort(
        stays=stays_of(tables, channels=[c.name for c in channels], statics=[s.name for s in statics]),
        patient_id=patients_of(tables),
        outcome_rows=outcomes_of(tables, names=header["outcomes"]),
        channels=channels,
        statics=statics,
        source=str(header["source"]),
        licence=str(header["licence"]),
        report=from_plain(PrepareReport, header["report"], where="report"),
    )


def concat_cohorts(cohorts: Sequence[Cohort]) -> Cohort:
    """One cohort of all stays; a channel that a cohort does not have has no observation there.

    Raises:
        DataError: if there is no cohort, a stay occurs twice, or a channel or static variable is declared
            in two ways.
    """
    if not cohorts:
        raise DataError("cohorts must be at least one, got none; name a folder that `sequela prepare` wrote")
    if len(cohorts) == 1:
        return cohorts[0]
    channels = united_declarations([c for cohort in cohorts for c in cohort.channels])
    statics = united_declarations([s for cohort in cohorts for s in cohort.statics])
    tally = Tally()
    for cohort in cohorts:
        tally.add_report(cohort.report)
    return make_cohort(
        stays=united_stays(
            [cohort.stays for cohort in cohorts],
            channels=[c.name for c in channels],
            statics=[s.name for s in statics],
        ),
        patient_id=[p for cohort in cohorts for p in cohort.patient_id],
        outcomes=united_outcomes(
            [cohort.outcome_rows for cohort in cohorts], stays=[len(cohort.stays) for cohort in cohorts]
        ),
        channels=channels,
        statics=statics,
        source=" + ".join(dict.fromkeys(cohort.source for cohort in cohorts)),
        licence=" + ".join(dict.fromkeys(cohort.licence for cohort in cohorts)),
        tally=tally,
    )
