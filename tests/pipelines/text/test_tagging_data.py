"""Parts, windows and batches of an annotated corpus."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.errors import DataError
from models.text.documents import Span
from models.text.spans import TagSet
from models.text.vocabulary import VocabularyConfig, WordVocabulary
from pipelines.split import Part, SplitConfig
from pipelines.text.tagging_data import WindowLoader, read_tagged, split_documents
from tests.pipelines.text.tagging_corpus import LABELS, made_corpus

TAGS = TagSet(LABELS)
SPLIT = SplitConfig("key", 0.6, 0.1, 0.1, 0.2)


def windows_of(texts, spans, limit=40):
    vocabulary = WordVocabulary.train(texts, [str(i) for i in range(len(texts))], VocabularyConfig(min_groups=1))
    return read_tagged(texts, spans, vocabulary, TAGS, limit)


def test_every_window_holds_the_tags_of_its_own_words():
    part = windows_of(["Aspirin helps. No pain.", "Pain"], [(Span(0, 7, "drug"), Span(18, 22, "finding")), ()], limit=3)
    assert [tags.tolist() for tags in part.tags] == [[1, 0, 0], [0, 3, 0], [0]]
    assert part.left_out == 0
    batch = part.batch([1, 2])
    assert batch.tags.tolist() == [[0, 3, 0], [0, 0, 0]]
    assert batch.words.valid.tolist() == [[True] * 3, [True, False, False]]


def test_spans_across_windows_are_counted_as_left_out():
    part = windows_of(["One. Two."], [(Span(0, 8, "drug"),)], limit=2)
    assert part.left_out == 1
    assert all(not tags.any() for tags in part.tags)


def test_an_epoch_reads_every_window_once_and_in_another_order():
    texts = [f"word{'s and' * (i % 5)} more" for i in range(70)]
    part = windows_of(texts, [()] * 70)
    loader = WindowLoader(part, batch_windows=8, seed=1)
    first, second = ([batch.words.valid.sum(1).tolist() for batch in loader] for _ in range(2))
    assert len(first) == len(loader) == 9
    assert sum(map(len, first)) == 70
    assert sorted(itertools.chain(*first)) == sorted(len(tags) for tags in part.tags)
    assert first != second


def test_groups_are_never_cut():
    corpus = made_corpus()
    parts = split_documents(corpus, SPLIT, ())
    groups = [{corpus.group[row] for row in rows} for rows in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(set(corpus.group))


def test_a_held_out_part_is_the_test_and_all_others_train():
    corpus = made_corpus(held_out=True)
    parts = split_documents(corpus, SPLIT, ("devel",))
    assert {corpus.part[row] for row in parts[Part.TEST]} == {"devel"}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(corpus)))


def test_a_part_that_the_source_does_not_have_is_refused():
    with pytest.raises(DataError, match="held_out"):
        split_documents(made_corpus(), SPLIT, ("test",))


def test_a_group_on_both_sides_of_a_held_out_part_is_refused():
    corpus = made_corpus(held_out=True)
    torn = corpus.select([*range(len(corpus) - 1)])
    object.__setattr__(torn, "group", ("same", *torn.group[1:-1], "same"))
    with pytest.raises(DataError, match="must not share"):
        split_documents(torn, SPLIT, ("devel",))
