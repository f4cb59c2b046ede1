"""The ICU demo in (hourly values as YAIB cuts them from the eICU demo, and that demo's own tables), a cohort out.

A stay is judged at `hours` after its admission to the unit, and is in the cohort if it was still there. An hour's
values are known at its end. Nothing that became known after that time, and nothing behind the end of the stay in the
unit, is in the cohort.

Source: Pollard et al. 2018, The eICU Collaborative Research Database; van de Water et al. 2024, Yet Another ICU
Benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.channel_table import channel_by_name
from models.errors import DataError, UsageError
from models.intake import Columns, Rejection, build_stays, canonical_columns
from pipelines.cohort import Cohort, make_cohort
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import Tally
from pipelines.sources.icu_demo_patients import Patients, read_patients
from pipelines.sources.icu_demo_tables import find_folder
from pipelines.sources.icu_demo_text import read_notes

SOURCE = "eICU Collaborative Research Database Demo, hourly as in YAIB"
LICENCE = "ODbL 1.0"
MINUTES_PER_HOUR = 60
HOURS = 24
OUTCOME = "in_hospital_death"

# YAIB's column, our channel and YAIB's unit.
COLUMNS = {
    "alb": ("albumin", "g/dL"),
    "alp": ("alp", "[IU]/L"),
    "alt": ("alt", "[IU]/L"),
    "ast": ("ast", "[IU]/L"),
    "be": ("base_excess", "meq/L"),
    "bicar": ("bicarbonate", "meq/L"),
    "bili": ("bilirubin_total", "mg/dL"),
    "bili_dir": ("bilirubin_direct", "mg/dL"),
    "bnd": ("bands", "%"),
    "bun": ("bun", "mg/dL"),
    "ca": ("calcium", "mg/dL"),
    "cai": ("calcium_ionised", "mmol/L"),
    "ck": ("ck", "[IU]/L"),
    "ckmb": ("ckmb", "ng/mL"),
    "cl": ("chloride", "meq/L"),
    "crea": ("creatinine", "mg/dL"),
    "crp": ("crp", "mg/L"),
    "dbp": ("dbp", "mm[Hg]"),
    "fgn": ("fibrinogen", "mg/dL"),
    "fio2": ("fio2", "%"),
    "glu": ("glucose", "mg/dL"),
    "hgb": ("hemoglobin", "g/dL"),
    "hr": ("heart_rate", "/min"),
    "inr_pt": ("inr", "{INR}"),
    "k": ("potassium", "meq/L"),
    "lact": ("lactate", "mmol/L"),
    "lymph": ("lymphocytes", "%"),
    "map": ("map", "mm[Hg]"),
    "mch": ("mch", "pg"),
    "mchc": ("mchc", "%"),
    "mcv": ("mcv", "fL"),
    "methb": ("methemoglobin", "%"),
    "mg": ("magnesium", "mg/dL"),
    "na": ("sodium", "meq/L"),
    "neut": ("neutrophils", "%"),
    "o2sat": ("spo2", "%"),
    "pco2": ("paco2", "mm[Hg]"),
    "ph": ("ph", "[pH]"),
    "phos": ("phosphate", "mg/dL"),
    "plt": ("platelets", "10*3/uL"),
    "po2": ("pao2", "mm[Hg]"),
    "ptt": ("ptt", "s"),
    "resp": ("respiratory_rate", "/min"),
    "sbp": ("sbp", "mm[Hg]"),
    "temp": ("temperature", "Cel"),
    "tnt": ("troponin_t", "ng/mL"),
    "urine": ("urine_output", "mL"),
    "wbc": ("wbc", "10*3/uL"),
}
CHANNELS = tuple(channel_by_name(name) for name, _ in COLUMNS.values())
UNITS = tuple(unit for _, unit in COLUMNS.values())


def read(paths: Sequence[Path], *, options: Mapping[str, str] | None = None) -> Cohort:
    """Reads the folder that holds `yaib/los` and `eicu`.

    Args:
        paths: that folder alone.
        options: `hours`, at which a stay is judged (24).

    Raises:
        UsageError: if there is another number of folders, or an option is unknown or wrong.
        DataError: if a table is missing or damaged.
    """
    if len(paths) != 1:
        raise UsageError(
            f"paths must be one folder for the source icu-demo, got {len(paths)}; name the one that holds both"
        )
    hours, tally = _hours(dict(options or {})), Tally()
    tables = find_folder(paths[0], "eicu")
    hourly = _hourly(find_folder(paths[0], "yaib") / "los" / "dyn.parquet")
    patients = _in_unit(read_patients(tables, tally), hourly, hours)
    number = {name: i for i, name in enumerate(patients.stay_id)}
    stays, rejected = build_stays(
        stay_id=patients.stay_id,
        end_min=np.full(len(number), hours * MINUTES_PER_HOUR),
        columns=_observations(hourly, number, tally),
        channels=[channel.name for channel in CHANNELS],
        static=patients.static,
        static_names=[variable.name for variable in patients.statics],
        notes=read_notes(tables, number, tally),
    )
    tally.rejected.update(rejected)
    died_min = np.where(patients.died == 1, patients.hospital_end_min, np.nan)
    return make_cohort(
        stays=stays,
        patient_id=patients.patient_id,
        outcomes=Outcomes.from_columns({OUTCOME: (patients.died, died_min)}),
        channels=CHANNELS,
        statics=patients.statics,
        source=SOURCE,
        licence=LICENCE,
        tally=tally,
    )


def _hours(options: dict[str, str]) -> int:
    text = options.pop("hours", str(HOURS))
    if options:
        raise UsageError(f"options must be hours alone for the source icu-demo, got {', '.join(options)}; drop them")
    if not text.isdecimal() or not 1 <= int(text) <= 168:
        raise UsageError("hours must be a whole number from 1 to 168, got another; YAIB keeps a week of a stay")
    return int(text)


def _hourly(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, columns=["stay_id", "time", *COLUMNS])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path} must be YAIB's table of hourly values with all its columns, got another; fetch it again"
        ) from error
    hour = pc.divide(pc.cast(table["time"], pa.int64()), _ticks(table["time"].type) * 3600)
    return table.set_column(1, "time", pc.cast(hour, pa.int64()))


def _ticks(kind: pa.DataType) -> int:
    """Ticks of a second."""
    if not pa.types.is_duration(kind):
        raise DataError(f"time must be a duration since admission, got {kind}; fetch the hourly values again")
    return {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]


def _in_unit(patients: Patients, hourly: pa.Table, hours: int) -> Patients:
    """Patients with hourly values who were still in the unit at this hour and whose outcome is known, by stay."""
    known = {str(stay) for stay in pc.unique(hourly["stay_id"]).to_pylist()}
    rows = [
        i
        for i, name in enumerate(patients.stay_id)
        if name in known and patients.unit_end_min[i] >= hours * MINUTES_PER_HOUR and not np.isnan(patients.died[i])
    ]
    if not rows:
        raise DataError(f"stays must last {hours} h at least for one to be judged there, got none; lower hours")
    order = sorted(rows, key=lambda i: (len(patients.stay_id[i]), patients.stay_id[i]))
    return patients.select(np.array(order, dtype=np.int64))


def _observations(hourly: pa.Table, number: Mapping[str, int], tally: Tally) -> Columns:
    stay = np.array([number.get(str(name), -1) for name in hourly["stay_id"].to_pylist()], dtype=np.int64)
    # An hour's row holds what was measured within it: all of it is known when the hour is over.
    known_min = (np.array(hourly["time"].to_pylist(), dtype=np.int64) + 1) * MINUTES_PER_HOUR
    grid = np.stack(
        [np.array(pc.fill_null(pc.cast(hourly[name], pa.float64()), np.nan).to_pylist()) for name in COLUMNS], axis=1
    )
    row, column = np.nonzero(~np.isnan(grid) & (stay >= 0)[:, None])
    channel = column.astype(np.int16)
    given = grid[row, column]
    value, within = canonical_columns(CHANNELS, UNITS, channel, given)
    tally.reject_each(Rejection.OUTSIDE_HARD_LIMITS, CHANNELS, channel[~within])
    row, channel, value = row[within], channel[within], value[within]
    return Columns(stay[row], known_min[row], channel, value)
