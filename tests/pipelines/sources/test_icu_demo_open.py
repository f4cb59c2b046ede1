"""The open ICU demo itself: its published numbers, and what its notes may and may not change in a score."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.encoding import EncodingConfig
from models.grid import GridKind
from models.network import NetworkConfig, Reads
from models.note_sections import SectionRule
from models.scorer import Scorer, Trajectories
from models.stay import Stays
from pipelines.cohort import Cohort
from pipelines.config import load_config
from pipelines.outcomes import Outcomes
from pipelines.sources.icu_demo import read
from pipelines.sources.icu_demo_text import TABLES
from tests.models.test_live import stepped_risks
from tests.support import save_small_model

CONFIG = Path(__file__).parents[3] / "configs" / "icu-demo-notes.toml"
# What a row of text would say that knows the end.
ENDING = "Disposition: morgue\nlactulose lactate shock norepinephrine\nCardiovascular: cardiac arrest"
NOON = 12 * 60


@pytest.fixture(scope="module")
def cohort(data_dir: Path) -> Cohort:
    """The whole demo."""
    return read([data_dir / "icu-demo"])


@pytest.fixture(scope="module")
def some(cohort: Cohort) -> Cohort:
    """Sixty stays with notes before and after noon of the day."""
    minute, stay = cohort.stays.note_time_min, cohort.stays.stay_of_note()
    early, late = set(stay[minute <= NOON].tolist()), set(stay[minute > NOON].tolist())
    chosen = sorted(early & late)[:60]
    ids, known = tuple(cohort.patient_id[i] for i in chosen), cohort.outcome_rows
    rows = np.isin(known.stay, chosen)
    outcomes = Outcomes(
        known.names,
        np.searchsorted(chosen, known.stay[rows]),
        known.code[rows],
        known.time_min[rows],
        known.value[rows],
    )
    return replace(cohort, stays=cohort.stays.select(chosen), patient_id=ids, outcome_rows=outcomes)


@pytest.fixture(scope="module", params=["event", "six-hourly"])
def scorer(request: pytest.FixtureRequest, some: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model of three kinds of members with random weights that reads notes as the shipped configuration does."""
    notes = replace(load_config(CONFIG).notes, min_patients=3)
    encoding = EncodingConfig() if request.param == "event" else EncodingConfig(grid=GridKind.FIXED, width_h=6.0)
    further = [NetworkConfig(hidden_size=3, reads=Reads.NOTES), NetworkConfig(hidden_size=3, reads=Reads.SIGNALS)]
    folder = tmp_path_factory.mktemp("open") / "model"
    return save_small_model(folder, cohort=some, read=notes, further=further, encoding=encoding).scorer()


def told(stays: Stays, text: list[str], *, minute: np.ndarray | None = None) -> Stays:
    """The same stays with other notes in the same places, or at other minutes."""
    return replace(
        stays, note_text=tuple(text), note_time_min=stays.note_time_min if minute is None else minute.astype(np.int64)
    )


def without_notes(stays: Stays) -> Stays:
    """The same stays, about which nothing was written."""
    empty = np.zeros(len(stays) + 1, dtype=np.int64)
    return replace(stays, note_offsets=empty, note_time_min=empty[:0], note_kind=(), note_text=())


def by_minute(scored: Trajectories, number: int) -> dict[int, np.ndarray]:
    """A stay's risks by the minute at which each is known."""
    rows = slice(*scored.step_offsets[number : number + 2])
    return dict(zip(scored.time_min[rows].tolist(), scored.risk[rows], strict=True))


def test_the_open_demo_has_the_stays_and_deaths_of_its_published_tables(cohort):
    outcome = cohort.outcomes
    assert (len(cohort.stays), int(outcome["value"].sum())) == (1571, 138)
    assert cohort.stays.note_time_min.max() <= 1440
    assert cohort.stays.time_min.max() <= 1440
    assert set(cohort.stays.note_kind) == {one.name for one in TABLES}
    died = outcome[outcome["value"] == 1]
    assert (died["time_min"] > 1440).all()


def test_what_the_shipped_configuration_reads_states_no_end(cohort):
    notes = load_config(CONFIG).notes
    rule = SectionRule(notes.exclude, notes.exclude_lines)
    ends = re.compile(
        r"discharg|\bdie[ds]\b|\bdeath|deceas|expire|comfort care|palliat|hospice|end of life|\bdn[ri]\b", re.I
    )
    texts = sorted(set(cohort.stays.note_text))
    written = [line for text in texts for line in text.splitlines()]
    kept = [line for text in texts for line in rule.kept(text).splitlines()]
    assert any(ends.search(line) for line in written)
    assert not any(ends.search(line) for line in kept)
    assert len(kept) > 0.99 * len(written)


def test_text_charted_after_a_moment_changes_no_score_before_it(scorer, some):
    stays = some.stays
    later = stays.note_time_min > NOON
    changed = told(stays, [ENDING if late else text for text, late in zip(stays.note_text, later, strict=True)])
    before, after = scorer.score(stays), scorer.score(changed)
    early = before.time_min <= NOON
    assert early.any()
    assert np.array_equal(before.risk[early], after.risk[early])
    assert not np.array_equal(before.risk[~early], after.risk[~early])


def test_text_that_comes_later_is_known_from_then_on_alone(scorer, some):
    """A note that was there in the morning stands in the afternoon instead: the morning's scores are those without."""
    silent, end = without_notes(some.stays), int(some.stays.end_min.max())
    late = told(some.stays, list(some.stays.note_text), minute=np.full(len(some.stays.note_text), NOON + 30))
    before, after = scorer.score(silent), scorer.score(late)
    for number in range(len(silent)):
        own, other = by_minute(before, number), by_minute(after, number)
        same = [minute for minute in own if minute <= NOON]
        assert same
        assert max(np.abs(own[minute] - other[minute]).max() for minute in same) <= 1e-6
        assert np.abs(own[end] - other[end]).max() > 0


def test_a_stay_without_notes_has_a_score(scorer, some):
    risk = scorer.score(without_notes(some.stays)).risk
    assert np.isfinite(risk).all()
    assert len(np.unique(risk)) > 1


def test_real_stays_with_notes_score_live_as_they_do_whole(scorer, some):
    for number in range(6):
        stay = some.stays.select([number])
        assert np.abs(stepped_risks(scorer, stay) - scorer.score(stay).risk).max() <= 1e-6
