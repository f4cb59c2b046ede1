"""A tagger's vocabulary: what it knows, what it never stores, and its batches."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.errors import ArtifactError, ConfigError, DataError
from models.text.vocabulary import (
    FIRST_CHARACTER,
    FIRST_WORD,
    PAD,
    UNKNOWN,
    VocabularyConfig,
    WordVocabulary,
    words_of,
)

TEXTS = ["Aspirin 100mg for Kawasaki", "aspirin 250mg", "肺癌 aspirin"]
GROUPS = ["a", "b", "c"]


def trained(**choices):
    return WordVocabulary.train(TEXTS, GROUPS, VocabularyConfig(**{"min_groups": 2, **choices}))


def test_only_words_of_enough_groups_are_stored():
    stored = json.loads(trained().to_json())
    assert stored["words"] == ["aspirin", "000mg"]
    assert "K" not in stored["characters"]
    assert "肺" not in stored["characters"]


def test_one_group_repeating_a_word_makes_it_known_to_nobody():
    vocabulary = WordVocabulary.train(["Kawasaki"] * 9, ["a"] * 9, VocabularyConfig(min_groups=2))
    assert (vocabulary.word_count, vocabulary.character_count) == (FIRST_WORD, FIRST_CHARACTER)


def test_the_commonest_words_stay_where_room_is_short():
    assert json.loads(trained(words=1, characters=2).to_json())["words"] == ["aspirin"]


def test_case_and_digits_change_the_spelling_but_not_the_known_word():
    table = trained().table([["Aspirin", "aspirin", "999mg", "other"]])
    assert table.words.tolist() == [FIRST_WORD, FIRST_WORD, FIRST_WORD + 1, UNKNOWN]
    assert table.characters[0].tolist() != table.characters[1].tolist()


def test_every_distinct_word_stands_once_in_a_batch():
    vocabulary = trained()
    batch = vocabulary.table([["a", "b", "a"], ["b"]]).batch([0, 1])
    assert batch.index.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert batch.valid.tolist() == [[True, True, True], [True, False, False]]
    assert batch.words.shape == (2,)


def test_a_batch_holds_the_features_of_its_own_words_alone():
    vocabulary = trained()
    table = vocabulary.table([["aspirin"], ["x"]])
    assert table.batch([1]).characters.shape == (1, 3)
    assert table.batch([0]).words.tolist() == [FIRST_WORD]


def test_of_a_long_word_the_beginning_and_the_end_are_read():
    table = trained(longest=4).table([["aspirinmg"], ["asxxxxmg"]])
    assert table.characters[0].tolist() == table.characters[1].tolist()
    assert (table.characters[0] != PAD).sum() == 6


def test_a_vocabulary_comes_back_from_json():
    vocabulary = trained()
    again = WordVocabulary.from_json(vocabulary.to_json())
    for name in ("words", "characters", "shapes", "affixes"):
        ours, theirs = (getattr(v.table([words_of(TEXTS[0])]), name) for v in (vocabulary, again))
        np.testing.assert_array_equal(ours, theirs)
    assert again.config == vocabulary.config


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "words": [], "characters": []}'])
def test_another_file_is_refused(text):
    with pytest.raises(ArtifactError):
        WordVocabulary.from_json(text)


def test_groups_must_be_one_a_text():
    with pytest.raises(DataError, match="one a text"):
        WordVocabulary.train(TEXTS, ["a"], VocabularyConfig())


@pytest.mark.parametrize("name", ["words", "characters", "min_groups", "longest"])
def test_choices_must_be_positive(name):
    with pytest.raises(ConfigError, match=name):
        VocabularyConfig(**{name: 0})
