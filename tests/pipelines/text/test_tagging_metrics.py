"""Exact-span figures and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.text.documents import Span
from pipelines.bootstrap import Resampling
from pipelines.text.tagging_metrics import count_spans, span_difference, span_figures

A, B = Span(0, 4, "drug"), Span(6, 9, "finding")
LABELS = ("drug", "finding")
DRAWS = Resampling(draws=200)


def test_a_span_counts_only_with_both_edges_and_its_label():
    wrong = (Span(0, 3, "drug"), Span(6, 9, "drug"))
    counts = count_spans([(A, B), (A,)], [wrong, (A,)], LABELS)
    assert counts.correct.tolist() == [[0, 0], [1, 0]]
    assert counts.found.tolist() == [[2, 0], [1, 0]]
    assert counts.annotated.tolist() == [[1, 1], [1, 0]]


def test_figures_are_over_all_spans_and_by_label():
    figures = span_figures(count_spans([(A, B)] * 30, [(A,)] * 30, LABELS), [str(i) for i in range(30)], DRAWS)
    value = {name: entry["value"] for name, entry in figures.metrics.items()}
    assert value["precision"] == 1.0
    assert value["recall"] == 0.5
    assert value["f1"] == pytest.approx(2 / 3)
    assert (value["f1_drug"], value["f1_finding"]) == (1.0, 0.0)
    assert "precision_finding" in figures.undefined


spans = st.sets(st.sampled_from([A, B, Span(10, 12, "drug")])).map(lambda own: tuple(sorted(own)))


@given(st.lists(st.tuples(spans, spans), min_size=1, max_size=8))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs):
    counts = count_spans([gold for gold, _ in pairs], [found for _, found in pairs], LABELS)
    value = {name: float(v[0]) for name, v in counts.statistic(np.ones((1, len(pairs)))).items()}
    if value["precision"] > 0 and value["recall"] > 0:
        harmonic = 2 / (1 / value["precision"] + 1 / value["recall"])
        assert value["f1"] == pytest.approx(harmonic)
    assert math.isnan(value["f1"]) or 0 <= value["f1"] <= 1


def test_intervals_are_over_groups():
    rng = np.random.default_rng(0)
    found = [(A,) if rng.random() < 0.5 else () for _ in range(10) for _ in range(8)]
    counts = count_spans([(A,)] * 80, found, LABELS)
    wide = span_figures(counts, [str(i // 8) for i in range(80)], DRAWS).metrics["recall"]
    assert wide["low"] < wide["value"] < wide["high"]
    one = span_figures(counts, ["same"] * 80, DRAWS).metrics["recall"]
    assert one["low"] == one["high"]


def test_a_model_differs_from_itself_by_nothing_and_from_a_better_one_by_less():
    gold, groups = [(A, B)] * 20, [str(i) for i in range(20)]
    all_found, half_found = count_spans(gold, gold, LABELS), count_spans(gold, [(A,)] * 20, LABELS)
    assert span_difference(all_found, all_found, groups, DRAWS) == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert span_difference(half_found, all_found, groups, DRAWS)["high"] < 0


def test_documents_must_be_the_same():
    with pytest.raises(DataError, match="one a document"):
        count_spans([(A,)], [], LABELS)


def test_documents_without_spans_compare_nothing():
    counts = count_spans([()], [()], LABELS)
    with pytest.raises(DataError, match="must hold spans"):
        span_difference(counts, counts, ["a"], DRAWS)
