"""Cohorts: what they hold, their fingerprint, and how they are written, read and united."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.channel_table import channel_by_name, static_by_name
from models.channels import Channel
from models.errors import DataError
from models.intake import Columns, NoteColumns, Rejection, build_stays
from pipelines.cohort import Cohort, concat_cohorts, make_cohort, read_cohort, write_cohort
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import Tally

NAN = float("nan")


def make(
    ids=("a", "b", "c"),
    channels=("heart_rate", "temperature"),
    *,
    value: float = 80.0,
    text: str = "咳 cough",
    declared: tuple[Channel, ...] | None = None,
    source: str = "test",
) -> Cohort:
    """Stays with an observation, a note, an age and two outcomes each, but the last, which has nothing."""
    n = len(ids) - 1
    at = np.arange(n, dtype=np.int64)
    stays, rejected = build_stays(
        stay_id=ids,
        end_min=np.full(len(ids), 600),
        columns=Columns(
            stay=np.concatenate([at, at]),
            time_min=np.concatenate([at - 30, np.full(n, 90)]),
            channel=np.array([0] * n + [1] * n, dtype=np.int16),
            value=np.concatenate([np.full(n, value), np.full(n, 31.5)]),
        ),
        channels=channels,
        static=np.array([[50.0]] * n + [[NAN]]),
        static_names=("age",),
        notes=NoteColumns(at, np.full(n, 5), ["nursing"] * n, [text] * n),
    )
    death = np.array([1.0] + [0.0] * (n - 1) + [NAN])
    days = np.array([3.5] * n + [NAN])
    tally = Tally(rejected)
    tally.reject(Rejection.OUTSIDE_HARD_LIMITS, 3, "heart_rate")
    return make_cohort(
        stays=stays,
        patient_id=[f"p{i}" for i in ids],
        outcomes=Outcomes.from_columns(
            {"death": (death, np.where(death == 1, 500.0, NAN)), "los_d": (days, np.full(n + 1, NAN))}
        ),
        channels=declared or [channel_by_name(name) for name in channels],
        statics=[static_by_name("age")],
        source=source,
        licence="CC0",
        tally=tally,
    )


def test_a_written_cohort_is_read_back_as_it_was(tmp_path):
    cohort = make()
    write_cohort(cohort, tmp_path / "deep" / "cohort")
    again = read_cohort(tmp_path / "deep" / "cohort")
    assert again.fingerprint == cohort.fingerprint
    assert again.report == cohort.report
    assert (again.patient_id, again.source, again.licence) == (cohort.patient_id, "test", "CC0")
    assert tuple(c.name for c in again.channels) == cohort.stays.channels
    for name in ("offsets", "time_min", "channel", "value", "end_min", "static", "note_offsets", "note_time_min"):
        stored, given = getattr(again.stays, name), getattr(cohort.stays, name)
        assert stored.dtype == given.dtype
        np.testing.assert_array_equal(stored, given)
        assert stored.flags.writeable
    assert again.stays.note_text == ("咳 cough", "咳 cough")


def test_outcomes_are_a_table_with_a_time_where_there_is_one():
    table = make().outcomes
    assert list(table.columns) == ["stay", "outcome", "time_min", "value"]
    death = table[table["outcome"] == "death"]
    assert death["stay"].tolist() == [0, 1]
    assert death["time_min"].isna().tolist() == [False, True]
    assert death["time_min"].iloc[0] == 500
    back = Outcomes.from_frame(table)
    np.testing.assert_array_equal(back.time_min, make().outcome_rows.time_min)
    assert back.names == ("death", "los_d")


def test_outcomes_twice_or_without_a_value_are_refused():
    with pytest.raises(DataError, match="one row a stay and outcome"):
        Outcomes.from_rows([0, 0], ["death", "death"], [NAN, NAN], np.array([1.0, 0.0]))
    with pytest.raises(DataError, match="outcome value must be finite"):
        Outcomes.from_rows([0], ["death"], [NAN], np.array([NAN]))
    with pytest.raises(DataError, match="one length"):
        Outcomes(("death",), np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int16), np.zeros(1), np.zeros(1))


def test_the_report_counts_what_is_there_and_what_was_rejected():
    report = make().report
    assert (report.stays, report.patients, report.observations, report.notes) == (3, 3, 4, 2)
    assert (report.stays_without_observation, report.stays_without_outcome, report.flagged) == (1, 1, 2)
    assert report.rejected == {"outside_hard_limits": 3}
    assert report.rejected_by_channel == {"heart_rate": {"outside_hard_limits": 3}}
    assert report.outcomes["death"].positive == 1
    assert report.outcomes["death"].prevalence == 0.5
    assert report.outcomes["los_d"].prevalence is None
    assert report.time_range_h == (-0.5, 1.5)
    lines = "\n".join(report.lines())
    for words in ("outside_hard_limits", "(heart_rate 3)", "1 of 2 stays (50.0%)", "mean 3.50", "-0.5 h to 1.5 h"):
        assert words in lines


def test_the_report_names_the_channels_with_most_rejections_first():
    tally = Tally()
    for count, channel in enumerate(("a", "b", "c", "d", "e", "f", "g"), start=1):
        tally.reject(Rejection.MISSING_CODE, count, channel)
    cohort = make()
    report = make_cohort(
        stays=cohort.stays,
        patient_id=cohort.patient_id,
        outcomes=cohort.outcomes,
        channels=cohort.channels,
        statics=cohort.statics,
        source="",
        licence="",
        tally=tally,
    ).report
    line = next(line for line in report.lines() if "missing_code" in line)
    assert line.endswith("28  (g 7, f 6, e 5, d 4, c 3, 2 more)")


@pytest.mark.parametrize(
    "change",
    [
        {"value": 81.0},
        {"text": "cough"},
        {"ids": ("a", "b", "d")},
        {"channels": ("heart_rate", "map")},
        {
            "declared": (
                channel_by_name("heart_rate"),
                dataclasses.replace(channel_by_name("temperature"), hard=(9, 50)),
            )
        },
    ],
)
def test_the_fingerprint_changes_with_any_column_or_declaration(change):
    assert make(**change).fingerprint != make().fingerprint


def test_the_fingerprint_is_of_the_content_and_nothing_else():
    assert make(source="another").fingerprint == make().fingerprint
    whole_numbers = tuple(
        dataclasses.replace(channel_by_name(n), hard=tuple(map(float, channel_by_name(n).hard)))
        for n in ("heart_rate", "temperature")
    )
    assert make(declared=whole_numbers).fingerprint == make().fingerprint


def test_the_fingerprint_does_not_depend_on_the_encoding_on_disk(tmp_path):
    cohort = make()
    write_cohort(cohort, tmp_path / "c")
    path = tmp_path / "c" / "observations.parquet"
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False, row_group_size=1)
    assert read_cohort(tmp_path / "c").fingerprint == cohort.fingerprint


def test_an_altered_value_is_refused(tmp_path):
    write_cohort(make(), tmp_path / "c")
    path = tmp_path / "c" / "observations.parquet"
    table = pq.read_table(path)
    value = pa.array(np.asarray(table["value"]) + 1.0)
    pq.write_table(table.set_column(3, "value", value), path)
    with pytest.raises(DataError, match="what its fingerprint says"):
        read_cohort(tmp_path / "c")


@pytest.mark.parametrize("name", ["observations", "stays", "outcomes", "notes"])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path, name):
    write_cohort(make(), tmp_path / "c")
    path = tmp_path / "c" / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=f"{name}.parquet must be a Parquet file"):
        read_cohort(tmp_path / "c")
    path.unlink()
    with pytest.raises(DataError, match=f"{name}.parquet must be a Parquet file"):
        read_cohort(tmp_path / "c")


@pytest.mark.parametrize("column", ["stay", "value"])
def test_a_missing_column_is_refused(tmp_path, column):
    write_cohort(make(), tmp_path / "c")
    path = tmp_path / "c" / "observations.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(DataError, match="columns that fit each other"):
        read_cohort(tmp_path / "c")


def test_a_folder_that_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be a folder of `sequela prepare`"):
        read_cohort(tmp_path)
    (tmp_path / "cohort.json").write_text("{")
    with pytest.raises(DataError, match="must be a folder of `sequela prepare`"):
        read_cohort(tmp_path)
    (tmp_path / "cohort.json").write_text(json.dumps({"schema_version": 999}))
    with pytest.raises(DataError, match="schema version"):
        read_cohort(tmp_path)


def test_a_header_with_another_declaration_is_refused(tmp_path):
    write_cohort(make(), tmp_path / "c")
    path = tmp_path / "c" / "cohort.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    header["channels"][0]["hard"] = [0.0, 391.0]
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match="what its fingerprint says"):
        read_cohort(tmp_path / "c")
    header["channels"][0]["surprise"] = 1
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match="columns that fit each other"):
        read_cohort(tmp_path / "c")


def test_a_cohort_replaces_a_cohort_and_nothing_else(tmp_path):
    write_cohort(make(), tmp_path / "c")
    write_cohort(make(value=81.0), tmp_path / "c")
    assert read_cohort(tmp_path / "c").fingerprint == make(value=81.0).fingerprint
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="with other content"):
        write_cohort(make(), tmp_path / "precious")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="with other content"):
        write_cohort(make(), tmp_path / "file")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "file", "precious"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="must be a place that can be written"):
        write_cohort(make(), tmp_path / "file" / "cohort")


def test_an_error_in_the_middle_leaves_the_old_cohort_and_no_other_file(tmp_path, monkeypatch):
    write_cohort(make(), tmp_path / "c")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_cohort(make(value=81.0), tmp_path / "c")
    assert read_cohort(tmp_path / "c").fingerprint == make().fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


KILLED = """
import sys, time
from pathlib import Path
import pyarrow.parquet as pq
from pipelines.cohort import read_cohort, write_cohort
cohort, real, left = read_cohort(Path(sys.argv[1])), pq.write_table, [2]
def slow(*args, **kwargs):
    real(*args, **kwargs)
    left[0] -= 1
    if not left[0]:
        print("half", flush=True)
        time.sleep(60)
