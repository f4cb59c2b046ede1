"""However the same facts are written down, the cohort is the same."""

import bz2
import gzip
import lzma
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DataError
from pipelines.cohort import read_cohort, write_cohort
from pipelines.sources.csv_files import read

HEADER = "stay_id,patient_id,time,channel,value,unit\n"
ROWS = (
    "s1,p1,2024-05-01T08:30:00+09:00,heart_rate,80,/min\n",
    "s1,p1,2024-05-01T09:10:00+09:00,heart_rate,82,/min\n",
    "s1,p1,2024-05-01T09:10:00+09:00,sbp,120,mm[Hg]\n",
    "s2,p1,2024-05-02T10:00:00+09:00,sbp,16,kPa\n",
    "s2,p1,2024-05-02T11:00:00+09:00,sbp,110,mm[Hg]\n",
)
STAYS = """stay_id,patient_id,admission,discharge
s1,p1,2024-05-01T08:00:00+09:00,2024-05-02T08:00:00+09:00
s2,p1,2024-05-02T08:00:00+09:00,2024-05-03T08:00:00+09:00
"""
NOTES = (
    "stay_id,time,kind,text\n"
    "s1,2024-05-01T10:00:00+09:00,看護記録,室内気で呼吸平静。\n"
    's2,2024-05-02T10:00:00+09:00,看護記録,"頻呼吸、""酸素"", 需要増加。\n明日再評価。"\n'
)


def write(folder: Path, observations: str, encoding: str = "utf-8") -> Path:
    (folder / "observations.csv").write_text(observations, encoding=encoding)
    (folder / "stays.csv").write_text(STAYS, encoding=encoding)
    (folder / "notes.csv").write_text(NOTES, encoding=encoding)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, HEADER + "".join(ROWS))


@pytest.fixture
def fingerprint(folder: Path) -> str:
    return read([folder]).fingerprint


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
@pytest.mark.parametrize("progress", [False, True])
def test_a_compressed_file_is_the_same(folder, fingerprint, suffix, compress, progress):
    plain = folder / "observations.csv"
    (folder / f"observations.csv{suffix}").write_bytes(compress(plain.read_bytes()))
    plain.unlink()
    assert read([folder], progress=progress).fingerprint == fingerprint


def test_a_parquet_file_with_its_own_types_is_the_same(folder, fingerprint):
    table = pacsv.read_csv(folder / "observations.csv")
    assert pa.types.is_timestamp(table.schema.field("time").type)
    assert pa.types.is_floating(table.schema.field("value").type) or pa.types.is_integer(
        table.schema.field("value").type
    )
    pq.write_table(table, folder / "observations.parquet")
    (folder / "observations.csv").unlink()
    assert read([folder]).fingerprint == fingerprint


def test_files_named_one_by_one_are_the_same(folder, fingerprint):
    options = {name: folder / f"{name}.csv" for name in ("observations", "stays", "notes")}
    assert read([], options=options).fingerprint == fingerprint


def test_files_named_in_the_mapping_are_the_same(folder, fingerprint):
    (folder / "observations.csv").rename(folder / "vitals.txt")
    (folder / "map.toml").write_text('[files]\nobservations = "vitals.txt"\n', encoding="utf-8")
    assert read([folder], mapping=folder / "map.toml").fingerprint == fingerprint


def test_a_byte_order_mark_and_windows_lines_change_nothing(folder, fingerprint):
    for path in folder.glob("*.csv"):
        if path.name != "notes.csv":  # line breaks within a note are its text
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read([folder]).fingerprint == fingerprint


def test_japanese_notes_in_cp932_are_the_same(folder, fingerprint):
    write(folder, HEADER + "".join(ROWS), encoding="cp932")
    (folder / "map.toml").write_text('encoding = "cp932"\n', encoding="utf-8")
    cohort = read([folder], mapping=folder / "map.toml")
    assert cohort.fingerprint == fingerprint
    assert cohort.stays.note_text[1] == '頻呼吸、"酸素", 需要増加。\n明日再評価。'


