"""Spans to tags and back, through words, sub-words and whatever NFKC does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.text.documents import Span
from models.text.spans import TagSet
from models.text.tokenizer import TextTokenizer, TokenizerConfig
from models.text.words import split_words

TAGS = TagSet(("drug", "disease"))
# Full-width, half-width with sounding marks, ligatures, units of one character and combining letters.
TEXTS = st.lists(
    st.sampled_from(
        [*"aB9 .-（５ｍ", "ﾊﾞ", "ｶﾞ", "が", "か\u3099", "e\u0301", "㎎", "ﬁ", "①", "肺癌", "Ⅳ", "½", "\n", "🙂"]
    ),
    min_size=1,
    max_size=20,
).map("".join)


def offsets_of(*places):
    return np.array(places, dtype=np.int32).reshape(-1, 2)


def spans_on(offsets, data):
    """Disjoint spans whose edges are those of tokens."""
    cuts = data.draw(st.sets(st.integers(0, len(offsets)), max_size=8).map(sorted))
    runs = [(a, b) for a, b in itertools.pairwise(cuts) if data.draw(st.booleans())]
    return tuple(
        Span(int(offsets[a, 0]), int(offsets[b - 1, 1]), data.draw(st.sampled_from(TAGS.labels))) for a, b in runs
    )


@given(text=TEXTS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_spans_of_words_come_back_as_they_were(text, data):
    offsets = split_words(text)
    spans = spans_on(offsets, data)
    tagged = TAGS.tag(offsets, spans)
    assert tagged.left_out == 0
    assert TAGS.spans(offsets, tagged.tags) == spans


SUBWORDS = TextTokenizer.train(["肺癌 5mg fine", "肺炎 10 mg fit"] * 3, list("abcdef"), TokenizerConfig(min_groups=2))


@given(text=TEXTS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_spans_of_subwords_cover_the_same_characters(text, data):
    words = split_words(text)
    spans = spans_on(words, data)
    offsets = SUBWORDS.encode(text).offsets
    tagged = TAGS.tag(offsets, spans)
    found = TAGS.spans(offsets, tagged.tags)
    assert len(found) + tagged.left_out == len(spans)
    if tagged.left_out == 0:
        assert all(a.start <= b.start and b.end <= a.end for a, b in zip(found, spans, strict=True))


@given(tags=st.lists(st.integers(0, 4), max_size=12))
def test_any_tags_give_disjoint_spans_in_order(tags):
    offsets = offsets_of(*((i, i + 1) for i in range(len(tags))))
    spans = TAGS.spans(offsets, np.array(tags, dtype=np.int64))
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


def test_tags_are_iob2():
    tagged = TAGS.tag(offsets_of((0, 2), (3, 5), (6, 8), (8, 9)), [Span(0, 5, "disease"), Span(6, 8, "drug")])
    assert [TAGS.tags[tag] for tag in tagged.tags] == ["B-disease", "I-disease", "B-drug", "O"]


def test_neighbouring_spans_of_one_label_stay_two():
    offsets = offsets_of((0, 1), (1, 2))
    spans = (Span(0, 1, "drug"), Span(1, 2, "drug"))
    assert TAGS.spans(offsets, TAGS.tag(offsets, spans).tags) == spans


def test_of_overlapping_spans_the_longest_stays_and_the_others_are_counted():
    tagged = TAGS.tag(
        offsets_of((0, 1), (1, 2), (2, 3)), [Span(0, 1, "drug"), Span(0, 3, "drug"), Span(2, 3, "disease")]
    )
    assert [TAGS.tags[tag] for tag in tagged.tags] == ["B-drug", "I-drug", "I-drug"]
    assert tagged.left_out == 2


def test_a_span_between_tokens_is_counted_as_left_out():
    assert TAGS.tag(offsets_of((0, 1), (2, 3)), [Span(1, 2, "drug")]).left_out == 1


def test_bytes_of_one_character_are_one_span():
    offsets = offsets_of((0, 1), (0, 1), (0, 1), (1, 2))
    assert TAGS.spans(offsets, np.array([1, 1, 0, 3])) == (Span(0, 1, "drug"), Span(1, 2, "disease"))


def test_an_inner_tag_alone_opens_a_span():
    assert TAGS.runs(np.array([2, 2, 4, 0, 4])) == [(0, 2, 0), (2, 3, 1), (4, 5, 1)]


def test_inner_tags_follow_their_own_label_alone():
    allowed = TAGS.allowed()
    names = TAGS.tags
    followed = {(names[a], names[b]) for a, b in itertools.product(range(5), repeat=2) if allowed[a, b]}
    assert {pair for pair in followed if pair[1].startswith("I-")} == {
        ("B-drug", "I-drug"),
        ("I-drug", "I-drug"),
        ("B-disease", "I-disease"),
        ("I-disease", "I-disease"),
    }
    assert TAGS.first().tolist() == [True, True, False, True, False]


def test_another_label_is_refused_without_naming_it():
    with pytest.raises(DataError) as refused:
        TAGS.tag(offsets_of((0, 1)), [Span(0, 1, "secret")])
    assert "secret" not in str(refused.value)


def test_tags_of_another_text_are_refused():
    with pytest.raises(DataError, match="one a token"):
        TAGS.spans(offsets_of((0, 1)), np.array([0, 0]))


@pytest.mark.parametrize("labels", [(), ("drug", "drug")])
def test_labels_must_be_there_and_distinct(labels):
    with pytest.raises(DataError):
        TagSet(labels)


@pytest.mark.parametrize(
    ("source", "file", "share"),
    [
        ("bc5cdr", "notes-en/bc5cdr.tar.xz", 0.001),
        ("jmed", "notes-ja/crner.csv.xz", 0.02),  # words listed are parts of runs of letters and digits
        ("jmed", "notes-ja/rrner.csv.xz", 0.01),
    ],
)
def test_published_annotations_come_back_through_words(data_dir, source, file, share):
    import importlib

    corpus = importlib.import_module(f"pipelines.text.sources.{source}").read([data_dir / file])
    tags = TagSet(corpus.span_labels)
    lost = 0
    for text, spans in zip(corpus.documents.text, corpus.spans, strict=True):
        offsets = split_words(text)
        lost += len(set(spans) - set(tags.spans(offsets, tags.tag(offsets, spans).tags)))
    assert lost <= share * sum(map(len, corpus.spans))
