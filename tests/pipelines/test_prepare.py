"""The prepare command: what it writes, prints, refuses and imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import ConfigError, DataError
from pipelines.cli import main
from pipelines.cohort import read_cohort
from pipelines.prepare import Source, prepare
from pipelines.prepare_report import line

STAY = (
    "Time,Parameter,Value\n00:00,RecordID,{0}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n"
    "00:00,ICUType,4\n00:00,Weight,80\n00:07,HR,73\n00:07,Temp,-17.8\n03:00,,5\n"
)


@pytest.fixture
def stays(tmp_path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for record in (1, 2, 3):
        (folder / f"{record}.txt").write_text(STAY.format(record))
    (tmp_path / "Outcomes.txt").write_text("RecordID,Survival,In-hospital_death\n1,5,1\n2,-1,0\n4,-1,0\n")
    return folder


def test_the_cohort_on_disk_is_the_one_returned(tmp_path, stays):
    cohort = prepare("challenge2012", [stays], out=tmp_path / "out", outcomes=tmp_path / "Outcomes.txt")
    assert read_cohort(tmp_path / "out").fingerprint == cohort.fingerprint
    assert cohort.report.stays == 3


def test_the_command_prints_a_report_for_people(tmp_path, stays, capsys):
    arguments = ["prepare", "challenge2012", str(stays), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--outcomes", str(tmp_path / "Outcomes.txt")]) == 0
    printed = capsys.readouterr()
    for words in (
        "stays                           3",
        "rejected: empty_name            3",
        "rejected: outside_hard_limits   3  (temperature 3)",
        "outcome in_hospital_death       1 of 2 stays (50.0%)",
        "stays without outcome           1",
        "outcomes of unknown stays       1",
        "sha256:",
        "ODC-By",
    ):
        assert words in printed.out
    assert "3/3" in printed.err


def test_with_json_the_last_line_of_standard_output_is_one_object(tmp_path, stays, capsys):
    assert main(["prepare", "challenge2012", str(stays), "--out", str(tmp_path / "out"), "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["stays"] == 3
    assert result["rejected"] == {"empty_name": 3, "missing_code": 3, "outside_hard_limits": 3}
    assert result["fingerprint"] == read_cohort(tmp_path / "out").fingerprint
    assert "3/3" not in printed.err


def test_a_malformed_file_ends_with_status_1_and_leaves_no_cohort(tmp_path, stays, capsys):
    (stays / "2.txt").write_text(STAY.format(2) + "nine o'clock,HR,80\n")
    assert main(["prepare", "challenge2012", str(stays), "--out", str(tmp_path / "out"), "--json"]) == 1
    printed = capsys.readouterr()
    assert "2.txt, line 11 must be a row whose time is HH:MM" in json.loads(printed.out)["refused"]
    assert "clock" not in printed.out + printed.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Outcomes.txt", "set"]


def test_a_place_with_other_content_is_refused_before_anything_is_read(tmp_path, stays):
    with pytest.raises(DataError, match="with other content"):
        prepare("challenge2012", [tmp_path / "nowhere"], out=stays)


@pytest.mark.parametrize(
    ("source", "arguments", "words"),
    [
        ("challenge2020", {}, "source must be one of challenge2012, challenge2019, icu-demo, csv, synthetic"),
        ("challenge2012", {"paths": []}, "paths must name the files of the source challenge2012"),
        ("challenge2019", {"paths": []}, "paths must name the files of the source challenge2019"),
        ("challenge2012", {"mapping": Path("m.toml")}, "mapping must be left out"),
        ("challenge2012", {"options": {"seed": "1"}}, "options must be left out"),
        ("challenge2019", {"outcomes": Path("o.txt")}, "outcomes must be left out"),
        ("icu-demo", {"mapping": Path("m.toml")}, "mapping must be left out"),
        ("icu-demo", {"options": {"seed": "1"}}, "options must be hours alone"),
        ("synthetic", {"paths": [], "outcomes": Path("o.txt")}, "outcomes must be left out"),
    ],
)
def test_what_a_source_does_not_take_is_refused(tmp_path, stays, source, arguments, words):
    with pytest.raises(ConfigError, match=words):
        prepare(source, **{"paths": [stays], "out": tmp_path / "out", **arguments})


def test_a_source_takes_its_own_options(tmp_path, capsys):
    arguments = ["prepare", "synthetic", "--out", str(tmp_path / "out"), "--json", "--quiet"]
    assert main([*arguments, "--stays", "12", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["stays"] == 12


def test_an_unknown_source_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "nonsense", "x", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert all(str(source) in capsys.readouterr().err for source in [Source.CSV])


def test_preparing_imports_no_slow_library(tmp_path, stays):
    code = (
        "import sys; from pipelines.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or ' '.join({'torch', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)) or 0)"
    )
    arguments = ["prepare", "challenge2012", str(stays), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--outcomes", str(tmp_path / "Outcomes.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


def test_a_long_name_in_the_report_stays_apart_from_its_fact():
    assert line("outcome in_hospital_death_true_risk", "12 stays") == "outcome in_hospital_death_true_risk 12 stays"
    assert line("stays", "12") == "stays" + " " * 27 + "12"
