"""The linear-chain CRF against enumeration of all tag sequences."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.text.crf import NO_TAG, LinearChainCrf
from models.text.spans import TagSet

FREE = torch.ones(3, 3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
IOB = TagSet(("drug",)).allowed(), TagSet(("drug",)).first()


def random_crf(allowed, first, seed):
    generator = torch.Generator().manual_seed(seed)
    crf = LinearChainCrf(allowed, first).double()
    for parameter in crf.parameters():
        parameter.data = 2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return crf, generator


def padded(lengths, tags, generator):
    time = max(lengths)
    valid = torch.arange(time)[None] < torch.tensor(lengths)[:, None]
    emissions = 2 * torch.randn(len(lengths), time, tags, generator=generator, dtype=torch.float64)
    return emissions, valid


def scored_sequences(crf, emissions, length):
    """Every allowed sequence of one row with its score, by plain Python."""
    for tags in itertools.product(range(len(crf.first)), repeat=length):
        pairs = list(itertools.pairwise(tags))
        if crf.first[tags[0]] and all(crf.allowed[a, b] for a, b in pairs):
            score = crf.starts[tags[0]] + crf.ends[tags[-1]] + sum(emissions[t, tag] for t, tag in enumerate(tags))
            yield tags, float((score + sum(crf.transitions[a, b] for a, b in pairs)).detach())


cases = given(
    seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3), free=st.booleans()
)


@cases
@settings(max_examples=25, deadline=None)
def test_log_likelihood_is_that_of_enumeration(seed, lengths, free):
    crf, generator = random_crf(*(FREE if free else IOB), seed)
    emissions, valid = padded(lengths, 3, generator)
    for row, length in enumerate(lengths):
        sequences = dict(scored_sequences(crf, emissions[row], length))
        partition = torch.logsumexp(torch.tensor(list(sequences.values()), dtype=torch.float64), 0)
        for tags, score in list(sequences.items())[:5]:
            batch = torch.zeros(valid.shape, dtype=torch.long)
            batch[:, :] = NO_TAG
            batch[row, :length] = torch.tensor(tags)
            batch[valid & (batch == NO_TAG)] = 0
            found = crf.log_likelihood(emissions, batch, valid)[row]
            assert float(found.detach()) == pytest.approx(score - float(partition), abs=1e-10)


@cases
@settings(max_examples=25, deadline=None)
def test_viterbi_finds_the_best_of_all_allowed_sequences(seed, lengths, free):
    crf, generator = random_crf(*(FREE if free else IOB), seed)
    emissions, valid = padded(lengths, 3, generator)
    found = crf.viterbi(emissions, valid)
    assert (found[~valid] == NO_TAG).all()
    for row, length in enumerate(lengths):
        best = max(scored_sequences(crf, emissions[row], length), key=lambda pair: pair[1])[0]
        assert tuple(found[row, :length].tolist()) == best


@cases
@settings(max_examples=25, deadline=None)
def test_posterior_is_that_of_enumeration(seed, lengths, free):
    crf, generator = random_crf(*(FREE if free else IOB), seed)
    emissions, valid = padded(lengths, 3, generator)
    single, pairs = crf.posterior(emissions, valid)
    for row, length in enumerate(lengths):
        sequences = list(scored_sequences(crf, emissions[row], length))
        weights = torch.softmax(torch.tensor([score for _, score in sequences], dtype=torch.float64), 0)
        expected, expected_pairs = torch.zeros_like(single[row]), torch.zeros_like(pairs[row])
        for (tags, _), weight in zip(sequences, weights, strict=True):
            for time, tag in enumerate(tags):
                expected[time, tag] += weight
            for time, (before, after) in enumerate(itertools.pairwise(tags)):
                expected_pairs[time, before, after] += weight
        torch.testing.assert_close(single[row], expected, atol=1e-10, rtol=0)
        torch.testing.assert_close(pairs[row], expected_pairs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("masks", [FREE, IOB])
def test_gradients_are_those_of_differences(masks):
    crf, generator = random_crf(*masks, seed=3)
    emissions, valid = padded([4, 1, 3], 3, generator)
    tags = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 0], [1, 2, 0, 0]])
    names = [name for name, _ in crf.named_parameters()]

    def likelihood(emissions, *parameters):
        arguments = (emissions, tags, valid)
        return torch.func.functional_call(crf, dict(zip(names, parameters, strict=True)), arguments)

    crf.forward = crf.log_likelihood
    inputs = [emissions.requires_grad_(), *(p.detach().clone().requires_grad_() for p in crf.parameters())]
    assert torch.autograd.gradcheck(likelihood, inputs)


def test_a_row_of_padding_alone_has_no_likelihood_to_lose():
    crf, generator = random_crf(*IOB, seed=1)
    emissions, _ = padded([2, 2], 3, generator)
    valid = torch.tensor([[True, True], [False, False]])
    assert float(crf.log_likelihood(emissions, torch.zeros(2, 2, dtype=torch.long), valid)[1].detach()) == 0.0


def test_a_sequence_that_is_not_allowed_is_impossible():
    crf, generator = random_crf(*IOB, seed=1)
    emissions, valid = padded([2], 3, generator)
    inside_first = torch.tensor([[TagSet(("drug",)).tags.index("I-drug"), 0]])
    assert float(crf.log_likelihood(emissions, inside_first, valid)[0].detach()) == float("-inf")


def test_long_sequences_stay_exact_in_single_precision():
    crf, _ = random_crf(*IOB, seed=2)
    emissions = 30 * torch.randn(2, 600, 3, generator=torch.Generator().manual_seed(0))
    emissions.requires_grad_()
    tags, valid = torch.zeros(2, 600, dtype=torch.long), torch.ones(2, 600, dtype=torch.bool)
    crf.float().log_likelihood(emissions, tags, valid).sum().backward()
    assert torch.isfinite(emissions.grad).all()
    single, _ = crf.posterior(emissions.detach(), valid)
    torch.testing.assert_close(single.sum(2), torch.ones(2, 600).double(), atol=1e-9, rtol=0)


def test_batch_mates_and_padding_change_nothing():
    crf, generator = random_crf(*IOB, seed=5)
    emissions, valid = padded([3, 5], 3, generator)
    alone = crf.viterbi(emissions[:1, :3], valid[:1, :3])
    assert crf.viterbi(emissions, valid)[0, :3].tolist() == alone[0].tolist()


@pytest.mark.parametrize(
    ("shape", "valid"),
    [((1, 2, 4), [[True, True]]), ((1, 2, 3), [[True]]), ((1, 2, 3), [[False, True]]), ((1, 0, 3), [[]])],
)
def test_shapes_that_do_not_fit_are_refused(shape, valid):
    crf = LinearChainCrf(*IOB)
    with pytest.raises(DataError):
        crf.viterbi(torch.zeros(shape), torch.tensor(valid, dtype=torch.bool).reshape(1, -1))


def test_tags_of_another_shape_are_refused():
    crf = LinearChainCrf(*IOB)
    with pytest.raises(DataError, match="tags must be of shape"):
        crf.log_likelihood(torch.zeros(1, 2, 3), torch.zeros(1, 3).long(), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("allowed", "first"),
    [
        (torch.ones(2, 3), torch.ones(2)),
        (torch.ones(2, 2), torch.ones(3)),
        (torch.ones(2, 2), torch.zeros(2)),
        (torch.tensor([[1, 1], [0, 0]]), torch.ones(2)),
    ],
)
def test_a_chain_without_sequences_is_refused(allowed, first):
    with pytest.raises(DataError):
        LinearChainCrf(allowed.bool(), first.bool())
