"""Notes as bags of terms: which terms enter, what is read of a text, and what is left out of it."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ArtifactError, ConfigError, DataError
from models.note_reader import SectionReader, reader_from_json, train_reader
from models.note_sections import SectionRule
from models.note_terms import NoteTerms, terms_of
from models.notes import NoteReading, NotesConfig, NoteTokenizer

CONFIG = NotesConfig(enabled=True, reading=NoteReading.TERMS, min_patients=3, vocabulary_size=50)
LINE = "Motor Score: 6"


def train(texts, patients=None, config=CONFIG):
    return train_reader(texts, patients or [str(i) for i in range(len(texts))], config)


def words(reader, text):
    return [reader.vocabulary[number] for number in reader.encode(text)]


def test_a_line_and_its_words_are_terms_whatever_the_case_width_and_spaces():
    reader = train([LINE] * 3)
    assert words(reader, "MOTOR  score:６") == ["=motor score 6", "motor", "score", "6"]


def test_each_term_is_read_once_and_unknown_ones_are_not():
    reader = train([LINE] * 3)
    assert words(reader, "motor score\nscore of Mr Qxzwvyk\nmotor") == ["motor", "score"]
    assert words(reader, "Qxzwvyk") == words(reader, "") == ["<none>"]


def test_a_term_of_few_patients_does_not_enter_however_often_they_have_it():
    texts = [LINE] * 3 + ["Mr Qxzwvyk was seen"] * 50
    reader = train(texts, ["a", "b", "c", *["d", "e"] * 25])
    assert not {"qxzwvyk", "seen"} & set(reader.vocabulary)


def test_the_vocabulary_keeps_what_most_patients_have():
    texts = ["common"] * 9 + ["rarer"] * 4
    assert train(texts, config=NotesConfig(reading=NoteReading.TERMS, vocabulary_size=3)).vocabulary[2:] == ("common",)


def test_text_without_spaces_is_read_by_pairs_of_characters():
    assert list(terms_of("血圧低下 38.5℃")) == ["=血圧 圧低 低下 38.5 c", "血圧", "圧低", "低下", "38.5", "c"]


def test_a_long_line_is_read_by_its_words_alone():
    assert not [term for term in terms_of("word " * 60) if term.startswith("=")]


@given(st.text(), st.lists(st.text(max_size=30), max_size=5))
def test_any_text_is_encoded_alike_after_storing(text, texts):
    reader = train([*texts, LINE, LINE, LINE])
    again = reader_from_json(reader.to_json())
    ids = again.encode(text)
    assert ids == reader.encode(text)
    assert len(set(ids)) == len(ids) >= 1
    assert all(0 < number < reader.vocabulary_size for number in ids)


def test_notes_end_to_end_are_those_one_by_one():
    reader = train([LINE] * 3)
    ids, offsets = reader.encode_all([LINE, "", "motor"])
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [reader.encode(text) for text in (LINE, "", "motor")]


def test_texts_without_patients_are_refused():
    with pytest.raises(DataError, match="patient_ids must be one a text"):
        NoteTerms.train([LINE], [], CONFIG)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"terms": 1}', '{"max_tokens": 3}'])
def test_what_is_no_reader_is_refused(text):
    with pytest.raises(ArtifactError):
        reader_from_json(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Plan: fluids\nDischarge diagnosis: dead\nat 9 pm\nExam: clear", "Plan: fluids\nExam: clear"),
        ("DISCHARGE SUMMARY\nwell\nPLAN\nrest", "PLAN\nrest"),
        ("# Discharge\nhome\n# Plan\nrest", "# Plan\nrest"),
        ("【退院時所見】\n軽快\n【経過】\n安定", "【経過】\n安定"),
        ("退院：自宅\n経過：安定", "経過：安定"),
        ("recharged: yes\nno discharge from the wound", "recharged: yes\nno discharge from the wound"),
        ("Death: 3 pm", ""),
    ],
)
def test_sections_that_state_the_outcome_are_left_out_up_to_the_next_heading(text, kept):
    assert SectionRule(["discharge", "death", "退院"]).kept(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("support: Palliative  care consult\nExam: clear", "Exam: clear"),
        ("Plan: fluids\nwe agreed on comfort care.\nrest", "Plan: fluids\nrest"),
        ("Comfort care discussed: yes\nfamily agrees", "family agrees"),
        ("緩和ケアへ移行\n血圧低下", "血圧低下"),
        ("Plan: comfortable", "Plan: comfortable"),
    ],
)
def test_a_line_that_states_the_outcome_is_left_out_wherever_it_does(text, kept):
    assert SectionRule([], ["palliative care", "comfort care", "緩和ケア"]).kept(text) == kept


def test_an_excluded_line_that_is_a_heading_ends_the_section_before_it():
    assert SectionRule(["discharge"], ["hospice"]).kept("Discharge: home\nHospice: asked\nold") == "old"


def test_an_empty_phrase_is_refused():
    with pytest.raises(ConfigError, match=r"notes\.exclude must hold words"):
        SectionRule([" "])
    with pytest.raises(ConfigError, match=r"notes\.exclude_lines must hold words"):
        SectionRule([], [""])


@given(st.text())
def test_without_a_rule_text_is_as_it_was(text):
    assert SectionRule([]).kept(text) == text


@pytest.mark.parametrize("reading", list(NoteReading))
def test_an_excluded_section_reaches_neither_vocabulary_nor_ids(reading):
    rule = {"exclude": ("discharge",), "exclude_lines": ("comfort care",)}
    config = NotesConfig(enabled=True, reading=reading, min_patients=2, vocabulary_size=500, **rule)
    texts = ["Exam: clear lungs\nPlan: comfort care in hospital\nDischarge: hospice tonight"] * 4
    reader = reader_from_json(train(texts, config=config).to_json())
    assert isinstance(reader, SectionReader)
    assert (reader.rule.exclude, reader.rule.exclude_lines) == (rule["exclude"], rule["exclude_lines"])
    assert not any("hosp" in token for token in reader.vocabulary)
    assert reader.encode(texts[0]) == reader.encode("Exam: clear lungs")
    assert reader.encode_all(texts[:1])[0].tolist() == reader.encode("Exam: clear lungs")


def test_a_reader_that_was_stored_without_lines_to_exclude_is_read():
    stored = json.loads(train([LINE] * 3, config=replace(CONFIG, exclude=("death",))).to_json())
    del stored["exclude_lines"]
    assert words(reader_from_json(json.dumps(stored)), "Death: 3 pm\nExam: score") == ["score"]


def test_tokens_without_a_rule_are_stored_as_ever():
    config = NotesConfig(enabled=True, min_patients=1)
    reader = train([LINE] * 3, config=config)
    assert isinstance(reader, NoteTokenizer)
    assert reader.to_json() == NoteTokenizer.train([LINE] * 3, list("012"), config).to_json()
