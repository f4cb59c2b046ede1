"""Notes of stays are scanned for identifiers before a run reads them, and what is found is said by counts alone."""

from dataclasses import replace

import pytest

from models.errors import DataError
from models.record import from_plain
from pipelines.config import RunConfig, load_config
from pipelines.notes_scan import scan_notes
from pipelines.sources.simulated_notes import Language
from pipelines.sources.simulator import simulate
from pipelines.train import train
from pipelines.tune import tune
from pipelines.tune_worker import Search
from tests.architecture_rules import ROOT
from tests.pipelines.small_line import TINY


@pytest.fixture(scope="module")
def cohort():
    """Simulated stays with notes in both languages, some of which name the family."""
    return simulate(stays=120, seed=1, mean_hours=24.0, language=Language.BOTH)


def with_notes(cohort, text):
    """The cohort with another text in its first note."""
    texts = (text, *("Slept well.",) * (len(cohort.stays.note_text) - 1))
    return replace(cohort, stays=replace(cohort.stays, note_text=texts))


def config_of(**tables):
    return from_plain(RunConfig, {**TINY, **tables}, where="config")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Family of Wolzarrovsev informed.", "name"),
        ("Dr. Okonkwo called.", "name"),
        ("阿久井良卯木様の家族へ連絡。", "name"),
        ("Seen on 03/17/2008.", "date"),
        ("2024年3月4日入院。", "date"),
        ("Call 555-867-5309.", "phone"),
        ("患者ID：12345678", "record_number"),
    ],
)
def test_a_run_on_notes_that_may_name_someone_is_refused_before_it_begins(cohort, tmp_path, text, kind):
    with pytest.raises(DataError, match=rf"{kind} in 1 of .* \[identifiers\] allow") as refused:
        train([with_notes(cohort, text)], config_of(identifiers={}), folder=tmp_path, progress=False)
    assert text not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_search_is_refused_too(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.tune.read_cohorts", lambda _: cohort)
    plain = {**TINY, "identifiers": {}, "tune": {"space": {"network.hidden_size": [4, 8]}}}
    search = Search(plain, (tmp_path,), tmp_path, "s", "sqlite://", None, {})
    with pytest.raises(DataError, match="name in"):
        tune(search, say=lambda _: None)


def test_the_report_is_said_whatever_it_holds_and_not_where_no_note_is_read(cohort):
    for text in ("Slept well.", "Dr. Okonkwo called."):
        said = []
        scan_notes(with_notes(cohort, text), config_of(identifiers={"allow": ["name"]}), said.append)
        assert said[0].startswith(f"  texts with possible identifiers: {int('Dr.' in text)} of ")
        assert "Okonkwo" not in "".join(said)
    said = []
    scan_notes(with_notes(cohort, "Dr. Okonkwo called."), config_of(notes={}, identifiers={}), said.append)
    assert said == []


def test_the_demo_allows_the_names_that_are_invented_and_nothing_else(cohort):
    said = []
    config = load_config(ROOT / "configs" / "demo.toml")
    scan_notes(cohort, config, said.append)
    assert [line.split(":")[0].strip() for line in said] == ["texts with possible identifiers", "name"]
    with pytest.raises(DataError, match="date"):
        scan_notes(with_notes(cohort, "Seen on 03/17/2008."), config, said.append)
