"""A model of documents and labelled documents in, figures with intervals out, beside those of baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import DataError
from models.stay import Floats
from models.text.scorer import TextScorer
from models.text.task import TextTask, TextTaskKind
from pipelines.bootstrap import Resampling
from pipelines.text.corpus import Corpus
from pipelines.text.document_metrics import Table, document_figures, naming_difference

# Documents that are read together; bounds the memory of a large corpus.
_DOCUMENTS_AT_ONCE = 512
_EVEN = 0.5


def document_risks(scorer: TextScorer, texts: Sequence[str]) -> Floats:
    """(documents, labels) risks, some documents at a time."""
    blocks = [
        scorer.classify(texts[start : start + _DOCUMENTS_AT_ONCE]).probability
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE)
    ]
    return np.concatenate([np.zeros((0, len(scorer.bundle.task.labels))), *blocks])


def judge_documents(
    scorer: TextScorer, corpus: Corpus, resampling: Resampling, *, rivals: Mapping[str, Floats] | None = None
) -> dict[str, Any]:
    """Figures of a model and of its rivals on the same documents.

    Args:
        scorer: what is judged.
        corpus: labelled documents that it has not seen; unlabelled ones are left out of a classification.
        resampling: how intervals are made; groups are drawn.
        rivals: risks (documents, labels) of others, by name.

    Returns:
        `documents`, `groups`, `unlabelled`, `labels` (documents of each), `metrics` and, for every rival, its
        `metrics` and the `difference` of macro-F1, ours less its own.

    Raises:
        DataError: if no document is labelled, or one has a label that the model does not know.
    """
    task = scorer.bundle.task
    rows, truth = true_labels(corpus, task)
    kept = corpus.select(rows)
    risk = document_risks(scorer, kept.documents.text)
    named = as_table(scorer.named(risk), len(task.labels))
    exclusive = task.kind is TextTaskKind.CLASSIFICATION
    facts = (task.labels, kept.group, resampling)
    report: dict[str, Any] = {
        "documents": len(kept),
        "groups": len(set(kept.group)),
        "unlabelled": len(corpus) - len(kept),
        "labels": {label: int(n) for label, n in zip(task.labels, truth.sum(axis=0), strict=True)},
        "metrics": document_figures(truth, named, risk, *facts, exclusive=exclusive).metrics,
        "disclaimer": f"{DISCLAIMER_EN} {DISCLAIMER_JA}",
    }
    judged = {}
    for name, risks in (rivals or {}).items():
        theirs = named_by_risk(risks[rows], task)
        judged[name] = {
            "metrics": document_figures(truth, theirs, risks[rows], *facts, exclusive=exclusive).metrics,
            "difference": {"macro_f1": naming_difference(truth, named, theirs, *facts)},
        }
    return report | {"rivals": judged} if judged else report


def true_labels(corpus: Corpus, task: TextTask) -> tuple[list[int], Table]:
    """Rows that are judged, and whether each of their documents has each label.

    Raises:
        DataError: if none is labelled, or one has a label that the task does not know.
    """
    several = task.kind is TextTaskKind.MULTILABEL
    rows = [i for i, own in enumerate(corpus.labels) if own or several]
    number = {label: k for k, label in enumerate(task.labels)}
    own = [corpus.labels[i] for i in rows]
    if not any(own) or not set().union(*map(set, own)) <= set(number):
        raise DataError(
            f"corpus must hold documents with the model's {len(number)} labels and no others, got "
            f"{len(corpus.label_names)} labels; evaluate on documents labelled alike"
        )
    return rows, as_table([[number[label] for label in labels] for labels in own], len(number))


def as_table(named: Sequence[Sequence[int]], labels: int) -> Table:
    """(documents, labels) from the numbers of each document's labels."""
    table = np.zeros((len(named), labels), dtype=np.bool_)
    for row, own in enumerate(named):
        table[row, list(own)] = True
    return table


def named_by_risk(risk: Floats, task: TextTask) -> Table:
    """What a baseline names: the class of the highest risk, or every label that is more likely than not."""
    if task.kind is TextTaskKind.MULTILABEL:
        return np.asarray(risk >= _EVEN)
    return as_table([[int(k)] for k in risk.argmax(axis=1)], risk.shape[1])
