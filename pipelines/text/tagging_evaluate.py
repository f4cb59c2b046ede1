"""A tagger and annotated documents in, exact-span figures with intervals out, beside those of other taggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.errors import DataError
from models.stay import Floats
from models.text.tagger import TaggedSpan, Tagger
from pipelines.bootstrap import Estimates, Resampling, estimate
from pipelines.metrics import calibration_error
from pipelines.text.corpus import Corpus
from pipelines.text.tagging_baselines import SpanTagger
from pipelines.text.tagging_metrics import SpanCounts, count_spans, group_numbers, span_difference, span_figures

# Documents that are tagged together; bounds the memory of a large corpus.
_DOCUMENTS_AT_ONCE = 256


def tag_documents(tagger: Tagger, texts: Sequence[str]) -> list[tuple[TaggedSpan, ...]]:
    """The spans of every text, tagged some documents at a time."""
    found: list[tuple[TaggedSpan, ...]] = []
    for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
        found += tagger.tag(texts[start : start + _DOCUMENTS_AT_ONCE])
    return found


def judge_tagger(
    tagger: Tagger, corpus: Corpus, resampling: Resampling, *, rivals: Mapping[str, SpanTagger] | None = None
) -> dict[str, Any]:
    """Figures of a tagger and of its rivals on the same documents.

    Args:
        tagger: what is judged.
        corpus: annotated documents that it has not seen.
        resampling: how intervals are made; groups are drawn.
        rivals: other taggers by name.

    Returns:
        `documents`, `groups`, `spans`, `metrics` (precision, recall, f1, those of every label, and the calibration
        error of the probabilities), and for every rival its `metrics` and the `difference` of F1, ours less its own.

    Raises:
        DataError: if the corpus has no span, or one with a label that the tagger does not know.
    """
    labels = tagger.tag_set.labels
    if not corpus.span_labels or set(corpus.span_labels) - set(labels):
        raise DataError(
            f"corpus must hold spans with the model's {len(labels)} labels, got {len(corpus.span_labels)} labels of "
            "which some are others, or none; evaluate on annotated documents"
        )
    tagged = tag_documents(tagger, corpus.documents.text)
    counts = count_spans(corpus.spans, [[t.span for t in spans] for spans in tagged], labels)
    figures = span_figures(counts, corpus.group, resampling)
    figures.merge(_sureness(tagged, corpus, resampling))
    report: dict[str, Any] = {
        "documents": len(corpus),
        "groups": len(set(corpus.group)),
        "spans": int(counts.annotated.sum()),
        "metrics": figures.metrics,
    }
    judged = {name: _judge_rival(rival, counts, corpus, resampling) for name, rival in (rivals or {}).items()}
    return report | {"rivals": judged} if judged else report


def _judge_rival(rival: SpanTagger, ours: SpanCounts, corpus: Corpus, resampling: Resampling) -> dict[str, Any]:
    counts = count_spans(corpus.spans, rival.tag(corpus.documents.text), ours.labels)
    return {
        "metrics": span_figures(counts, corpus.group, resampling).metrics,
        "difference": {"f1": span_difference(ours, counts, corpus.group, resampling)},
    }


def _sureness(tagged: Sequence[Sequence[TaggedSpan]], corpus: Corpus, resampling: Resampling) -> Estimates:
    """How far the probabilities of the found spans lie from the share of them that is right (`ece`)."""
    group = group_numbers(corpus.group)
    rows = [
        (document, found.probability, found.span in gold)
        for document, (spans, gold) in enumerate(zip(tagged, map(set, corpus.spans), strict=True))
        for found in spans
    ]
    if not rows:
        return Estimates(undefined={"ece": "no span was found"})
    probability: Floats = np.array([row[1] for row in rows])
    right: Floats = np.array([row[2] for row in rows], dtype=np.float64)
    document = np.array([row[0] for row in rows], dtype=np.int64)
    return estimate(calibration_error(right, probability), group[document], resampling)
