"""Tokens of texts in, a vector for every token out, from which tokens stand near it: an embedding's beginning.

Tokens that stand among the same others get like vectors, so that what is learnt of one from few labels holds for its
like. The counts take a pass over the texts, and the rest seconds.

Source: Levy and Goldberg 2014, Neural Word Embedding as Implicit Matrix Factorization; Levy et al. 2015, Improving
Distributional Similarity (smoothed contexts, square root of the spectrum).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from models.encoded import Encoded
from models.stay import Floats

_SMOOTHING = 0.75
_ITERATIONS = 4


def token_vectors(
    encoded: Encoded, *, vocabulary_size: int, width: int, window: int, spread: float, seed: int
) -> Tensor:
    """(vocabulary, width) float32 vectors; zero for padding, and nearly so for tokens that the texts do not hold.

    Args:
        encoded: tokens of the training texts, end to end.
        vocabulary_size: number of token ids.
        width: of a vector.
        window: tokens on either side that stand near one; nearer ones count more, by the inverse of the distance.
        spread: standard deviation of the vectors' numbers, over the tokens of the texts.
        seed: of the factorisation's random start.
    """
    association = _positive_information(_neighbours(encoded, vocabulary_size, window))
    rank = min(width, vocabulary_size - 1)
    left, strength, _ = randomized_svd(association, rank, n_iter=_ITERATIONS, random_state=seed)
    vectors = np.zeros((vocabulary_size, width), dtype=np.float32)
    vectors[:, :rank] = left * np.sqrt(strength)
    scale = float(np.sqrt(np.mean(vectors[np.asarray(encoded.features[:, 0])].astype(np.float64) ** 2)))
    vectors[0] = 0.0
    return torch.from_numpy(vectors * np.float32(spread / max(scale, 1e-12)))


def _neighbours(encoded: Encoded, vocabulary_size: int, window: int) -> scipy.sparse.csr_matrix:
    """(vocabulary, vocabulary) how often two tokens stand near each other in one text, symmetric."""
    ids = np.asarray(encoded.features[:, 0], dtype=np.int64)
    text = np.repeat(np.arange(len(encoded)), encoded.lengths)
    total = scipy.sparse.csr_matrix((vocabulary_size, vocabulary_size))
    for distance in range(1, min(window, len(ids) - 1) + 1):
        same = text[distance:] == text[:-distance]
        pair = (ids[:-distance][same], ids[distance:][same])
        weight = np.full(len(pair[0]), 1.0 / distance)
        total = total + scipy.sparse.csr_matrix((weight, pair), shape=total.shape)
    return scipy.sparse.csr_matrix(total + total.T)


def _positive_information(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """How much likelier two tokens are to stand near each other than by chance: its logarithm where above zero."""
    own: Floats = np.asarray(counts.sum(axis=1)).ravel()
    context = own**_SMOOTHING
    pairs = counts.tocoo()
    chance = own[pairs.row] * context[pairs.col] / max(float(context.sum()), 1e-12)
    value = np.maximum(np.log(pairs.data / chance), 0.0)
    kept = value > 0
    return scipy.sparse.csr_matrix((value[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape)
