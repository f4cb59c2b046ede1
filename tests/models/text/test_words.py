"""Words and their places, and windows of sentences."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.words import known_form, normalised, sentence_windows, split_words


def words(text):
    return [text[a:b] for a, b in split_words(text).tolist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Parkinson's disease", ["Parkinson", "'", "s", "disease"]),
        ("5-FU 10mg", ["5", "-", "FU", "10mg"]),
        ("肺癌（T2b）。", ["肺", "癌", "（", "T2b", "）", "。"]),
        ("ﾊﾞﾝｺﾏｲｼﾝ", ["ﾊﾞ", "ﾝ", "ｺ", "ﾏ", "ｲ", "ｼ", "ﾝ"]),
        ("か\u3099ん", ["か\u3099", "ん"]),
        ("cafe\u0301 ok", ["cafe\u0301", "ok"]),
        ("ＣＴで５㎎", ["ＣＴ", "で", "５", "㎎"]),
        ("a_b", ["a", "_", "b"]),
        (" \n\t", []),
    ],
)
def test_words_are_cut_at_spaces_marks_and_japanese_characters(text, expected):
    assert words(text) == expected


@given(st.text(max_size=60))
def test_words_hold_every_character_that_is_no_space_once(text):
    assert "".join(words(text)) == "".join(text.split()).replace("\x1c", "") or any(
        c.isspace() for c in "".join(words(text))
    )
    assert all(a < b for a, b in split_words(text).tolist())


@given(st.text(max_size=60))
def test_normalising_words_is_normalising_their_text(text):
    # A word holds its combining marks, so that NFKC composes nothing across two words.
    joined = " ".join(words(text))
    assert unicodedata.normalize("NFKC", joined) == " ".join(normalised(word) for word in words(text))


def test_words_are_known_without_case_and_digits():
    assert known_form("IL-6") == "il-0"


def windows(text, limit):
    found = split_words(text)
    return [text[found[a, 0] : found[b - 1, 1]] for a, b in sentence_windows(text, found, limit)]


def test_windows_hold_whole_sentences_up_to_the_limit():
    assert windows("One two. Three four. Five six seven.", 6) == ["One two. Three four.", "Five six seven."]


def test_a_point_within_a_number_ends_no_sentence():
    assert windows("Give 0.5 mg. Stop.", 7) == ["Give 0.5 mg.", "Stop."]


def test_japanese_sentences_and_lines_end_without_a_space():
    assert windows("肺癌。胸水なし", 3) == ["肺癌。", "胸水なし"]
    assert windows("one\ntwo", 1) == ["one", "two"]


def test_a_long_sentence_stands_alone_and_a_very_long_one_is_cut():
    assert windows("a b c d e f. g.", 3) == ["a b c d e f.", "g."]
    assert windows(" ".join("abcdefghi"), 2) == ["a b c d e f g h", "i"]


@given(st.text(max_size=80), st.integers(1, 9))
def test_windows_hold_every_word_once_in_order(text, limit):
    found = split_words(text)
    cut = sentence_windows(text, found, limit)
    assert [word for a, b in cut for word in range(a, b)] == list(range(len(found)))
    assert all(b - a <= 4 * limit for a, b in cut)
