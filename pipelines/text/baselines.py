"""Training documents in, a TF-IDF model with logistic regression out: what a network has to beat on the same split.

Words and pairs of words; for Japanese, which has no spaces, runs of one to four characters of the NFKC text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models.errors import DataError
from models.stay import Floats
from models.text.task import TextTask, TextTaskKind

# More would not fit a laptop's memory with as many classes; the rarest features hardly weigh.
_MOST_FEATURES = 100_000
_STRENGTH = 10.0
_ROUNDS = 1000
_JAPANESE_SHARE = 0.1


@dataclass(frozen=True)
class TfidfModel:
    """A fitted baseline.

    Args:
        task: whose labels the columns of `risks` are.
        vectorizer: texts to features.
        regressions: one of all classes, or one a label; a number stands for a label that all or none have.
    """

    task: TextTask
    vectorizer: TfidfVectorizer
    regressions: tuple[LogisticRegression | float, ...]

    def risks(self, texts: Sequence[str]) -> Floats:
        """(texts, labels) probabilities; those of a classification add up to 1."""
        features = self.vectorizer.transform(texts)
        if self.task.kind is TextTaskKind.MULTILABEL:
            return np.stack([_positive(model, features) for model in self.regressions], axis=1)
        risks = np.zeros((len(texts), len(self.task.labels)))
        model = self.regressions[0]
        if isinstance(model, float):
            risks[:, int(model)] = 1.0
        else:
            risks[:, model.classes_] = model.predict_proba(features)
        return risks


def fit_tfidf(texts: Sequence[str], labels: Sequence[Sequence[str]], task: TextTask) -> TfidfModel:
    """Fits on documents; a class counts the same however rare it is.

    Args:
        texts: the training documents.
        labels: label names of each; documents without one are left out of a classification.
        task: a classification or several labels, with its label names.

    Raises:
        DataError: if no document is labelled, or one has a label that the task does not have.
    """
    several = task.kind is TextTaskKind.MULTILABEL
    rows = [i for i, own in enumerate(labels) if several or own]
    column = {name: number for number, name in enumerate(task.labels)}
    if not rows or any(name not in column for own in labels for name in own):
        raise DataError("labels must be the task's, and of one document at least, got others; correct task.labels")
    kept = [texts[i] for i in rows]
    vectorizer = _vectorizer(kept, task.language)
    features = vectorizer.fit_transform(kept)
    if several:
        targets = [np.array([name in labels[i] for i in rows], dtype=np.int64) for name in task.labels]
    else:
        targets = [np.array([column[labels[i][0]] for i in rows], dtype=np.int64)]
    return TfidfModel(task, vectorizer, tuple(_fitted(features, target) for target in targets))


def _vectorizer(texts: Sequence[str], language: str) -> TfidfVectorizer:
    characters = language == "ja" or (not language and _mostly_japanese(texts))
    return TfidfVectorizer(
        analyzer="char" if characters else "word",
        ngram_range=(1, 4) if characters else (1, 2),
        preprocessor=_plain,
        token_pattern=None if characters else r"(?u)\b\w\w+\b",
        sublinear_tf=True,
        min_df=2 if len(texts) > 1 else 1,
        max_features=_MOST_FEATURES,
    )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _mostly_japanese(texts: Sequence[str]) -> bool:
    sample = "".join(text[:1000] for text in texts[:200])
    japanese = sum("\u3040" <= c <= "\u30ff" or "\u4e00" <= c <= "\u9fff" for c in sample)
    return japanese > _JAPANESE_SHARE * len(sample)


def _fitted(features: Any, target: np.ndarray[Any, np.dtype[np.int64]]) -> LogisticRegression | float:
    if len(np.unique(target)) == 1:
        return float(target[0])
    return LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=_ROUNDS).fit(features, target)


def _positive(model: LogisticRegression | float, features: Any) -> Floats:
    if isinstance(model, float):
        return np.full(features.shape[0], model)
    positive: Floats = model.predict_proba(features)[:, 1]
    return positive