@pytest.mark.parametrize("name", ["observations", "outcomes", "notes"])
def test_a_header_alone_without_a_line_end_is_an_empty_table(folder, name):
    header = {"observations": HEADER.strip(), "outcomes": "stay_id,outcome,value", "notes": "stay_id,time,kind,text"}
    (folder / f"{name}.csv").write_text(header[name], encoding="utf-8")
    report = read([folder]).report
    assert report.stays == 2
    assert {"observations": report.observations, "outcomes": len(report.outcomes), "notes": report.notes}[name] == 0


def test_local_times_with_a_zone_are_the_same(folder, fingerprint):
    for name in ("observations", "stays", "notes"):
        path = folder / f"{name}.csv"
        path.write_text(path.read_text(encoding="utf-8").replace("+09:00", ""), encoding="utf-8")
    (folder / "map.toml").write_text('timezone = "Asia/Tokyo"\n', encoding="utf-8")
    assert read([folder], mapping=folder / "map.toml").fingerprint == fingerprint


def test_times_of_several_forms_in_one_file_are_the_same(folder, fingerprint):
    text = (folder / "observations.csv").read_text(encoding="utf-8")
    text = text.replace("2024-05-01T08:30:00+09:00", "2024-04-30T23:30:00.0000000Z")
    text = text.replace("2024-05-02T10:00:00+09:00", "2024-05-02 10:00").replace("11:00:00+09:00", "11:00:30+0900")
    (folder / "observations.csv").write_text(text, encoding="utf-8")
    (folder / "map.toml").write_text('timezone = "Asia/Tokyo"\n', encoding="utf-8")
    assert read([folder], mapping=folder / "map.toml").fingerprint == fingerprint