pq.write_table = slow
write_cohort(cohort, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("there_before", [False, True])
def test_a_process_killed_in_the_middle_leaves_no_half_cohort(tmp_path, there_before):
    write_cohort(make(), tmp_path / "new")
    if there_before:
        write_cohort(make(value=81.0), tmp_path / "out")
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "new"), str(tmp_path / "out")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    if there_before:
        assert read_cohort(tmp_path / "out").fingerprint == make(value=81.0).fingerprint
    else:
        assert not (tmp_path / "out").exists()
    (left,) = tmp_path.glob(".out.part-*")
    write_cohort(make(), tmp_path / "out")
    assert left.exists()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(left, (two_days_ago, two_days_ago))
    write_cohort(make(), tmp_path / "out")
    assert not left.exists()


def test_united_cohorts_keep_every_stay_with_its_facts():
    first, second = make(), make(("d", "e"), ("map", "heart_rate"), source="other")
    both = concat_cohorts([first, second])
    assert both.stays.stay_id == ("a", "b", "c", "d", "e")
    assert both.stays.channels == ("heart_rate", "temperature", "map")
    last = both.stays.select([3])
    assert [(both.stays.channels[c], v) for c, v in zip(last.channel, last.value, strict=True)] == [
        ("map", 80.0),
        ("heart_rate", 31.5),
    ]
    assert both.outcomes["stay"].tolist() == [0, 0, 1, 1, 3, 3]
    assert both.report.rejected == {"outside_hard_limits": 6}
    assert both.source == "test + other"
    assert both.licence == "CC0"
    assert both.stays.note_offsets.tolist() == [0, 1, 2, 2, 3, 3]
    assert both.patient_id == ("pa", "pb", "pc", "pd", "pe")


