"""The dictionary and the linear chain that a tagger is compared with."""

from __future__ import annotations

import pytest

from models.text.documents import Span
from pipelines.text.linear_features import word_features
from pipelines.text.tagging_baselines import DictionaryTagger, LinearChainTagger


def marked(text, *mentions):
    return tuple(Span(text.index(m), text.index(m) + len(m), label) for m, label in mentions)


TEXTS = ["Renal failure after Aspirin.", "Aspirin for pain", "No pain was felt", "No pain at all", "pain"]
SPANS = [
    marked(TEXTS[0], ("Renal failure", "Disease"), ("Aspirin", "Chemical")),
    marked(TEXTS[1], ("Aspirin", "Chemical"), ("pain", "Disease")),
    (),
    (),
    (),
]


def test_the_dictionary_finds_mentions_in_any_case_and_the_longest_first():
    longer = [*TEXTS, "renal failure syndrome"]
    tagger = DictionaryTagger.train(longer, [*SPANS, marked(longer[-1], ("renal failure syndrome", "Disease"))])
    text = "ＡＳＰＩＲＩＮ: renal failure, RENAL failure syndrome"
    assert tagger.tag([text, ""]) == [
        (Span(0, 7, "Chemical"), Span(9, 22, "Disease"), Span(24, 46, "Disease")),
        (),
    ]


def test_the_dictionary_leaves_out_what_mostly_stands_unmarked():
    assert DictionaryTagger.train(TEXTS, SPANS).tag(["pain"]) == [()]


def test_of_two_labels_of_a_mention_the_more_frequent_is_the_dictionarys():
    texts = ["lead"] * 3
    spans = [(Span(0, 4, label),) for label in ("Chemical", "Disease", "Disease")]
    assert DictionaryTagger.train(texts, spans).tag(["lead"]) == [(Span(0, 4, "Disease"),)]


def test_a_dictionary_without_mentions_finds_nothing():
    assert DictionaryTagger.train(["a"], [()]).tag(["a"]) == [()]


def test_the_linear_chain_learns_its_texts_and_reads_spelling():
    pytest.importorskip("pycrfsuite")
    texts = [f"Patient took {name}in daily." for name in ("aspir", "hepar", "insul", "digox")] * 3
    spans = [(Span(13, 13 + text.index(" daily") - 13, "Chemical"),) for text in texts]
    tagger = LinearChainTagger.train(texts, spans, ("Chemical",))
    assert tagger.tag(["Patient took warfarin daily.", ""]) == [(Span(13, 21, "Chemical"),), ()]


def test_features_name_the_neighbours_and_the_edges():
    first, second = word_features(["Renal", "failure"])
    assert {"-1:edge", "0:shape=Aa", "1:w=failure", "0:p3=ren", "behind=renal|failure"} <= set(first)
    assert {"1:edge", "-1:w=renal", "before=renal|failure"} <= set(second)
