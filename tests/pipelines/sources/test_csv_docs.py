"""The page for hospital engineers does what it says: its files are written, its command is run."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.cohort import Cohort, read_cohort
from pipelines.sources.csv_mapping import Absent, load_mapping

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "your-own-data.md").read_text(encoding="utf-8")


def block(after: str) -> str:
    found = re.search(re.escape(after) + r".*?```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, after
    return found.group(1)


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("observations.csv", "stays.csv", "outcomes.csv", "notes.csv", "map.toml"):
        file = tmp_path / "hospital" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(block(f"`hospital/{name}`:"), encoding="utf-8")
    command = shlex.split(block("\nThen:\n"))
    assert command[0] == "sequela"
    assert main([*command[1:], "--quiet"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def cohort(printed, tmp_path) -> Cohort:
    return read_cohort(tmp_path / "cohorts" / "hospital")


def test_the_report_is_the_one_on_the_page(printed):
    # The fingerprint holds the declarations of all channels, so that it changes with their table.
    assert re.sub("sha256:[0-9a-f]{64}", "sha256:...", printed).strip() == block("The report says").strip()


def test_the_cohort_is_as_the_page_describes_it(cohort):
    stays = cohort.stays
    assert stays.stay_id == ("E1", "E2", "E3")
    assert stays.end_min.tolist() == [51 * 60, 380, 80]
    last = stays.offsets[3] - 1
    assert (stays.channels[stays.channel[last]], stays.time_min[last]) == ("procalcitonin", 80)
    assert stays.value[last] == pytest.approx(0.43)
    assert stays.static[:, stays.static_names.index("height")].tolist() == pytest.approx([156.0, 156.0, 172.0])
    assert stays.note_text[0] == "室内気で呼吸平静。\n食事半量摂取。"
    assert cohort.outcome_rows.value.tolist() == [0.0, 1.0, 0.0]


def test_without_its_mapping_the_example_is_refused_with_the_remedy(printed, capsys):
    assert main(["prepare", "csv", "hospital", "--out", "cohorts/other", "--quiet"]) == 1
    assert "timezone = " in capsys.readouterr().err
    assert not Path("cohorts/other").exists()


def test_the_full_example_mapping_holds():
    mapping = load_mapping(ROOT / "configs" / "examples" / "hospital-map.toml")
    assert mapping.channel_declarations()["procalcitonin"].conversion("ng/L").factor == 0.001
    assert mapping.static_declarations()["ward"].categories == ("general", "cardiac")
    assert mapping.outcomes["sepsis"].absent is Absent.NO_EVENT
