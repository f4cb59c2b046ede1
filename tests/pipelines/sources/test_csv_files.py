from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError, UnitError
from pipelines.cohort import Cohort
from pipelines.sources.csv_files import read

OBSERVATIONS = """stay_id,patient_id,time,channel,value,unit
s1,p1,2024-05-01T08:30:00+09:00,heart_rate,80,/min
s1,p1,2024-05-01T09:10:59+09:00,temperature,98.6,[degF]
s2,p2,2024-05-02T00:00:00Z,heart_rate,95,{beats}/min
s2,p2,2024-05-02T03:00:00Z,glucose,5.55,mmol/L
"""
STAYS = """stay_id,patient_id,admission,discharge,age,sex
s1,p1,2024-05-01T08:00:00+09:00,2024-05-03T08:00:00+09:00,71,female
s2,p2,2024-05-01T22:00:00Z,,58,male
"""
OUTCOMES = """stay_id,outcome,time,value
s1,in_hospital_death,,0
s2,in_hospital_death,2024-05-02T04:00:00Z,1
"""
TIME_H = "stay_id,time_h,channel,value,unit\n"
STAYS_H = "stay_id,patient_id,discharge_h\ns1,p1,48\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def mapped(folder: Path, text: str) -> Cohort:
    path = folder / "map.toml"
    path.write_text(text, encoding="utf-8")
    return read([folder], mapping=path)


def hourly(tmp_path: Path, rows: str, mapping: str = "", **files: str) -> Cohort:
    """A cohort of one stay of 48 h whose observations are these rows."""
    write(tmp_path, stays=files.pop("stays", STAYS_H), observations=TIME_H + rows, **files)
    return mapped(tmp_path, mapping)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, observations=OBSERVATIONS, stays=STAYS, outcomes=OUTCOMES)


def test_three_files_become_a_cohort_in_canonical_units(folder):
    cohort = read([folder])
    stays = cohort.stays
    assert stays.stay_id == ("s1", "s2")
    assert cohort.patient_id == ("p1", "p2")
    assert stays.channels == ("heart_rate", "temperature", "glucose")
    assert stays.time_min.tolist() == [30, 70, 120, 300]
    np.testing.assert_allclose(stays.value, [80.0, 37.0, 95.0, 100.0])
    assert stays.static_names == ("age", "sex")
    assert stays.static.tolist() == [[71.0, 0.0], [58.0, 1.0]]


def test_a_missing_discharge_is_the_last_observation(folder):
    assert read([folder]).stays.end_min.tolist() == [2880, 300]


def test_a_missing_discharge_is_the_last_note_where_it_is_later(folder):
    write(folder, notes="stay_id,time,kind,text\ns2,2024-05-02T05:00:00Z,nursing,Sleeps.\n")
    assert read([folder]).stays.end_min.tolist() == [2880, 420]


def test_a_stay_without_observation_and_discharge_ends_at_admission(tmp_path):
    cohort = hourly(tmp_path, "", stays="stay_id,patient_id,discharge_h\ns1,p1,\n")
    assert (cohort.stays.end_min.tolist(), len(cohort.stays), cohort.channels) == ([0], 1, ())


def test_outcomes_keep_their_values_and_times(folder):
    rows = read([folder]).outcome_rows
    assert rows.value.tolist() == [0.0, 1.0]
    assert np.isnan(rows.time_min[0])
    assert rows.time_min[1] == 360


def test_stays_without_a_row_of_an_event_did_not_have_it(folder):
    write(folder, outcomes="stay_id,outcome,time\ns2,sepsis,2024-05-02T01:00:00Z\n")
    assert read([folder]).outcome_rows.value.tolist() == [0.0, 1.0]


def test_stays_without_a_row_of_an_event_are_unknown_where_the_mapping_says_so(folder):
    write(folder, outcomes="stay_id,outcome,time\ns2,sepsis,2024-05-02T01:00:00Z\n")
    rows = mapped(folder, "[outcomes.sepsis]\nabsent = 'unknown'\n").outcome_rows
    assert (rows.stay.tolist(), rows.value.tolist()) == ([1], [1.0])


