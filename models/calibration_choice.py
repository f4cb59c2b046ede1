"""Ways to calibrate and a calibration part in, how each does on patients it was not fitted on out.

The comparison is made on the calibration part alone, in folds of whole patients, and the simplest method that
is not clearly worse than the best one is kept: with few events the best of four differs from the others by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration_fit import step_weight
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind

FOLDS = 5
# Fewer patients with, or without, an event than this compare nothing.
FEWEST_PATIENTS = 10
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Sample:
    """Time steps to calibrate on.

    Args:
        logit: (steps, outputs) of the network.
        label: (steps, targets) 0 or 1, class index or number; NaN = not supervised.
        time_h: (steps,) hours since admission.
        stay_index: (steps,) which stay a step belongs to.
        kind: what the outputs are.
        scope: whether a label is the stay's or the step's own.
    """

    logit: NDArray[Any]
    label: NDArray[Any]
    time_h: NDArray[Any]
    stay_index: Ints
    kind: TargetKind
    scope: LabelScope

    def rows(self, chosen: NDArray[np.bool_]) -> Sample:
        """Some of the steps."""
        index = self.stay_index[chosen]
        return replace(
            self, logit=self.logit[chosen], label=self.label[chosen], time_h=self.time_h[chosen], stay_index=index
        )

    def weight(self) -> Floats:
        """(steps, targets) as every output is fitted; 0 where not supervised."""
        weight: Floats = np.zeros(self.label.shape)
        for k in range(self.label.shape[1]):
            known = ~np.isnan(self.label[:, k])
            weight[known, k] = step_weight(self.stay_index[known], self.scope)
        return weight


# Fits a method on a sample; what it gives turns logits (steps, outputs) and hours (steps,) into risks.
Fit = Callable[[str, Sample], Callable[[NDArray[Any], NDArray[Any]], Floats]]


@dataclass(frozen=True)
class Candidate:
    """How one method did.

    Args:
        method: its name.
        log_loss: mean over stays that it was not fitted on.
        excess: its log loss less that of the best method.
        excess_error: standard error of that difference over patients.
    """

    method: str
    log_loss: float
    excess: float
    excess_error: float


def compare(methods: Sequence[str], fit: Fit, sample: Sample, *, patient_index: Ints) -> tuple[Candidate, ...]:
    """Cross-validated log loss of every method of a binary task, the same patients meeting all of them.

    Args:
        methods: the simplest first.
        fit: fits one of them.
        sample: the calibration part.
        patient_index: (steps,) which patient a step belongs to.

    Returns:
        a candidate a method, in the same order; none where the target is not binary, or an output has fewer than
        `FEWEST_PATIENTS` patients of either class.
    """
    patients, patient = np.unique(patient_index, return_inverse=True)
    if sample.kind is not TargetKind.BINARY or _fewest(patient, sample.label) < FEWEST_PATIENTS:
        return ()
    fold = _folds(patient, np.any(sample.label > 0, axis=1))[patient]
    weight = sample.weight()
    losses = np.zeros((len(methods), len(patients)))
    for number in range(FOLDS):
        held = fold == number
        fitted_on, scored = sample.rows(~held), sample.rows(held)
        for i, method in enumerate(methods):
            risk = fit(method, fitted_on)(scored.logit, scored.time_h)
            row_loss = (weight[held] * log_loss(risk, scored.label)).sum(axis=1)
            losses[i] += np.bincount(patient[held], weights=row_loss, minlength=len(patients))
    return _candidates(methods, losses, float(weight.sum()))


def simplest(candidates: Sequence[Candidate]) -> str:
    """The first method that is within one standard error of the best.

    Source: Breiman et al. 1984, Classification and regression trees, section 3.4.3 (the rule); the error is that
    of the difference, because all methods met the same patients.

    Example:
        >>> simplest([Candidate("a", 0.31, 0.01, 0.02), Candidate("b", 0.30, 0.0, 0.0)])
        'a'
    """
    return next(c.method for c in candidates if c.excess <= c.excess_error)


def log_loss(risk: Floats, label: NDArray[Any]) -> Floats:
    """(rows, outputs) of every risk; 0 where there is no label."""
    likelihood = np.where(label > 0, risk, 1.0 - risk)
    return np.asarray(np.where(np.isnan(label), 0.0, -np.log(np.maximum(likelihood, _SMALLEST))))


def _candidates(methods: Sequence[str], losses: Floats, total: float) -> tuple[Candidate, ...]:
    """From the (methods, patients) sums of the loss and the weight of all steps."""
    excess = losses - losses[int(np.argmin(losses.sum(axis=1)))]
    error = np.sqrt(losses.shape[1] * excess.var(axis=1)) / total
    return tuple(
        Candidate(str(method), float(losses[i].sum() / total), float(excess[i].sum() / total), float(error[i]))
        for i, method in enumerate(methods)
    )


def _fewest(patient: Ints, label: NDArray[Any]) -> int:
    """Patients of the rarer class of any output."""
    counts = [len(np.unique(patient[label[:, k] == truth])) for k in range(label.shape[1]) for truth in (0, 1)]
    return min(counts)


def _folds(patient: Ints, positive: NDArray[np.bool_]) -> Ints:
    """(patients,) number of the fold; patients with an event are dealt out first, so that every fold holds some."""
    event = np.bincount(patient, weights=positive) > 0
    # The folds are no source of luck to be tuned: one fixed shuffle.
    shuffled = np.random.default_rng(0).permutation(len(event))
    dealt = np.concatenate([shuffled[event[shuffled]], shuffled[~event[shuffled]]])
    fold = np.empty(len(event), dtype=np.int64)
    fold[dealt] = np.arange(len(event)) % FOLDS
    return fold
