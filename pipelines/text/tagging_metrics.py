"""Spans of documents as annotated and as found in, exact-span precision, recall and F1 with intervals out.

A span counts as found if its first character, its last and its label are those of the annotation. Intervals are
over draws of groups (patients, reports), never of spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import DataError
from models.stay import Floats, Ints
from models.text.documents import Span
from pipelines.bootstrap import Estimates, Resampling, draw_weights, estimate, interval
from pipelines.metrics import Statistic

Spans = Sequence[Sequence[Span]]


@dataclass(frozen=True)
class SpanCounts:
    """What was right in every document.

    Args:
        labels: the labels, in the order of the columns.
        correct, found, annotated: (documents, labels) number of spans.
    """

    labels: tuple[str, ...]
    correct: Ints
    found: Ints
    annotated: Ints

    def statistic(self, weights: Floats) -> dict[str, Floats]:
        """Precision, recall and F1 over all labels and of each, of document weights (draws, documents)."""
        correct, found, annotated = (weights @ c for c in (self.correct, self.found, self.annotated))
        values = _rates(correct.sum(1), found.sum(1), annotated.sum(1), "")
        for column, label in enumerate(self.labels):
            values |= _rates(correct[:, column], found[:, column], annotated[:, column], f"_{label}")
        return values


def count_spans(annotated: Spans, found: Spans, labels: Sequence[str]) -> SpanCounts:
    """Spans that are right, found and annotated, by document and label.

    Raises:
        DataError: if the two are not of the same documents.
    """
    if len(annotated) != len(found):
        raise DataError(f"found must be one a document, got {len(found)} for {len(annotated)}; tag every document")
    counts = np.zeros((3, len(annotated), len(labels)), dtype=np.int64)
    column = {label: number for number, label in enumerate(labels)}
    for document, (gold, mine) in enumerate(zip(annotated, found, strict=True)):
        for kind, spans in enumerate((set(gold) & set(mine), set(mine), set(gold))):
            for span in spans:
                counts[kind, document, column[span.label]] += 1
    return SpanCounts(tuple(labels), *counts)


def span_figures(counts: SpanCounts, groups: Sequence[str], resampling: Resampling) -> Estimates:
    """`precision`, `recall` and `f1`, and of each label under `f1_<label>`, with intervals over draws of groups."""
    return estimate(counts.statistic, group_numbers(groups), resampling)


def span_difference(
    ours: SpanCounts, theirs: SpanCounts, groups: Sequence[str], resampling: Resampling, *, metric: str = "f1"
) -> dict[str, float]:
    """`metric` of the first less that of the second, both met by the same draws of groups.

    Returns:
        `value`, `low` and `high`.

    Raises:
        DataError: if the metric is not defined for these documents.
    """
    numbers = group_numbers(groups)
    first, second = (_drawn(counts.statistic, metric, numbers, resampling) for counts in (ours, theirs))
    entry = interval(metric, first[0] - second[0], first[1] - second[1], resampling.level)
    if entry is None:
        raise DataError(f"documents must hold spans to compare {metric}, got none; use annotated documents")
    return {name: float(entry[name]) for name in ("value", "low", "high")}


def _drawn(statistic: Statistic, metric: str, numbers: Ints, resampling: Resampling) -> tuple[float, Floats]:
    weights = draw_weights(numbers, int(numbers.max(initial=-1)) + 1, resampling)
    drawn = np.concatenate([statistic(weight)[metric] for weight in weights])
    return float(statistic(np.ones((1, len(numbers))))[metric][0]), drawn


def _rates(correct: Floats, found: Floats, annotated: Floats, suffix: str) -> dict[str, Floats]:
    """Rates by draw; a draw without any span of the kind has none (NaN)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            f"precision{suffix}": correct / found,
            f"recall{suffix}": correct / annotated,
            f"f1{suffix}": 2.0 * correct / (found + annotated),
        }


def group_numbers(groups: Sequence[str]) -> Ints:
    """The number of every document's group, in the order of their first documents."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