def test_words_of_an_outcome_become_numbers(folder):
    write(folder, outcomes="stay_id,outcome,value\ns1,fate,alive\ns2,fate,2\n")
    rows = mapped(folder, "[outcomes.fate.values]\nalive = 0\n2 = 1\n").outcome_rows
    assert rows.value.tolist() == [0.0, 1.0]


def test_an_outcome_that_is_no_number_is_refused_with_its_line(folder):
    write(folder, outcomes="stay_id,outcome,value\ns1,fate,0\ns2,fate,secretword\n")
    with pytest.raises(DataError, match=r"value must be a number.*outcomes\.csv, line 3") as caught:
        read([folder])
    assert "secretword" not in str(caught.value)


def test_an_outcome_given_twice_differently_is_refused_with_both_lines(folder):
    write(folder, outcomes="stay_id,outcome,value\ns1,fate,0\ns2,fate,0\ns1,fate,1\n")
    with pytest.raises(DataError, match=r"line 2 in outcomes.csv, line 4"):
        read([folder])


def test_an_outcome_given_twice_alike_counts_once(folder):
    write(folder, outcomes="stay_id,outcome,value\ns1,fate,0\ns1,fate,0\ns2,fate,1\n")
    assert read([folder]).report.outcomes["fate"].labelled == 2


def test_the_mapping_translates_names_units_columns_and_categories(tmp_path):
    write(
        tmp_path,
        observations="ENC,T,NAME,V,U\ne1,2024/5/1 8:30,HR,80,bpm\ne1,2024/5/1 9:00,BT,36.5,C\ne1,2024/5/1 9:00,XX,1,\n",
        stays="ENC,PAT,IN,OUT,SEX,H\ne1,p,2024/5/1 8:00,2024/5/2 8:00,F,1.62\n",
    )
    cohort = mapped(
        tmp_path,
        """
timezone = "Asia/Tokyo"
time_format = "%Y/%m/%d %H:%M"
source = "our hospital"
licence = "internal"
[columns.observations]
stay_id = "ENC"
time = "T"
channel = "NAME"
value = "V"
unit = "U"
[columns.stays]
stay_id = "ENC"
patient_id = "PAT"
admission = "IN"
discharge = "OUT"
sex = "SEX"
height = "H"
[channels]
HR = "heart_rate"
BT = "temperature"
[units]
bpm = "/min"
C = "Cel"
[static_units]
height = "m"
[categories.sex]
F = "female"
[ignore]
channels = ["XX"]
""",
    )
    assert cohort.stays.time_min.tolist() == [30, 60]
    assert cohort.stays.value.tolist() == [80.0, 36.5]
    np.testing.assert_allclose(cohort.stays.static, [[0.0, 162.0]])
    assert (cohort.source, cohort.licence) == ("our hospital", "internal")
    assert cohort.report.rejected_by_channel["XX"] == {"ignored": 1}


def test_a_declared_channel_is_read_with_its_conversions(tmp_path):
    cohort = hourly(
        tmp_path,
        "s1,1,procalcitonin,2,ug/L\ns1,2,procalcitonin,3000,ng/L\ns1,3,75241-0,1,ug/L\n",
        """
[declare.procalcitonin]
unit = "ug/L"
hard = [0, 1000]
soft = [0, 100]
loinc = ["75241-0"]
accepts = { "ng/L" = { factor = 0.001 } }
""",
    )
    assert cohort.stays.value.tolist() == [2.0, 3.0, 1.0]
    assert cohort.channels[0].name == "procalcitonin"


def test_a_declared_static_variable_is_read(tmp_path):
    cohort = hourly(
        tmp_path,
        "",
        '[declare_static.smoker]\nkind = "categorical"\ncategories = ["no", "yes"]\n',
        stays="stay_id,patient_id,discharge_h,smoker\ns1,p1,4,yes\ns2,p2,4,\n",
    )
    assert cohort.stays.static[0].tolist() == [1.0]
    assert np.isnan(cohort.stays.static[1, 0])
    assert cohort.report.rejected_by_channel["smoker"] == {"missing_code": 1}


