"""The ICU demo: when things became known, who is in the cohort, and what a row of text becomes."""

import gzip
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import DataError, UsageError
from pipelines.sources.icu_demo import COLUMNS, OUTCOME, read
from pipelines.sources.icu_demo_patients import _COLUMNS as PATIENT
from pipelines.sources.icu_demo_text import TABLES, line_of

FORM = "notes/Progress Notes/Physical Exam/Physical Exam"
WHO = {"uniquepid": "p", "hospitalid": "59", "gender": "Female", "age": "87", "unittype": "MICU"}
STAYED = {"unitdischargeoffset": "3000", "hospitaldischargeoffset": "4000", "hospitaldischargestatus": "Alive"}
DIED = STAYED | {"hospitaldischargestatus": "Expired", "hospitaldischargeoffset": "3500"}


def table(folder: Path, name: str, columns: list[str], rows: list[dict[str, object]]) -> None:
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
    (folder / f"{name}.csv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def demo(
    folder: Path,
    patients: dict[str, dict[str, str]],
    hourly: list[tuple[str, int, dict[str, float]]] | None = None,
    **text: list[dict[str, object]],
) -> Path:
    """A small folder; `hourly` holds (stay, hour, values), one hour of every patient where left out."""
    (folder / "eicu").mkdir(parents=True)
    (folder / "yaib" / "los").mkdir(parents=True)
    table(
        folder / "eicu", "patient", list(PATIENT), [{"patientunitstayid": s, **WHO, **p} for s, p in patients.items()]
    )
    for one in TABLES:
        columns = ["patientunitstayid", *one.offsets, one.path, *([one.value] if one.value else [])]
        table(folder / "eicu", one.name, columns, text.get(one.name, []))
    rows = [(s, 0, {"hr": 80.0}) for s in patients] if hourly is None else hourly
    columns = {"stay_id": pa.array([int(s) for s, _, _ in rows], pa.int64())}
    columns["time"] = pa.array([timedelta(hours=h) for _, h, _ in rows], pa.duration("ns"))
    columns |= {name: pa.array([values.get(name) for _, _, values in rows], pa.float64()) for name in COLUMNS}
    pq.write_table(pa.table(columns), folder / "yaib" / "los" / "dyn.parquet")
    return folder


def test_an_hours_values_are_known_at_its_end_and_later_ones_are_not_there(tmp_path):
    hourly = [("7", 0, {"hr": 80.0, "temp": 37.0}), ("7", 23, {"hr": 90.0}), ("7", 24, {"hr": 99.0})]
    cohort = read([demo(tmp_path, {"7": STAYED}, hourly)])
    stays = cohort.stays
    columns = zip(stays.time_min, stays.channel, stays.value, strict=True)
    told = [(int(t), stays.channels[c], float(v)) for t, c, v in columns]
    assert told == [(60, "heart_rate", 80.0), (60, "temperature", 37.0), (1440, "heart_rate", 90.0)]
    assert stays.end_min.tolist() == [1440]
    assert cohort.report.rejected == {"after_end": 1}


def test_a_row_of_text_counts_from_when_it_was_entered(tmp_path):
    path = "notes/Progress Notes/Past History/Organ Systems/Pulmonary/Asthma/asthma"
    rows = [
        {"patientunitstayid": 7, "pasthistoryoffset": 5, "pasthistoryenteredoffset": 90, "pasthistorypath": path},
        {"patientunitstayid": 7, "pasthistoryoffset": 1400, "pasthistoryenteredoffset": 1441, "pasthistorypath": path},
        {"patientunitstayid": 7, "pasthistoryoffset": 5, "pasthistorypath": path},
        {"patientunitstayid": 8, "pasthistoryoffset": 5, "pasthistoryenteredoffset": 5, "pasthistorypath": path},
    ]
    cohort = read([demo(tmp_path, {"7": STAYED}, pasthistory=rows)])
    assert cohort.stays.note_time_min.tolist() == [90]
    assert cohort.stays.note_text == ("Pulmonary Asthma: asthma",)
    assert cohort.stays.note_kind == ("pasthistory",)
    assert cohort.report.rejected == {"after_end": 1, "missing_code": 1, "unknown_stay": 1}


def test_what_one_table_says_in_one_minute_is_one_note_and_history_is_kept(tmp_path):
    rows = [
        {"patientunitstayid": 7, "treatmentoffset": offset, "treatmentstring": text}
        for offset, text in [
            (30, "renal|dialysis"),
            (30, "pulmonary|oxygen"),
            (-20, "renal|dialysis"),
            (30, "renal|dialysis"),
        ]
    ]
    stays = read([demo(tmp_path, {"7": STAYED}, treatment=rows)]).stays
    assert stays.note_time_min.tolist() == [-20, 30]
    assert stays.note_text == ("renal: dialysis", "renal: dialysis\npulmonary: oxygen")


