"""However a file is damaged, it is read or refused on purpose; nothing falls through, and no cell is shown."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.errors import SequelaError
from pipelines.sources.csv_files import read

TABLES = {
    "observations": (
        "stay_id,patient_id,time,available_time,channel,value,unit,observation_id\n"
        "s1,p1,2024-05-01T08:30:00+09:00,,heart_rate,80,/min,o1\n"
        "s1,p1,2024-05-01T08:40:00+09:00,2024-05-01T08:50:00+09:00,temperature,36.5,Cel,o2\n"
    ),
    "stays": (
        "stay_id,patient_id,admission,discharge,age,sex\n"
        "s1,p1,2024-05-01T08:00:00+09:00,2024-05-03T08:00:00+09:00,70,female\n"
    ),
    "outcomes": "stay_id,outcome,time,value\ns1,death,2024-05-03T08:00:00+09:00,1\n",
    "notes": 'stay_id,time,kind,text\ns1,2024-05-01T09:00:00+09:00,nursing,"Sleeps,\nwell."\n',
}
PIECES = [
    b"",
    b",",
    b"\n",
    b"\r",
    b'"',
    b"\x00",
    b"\xff",
    b" ",
    b"-",
    b"+",
    b"9",
    b"1e400",
    b"nan",
    b"\xef\xbb\xbf",
    "山".encode(),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.sampled_from(sorted(TABLES)),
    place=st.floats(0, 1),
    removed=st.integers(0, 12),
    inserted=st.sampled_from(PIECES) | st.binary(max_size=4),
)
@example(table="observations", place=0.0, removed=0, inserted=b"\n\n")
@example(table="notes", place=1.0, removed=1, inserted=b"")
def test_a_damaged_file_is_read_or_refused(folder, table, place, removed, inserted):
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    data = TABLES[table].encode()
    start = round(place * len(data))
    (folder / f"{table}.csv").write_bytes(data[:start] + inserted + data[start + removed :])
    try:
        refusal = ""
        stays = len(read([folder]).stays)
    except SequelaError as error:
        refusal, stays = str(error), 0
    assert bool(refusal) != bool(stays)
    assert not refusal or ".csv" in refusal
    assert "Sleeps" not in refusal
