"""A cohort is prepared again exactly when its source, its options or its own files changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import DataError
from pipelines.refresh import refresh_cohort, source_fingerprint
from pipelines.retrain_config import RetrainConfig


@pytest.fixture
def job(tmp_path):
    return RetrainConfig(
        source="synthetic", cohort=str(tmp_path / "cohort"), options={"stays": "40", "seed": "3", "mean_hours": "12"}
    )


def _refresh(job):
    return refresh_cohort(job, source_fingerprint(job), progress=False)


def test_an_unchanged_source_is_not_read_again(job):
    first, second = _refresh(job), _refresh(job)
    assert (first.reused, second.reused) == (False, True)
    assert second.cohort.fingerprint == first.cohort.fingerprint


def test_a_changed_source_is_read_again(job):
    first = _refresh(job)
    changed = _refresh(replace(job, options={**job.options, "seed": "4"}))
    assert not changed.reused
    assert changed.cohort.fingerprint != first.cohort.fingerprint
    assert not _refresh(job).reused


def test_a_damaged_cohort_is_prepared_again(job):
    first = _refresh(job)
    table = next(p for p in Path(job.cohort).iterdir() if p.name == "observations.parquet")
    table.write_bytes(table.read_bytes()[:-100])
    second = _refresh(job)
    assert not second.reused
    assert second.cohort.fingerprint == first.cohort.fingerprint


def test_a_cohort_that_something_else_put_there_is_not_taken_for_this_source(job, tmp_path):
    other = replace(job, cohort=str(tmp_path / "other"), options={**job.options, "seed": "9"})
    _refresh(job)
    foreign = _refresh(other).cohort
    from pipelines.cohort import write_cohort

    write_cohort(foreign, Path(job.cohort))
    assert not _refresh(job).reused


def test_the_fingerprint_follows_names_and_contents_of_all_files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("one", encoding="utf-8")
    outcomes = tmp_path / "outcomes.txt"
    outcomes.write_text("id", encoding="utf-8")
    job = RetrainConfig("challenge2012", str(tmp_path / "c"), (str(folder),), str(outcomes))
    seen = [source_fingerprint(job)]
    assert source_fingerprint(job) == seen[0]
    (folder / "a.txt").write_text("two", encoding="utf-8")
    seen.append(source_fingerprint(job))
    (folder / "a.txt").rename(folder / "b.txt")
    seen.append(source_fingerprint(job))
    (folder / "sub").mkdir()
    (folder / "sub" / "c.txt").write_text("", encoding="utf-8")
    seen.append(source_fingerprint(job))
    outcomes.write_text("id,", encoding="utf-8")
    seen.append(source_fingerprint(job))
    seen.append(source_fingerprint(replace(job, outcomes="", mapping=str(outcomes))))
    assert len(set(seen)) == len(seen)


def test_files_that_options_name_count_too(tmp_path):
    notes = tmp_path / "notes.csv"
    notes.write_text("a", encoding="utf-8")
    job = RetrainConfig("csv", str(tmp_path / "c"), options={"notes": str(notes)})
    before = source_fingerprint(job)
    notes.write_text("b", encoding="utf-8")
    assert source_fingerprint(job) != before


def test_a_source_that_is_not_there_is_refused(tmp_path):
    job = RetrainConfig("challenge2012", str(tmp_path / "c"), (str(tmp_path / "absent"),))
    with pytest.raises(DataError, match="absent"):
        source_fingerprint(job)
