"""The patient table of the eICU demo in; who the stays are, where they were, how and when they ended out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.channel_table import static_by_name
from models.channels import StaticKind, StaticVariable
from models.errors import DataError
from models.intake import Rejection, canonical_values
from models.stay import Floats, Ints
from pipelines.prepare_report import Tally
from pipelines.sources.icu_demo_tables import numbers, read_table, texts

_COLUMNS = (
    "patientunitstayid",
    "uniquepid",
    "hospitalid",
    "gender",
    "age",
    "admissionheight",
    "admissionweight",
    "unittype",
    "unitdischargeoffset",
    "hospitaldischargeoffset",
    "hospitaldischargestatus",
)
# The source writes every age above 89 as "> 89".
_OLDEST, _OLDEST_AGE = "> 89", 90.0
_SEX = {"Female": 0.0, "Male": 1.0}
_UNITS = {
    "Med-Surg ICU": "med_surg",
    "MICU": "medical",
    "SICU": "surgical",
    "Cardiac ICU": "cardiac",
    "CCU-CTICU": "ccu_cticu",
    "CSICU": "csicu",
    "CTICU": "cticu",
    "Neuro ICU": "neuro",
}
_STATUS = {"Alive": 0.0, "Expired": 1.0}


@dataclass(frozen=True)
class Patients:
    """Rows of the patient table.

    Args:
        stay_id: the source's identifier of every stay.
        patient_id: its patient.
        static: (n, s) values of `statics`; NaN where missing.
        statics: declarations; the hospital is one, with the source's numbers as categories.
        unit_end_min: (n,) minute at which the stay in the unit ended.
        died: (n,) 1: died in hospital, 0: left it alive; NaN where not known.
        hospital_end_min: (n,) minute of death or discharge from hospital; NaN where not known.
    """

    stay_id: tuple[str, ...]
    patient_id: tuple[str, ...]
    static: Floats
    statics: tuple[StaticVariable, ...]
    unit_end_min: Floats
    died: Floats
    hospital_end_min: Floats

    def select(self, rows: Ints) -> Patients:
        """These rows, in this order."""
        return Patients(
            tuple(self.stay_id[i] for i in rows),
            tuple(self.patient_id[i] for i in rows),
            self.static[rows],
            self.statics,
            self.unit_end_min[rows],
            self.died[rows],
            self.hospital_end_min[rows],
        )


def read_patients(folder: Path, tally: Tally) -> Patients:
    """Reads the table; values that no living patient has are counted and missing.

    Raises:
        DataError: if the table is missing or damaged, or holds a stay twice.
    """
    table = read_table(folder, "patient", _COLUMNS)
    stay_id = texts(table, "patientunitstayid")
    if len(set(stay_id)) != len(stay_id):
        raise DataError("patient must hold every stay once, got one twice; fetch the file again")
    hospitals = texts(table, "hospitalid")
    numbered = sorted(set(hospitals), key=lambda name: (len(name), name))
    unit = static_by_name("unit_type")
    statics = (
        *(static_by_name(name) for name in ("age", "sex", "height", "admission_weight")),
        unit,
        StaticVariable("hospital", StaticKind.CATEGORICAL, categories=tuple(numbered)),
    )
    ages = np.where(np.array(texts(table, "age")) == _OLDEST, _OLDEST_AGE, numbers(table, "age"))
    columns = [
        _numeric(statics[0], ages, tally),
        _category(statics[1], texts(table, "gender"), _SEX, tally),
        _numeric(statics[2], numbers(table, "admissionheight"), tally),
        _numeric(statics[3], numbers(table, "admissionweight"), tally),
        _category(
            unit, texts(table, "unittype"), {name: float(unit.categories.index(u)) for name, u in _UNITS.items()}, tally
        ),
        _category(statics[5], hospitals, {name: float(i) for i, name in enumerate(numbered)}, tally),
    ]
    return Patients(
        tuple(stay_id),
        tuple(texts(table, "uniquepid")),
        np.stack(columns, axis=1),
        statics,
        numbers(table, "unitdischargeoffset"),
        np.array([_STATUS.get(status, np.nan) for status in texts(table, "hospitaldischargestatus")]),
        numbers(table, "hospitaldischargeoffset"),
    )


def _numeric(variable: StaticVariable, given: Floats, tally: Tally) -> Floats:
    converted, within = canonical_values(variable, variable.unit, given)
    # Nobody is of no height, and 0 stands there for what was not measured.
    within &= (converted > 0) | (variable.name == "age")
    tally.reject(Rejection.OUTSIDE_HARD_LIMITS, int(np.sum(~within & ~np.isnan(given))), variable.name)
    return np.where(within, converted, np.nan)


def _category(variable: StaticVariable, given: list[str], numbers_of: dict[str, float], tally: Tally) -> Floats:
    tally.reject(
        Rejection.UNKNOWN_CATEGORY, sum(bool(name) and name not in numbers_of for name in given), variable.name
    )
    return np.array([numbers_of.get(name, np.nan) for name in given])