def test_a_loinc_code_names_its_channel(tmp_path):
    assert hourly(tmp_path, "s1,1,8867-4,80,/min\n").stays.channels == ("heart_rate",)


def test_unknown_channel_names_are_refused_all_at_once_with_their_first_lines(tmp_path):
    rows = "s1,1,heart_rate,80,/min\ns1,1,PULSE,80,/min\ns1,2,PULSE,81,/min\ns1,2,BP,120,mmHg\n"
    with pytest.raises(DataError, match=r"'PULSE' \(line 3\), 'BP' \(line 5\) in observations.csv; map it under"):
        hourly(tmp_path, rows)


def test_unknown_units_are_refused_all_at_once_with_their_first_lines(tmp_path):
    rows = "s1,1,heart_rate,80,bpm\ns1,1,temperature,36,\ns1,2,temperature,36,C\n"
    with pytest.raises(UnitError, match=r"'bpm' of heart_rate \(line 2\), none of temperature \(line 3\), 'C' of"):
        hourly(tmp_path, rows)


def test_what_may_be_a_value_in_the_wrong_column_is_not_shown(tmp_path):
    rows = f"s1,1,77.25,80,/min\ns1,1,2024-05-01T08:00:00Z,80,/min\ns1,1,{'a long sentence of a note ' * 3},80,/min\n"
    with pytest.raises(
        DataError, match=r"got a number, time or text \(line 2\), a number, time or text \(line 3\)"
    ) as caught:
        hourly(tmp_path, rows)
    assert not any(cell in str(caught.value) for cell in ("77.25", "2024", "sentence"))


def test_nothing_is_guessed_from_magnitude(tmp_path):
    cohort = hourly(tmp_path, "s1,1,fio2,0.4,%\ns1,2,fio2,0.4,1\ns1,3,temperature,98.6,Cel\n")
    assert cohort.stays.value.tolist() == [40.0]
    assert cohort.report.rejected_by_channel == {
        "fio2": {"outside_hard_limits": 1},
        "temperature": {"outside_hard_limits": 1},
    }


def test_a_channel_unit_stands_in_for_a_missing_unit_column(tmp_path):
    write(tmp_path, stays=STAYS_H, observations="stay_id,time_h,channel,value\ns1,1,heart_rate,80\n")
    assert mapped(tmp_path, '[channel_units]\nheart_rate = "/min"\n').stays.value.tolist() == [80.0]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "missing_code"),
        ("NaN", "not_a_number"),
        ("inf", "not_a_number"),
        ("<0.3", "not_a_number"),
        ("-1", "missing_code"),
    ],
)
def test_a_value_that_is_no_number_is_counted_by_channel(tmp_path, cell, reason):
    cohort = hourly(tmp_path, f"s1,1,lactate,{cell},mmol/L\ns1,2,lactate,+2,mmol/L\n", 'missing = ["-1"]\n')
    assert cohort.stays.value.tolist() == [2.0]
    assert cohort.report.rejected_by_channel == {"lactate": {reason: 1}}


def test_decimal_commas_are_refused_until_the_mapping_says_so(tmp_path):
    rows = 's1,1,lactate,"2,5",mmol/L\n'
    with pytest.raises(DataError, match=r"decimal point, got a comma in observations\.csv, line 2; set decimal"):
        hourly(tmp_path, rows)
    text = "stay_id;time_h;channel;value;unit\ns1;1,5;lactate;2,5;mmol/L\n"
    write(tmp_path, observations=text, stays="stay_id;patient_id;discharge_h\ns1;p1;48\n")
    cohort = mapped(tmp_path, 'decimal = ","\ndelimiter = ";"\n')
    assert (cohort.stays.value.tolist(), cohort.stays.time_min.tolist()) == ([2.5], [90])
