"""The audit of notes: statistics of terms that tell of the outcome, and nothing of who has them."""

import numpy as np

from models.note_reader import train_reader
from models.notes import NoteReading, NotesConfig
from pipelines.notes_audit import audit_markdown, audit_notes
from pipelines.sources.simulator import simulate

COHORT = simulate(80, 5, mean_hours=12)


def audited(exclude=(), **choices):
    stays = COHORT.stays
    died = np.zeros(len(stays))
    died[::4] = 1.0
    stay = stays.stay_of_note()
    text = tuple(
        f"{text}\nDisposition: {'morgue' if died[i] else 'homeward'}\n{COHORT.patient_id[i]}"
        for i, text in zip(stay.tolist(), stays.note_text, strict=True)
    )
    told = type(stays)(**{**vars(stays), "note_text": text})
    config = NotesConfig(enabled=True, reading=NoteReading.TERMS, exclude=tuple(exclude))
    reader = train_reader(list(text), [COHORT.patient_id[i] for i in stay], config)
    return audit_notes(told, COHORT.patient_id, died, reader, **choices)


def test_a_term_that_states_the_outcome_stands_first_with_its_counts():
    with_notes = {i for i in COHORT.stays.stay_of_note().tolist() if i % 4 == 0}
    first = next(one for one in audited() if one.term == "morgue")
    assert first.z == max(one.z for one in audited())
    assert (first.stays, first.events, first.rate) == (len(with_notes), len(with_notes), 1.0)
    assert first.log_odds_ratio > 0


def test_what_is_excluded_is_not_in_the_audit():
    terms = {one.term for one in audited(exclude=["disposition"], most=1000)}
    assert terms
    assert not {"morgue", "homeward"} & terms


def test_no_identifier_reaches_the_page():
    page = audit_markdown(audited(most=1000), NotesConfig(exclude=("death",), exclude_lines=("comfort care",)))
    assert not any(patient in page for patient in COHORT.patient_id)
    assert "Excluded headings: death." in page
    assert "Excluded lines: those with comfort care." in page
    assert len(audited(most=3)) == 3


def test_stays_without_a_known_outcome_count_for_nothing():
    config = NotesConfig(enabled=True, reading=NoteReading.TERMS)
    stay = COHORT.stays.stay_of_note()
    reader = train_reader(list(COHORT.stays.note_text), [COHORT.patient_id[i] for i in stay], config)
    assert audit_notes(COHORT.stays, COHORT.patient_id, np.full(len(COHORT.stays), np.nan), reader) == ()
