"""Tagging: what a network learns, where its spans lie, and how sure it is."""

from __future__ import annotations

import itertools

import pytest
import torch

from models.cells import Cell
from models.errors import ConfigError, DataError
from models.text.documents import Span
from models.text.spans import TagSet
from models.text.tagger import Tagger, by_length, read_windows, run_probability
from models.text.tagging_network import TaggingConfig, TaggingNetwork
from models.text.vocabulary import VocabularyConfig, WordVocabulary

SMALL = TaggingConfig(
    word_size=8, character_size=8, filters=8, affix_size=4, hidden_size=12, window=8, input_dropout=0.0, dropout=0.0
)
TEXTS = ["He took ａｓｐｉｒｉｎ. Then 頭痛 came.", "No aspirin today.", "頭痛 and 発熱 after insulin"]
SPANS = [
    (Span(8, 15, "drug"), Span(22, 24, "finding")),
    (Span(3, 10, "drug"),),
    (Span(0, 2, "finding"), Span(7, 9, "finding"), Span(16, 23, "drug")),
]


@pytest.fixture(scope="module")
def tagger():
    """A network that learned three texts by heart."""
    torch.manual_seed(0)
    vocabulary = WordVocabulary.train(TEXTS, list("abc"), VocabularyConfig(min_groups=1))
    network = make_network(vocabulary)
    windows, table = read_windows(TEXTS, vocabulary, SMALL.window)
    batch = table.batch(range(len(windows)))
    tags = torch.zeros(batch.valid.shape, dtype=torch.long)
    for row, window in enumerate(windows):
        first, last = window.offsets[0, 0], window.offsets[-1, 1]
        own = [span for span in SPANS[window.text] if first <= span.start and span.end <= last]
        tags[row, : len(window.offsets)] = torch.from_numpy(network.tag_set.tag(window.offsets, own).tags)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        network.loss(batch, tags).backward()
        optimiser.step()
    return Tagger(network, vocabulary)


def make_network(vocabulary, config=SMALL):
    return TaggingNetwork(
        config, ("drug", "finding"), words=vocabulary.word_count, characters=vocabulary.character_count
    )


def test_a_learned_text_is_tagged_in_its_own_characters(tagger):
    found = tagger.tag(TEXTS)
    assert [tuple(tagged.span for tagged in spans) for spans in found] == SPANS
    assert all(tagged.probability > 0.8 for spans in found for tagged in spans)


def test_batch_mates_change_nothing(tagger):
    together = tagger.tag([*TEXTS, "a much longer text " * 30])[: len(TEXTS)]
    alone = [tagger.tag([text])[0] for text in TEXTS]
    assert [[t.span for t in spans] for spans in together] == [[t.span for t in spans] for spans in alone]
    for a, b in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-6)


@pytest.mark.parametrize("texts", [[], [""], ["  \n "]])
def test_a_text_without_words_has_no_spans(tagger, texts):
    assert tagger.tag(texts) == [()] * len(texts)


def test_a_long_document_is_read_in_windows(tagger):
    text = TEXTS[0] + " " + "word " * 3000 + ". " + TEXTS[1]
    spans = [tagged.span for tagged in tagger.tag([text])[0]]
    assert Span(8, 15, "drug") in spans
    assert Span(len(text) - len(TEXTS[1]) + 3, len(text) - len(TEXTS[1]) + 10, "drug") in spans


def test_something_else_than_text_is_refused(tagger):
    with pytest.raises(DataError, match="strings"):
        tagger.tag([b"bytes"])


def test_the_probability_of_a_span_is_that_of_enumeration():
    torch.manual_seed(4)
    tag_set = TagSet(("drug",))
    vocabulary = WordVocabulary.train(TEXTS, list("abc"), VocabularyConfig(min_groups=1))
    crf = make_network(vocabulary).crf.__class__(tag_set.allowed(), tag_set.first()).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions, valid = torch.randn(1, 4, 3).double(), torch.ones(1, 4, dtype=torch.bool)
    single, pairs = crf.posterior(emissions, valid)
    for run in [(0, 2, 0), (1, 4, 0), (3, 4, 0), (2, 3, 0)]:
        expected = 0.0
        for tags in itertools.product(range(3), repeat=4):
            if run in tag_set.runs(torch.tensor(tags).numpy()):
                likelihood = crf.log_likelihood(emissions, torch.tensor([tags]), valid)
                expected += float(likelihood.detach().exp())
        assert run_probability(single[0], pairs[0], run, tag_set) == pytest.approx(expected, abs=1e-10)


def test_batches_hold_at_most_so_many_steps_and_every_row_once():
    lengths = [5, 1, 9, 3, 3, 40]
    batches = list(by_length(lengths, 10))
    assert sorted(itertools.chain(*batches)) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[row] for row in b) <= 10 for b in batches)


def test_unknown_words_are_met_in_training_alone():
    vocabulary = WordVocabulary.train(TEXTS, list("abc"), VocabularyConfig(min_groups=1))
    network = make_network(vocabulary, TaggingConfig(unknown_words=0.9, shape_size=0, affix_size=0))
    batch = vocabulary.table([["aspirin", "today"]]).batch([0])
    width = network.config.word_size
    trained = network.train().reader(batch)[..., :width]
    scored = network.eval().reader(batch)[..., :width]
    assert torch.equal(scored, network.reader.words(batch.words)[None])
    torch.manual_seed(0)
    assert any(not torch.equal(network.train().reader(batch)[..., :width], trained) for _ in range(20))


@pytest.mark.parametrize(
    "choice", [{"cell": Cell.GRU_D}, {"hidden_size": 0}, {"affix_size": -1}, {"dropout": 1.0}, {"unknown_words": -0.1}]
)
def test_sizes_that_make_no_network_are_refused(choice):
    with pytest.raises(ConfigError):
        TaggingConfig(**choice)