def test_hours_since_admission_are_the_same(folder, fingerprint):
    hours = (0.5, 70 / 60, 70 / 60, 2, 3)
    rows = "".join(
        f"s{1 + (i > 2)},{h!r},{row.split(',', 3)[3]}" for i, (h, row) in enumerate(zip(hours, ROWS, strict=True))
    )
    (folder / "observations.csv").write_text("stay_id,time_h,channel,value,unit\n" + rows, encoding="utf-8")
    assert read([folder]).fingerprint == fingerprint


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(ROWS))), repeated=st.sets(st.integers(0, len(ROWS) - 1)))
def test_any_order_of_rows_and_any_repetition_is_the_same(folder, fingerprint, order, repeated):
    rows = [ROWS[i] for i in order] + [ROWS[i] for i in sorted(repeated)]
    (folder / "observations.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    cohort = read([folder])
    assert cohort.fingerprint == fingerprint
    assert cohort.report.rejected.get("duplicate", 0) == len(repeated)


def test_a_cohort_survives_the_disk(folder, fingerprint, tmp_path):
    write_cohort(read([folder]), tmp_path / "cohort")
    assert read_cohort(tmp_path / "cohort").fingerprint == fingerprint


def test_every_minute_of_a_week_given_in_hours_is_found_again(tmp_path):
    minutes = np.arange(7 * 1440)
    rows = "".join(f"s,{minute / 60!r},heart_rate,80,/min\n" for minute in minutes.tolist())
    (tmp_path / "observations.csv").write_text("stay_id,time_h,channel,value,unit\n" + rows, encoding="utf-8")
    (tmp_path / "stays.csv").write_text("stay_id,patient_id\ns,p\n", encoding="utf-8")
    assert np.array_equal(read([tmp_path]).stays.time_min, minutes)


def test_a_value_enters_when_it_became_available(tmp_path):
    (tmp_path / "observations.csv").write_text(
        "stay_id,time_h,available_time_h,channel,value,unit\ns,1,2.5,lactate,2,mmol/L\ns,1,,lactate,3,mmol/L\n",
        encoding="utf-8",
    )
    (tmp_path / "stays.csv").write_text("stay_id,patient_id\ns,p\n", encoding="utf-8")
    stays = read([tmp_path]).stays
    assert (stays.time_min.tolist(), stays.value.tolist()) == ([60, 150], [3.0, 2.0])


def test_identical_rows_of_one_observation_id_count_once(tmp_path):
    (tmp_path / "observations.csv").write_text(
        "stay_id,time_h,channel,value,unit,observation_id\n"
        "s,1,lactate,2,mmol/L,a\ns,1,lactate,2.0,mmol/L,a\ns,1,lactate,3,mmol/L,\ns,1,lactate,4,mmol/L,\n"
        "s,1,lactate,oops,mmol/L,b\ns,1,lactate,oops,mmol/L,b\n",
        encoding="utf-8",
    )
    (tmp_path / "stays.csv").write_text("stay_id,patient_id\ns,p\n", encoding="utf-8")
    cohort = read([tmp_path])
    assert cohort.stays.value.tolist() == [2.0, 3.0, 4.0]
    assert cohort.report.rejected == {"duplicate": 2, "not_a_number": 1}


def test_what_was_charted_after_discharge_is_dropped_and_counted(folder):
    text = HEADER + "".join(ROWS) + "s1,p1,2024-05-02T08:01:00+09:00,heart_rate,80,/min\n"
    (folder / "observations.csv").write_text(text, encoding="utf-8")
    assert read([folder]).report.rejected == {"after_end": 1}


def test_an_empty_channel_name_and_an_empty_note_are_counted(folder):
    with (folder / "observations.csv").open("a", encoding="utf-8") as file:
        file.write("s1,p1,2024-05-01T08:30:00+09:00,,80,/min\n")
    with (folder / "notes.csv").open("a", encoding="utf-8") as file:
        file.write("s1,2024-05-01T08:30:00+09:00,nursing, \n")
    report = read([folder]).report
    assert report.rejected == {"empty_name": 1, "missing_code": 1}
    assert report.notes == 2


def test_a_missing_code_holds_for_values_and_not_for_hours_in_text_and_parquet(tmp_path):
    (tmp_path / "stays.csv").write_text("stay_id,patient_id\ns,p\n", encoding="utf-8")
    (tmp_path / "map.toml").write_text('missing = ["-1", "n/a"]\n', encoding="utf-8")
    csv = tmp_path / "observations.csv"
    csv.write_text(
        "stay_id,time_h,channel,value,unit\ns,-1,base_excess,2,mmol/L\ns,1,base_excess,-1,mmol/L\n", encoding="utf-8"
    )
    text = read([tmp_path], mapping=tmp_path / "map.toml")
    pq.write_table(pacsv.read_csv(csv), tmp_path / "observations.parquet")
    csv.unlink()
    typed = read([tmp_path], mapping=tmp_path / "map.toml")
    assert text.fingerprint == typed.fingerprint
    assert typed.stays.time_min.tolist() == [-60]
    assert text.report.rejected == typed.report.rejected == {"missing_code": 1}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_every_kind_of_text_in_parquet_is_read(folder, fingerprint, kind):
    table = pacsv.read_csv(folder / "observations.csv")
    text = table.column("value").cast(pa.string())
    value = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
    pq.write_table(table.set_column(4, "value", value), folder / "observations.parquet")
    (folder / "observations.csv").unlink()
    assert read([folder]).fingerprint == fingerprint


def test_lists_in_parquet_are_refused(folder):
    table = pacsv.read_csv(folder / "observations.csv")
    lists = pa.array([[1.0]] * len(table))
    pq.write_table(table.set_column(4, "value", lists), folder / "observations.parquet")
    (folder / "observations.csv").unlink()
    with pytest.raises(DataError, match=r"value of observations\.parquet must hold plain cells, got lists"):
        read([folder])
