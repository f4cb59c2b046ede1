"""Challenge 2012: quirks of the original files, malformed files, archives and folders."""

import io
import lzma
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.stay import Stays
from pipelines.sources import text_rows
from pipelines.sources.challenge2012 import CHANNELS, read

HEADER = "Time,Parameter,Value\n"


def start(record: int, *, age="54", gender="0", height="-1", icu="4", weight="-1") -> str:
    rows = (("RecordID", record), ("Age", age), ("Gender", gender), ("Height", height), ("ICUType", icu))
    return HEADER + "".join(f"00:00,{name},{value}\n" for name, value in (*rows, ("Weight", weight)))


def folder(path: Path, **files: str | bytes) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def archive(path: Path, files: list[tuple[str, str]], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, text in files:
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def rows_of(stays: Stays, stay: int = 0) -> list[tuple[int, str, float]]:
    at = slice(stays.offsets[stay], stays.offsets[stay + 1])
    rows = zip(stays.time_min[at], stays.channel[at], stays.value[at], strict=True)
    return [(int(t), stays.channels[c], float(v)) for t, c, v in rows]


def test_descriptors_are_static_and_the_rest_is_measured(tmp_path):
    text = start(9, age="70", gender="1", height="180", icu="2", weight="81.5")
    text += "00:07,HR,73\n26:30,FiO2,0.4\n26:30,Weight,83\n48:00,Na,140\n"
    cohort = read([folder(tmp_path / "set", a=text)])
    assert cohort.stays.stay_id == cohort.patient_id == ("9",)
    assert dict(zip(cohort.stays.static_names, cohort.stays.static[0].tolist(), strict=True)) == {
        "age": 70.0,
        "sex": 1.0,
        "height": 180.0,
        "icu_type": 1.0,
        "admission_weight": 81.5,
    }
    assert rows_of(cohort.stays) == [
        (7, "heart_rate", 73.0),
        (1590, "fio2", 40.0),
        (1590, "weight", 83.0),
        (2880, "sodium", 140.0),
    ]
    assert cohort.stays.end_min.tolist() == [2880]
    assert cohort.channels == CHANNELS
    assert cohort.report.rejected == {}


def test_missing_codes_become_missing_and_are_counted(tmp_path):
    text = start(9, age="-1", gender="-1", height="-1", icu="-1", weight="-1") + "01:00,Temp,-1\n02:00,Weight,-1\n"
    cohort = read([folder(tmp_path, a=text)])
    assert np.isnan(cohort.stays.static).all()
    assert rows_of(cohort.stays) == []
    assert cohort.report.rejected == {"missing_code": 7}
    assert cohort.report.rejected_by_channel["temperature"] == {"missing_code": 1}
    assert cohort.report.rejected_by_channel["sex"] == {"missing_code": 1}


def test_outliers_are_rejected_by_hard_limits_and_counted_by_channel(tmp_path):
    text = (
        start(9, height="431.8", icu="5")
        + "01:00,Temp,-17.8\n01:00,pH,735\n01:00,HR,nan\n01:00,HR,inf\n02:00,Temp,31\n"
    )
    cohort = read([folder(tmp_path, a=text)])
    assert rows_of(cohort.stays) == [(120, "temperature", 31.0)]
    assert np.isnan(cohort.stays.static[0, cohort.stays.static_names.index("height")])
    assert cohort.report.rejected_by_channel == {
        "admission_weight": {"missing_code": 1},
        "heart_rate": {"not_a_number": 2},
        "height": {"outside_hard_limits": 1},
        "icu_type": {"unknown_category": 1},
        "ph": {"outside_hard_limits": 1},
        "temperature": {"outside_hard_limits": 1},
    }
    assert cohort.report.flagged == 1


@pytest.mark.parametrize("nameless", ["01:00,,5\n", "01:00, ,5\n", "01:00,,\n", "01:00,,abc\n", ",,\n"])
def test_rows_without_a_name_are_skipped_and_counted(tmp_path, nameless):
    cohort = read([folder(tmp_path, a=start(9) + nameless + "02:00,HR,80\n" + nameless)])
    assert rows_of(cohort.stays) == [(120, "heart_rate", 80.0)]
    assert cohort.report.rejected["empty_name"] == 2


def test_an_unknown_name_is_counted_and_so_is_a_descriptor_at_another_time(tmp_path):
    cohort = read([folder(tmp_path, a=start(9) + "02:00,Zodiac,7\n02:00,Age,55\n")])
    assert cohort.report.rejected["unknown_channel"] == 2
    assert cohort.stays.static[0, 0] == 54.0


def test_a_descriptor_given_twice_counts_once_and_a_second_weight_is_measured(tmp_path):
    cohort = read([folder(tmp_path, a=start(9, weight="70") + "00:00,Age,55\n00:00,Weight,71\n")])
    assert cohort.stays.static[0, 0] == 54.0
    assert cohort.stays.static[0, -1] == 70.0
    assert rows_of(cohort.stays) == [(0, "weight", 71.0)]
    assert cohort.report.rejected["duplicate"] == 1


def test_a_stay_without_any_observation_is_kept_and_counted(tmp_path):
    cohort = read([folder(tmp_path, a=start(9), b=start(10) + "00:10,HR,80\n")])
    assert cohort.stays.stay_id == ("9", "10")
    assert cohort.stays.offsets.tolist() == [0, 0, 1]
    assert cohort.report.stays_without_observation == 1


def test_several_values_at_one_time_stay_and_equal_ones_count_once(tmp_path):
    text = start(9) + "00:10,HR,82\n00:10,HR,80\n00:10,HR,82\n49:00,HR,80\n"
    cohort = read([folder(tmp_path, a=text)])
    assert rows_of(cohort.stays) == [(10, "heart_rate", 80.0), (10, "heart_rate", 82.0)]
    assert {k: cohort.report.rejected[k] for k in ("duplicate", "after_end")} == {"duplicate": 1, "after_end": 1}


FILES = [(f"set/{n}.txt", start(n) + f"00:{n % 60:02},HR,{60 + n}\n01:00,Temp,37\n") for n in (7, 12, 31, 100)]


def test_the_order_of_files_does_not_matter_and_stays_are_sorted_by_number(tmp_path):
    fingerprints = set()
    for seed in range(3):
        shuffled = random.Random(seed).sample(FILES, len(FILES))
        cohort = read([archive(tmp_path / f"{seed}.tar.xz", shuffled)])
        assert cohort.stays.stay_id == ("7", "12", "31", "100")
        assert rows_of(cohort.stays, 3) == [(40, "heart_rate", 160.0), (60, "temperature", 37.0)]
        fingerprints.add(cohort.fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_folder_and_an_archive_of_any_kind_give_the_same_cohort(tmp_path, mode):
    files = [*FILES, ("set/Outcomes-a.txt", "RecordID\n"), ("set/._7.txt", "junk"), ("set/readme.md", "words")]
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    packed = read([archive(tmp_path / "set.tar.any", files, mode)])
    assert packed.fingerprint == read([tmp_path / "set"]).fingerprint
    one_by_one = read([tmp_path / "set" / f"{n}.txt" for n in (100, 7, 31, 12)])
    assert one_by_one.fingerprint == packed.fingerprint


def test_batches_do_not_change_the_cohort(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.tar.xz", FILES)
    whole = read([path]).fingerprint
    monkeypatch.setattr(text_rows, "_BATCH_BYTES", 1)
    assert read([path]).fingerprint == whole


def test_other_line_ends_blank_lines_and_a_byte_order_mark_do_not_change_the_cohort(tmp_path):
    text = start(9) + "00:10,HR,80\n00:20,Temp,37\n"
    plain = read([folder(tmp_path / "plain", a=text)]).fingerprint
    variants = {
        "windows": text.replace("\n", "\r\n").encode(),
        "unended": text.rstrip("\n").encode(),
        "blank": text.replace("00:10", "\n\n00:10").encode() + b"\n\n",
        "marked": b"\xef\xbb\xbf" + text.encode(),
    }
    for name, data in variants.items():
        assert read([folder(tmp_path / name, a=data)]).fingerprint == plain, name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Time;Parameter;Value\n", r"a\.txt, line 1 must be the header Time,Parameter,Value"),
        ("", r"a\.txt, line 1 must be the header"),
        (start(9) + "00:10,HR,80\n00:1x,HR,80\n", r"a\.txt, line 9 must be a row whose time is HH:MM"),
        (start(9) + "24:60,HR,80\n", r"a\.txt, line 8 must be a row whose time is HH:MM"),
        (start(9) + ",HR,80\n", r"a\.txt, line 8 must be a row whose time is HH:MM"),
        (start(9) + "\n\n00:10,,3\n00:1x,HR,80\n", r"a\.txt, line 11 must be a row whose time is HH:MM"),
        (start(9) + "00:10,HR,eighty\n", r"a\.txt, line 8 must be a row whose Value is a number"),
        (start(9) + "00:10,HR,\n", r"a\.txt, line 8 must be a row whose Value is a number"),
        (start(9) + "\n00:10,HR,eighty\n", r"a\.txt, line 9 must be a row whose Value is a number"),
        (start(9) + "00:10,HR\n", r"a\.txt, line 8 must be 3 fields separated by ',' \(here 2\)"),
        (start(9) + "00:10,HR,8,0\n", r"a\.txt, line 8 must be 3 fields separated by ',' \(here 4\)"),
        (start(9).encode() + b"00:10,H\xff,80\n", r"a\.txt, line 8 must be a row of Time,Parameter,Value in UTF-8"),
        (HEADER + "00:00,Age,54\n", r"a\.txt must hold a row 00:00,RecordID,<whole number>"),
        (HEADER, r"a\.txt must hold a row 00:00,RecordID,<whole number>"),
        (
            HEADER + "00:00,Age,54\n00:00,RecordID,1.5\n",
            r"a\.txt, line 3 must be a row whose RecordID is a whole number",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_line_and_what_is_expected(tmp_path, text, words):
    files = folder(tmp_path, a=text, b=start(10) + "00:10,HR,80\n", Z=start(11) + "00:10,HR,80\n")
    with pytest.raises(DataError, match=words) as error:
        read([files])
    assert "eighty" not in str(error.value)


@given(st.integers(0, 7), st.binary(max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_line_is_read_or_refused_with_its_line_number(tmp_path_factory, position, line):
    lines = (start(9) + "00:10,HR,80\n").encode().splitlines()
    lines.insert(1 + position, line)
    path = folder(tmp_path_factory.mktemp("any"), a=b"\n".join(lines), b=start(10))
    message = ""
    try:
        assert len(read([path]).stays) == 2
    except DataError as error:
        message = str(error)
    assert not message or "a.txt" in message or "b.txt" in message


def test_a_record_named_twice_is_refused_with_both_files(tmp_path):
    with pytest.raises(DataError, match=r"b\.txt must hold a record of its own, got that of a\.txt"):
        read([folder(tmp_path, a=start(9), b=start(9))])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_truncated_anywhere_is_refused(tmp_path, mode):
    whole = archive(tmp_path / "whole", FILES, mode).read_bytes()
    # The zeros that pad a plain archive to its record's length may be missing; its end mark may not.
    contents = sum(512 + -(-len(text) // 512) * 512 for _, text in FILES) if mode == "w" else len(whole) - 1
    for length in {0, 1, 100, 511, 512, 513, 700, 1024, 1536, contents // 2, contents - 1, contents}:
        cut = tmp_path / "cut"
        cut.write_bytes(whole[: min(length, contents)])
        with pytest.raises(DataError, match="cut must be a whole tar archive"):
            read([cut])


def test_a_damaged_archive_is_refused(tmp_path):
    damaged = bytearray(archive(tmp_path / "a.tar.xz", FILES).read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "a.tar.xz").write_bytes(damaged)
    with pytest.raises(DataError, match="must be a whole tar archive"):
        read([tmp_path / "a.tar.xz"])
    (tmp_path / "words.tar.xz").write_bytes(lzma.compress(b"no archive at all, but words" * 100))
    with pytest.raises(DataError, match="must be a whole tar archive"):
        read([tmp_path / "words.tar.xz"])


def test_a_place_without_stays_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold files named \*\.txt, got none"):
        read([archive(tmp_path / "a.tar.xz", [])])
    with pytest.raises(DataError, match=r"must hold files named \*\.txt, got none"):
        read([folder(tmp_path / "empty")])
    with pytest.raises(DataError, match="got nothing there"):
        read([tmp_path / "nowhere"])


OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def outcomes_of(tmp_path: Path, text: str):
    files = folder(tmp_path / "set", a=start(1), b=start(2), c=start(3))
    (tmp_path / "Outcomes.txt").write_text(text)
    return read([files], outcomes=tmp_path / "Outcomes.txt")


def test_outcomes_have_values_and_the_death_a_time(tmp_path):
    cohort = outcomes_of(tmp_path, OUTCOMES + "3,6,1,5,-1,0\n1,16,8,8,3,1\n2,-1,-1,-1,700,0\n")
    table = cohort.outcomes.set_index(["outcome", "stay"])
    assert table.loc["in_hospital_death", "value"].to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}
    assert table.loc[("in_hospital_death", 0), "time_min"] == 3 * 1440
    assert table.loc["in_hospital_death", "time_min"].isna().tolist() == [False, True, True]
    assert table.loc["survival_d", "value"].to_dict() == {0: 3.0, 1: 700.0}
    assert table.loc["death_90d", "value"].to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}
    assert table.loc["death_365d", "value"].to_dict() == {0: 1.0, 1: 0.0, 2: 0.0}
    assert table.loc["death_recorded", "value"].to_dict() == {0: 1.0, 1: 1.0, 2: 0.0}
    assert table.loc["length_of_stay_d", "value"].to_dict() == {0: 8.0, 2: 5.0}
    assert table.loc["sofa", "value"].to_dict() == {0: 8.0, 2: 1.0}
    assert table.loc["saps_i", "value"].to_dict() == {0: 16.0, 2: 6.0}
    assert cohort.report.outcomes["in_hospital_death"].prevalence == pytest.approx(1 / 3)


def test_stays_without_an_outcome_are_kept_and_outcomes_of_other_stays_counted(tmp_path):
    cohort = outcomes_of(tmp_path, OUTCOMES + "1,16,8,8,3,1\n77,6,1,5,-1,0\n78,6,1,5,-1,0\n")
    assert len(cohort.stays) == 3
    assert cohort.report.stays_without_outcome == 2
    assert cohort.report.unknown_outcomes == 2


def test_without_an_outcomes_file_no_stay_is_labelled(tmp_path):
    cohort = read([folder(tmp_path, a=start(1))])
    assert cohort.outcomes.empty
    assert cohort.report.outcomes == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 must be a header with RecordID and In-hospital_death"),
        ("RecordID,Death\n1,0\n", "line 1 must be a header with RecordID and In-hospital_death"),
        ("RecordID,RecordID,In-hospital_death\n1,1,0\n", "line 1 must be a header"),
        (OUTCOMES + "1,16,8,8,3,1\n2,16,8,8,3\n", r"line 3 must be 6 fields separated by ',' \(here 5\)"),
        (OUTCOMES + "1,16,8,8,3,yes\n", "line 2 must be numbers"),
        (OUTCOMES + "\n1,16,8,8,3,2\n", "line 3 must be a row whose In-hospital_death is 0, 1, or -1"),
        (OUTCOMES + "1.5,16,8,8,3,1\n", "line 2 must be a row whose RecordID is a whole number"),
        (OUTCOMES + "1,16,8,8,3,1\n2,16,8,8,3,1\n1,16,8,8,3,1\n", "line 4 must be of a stay that no line before is of"),
        (OUTCOMES + "77,16,8,8,3,1\n", "must name some of the stays"),
    ],
)
def test_a_malformed_outcomes_file_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(DataError, match=rf"Outcomes\.txt,? {words}"):
        outcomes_of(tmp_path, text)


def test_an_outcomes_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="outcomes must be a readable text file"):
        read([folder(tmp_path / "set", a=start(1))], outcomes=tmp_path / "none.txt")


@pytest.mark.parametrize(("part", "deaths", "empty", "rows"), [("a", 554, 3, 1_733_713), ("b", 568, 7, 1_738_376)])
def test_the_published_sets_have_their_known_counts(data_dir, part, deaths, empty, rows):
    place = data_dir / "challenge2012"
    cohort = read([place / f"set-{part}.tar.xz"], outcomes=place / f"Outcomes-{part}.txt")
    report = cohort.report
    assert (report.stays, report.patients, report.stays_without_observation) == (4000, 4000, empty)
    assert report.outcomes["in_hospital_death"].positive == deaths
    assert (report.stays_without_outcome, report.unknown_outcomes) == (0, 0)
    assert report.observations == rows
    assert set(report.rejected) == {"missing_code", "outside_hard_limits"}
    assert np.diff([int(i) for i in cohort.stays.stay_id]).min() > 0