def test_the_cohort_holds_who_was_still_in_the_unit_and_whose_end_is_known(tmp_path):
    patients = {
        "9": STAYED,
        "10": DIED,
        "11": STAYED | {"unitdischargeoffset": "1439"},
        "12": STAYED | {"hospitaldischargestatus": ""},
    }
    cohort = read([demo(tmp_path, patients)])
    assert cohort.stays.stay_id == ("9", "10")
    outcome = cohort.outcomes
    assert outcome["outcome"].unique().tolist() == [OUTCOME]
    assert outcome["value"].tolist() == [0.0, 1.0]
    assert outcome["time_min"].isna().tolist() == [True, False]
    assert outcome["time_min"].iloc[1] == 3500


def test_the_hour_of_judgement_is_an_option(tmp_path):
    folder = demo(tmp_path, {"7": STAYED | {"unitdischargeoffset": "700"}})
    assert read([folder], options={"hours": "6"}).stays.end_min.tolist() == [360]
    with pytest.raises(DataError, match="stays must last 24 h"):
        read([folder])


@pytest.mark.parametrize("options", [{"hours": "0"}, {"hours": "1.5"}, {"hours": "day"}, {"days": "1"}])
def test_other_options_are_refused(options, tmp_path):
    with pytest.raises(UsageError):
        read([demo(tmp_path, {"7": STAYED})], options=options)


def test_statics_hospitals_and_the_oldest(tmp_path):
    cohort = read(
        [
            demo(
                tmp_path,
                {
                    "7": STAYED | {"age": "> 89", "admissionheight": "0", "admissionweight": "70.5"},
                    "8": STAYED | {"hospitalid": "400", "gender": "", "unittype": "Ward"},
                },
            )
        ]
    )
    names = cohort.stays.static_names
    values = dict(zip(names, cohort.stays.static.T, strict=True))
    assert values["age"].tolist() == [90.0, 87.0]
    assert values["admission_weight"][0] == 70.5
    np.testing.assert_array_equal(values["height"], [np.nan, np.nan])
    np.testing.assert_array_equal(values["sex"], [0.0, np.nan])
    np.testing.assert_array_equal(values["unit_type"], [1.0, np.nan])
    assert values["hospital"].tolist() == [0.0, 1.0]
    assert cohort.statics[names.index("hospital")].categories == ("59", "400")
    assert cohort.report.rejected["unknown_category"] == 1


@pytest.mark.parametrize(
    ("kind", "path", "value", "line"),
    [
        ("physicalexam", f"{FORM}/Neurologic/GCS/Motor Score/6", "6", "Neurologic GCS Motor Score: 6"),
        ("physicalexam", f"{FORM}/Weight (kg)/Admission", "46.5", "Weight (kg) Admission: 46.5"),
        ("note", "notes/Progress Notes/Drugs / Other/Allergies/No", "No", "Drugs / Other Allergies: No"),
        (
            "pasthistory",
            "notes/Past History/Options/No Health Problems",
            "NoHealthProblems",
            "Options: No Health Problems",
        ),
        ("nurseassessment", "flowsheet|Nursing Assessment|Neurologic|LOC", "normal", "Neurologic LOC: normal"),
        ("diagnosis", "pulmonary|respiratory failure", "", "pulmonary: respiratory failure"),
        ("treatment", "oncology", "", "oncology"),
        ("note", "notes/Progress Notes", "", ""),
    ],
)
def test_a_row_becomes_a_line_with_its_heading(kind, path, value, line):
    assert line_of(next(one for one in TABLES if one.name == kind), path, value) == line


def test_missing_and_damaged_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="must hold a folder eicu"):
        read([tmp_path])
    folder = demo(tmp_path / "demo", {"7": STAYED})
    notes = folder / "eicu" / "note.csv.gz"
    notes.write_bytes(notes.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"note\.csv\.gz must be a whole CSV file"):
        read([folder])
    notes.unlink()
    with pytest.raises(DataError, match="must hold the table note"):
        read([folder])
    table(folder / "eicu", "note", ["patientunitstayid"], [])
    with pytest.raises(DataError, match="must have the columns"):
        read([folder])
    (folder / "yaib" / "los" / "dyn.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="hourly values"):
        read([folder])


def test_a_stay_that_stands_twice_is_refused(tmp_path):
    folder = demo(tmp_path, {"7": STAYED})
    table(folder / "eicu", "patient", list(PATIENT), [{"patientunitstayid": 7, **WHO, **STAYED}] * 2)
    with pytest.raises(DataError, match="must hold every stay once"):
        read([folder])


def test_one_folder_is_read(tmp_path):
    with pytest.raises(UsageError, match="must be one folder"):
        read([tmp_path, tmp_path])
