"""Labels of documents, those that were named and their risks in, figures with intervals over draws of groups out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.stay import Floats
from pipelines import metrics
from pipelines.bootstrap import Estimates, Resampling, draw_weights, estimate, interval
from pipelines.metrics import Statistic
from pipelines.text.tagging_metrics import group_numbers

Table = NDArray[np.bool_]


def naming(truth: Table, named: Table, labels: Sequence[str]) -> Statistic:
    """`macro_f1`, `micro_f1`, `exact` (every label right), and F1, precision and recall of every label.

    A label that a draw neither has nor names counts in no mean; `macro_f1` is that of scikit-learn.

    Args:
        truth: (documents, labels) whether the document has the label.
        named: (documents, labels) whether the model named it.
        labels: their names.
    """
    both, own, ours = (np.asarray(t, dtype=np.float64) for t in (truth & named, truth, named))
    right = np.asarray((truth == named).all(axis=1), dtype=np.float64)

    def statistic(weight: Floats) -> dict[str, Floats]:
        correct, held, found = (weight @ table for table in (both, own, ours))
        with np.errstate(divide="ignore", invalid="ignore"):
            f1 = 2.0 * correct / (held + found)
            values = {
                "macro_f1": _mean(f1),
                "micro_f1": 2.0 * correct.sum(1) / (held + found).sum(1),
                "exact": weight @ right / weight.sum(1),
            }
            for column, label in enumerate(labels):
                values[f"f1_{label}"] = f1[:, column]
                values[f"precision_{label}"] = correct[:, column] / found[:, column]
                values[f"recall_{label}"] = correct[:, column] / held[:, column]
        return values

    return statistic


def document_figures(
    truth: Table,
    named: Table,
    risk: Floats,
    labels: Sequence[str],
    groups: Sequence[str],
    resampling: Resampling,
    *,
    exclusive: bool,
) -> Estimates:
    """What `naming` gives, and how good the risks are: ranking, log loss, Brier score and calibration error.

    Args:
        truth: (documents, labels).
        named: (documents, labels).
        risk: (documents, labels).
        labels: their names.
        groups: of the documents.
        resampling: how intervals are made.
        exclusive: whether a document has exactly one label.
    """
    numbers = group_numbers(groups)
    found = estimate(naming(truth, named, labels), numbers, resampling)
    if exclusive:
        found.merge(estimate(metrics.class_errors(truth.argmax(axis=1), risk), numbers, resampling))
        sureness = metrics.calibration_error(truth[np.arange(len(risk)), risk.argmax(1)] * 1.0, risk.max(axis=1))
        found.merge(estimate(sureness, numbers, resampling))
    else:
        errors = metrics.probability_errors(truth.astype(np.float64).ravel(), risk.ravel())
        found.merge(estimate(errors, np.repeat(numbers, risk.shape[1]), resampling))
    return found


def naming_difference(
    truth: Table,
    ours: Table,
    theirs: Table,
    labels: Sequence[str],
    groups: Sequence[str],
    resampling: Resampling,
    *,
    metric: str = "macro_f1",
) -> dict[str, float]:
    """`metric` of the first less that of the second, both met by the same draws of groups.

    Returns:
        `value`, `low` and `high`.

    Raises:
        DataError: if the metric is not defined for these documents.
    """
    numbers = group_numbers(groups)
    first, second = (_drawn(naming(truth, named, labels), metric, numbers, resampling) for named in (ours, theirs))
    entry = interval(metric, float(first[0] - second[0]), first[1:] - second[1:], resampling.level)
    if entry is None:
        raise DataError(f"documents must hold labels to compare {metric}, got none; use labelled documents")
    return {name: float(entry[name]) for name in ("value", "low", "high")}


def _drawn(statistic: Statistic, metric: str, numbers: NDArray[np.int64], resampling: Resampling) -> Floats:
    """The metric on all documents, then its draws."""
    weights = draw_weights(numbers, int(numbers.max(initial=-1)) + 1, resampling)
    whole = statistic(np.ones((1, len(numbers))))[metric]
    return np.concatenate([whole, *(statistic(weight)[metric] for weight in weights)])


def _mean(values: Floats) -> Floats:
    """(draws,) mean over the labels that have a value."""
    known = ~np.isnan(values)
    total: Floats = np.where(known, values, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return total