def test_one_cohort_alone_is_itself():
    cohort = make()
    assert concat_cohorts([cohort]) is cohort


def test_cohorts_that_do_not_fit_are_not_united():
    with pytest.raises(DataError, match="at least one"):
        concat_cohorts([])
    with pytest.raises(DataError, match="different stays"):
        concat_cohorts([make(), make()])
    other = (dataclasses.replace(channel_by_name("heart_rate"), hard=(0.0, 395.0)), channel_by_name("temperature"))
    with pytest.raises(DataError, match="heart_rate must be declared alike"):
        concat_cohorts([make(), make(("d", "e"), declared=other)])


def test_parts_that_do_not_fit_each_other_are_refused():
    cohort = make()
    parts = {f.name: getattr(cohort, f.name) for f in dataclasses.fields(cohort)}
    with pytest.raises(DataError, match="patient_id must be of length 3"):
        Cohort(**{**parts, "patient_id": ("p",)})
    with pytest.raises(DataError, match="channels must be declared"):
        Cohort(**{**parts, "channels": ()})
    with pytest.raises(DataError, match="statics must be declared"):
        Cohort(**{**parts, "statics": ()})
    with pytest.raises(DataError, match="outcomes must index 3 stays"):
        Cohort(**{**parts, "outcome_rows": Outcomes.from_rows([3], ["death"], [NAN], np.array([1.0]))})


def test_a_cohort_without_any_stay_can_be_written(tmp_path):
    stays, _ = build_stays(
        stay_id=(),
        end_min=np.zeros(0),
        columns=Columns(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int16), np.zeros(0)),
        channels=(),
        static=np.zeros((0, 0)),
        static_names=(),
    )
    empty = make_cohort(
        stays=stays, patient_id=(), outcomes=Outcomes.from_columns({}), channels=(), statics=(), source="", licence=""
    )
    write_cohort(empty, Path(tmp_path) / "c")
    assert len(read_cohort(tmp_path / "c").stays) == 0
    assert "time range" in "\n".join(empty.report.lines())
