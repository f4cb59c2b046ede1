"""Whatever is wrong with a file: the message names the file, the line and what is expected, and holds no cell."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import ConfigError, DataError
from pipelines.sources.csv_files import read

HEADER = "stay_id,patient_id,time,channel,value,unit\n"
ROW = "s1,p1,2024-05-01T08:30:00+09:00,heart_rate,80,/min\n"
STAYS = "stay_id,patient_id,admission,discharge\ns1,p1,2024-05-01T08:00:00+09:00,2024-05-03T08:00:00+09:00\n"
SECRET = "Canary"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stays.csv").write_text(STAYS, encoding="utf-8")
    (tmp_path / "observations.csv").write_text(HEADER + ROW, encoding="utf-8")
    return tmp_path


def refusal(folder: Path, mapping: str = "", **files: str | bytes) -> str:
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{name}.csv").write_bytes(data)
    (folder / "map.toml").write_text(mapping, encoding="utf-8")
    with pytest.raises((DataError, ConfigError)) as caught:
        read([folder], mapping=folder / "map.toml")
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "observations.csv must begin with a header line such as stay_id, channel, value, time, time_h"),
        (HEADER + ROW + "s1,p1,Canary\n", "observations.csv must have 6 columns in every line, got 3 in line 3"),
        (HEADER + ROW + "\n\n" + ROW + "s1\n", "got 1 in line 6"),
        (HEADER + ROW + ROW.replace("p1", '"p\n1"') + "s1\n", "got 1 in line 5"),
        (
            "Canary,1,2,3,4,5\n",
            "must begin with a header line that has the column stay_id, channel, value, got 6 columns without it",
        ),
        (
            "stay_id,time,channel,unit\n",
            "must begin with a header line that has the column value, got 4 columns without it",
        ),
        ("stay_id,channel,value,unit\n", "has the column time or time_h"),
        (HEADER.replace("unit", "unit,unit"), "must have different names, got one twice (column 6, 7)"),
        (
            HEADER.replace("unit", "unit,Canary"),
            "got others (column 7); rename them under [columns.observations] or leave them out",
        ),
        (HEADER + ROW.replace("s1", SECRET), "stay_id must be a stay of the stays file, got another one"),
        (HEADER + ROW + ROW.replace("s1", ""), "got an empty cell in observations.csv, line 3"),
        (HEADER + ROW.replace("p1", SECRET), "patient_id must be the patient of the stay in the stays file"),
        (HEADER + ROW.replace("+09:00", ""), "got a time without one in observations.csv, line 2"),
        (HEADER + ROW + ROW.replace("2024-05-01T", ""), "line 3"),
        (HEADER + ROW.replace("2024-05-01", "2024-13-01"), "time must be a time such as"),
        (HEADER + ROW.replace("2024-05-01T08:30:00+09:00", ""), "time must be given, got an empty cell"),
        (b"\xff\xfe\xff" + HEADER.encode(), "must be text in utf-8, got other bytes in line 1"),
        (HEADER.encode() + ROW.encode() + ROW.replace("p1", "山").encode("cp932"), "got other bytes in line 3"),
    ],
)
def test_malformed_observations_are_refused(folder, content, expected):
    assert expected in refusal(folder, observations=content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("stay_id,patient_id,admission,discharge\n", "stays.csv must hold at least one stay"),
        (
            STAYS + STAYS.splitlines()[1] + "\n",
            "stay_id must be unique, got one for the second time in stays.csv, line 3",
        ),
        (STAYS.replace("s1", ""), "stay_id must be given, got an empty cell in stays.csv, line 2"),
        (STAYS.replace("2024-05-01", "2024-05-04"), "discharge must be at or after admission"),
        (STAYS.replace("2024-05-01T08:00:00+09:00", ""), "admission must be given"),
        ("stay_id,patient_id,discharge_h\ns1,p1,9\n", "got a stays file without the column admission"),
        ("stay_id,patient_id,admission,ward\ns1,p1,2024-05-01T08:00:00Z,x\n", "got others (column 4); rename them"),
        ("stay_id,patient_id,admission,sex\ns1,p1,2024-05-01T08:00:00Z,Canary\n", "sex must be one of female, male"),
        ("stay_id,patient_id,discharge_h,discharge\ns1,p1,9,x\n", "must have discharge or discharge_h, got both"),
        ("stay_id,patient_id,discharge_h\ns1,p1,Canary\n", "discharge_h must be a number of hours since admission"),
    ],
)
def test_malformed_stays_are_refused(folder, content, expected):
    assert expected in refusal(folder, stays=content)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("stay_id,outcome\ns1,death\n", "has the column time or time_h or value"),
        ("stay_id,outcome,value\ns1,,1\n", "outcome must be given, got an empty cell in outcomes.csv, line 2"),
        ("stay_id,outcome,value\nCanary,death,1\n", "stay_id must be a stay of the stays file"),
        ("stay_id,outcome,time\ns1,death,Canary\n", "line 2"),
    ],
)
def test_malformed_outcomes_are_refused(folder, outcomes, expected):
    assert expected in refusal(folder, outcomes=outcomes)


def test_a_note_of_an_unknown_stay_is_refused_with_the_line_where_it_begins(folder):
    notes = 'stay_id,time,kind,text\ns1,2024-05-01T09:00:00Z,n,"two\nlines"\nCanary,2024-05-01T09:00:00Z,n,Canary\n'
    assert "notes.csv, line 4" in refusal(folder, notes=notes)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("channels = 3", "channels must be a table"),
        ("[chanels]\nHR = 'heart_rate'", "must hold only the keys"),
        ("[channels]\nHR = 'hart_rate'", "got 'hart_rate' for 'HR'"),
        ("[units]\nbpm = 'bpms'", "got 'bpms' for 'bpm'"),
        ("[channel_units]\nhart_rate = '/min'", "got 'hart_rate'"),
        ("[static_units]\nhight = 'm'", "got 'hight'"),
        ("[categories.sex]\nF = 'woman'", "got 'woman' for 'F'"),
        ("[columns.vitals]\nstay_id = 'ID'", "got 'vitals'"),
        ("timezone = 'Asia/Nowhere'", "timezone must be a name of the IANA database"),
        ("encoding = 'utf-99'", "encoding must be one that Python knows"),
        ("decimal = ','", "delimiter must be one character other than decimal"),
        ("[declare.heart_rate]\nunit = '/min'\nhard = [0, 1]", "got 'heart_rate', which is declared already"),
        ("[declare.x]\nunit = '/min'\nhard = [0, 1]\nloinc = ['8867-4']", "got '8867-4', which is declared already"),
        ("[declare_static.age]\nunit = 'a'", "got 'age', which is declared already"),
        ("[channels]\nHR = 'heart_rate'\n[ignore]\nchannels = ['HR']", "must not name a mapped channel"),
        ("not toml", "mapping must be a TOML file in UTF-8"),
    ],
)
def test_a_mapping_that_does_not_hold_is_refused(folder, mapping, expected):
    assert expected in refusal(folder, mapping=mapping)


def test_a_static_unit_that_the_variable_does_not_accept_is_refused(folder):
    stays = STAYS.replace("discharge\n", "discharge,height\n").replace(
        "2024-05-03T08:00:00+09:00", "2024-05-03T08:00:00Z,1"
    )
    assert "static_units.height must be one of cm" in refusal(folder, "[static_units]\nheight = 'kg'\n", stays=stays)


def test_an_availability_before_the_time_is_refused_with_its_line(folder):
    rows = HEADER.replace("unit", "unit,available_time") + ROW.replace("/min", "/min,2024-05-01T08:29:00+09:00")
    assert "available_time must be at or after time, got an earlier one in observations.csv, line 2" in refusal(
        folder, observations=rows
    )


def test_conflicting_rows_of_one_observation_id_are_refused_with_both_lines(folder):
    row = ROW.replace("/min", "/min,o1")
    content = HEADER.replace("unit", "unit,observation_id") + row + row.replace("80", "81")
    message = refusal(folder, observations=content)
    assert "observations.csv, line 2" in message
    assert "observations.csv, line 3" in message


def test_a_local_time_that_summer_time_repeats_is_refused_until_the_mapping_chooses(folder):
    (folder / "stays.csv").write_text("stay_id,patient_id,admission\ns1,p1,2024-10-26 12:00\n", encoding="utf-8")
    row = "s1,p1,2024-10-27 02:30,heart_rate,80,/min\n"
    zone = "timezone = 'Europe/Berlin'\n"
    assert "summer time skipped or repeated in observations.csv, line 2" in refusal(
        folder, zone, observations=HEADER + row
    )
    minutes = []
    for choice in ("earlier", "later"):
        (folder / "map.toml").write_text(f"{zone}ambiguous_time = '{choice}'\n", encoding="utf-8")
        minutes.append(int(read([folder], mapping=folder / "map.toml").stays.time_min[0]))
    assert minutes == [14 * 60 + 30, 15 * 60 + 30]


def test_a_damaged_archive_is_refused(folder):
    (folder / "observations.csv").unlink()
    whole = gzip.compress((HEADER + ROW * 10_000).encode())
    (folder / "observations.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="whole compressed file, got damaged content"):
        read([folder])


def test_a_file_that_is_no_parquet_is_refused(folder):
    (folder / "observations.csv").rename(folder / "observations.parquet")
    with pytest.raises(DataError, match="must be a whole Parquet file"):
        read([folder])


def test_two_files_of_one_table_are_refused(folder):
    (folder / "stays.csv.gz").write_bytes(gzip.compress(STAYS.encode()))
    with pytest.raises(DataError, match=r"stays must be one file, got stays\.csv, stays\.csv\.gz"):
        read([folder])


def test_a_folder_without_observations_is_refused(folder):
    (folder / "observations.csv").unlink()
    with pytest.raises(DataError, match=r"observations must be a file such as observations\.csv"):
        read([folder])


def test_a_path_that_is_no_folder_is_refused(folder):
    with pytest.raises(DataError, match="path must be a folder"):
        read([folder / "stays.csv"])
    with pytest.raises(ConfigError, match="paths must be one folder, got 2"):
        read([folder, folder])
    with pytest.raises(ConfigError, match="options must be among observations, stays, outcomes, notes, got vitals"):
        read([folder], options={"vitals": "x.csv"})
    with pytest.raises(DataError, match="stays must be a file"):
        read([folder], options={"stays": folder / "none.csv"})


def test_a_refusal_right_after_a_file_was_read_ends_the_process_with_1_every_time(folder):
    (folder / "observations.csv").write_bytes((HEADER + ROW).encode("utf-16"))
    command = [sys.executable, "-m", "pipelines", "prepare", "csv", str(folder), "--out", str(folder / "out")]
    ended = [subprocess.run(command, capture_output=True, check=False).returncode for _ in range(5)]
    assert ended == [1] * 5
