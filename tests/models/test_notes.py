import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ArtifactError, ConfigError, DataError
from models.notes import PAD, NotesConfig, NoteTokenizer

SENTENCES = (
    "Patient stable overnight, heart rate 80, no fever.",
    "Lactate rising; sepsis suspected, cultures taken.",
    "呼吸状態は安定している。血圧は低下傾向。",
    "発熱あり。抗菌薬を開始した。",
)
RARE = "Mr Qxzwvyk Zhqfjw 鷗齋"


def corpus():
    rng = random.Random(0)
    notes = [(str(patient), rng.choice(SENTENCES)) for patient in range(40) for _ in range(4)]
    return notes + [("rare", f"{RARE} was seen. {SENTENCES[0]}")] * 60


def train(notes=None, **choices):
    notes = corpus() if notes is None else notes
    return NoteTokenizer.train([text for _, text in notes], [who for who, _ in notes], NotesConfig(**choices))


TOKENIZER = train(vocabulary_size=700)


@pytest.mark.parametrize("text", [*SENTENCES, RARE, "🦊 <pad> <0x41> <unk>\n\tend"])
def test_english_japanese_and_unseen_text_come_back_whole(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_text_is_normalised_by_nfkc():
    assert TOKENIZER.encode("ﬁ ﾊﾟ ①") == TOKENIZER.encode("fi パ 1")


def test_frequent_words_become_single_tokens():
    assert len(TOKENIZER.encode(SENTENCES[0])) < 15
    assert len(TOKENIZER.encode(SENTENCES[2])) < 8


def test_a_name_in_one_patients_notes_leaves_no_token_of_more_than_one_character():
    learned = [token.strip("▁") for token in TOKENIZER.vocabulary[258:]]
    assert not [t for t in learned if len(t) > 1 and any(t in word for word in RARE.split())]
    assert not [t for t in learned if t and t in "Qxzwjq鷗齋"]


def test_every_learned_token_is_in_the_notes_of_enough_patients():
    notes = corpus()
    for token in TOKENIZER.vocabulary[258:]:
        bare = token.replace("▁", " ").strip()
        assert len({who for who, text in notes if bare in text}) >= 5


def test_a_token_of_too_few_patients_is_left_out_whatever_its_frequency():
    four = [(str(p), "cyanosis") for p in range(4) for _ in range(50)]
    five = [(str(p), "cyanosis") for p in range(5)]
    assert not any("cya" in token for token in train(four).vocabulary)
    assert any("cyanosis" in token for token in train(five).vocabulary)


def test_no_text_is_ever_padding_or_empty():
    for text in ("", " ", "<pad>", "\0", "\u3000"):
        ids = TOKENIZER.encode(text)
        assert ids
        assert PAD not in ids


def test_a_long_note_is_cut_to_its_first_tokens():
    tokenizer = train(max_tokens=8)
    text = " ".join(SENTENCES * 500)
    assert tokenizer.encode(text) == tokenizer.encode(text[:200])
    assert len(tokenizer.encode(text)) == 8


def test_training_twice_gives_the_same_tokenizer():
    assert train().to_json() == train().to_json()


def test_the_vocabulary_stays_within_its_bound():
    for bound in (258, 259, 270, 300, 400):
        assert train(vocabulary_size=bound).vocabulary_size <= bound


def test_json_restores_the_tokenizer():
    back = NoteTokenizer.from_json(TOKENIZER.to_json())
    assert back.vocabulary == TOKENIZER.vocabulary
    assert back.max_tokens == TOKENIZER.max_tokens
    assert back.encode(SENTENCES[3] + RARE) == TOKENIZER.encode(SENTENCES[3] + RARE)


@pytest.mark.parametrize("text", ["", "{}", '{"max_tokens": 3, "tokenizer": {}}', '{"max_tokens": "x"}'])
def test_other_json_is_refused(text):
    with pytest.raises(ArtifactError, match="tokenizer must be JSON"):
        NoteTokenizer.from_json(text)


def test_without_notes_the_tokenizer_knows_bytes_alone():
    tokenizer = train([])
    assert tokenizer.vocabulary_size == 258
    assert tokenizer.decode(tokenizer.encode("hello 日本")) == "hello 日本"
    tokens, offsets = tokenizer.encode_all([])
    assert (tokens.dtype, len(tokens), offsets.tolist()) == (np.dtype(np.int32), 0, [0])


def test_notes_are_encoded_end_to_end():
    tokens, offsets = TOKENIZER.encode_all(SENTENCES)
    for i, sentence in enumerate(SENTENCES):
        assert tokens[offsets[i] : offsets[i + 1]].tolist() == TOKENIZER.encode(sentence)


def test_every_note_needs_its_patient():
    with pytest.raises(DataError, match="one a text"):
        NoteTokenizer.train(["a"], [], NotesConfig())


@pytest.mark.parametrize("wrong", [{"vocabulary_size": 257}, {"min_patients": 0}, {"max_tokens": 0}])
def test_choices_that_do_not_hold_are_refused(wrong):
    with pytest.raises(ConfigError):
        NotesConfig(**wrong)


def test_ids_of_the_artifact_are_plain_json():
    assert json.loads(TOKENIZER.to_json())["tokenizer"]["model"]["vocab"]["<pad>"] == PAD


@given(st.text(max_size=60))
def test_any_text_encodes_to_known_ids_and_never_fails(text):
    ids = TOKENIZER.encode(text)
    assert ids
    assert all(0 < i < TOKENIZER.vocabulary_size for i in ids)
