"""Training documents in, a fitted linear member on their phrases out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.linear_model import LogisticRegression

from models.stay import Floats, Ints
from models.text.phrases import PhraseMember, PhrasesConfig, common_phrases, phrase_keys
from models.text.task import TextTask, TextTaskKind
from pipelines.text.dataset import TextPart

_ROUNDS = 2000
# In logits: behind what any document of the classes that were seen comes near.
_FAR = 8.0


def fit_phrases(
    parts: Sequence[TextPart], task: TextTask, config: PhrasesConfig, *, vocabulary_size: int
) -> PhraseMember:
    """Fits the linear member by logistic regression, classes weighing alike.

    Args:
        parts: the documents to learn from.
        task: what is predicted.
        config: which phrases, and how they are held.
        vocabulary_size: number of token ids.
    """
    texts, groups = [ids for part in parts for ids in part.ids], [group for part in parts for group in part.group]
    keys, rarity = common_phrases(texts, groups, config, vocabulary_size)
    member = PhraseMember(
        keys, rarity, longest=config.longest, vocabulary_size=vocabulary_size, outputs=len(task.labels)
    )
    features = phrase_table(texts, keys, rarity, longest=config.longest, vocabulary_size=vocabulary_size)
    if task.kind is TextTaskKind.MULTILABEL:
        fitted = [_regression(features, label, config.strength) for label in _columns(parts, task)]
    else:
        fitted = [_classes(features, _columns(parts, task)[0], config.strength, len(task.labels))]
    member.take(np.concatenate([w for w, _ in fitted], axis=1), np.concatenate([b for _, b in fitted]))
    return member.eval()


def phrase_table(
    texts: list[Ints], keys: Ints, rarity: Floats, *, longest: int, vocabulary_size: int
) -> scipy.sparse.csr_matrix:
    """(texts, phrases) log counts by inverse frequency, of unit length: what `PhraseMember` computes at the end."""
    columns, values, ends = [], [], [0]
    for ids in texts:
        own = np.concatenate([np.zeros(0, dtype=np.int64), *phrase_keys(ids, longest, vocabulary_size)])
        found, count = np.unique(own, return_counts=True)
        place = np.minimum(np.searchsorted(keys, found), max(len(keys) - 1, 0))
        known = keys[place] == found if len(keys) else np.zeros(len(found), dtype=bool)
        value = (1.0 + np.log(count[known])) * rarity[place[known]]
        columns.append(place[known])
        values.append(value / max(float(np.linalg.norm(value)), 1e-6))
        ends.append(ends[-1] + int(known.sum()))
    shape = (len(texts), len(keys))
    return scipy.sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), np.array(ends)), shape=shape)


def _columns(parts: Sequence[TextPart], task: TextTask) -> list[Ints]:
    label = np.concatenate([part.label for part in parts]).astype(np.int64)
    columns = len(task.labels) if task.kind is TextTaskKind.MULTILABEL else 1
    return [label[:, k] for k in range(columns)]


def _classes(features: scipy.sparse.csr_matrix, label: Ints, strength: float, classes: int) -> tuple[Floats, Floats]:
    """(phrases, classes) weights and (classes,) biases; a class that no document has is far behind all others."""
    weight, bias = np.zeros((features.shape[1], classes)), np.full(classes, -_FAR)
    held = np.unique(label)
    found_weight, found_bias = _regression(features, label, strength)
    if len(held) == 1:
        bias[held[0]] = 0.0
    elif len(held) == 2:
        # Two classes have one line between them; half of it on either side tells them apart as surely.
        weight[:, held] = found_weight * np.array([-0.5, 0.5])
        bias[held] = found_bias * np.array([-0.5, 0.5])
    else:
        weight[:, held], bias[held] = found_weight, found_bias
    return weight, bias


def _regression(features: scipy.sparse.csr_matrix, label: Ints, strength: float) -> tuple[Floats, Floats]:
    """(phrases, lines) weights and (lines,) biases; a label that all or none have is a constant."""
    classes = np.unique(label)
    if len(classes) == 1:
        sign = 1.0 if classes[0] else -1.0
        return np.zeros((features.shape[1], 1)), np.array([_FAR / 2 * sign])
    found = LogisticRegression(C=strength, class_weight="balanced", max_iter=_ROUNDS).fit(features, label)
    return found.coef_.T, found.intercept_
