"""A hold-out's scores and a model's uncertainty in, how well label sets and intervals hold there out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.special import betaincinv

from models.stay import Floats, Ints
from models.task import TargetKind, TaskSpec
from models.uncertainty import Bools, PatientDraw, Uncertainty, quantile_rank
from pipelines.bootstrap import Estimates, Resampling, estimate, with_exact_end
from pipelines.calibrate import candidate_steps
from pipelines.config import RunConfig
from pipelines.metrics import Statistic
from pipelines.scores import StepScores


def uncertainty_figures(
    scores: StepScores, task: TaskSpec, uncertainty: Uncertainty, resampling: Resampling, *, key: str
) -> dict[str, Estimates]:
    """What the label sets promised, measured on one step a patient, of every output.

    For each level `conformal_coverage_event_<level>` and `conformal_coverage_no_event_<level>` (of several
    classes `conformal_coverage_<level>` of the output's class), the same with `conformal_expected_`, which is what
    `expected_coverage` says of as many calibration patients, `abstain_share_<level>` (all labels in the set)
    and `neither_share_<level>` (no label); and `interval_width`, the mean width of the Venn-Abers interval.

    Args:
        scores: of the hold-out.
        task: what was predicted.
        uncertainty: of the model.
        resampling: how intervals are made.
        key: of the split; draws which step of a patient counts.

    Returns:
        estimates by the output's name.
    """
    steps = candidate_steps(scores, task, key)
    risk, label = scores.risk[steps.rows], scores.label[steps.rows]
    draw = PatientDraw(steps.patient_index, steps.order)
    inside = uncertainty.label_sets(risk)
    found = {}
    for k, name in enumerate(task.output_names):
        target = 0 if task.kind is TargetKind.MULTICLASS else k
        estimates = Estimates()
        own = label[:, target]
        for suffix, number in _classes(task, k):
            rows = draw.first(own == number)
            columns = {f"conformal_coverage{suffix}": inside[rows, target, :, number]}
            _add(estimates, columns, uncertainty.levels, steps.patient_index[rows], resampling)
            patients = uncertainty.sets[target].patients[number]
            for level in uncertainty.levels:
                expected = expected_coverage(level, patients, share=resampling.level)
                estimates.metrics[f"conformal_expected{suffix}_{level:g}"] = expected
        rows = draw.first(~np.isnan(own))
        sizes = inside[rows, target].sum(axis=-1)
        shares = {"abstain_share": sizes == inside.shape[-1], "neither_share": sizes == 0}
        _add(estimates, shares, uncertainty.levels, steps.patient_index[rows], resampling)
        if (ends := uncertainty.interval(risk[rows])) is not None:
            width = {"interval_width": (ends[1] - ends[0])[:, k]}
            estimates.merge(estimate(_means(width), steps.patient_index[rows], resampling))
        found[name] = estimates
    return found


def expected_coverage(level: float, patients: int, *, share: float = 0.95) -> dict[str, float]:
    """What coverage to expect of one model, whose calibration patients were drawn once.

    The promise is kept on average over draws of the calibration patients. In one draw the bound lies too low or too
    high by chance, so that one model covers less or more in all new patients: a Beta distribution tells how much.

    Args:
        level: of the label sets.
        patients: of the class, who calibrated the sets.
        share: of all draws whose coverage lies between `low` and `high`.

    Returns:
        mean over draws as `value`, and `low` and `high`; all 1 where patients are too few for a bound.

    Source: Vovk 2012, Conditional validity of inductive conformal predictors, section 3 (training conditional).

    Example:
        >>> {name: round(number, 3) for name, number in expected_coverage(0.9, 200).items()}
        {'value': 0.9, 'low': 0.856, 'high': 0.938}
    """
    rank = quantile_rank(level, patients)
    if rank > patients:
        return {"value": 1.0, "low": 1.0, "high": 1.0}
    low, high = betaincinv(rank, patients + 1 - rank, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return {"value": rank / (patients + 1), "low": float(low), "high": float(high)}


def with_uncertainty(
    figures: Mapping[str, Any], scores: StepScores, uncertainty: Uncertainty | None, config: RunConfig
) -> dict[str, Any]:
    """What `evaluate` found on a hold-out, and what the label sets promised there; the same without any.

    Args:
        figures: of `pipelines.evaluate.evaluate`.
        scores: of the same hold-out.
        uncertainty: of the model.
        config: of the model's run.
    """
    if uncertainty is None:
        return dict(figures)
    task = config.task
    found = uncertainty_figures(scores, task, uncertainty, config.evaluation.resampling, key=config.split.key)
    outputs = {name: {**entries, **found[name].metrics} for name, entries in figures["outputs"].items()}
    missing = {f"{name}/{metric}": why for name, e in found.items() for metric, why in e.undefined.items()}
    # Over several classes there is no one promise: theirs stand with the outputs.
    whole = {} if task.kind is TargetKind.MULTICLASS else next(iter(found.values())).metrics
    return {
        **figures,
        "metrics": {**figures["metrics"], **whole},
        "outputs": outputs,
        "undefined": {**figures["undefined"], **missing},
    }


def _classes(task: TaskSpec, output: int) -> Iterator[tuple[str, int]]:
    """What a class is called in a metric's name, and its number among the labels of a set."""
    if task.kind is TargetKind.MULTICLASS:
        yield "", output
    else:
        yield from (("_no_event", 0), ("_event", 1))


def _add(
    found: Estimates, columns: dict[str, Bools], levels: tuple[float, ...], patient: Ints, resampling: Resampling
) -> None:
    named = {
        f"{name}_{level:g}": column[:, i].astype(np.float64)
        for name, column in columns.items()
        for i, level in enumerate(levels)
    }
    if len(patient):
        shares = estimate(_means(named), patient, resampling)
        patients = len(np.unique(patient))
        shares.metrics.update(
            {name: with_exact_end(share, patients, resampling.level) for name, share in shares.metrics.items()}
        )
        found.merge(shares)
    else:
        found.undefined.update(dict.fromkeys(named, "no patient of this class is here"))


def _means(columns: dict[str, Floats]) -> Statistic:
    def statistic(weight: Floats) -> dict[str, Floats]:
        total = weight.sum(axis=1)
        return {name: weight @ column / total for name, column in columns.items()}

    return statistic
