"""Challenge 2019: hours, the shifted label, units, malformed files."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.stay import Stays
from pipelines.sources import text_rows
from pipelines.sources.challenge2019 import CHANNELS, FORMATS, read

COLUMNS = FORMATS[0].header
HEADER = "|".join(COLUMNS) + "\n"


def row(hour: float, label: float = 0, **values: object) -> str:
    fields = {"Age": 61, "Gender": 1, "HospAdmTime": -3.5, "ICULOS": hour, "SepsisLabel": label, **values}
    return "|".join(str(fields.get(name, "NaN")) for name in COLUMNS) + "\n"


def folder(path: Path, **files: str | bytes) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.psv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(stays: Stays, stay: int = 0) -> list[tuple[int, str, float]]:
    at = slice(stays.offsets[stay], stays.offsets[stay + 1])
    rows = zip(stays.time_min[at], stays.channel[at], stays.value[at], strict=True)
    return [(int(t), stays.channels[c], float(v)) for t, c, v in rows]


def test_a_row_is_stamped_at_the_start_of_its_hour_and_the_stay_ends_after_the_last(tmp_path):
    text = HEADER + row(1, HR=80, Temp=37.5) + row(2) + row(3, HR=90, FiO2=0.4)
    cohort = read([folder(tmp_path, p1=text)])
    assert rows_of(cohort.stays) == [
        (0, "heart_rate", 80.0),
        (0, "temperature", 37.5),
        (120, "heart_rate", 90.0),
        (120, "fio2", 40.0),
    ]
    assert cohort.stays.end_min.tolist() == [180]
    assert cohort.stays.stay_id == cohort.patient_id == ("p1",)
    assert cohort.channels == CHANNELS


def test_missing_repeated_and_unordered_hours_keep_their_times(tmp_path):
    text = HEADER + row(9, HR=90) + row(4, HR=70) + row(4, HR=60) + row(4, HR=70)
    cohort = read([folder(tmp_path, p1=text)])
    assert rows_of(cohort.stays) == [(180, "heart_rate", 60.0), (180, "heart_rate", 70.0), (480, "heart_rate", 90.0)]
    assert cohort.stays.end_min.tolist() == [540]
    assert cohort.report.rejected == {"duplicate": 1}


def test_the_onset_is_six_hours_after_the_first_label_and_may_be_censored(tmp_path):
    files = {
        "healthy": HEADER + row(1) + row(2),
        "septic": HEADER + "".join(row(h, h >= 4) for h in range(1, 14)).replace("True", "1").replace("False", "0"),
        "censored": HEADER + row(1) + row(2, 1),
        "unlabelled": HEADER + row(1, "NaN"),
    }
    cohort = read([folder(tmp_path, **files)])
    table = cohort.outcomes.assign(stay=[cohort.stays.stay_id[i] for i in cohort.outcomes["stay"]]).set_index("stay")
    assert table["value"].to_dict() == {"censored": 1.0, "healthy": 0.0, "septic": 1.0}
    assert table.loc["septic", "time_min"] == 10 * 60
    assert table.loc["censored", "time_min"] == 8 * 60 > cohort.stays.end_min[0]
    assert table["time_min"].isna().to_dict() == {"censored": False, "healthy": True, "septic": False}
    assert cohort.report.stays_without_outcome == 1


def test_a_set_without_labels_is_read_without_outcomes(tmp_path):
    text = "\n".join(line.rpartition("|")[0] for line in (HEADER + row(1, HR=80)).splitlines()) + "\n"
    cohort = read([folder(tmp_path, p1=text)])
    assert cohort.outcomes.empty
    assert rows_of(cohort.stays) == [(0, "heart_rate", 80.0)]


def test_static_values_are_the_first_given(tmp_path):
    files = {
        "p1": HEADER + row(1, Age="NaN", Unit1=1, Unit2=0) + row(2, Age=70) + row(3, Age=71),
        "p2": HEADER + row(1, Unit1=0, Unit2=1, Gender=0, HospAdmTime=2),
        "p3": HEADER + row(1, Age=200, Gender=3, HospAdmTime="NaN"),
    }
    cohort = read([folder(tmp_path, **files)])
    assert cohort.stays.static_names == ("age", "sex", "unit_2019", "hours_before_icu")
    np.testing.assert_array_equal(
        cohort.stays.static, [[70, 1, 0, 3.5], [61, 0, 1, -2], [np.nan, np.nan, np.nan, np.nan]]
    )
    assert cohort.report.rejected_by_channel == {"age": {"outside_hard_limits": 1}, "sex": {"unknown_category": 1}}


def test_outliers_are_rejected_and_a_base_excess_of_minus_one_is_a_value(tmp_path):
    text = HEADER + row(1, BaseExcess=-1, FiO2=4, HR="inf", Temp=31)
    cohort = read([folder(tmp_path, p1=text)])
    assert rows_of(cohort.stays) == [(0, "temperature", 31.0), (0, "base_excess", -1.0)]
    assert cohort.report.rejected_by_channel == {"fio2": {"outside_hard_limits": 1}, "heart_rate": {"not_a_number": 1}}
    assert cohort.report.flagged == 1


def test_a_file_with_a_header_alone_is_a_stay_without_observation(tmp_path):
    cohort = read([folder(tmp_path, p1=HEADER, p2=HEADER.rstrip("\n"), p3=HEADER + row(1, HR=80))])
    assert cohort.stays.offsets.tolist() == [0, 0, 0, 1]
    assert cohort.stays.end_min.tolist() == [0, 0, 60]
    assert cohort.report.stays_without_observation == 2
    alone = read([folder(tmp_path / "alone", p1=HEADER)])
    assert len(alone.stays) == 1


def test_stays_are_sorted_by_name_whatever_the_order_and_the_batches(tmp_path, monkeypatch):
    files = {f"p{n:03}": HEADER + row(1, HR=60 + n) for n in (30, 4, 17)}
    place = folder(tmp_path, **files)
    cohort = read([place])
    assert cohort.stays.stay_id == ("p004", "p017", "p030")
    monkeypatch.setattr(text_rows, "_BATCH_BYTES", 1)
    backwards = read([place / "p030.psv", place / "p017.psv", place / "p004.psv"])
    assert backwards.fingerprint == cohort.fingerprint


def test_one_name_twice_is_refused_with_both_files(tmp_path):
    text = HEADER + row(1)
    (tmp_path / "more").mkdir()
    folder(tmp_path / "more", p1=text)
    with pytest.raises(
        DataError, match=r"p1\.psv must be named unlike more/p1\.psv|more/p1\.psv must be named unlike p1"
    ):
        read([folder(tmp_path, p1=text)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HR|O2Sat\n80|97\n", r"p1\.psv, line 1 must be the header HR\|O2Sat\|Temp"),
        ("", r"p1\.psv, line 1 must be the header"),
        (HEADER + row(1) + row(2, HR="fast"), r"p1\.psv, line 3 must be a row whose HR is a number"),
        (HEADER + row(1) + row(2, HR=""), r"p1\.psv, line 3 must be a row whose HR is a number"),
        (HEADER + row(1) + "1|2|3\n", r"p1\.psv, line 3 must be 41 fields separated by '\|' \(here 3\)"),
        (HEADER + "\n" + row(0), r"p1\.psv, line 3 must be a row whose ICULOS is a whole number from 1"),
        (HEADER + row(1.5), r"p1\.psv, line 2 must be a row whose ICULOS is a whole number from 1"),
        (HEADER + row("NaN"), r"p1\.psv, line 2 must be a row whose ICULOS is a whole number from 1"),
        (HEADER + row(1) + row(2, 2), r"p1\.psv, line 3 must be a row whose SepsisLabel is 0 or 1"),
    ],
)
def test_a_malformed_file_is_named_with_its_line_and_what_is_expected(tmp_path, text, words):
    files = folder(tmp_path, p0=HEADER + row(1), p1=text, p2=HEADER + row(1))
    with pytest.raises(DataError, match=words) as error:
        read([files])
    assert "fast" not in str(error.value)


@pytest.mark.slow
def test_the_published_set_has_its_known_counts(data_dir):
    cohort = read([data_dir / "challenge2019" / "training_setA.tar.xz"])
    assert cohort.report.stays == 20_336
    assert cohort.report.outcomes["sepsis"].positive == 1_790
    assert cohort.report.observations == 5_536_579
    assert cohort.report.rejected == {"outside_hard_limits": 270}
    assert cohort.stays.end_min.max() == 336 * 60
    onset = cohort.outcomes.loc[cohort.outcomes["value"] == 1]
    assert onset["time_min"].notna().all()
