import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.errors import ArtifactError, ConfigError, DataError
from models.text.tokenizer import PAD, Subwords, TextTokenizer, TokenizerConfig

SENTENCES = (
    "Patient stable overnight, heart rate 80, no fever.",
    "Lactate rising; sepsis suspected, cultures taken.",
    "呼吸状態は安定している。血圧は低下傾向。",
    "発熱あり。抗菌薬を開始した。白血球 12000",
)
RARE = "Mr Qxzwvyk Zhqfjw 鷗齋"


def corpus():
    rng = random.Random(0)
    notes = [(str(patient), rng.choice(SENTENCES)) for patient in range(40) for _ in range(4)]
    return notes + [("rare", f"{RARE} was seen. {SENTENCES[0]}")] * 60


def train(notes=None, **choices):
    notes = corpus() if notes is None else notes
    config = TokenizerConfig(**{"vocabulary_size": 700, **choices})
    return TextTokenizer.train([text for _, text in notes], [who for who, _ in notes], config)


TOKENIZERS = {kind: train(kind=kind) for kind in Subwords}
BOTH = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=[str(kind) for kind in TOKENIZERS])


def parts(tokenizer, text):
    return [text[start:end] for start, end in tokenizer.encode(text).offsets]


@BOTH
@pytest.mark.parametrize("text", [*SENTENCES, RARE, "🦊 <pad> <0x41> <unk>\n\tend"])
def test_english_japanese_and_unseen_text_come_back_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@BOTH
def test_offsets_point_into_the_original_text_through_nfkc(tokenizer):
    text = "体温３８．５℃ ｶﾞﾝ か\u3099 ①㎎ ﬁne"
    tokens = tokenizer.encode(text)
    covered = {i for start, end in tokens.offsets for i in range(start, end)}
    assert covered == {i for i, c in enumerate(text) if c != " "} | covered
    whole = parts(tokenizer, text)
    assert "か\u3099" in whole
    assert "ｶﾞ" in whole
    assert whole[whole.index("３") : whole.index("３") + 4] == ["３", "８", "．", "５"]


@BOTH
def test_a_tokens_own_space_is_not_part_of_it(tokenizer):
    words = parts(tokenizer, "no  fever\u3000today")
    assert "".join(words).replace(" ", "").replace("\u3000", "") == "nofevertoday"
    assert not [w for w in words if w != w.strip() and w.strip()]


@BOTH
def test_full_width_digits_units_and_powers_are_read_alike(tokenizer):
    assert tokenizer.encode("１２０㎎").ids.tolist() == tokenizer.encode("120mg").ids.tolist()
    assert tokenizer.decode(tokenizer.encode("5.3×10³ 10⁻⁶ 1½").ids) == "5.3×10^3 10^-6 1 1/2"


@BOTH
def test_every_digit_is_a_token_of_its_own(tokenizer):
    assert parts(tokenizer, "12000") == ["", *"12000"]


def test_frequent_numbers_are_tokens_where_asked_for():
    assert "12000" in " ".join(parts(train(single_digits=False), "白血球 12000"))


def test_case_is_dropped_where_asked_for():
    lower = train(lowercase=True)
    assert lower.encode("FEVER").ids.tolist() == lower.encode("fever").ids.tolist()
    assert TOKENIZERS[Subwords.BPE].encode("FEVER").ids.tolist() != lower.encode("fever").ids.tolist()


def test_frequent_words_become_single_tokens():
    assert len(TOKENIZERS[Subwords.BPE].encode(SENTENCES[0])) < 16
    assert len(TOKENIZERS[Subwords.BPE].encode(SENTENCES[2])) < 8


@BOTH
def test_a_name_in_one_groups_texts_leaves_no_token_of_more_than_one_character(tokenizer):
    learned = [token.strip("▁") for token in tokenizer.vocabulary[258:]]
    assert not [t for t in learned if len(t) > 1 and any(t in word for word in RARE.split())]
    assert not [t for t in learned if t and t in "Qxzwjq鷗齋"]


@BOTH
def test_every_learned_token_is_in_the_texts_of_enough_groups(tokenizer):
    notes = corpus()
    for token in tokenizer.vocabulary[258:]:
        bare = token.replace("▁", " ").strip()
        assert len({who for who, text in notes if bare in text}) >= 5


@BOTH
def test_no_text_is_ever_padding_or_empty(tokenizer):
    for text in ("", " ", "<pad>", "\0", "\u3000"):
        ids = tokenizer.encode(text).ids
        assert len(ids)
        assert PAD not in ids


@pytest.mark.parametrize("kind", Subwords)
def test_training_twice_gives_the_same_tokenizer(kind):
    assert train(kind=kind).to_json() == TOKENIZERS[kind].to_json()


@pytest.mark.parametrize("kind", Subwords)
def test_the_vocabulary_stays_within_its_bound(kind):
    for bound in (258, 259, 270, 300, 400):
        assert train(kind=kind, vocabulary_size=bound).vocabulary_size <= bound


@BOTH
def test_json_restores_the_tokenizer(tokenizer):
    back = TextTokenizer.from_json(tokenizer.to_json())
    assert (back.vocabulary, back.config) == (tokenizer.vocabulary, tokenizer.config)
    text = SENTENCES[3] + RARE
    assert back.encode(text).ids.tolist() == tokenizer.encode(text).ids.tolist()
    assert json.loads(tokenizer.to_json())["format"] == 1


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "config": {}, "tokenizer": {}}', '{"format": 2}'])
def test_other_json_is_refused(text):
    with pytest.raises(ArtifactError, match="tokenizer must be JSON"):
        TextTokenizer.from_json(text)


@pytest.mark.parametrize("kind", Subwords)
def test_without_texts_the_tokenizer_knows_bytes_alone(kind):
    tokenizer = train([], kind=kind)
    assert tokenizer.vocabulary_size == 258
    assert tokenizer.decode(tokenizer.encode("hello 日本").ids) == "hello 日本"


def test_every_text_needs_its_group():
    with pytest.raises(DataError, match="one a text"):
        TextTokenizer.train(["a"], [], TokenizerConfig())


@pytest.mark.parametrize("wrong", [{"vocabulary_size": 257}, {"min_groups": 0}])
def test_choices_that_do_not_hold_are_refused(wrong):
    with pytest.raises(ConfigError):
        TokenizerConfig(**wrong)


@BOTH
@given(text=st.text(st.characters(exclude_categories=[]), max_size=60))
@example(text="ｶﾞ\ud800 ﷺa\u0301 ½")
def test_any_text_has_tokens_whose_offsets_rise_and_cover_it(tokenizer, text):
    tokens = tokenizer.encode(text)
    start, end = tokens.offsets[:, 0], tokens.offsets[:, 1]
    assert (tokens.ids > 0).all()
    assert (tokens.ids < tokenizer.vocabulary_size).all()
    assert (start >= 0).all()
    assert (start <= end).all()
    assert (end <= len(text)).all()
    assert (start[1:] >= start[:-1]).all()
    covered = {i for first, last in tokens.offsets for i in range(first, last)}
    assert [c for i, c in enumerate(text) if i not in covered and not c.isspace()] == []


@given(st.lists(st.text(max_size=20), max_size=5))
def test_texts_together_are_read_as_one_by_one(texts):
    tokenizer = TOKENIZERS[Subwords.BPE]
    for text, tokens in zip(texts, tokenizer.encode_all(texts), strict=True):
        assert tokens.ids.tolist() == tokenizer.encode(text).ids.tolist()
        assert tokens.offsets.tolist() == tokenizer.encode(text).offsets.tolist()
