"""From a cohort's outcomes to targets at time steps; what `models/` never sees.

Horizons and labels are the training configuration's: the cohort keeps outcomes with their times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.encoded import Encoded
from models.errors import DataError
from models.stay import Floats, Ints, gather_ragged
from models.task import AfterEvent, LabelScope, TargetKind, TaskSpec

if TYPE_CHECKING:
    from pipelines.cohort import Cohort

MINUTES_PER_HOUR = 60
# A simulator states the risk that it drew an outcome with as a second outcome of this name.
TRUE_RISK_SUFFIX = "_true_risk"


@dataclass(frozen=True)
class StepTargets:
    """Targets of every time step, end to end like `Encoded`.

    Args:
        value: (steps, targets) float32; 0 where the weight is 0. A class index for multiclass targets,
            a standardised number for regression.
        weight: (steps, targets) float32, at least 0; 0 = not supervised.
    """

    value: NDArray[np.float32]
    weight: NDArray[np.float32]

    def select(self, step_offsets: Ints, stays: Ints) -> StepTargets:
        """The targets of the stays at these indices, in this order."""
        rows, _ = gather_ragged(step_offsets, stays)
        return StepTargets(self.value[rows], self.weight[rows])


@dataclass(frozen=True)
class StayOutcomes:
    """One outcome of every stay of a cohort.

    Args:
        value: (stays,) the outcome's value; NaN = not known.
        time_min: (stays,) minute of the event; NaN = no event or not timed.
    """

    value: Floats
    time_min: Floats


def outcomes_of(cohort: Cohort, outcome: str) -> StayOutcomes:
    """The outcome of every stay.

    Raises:
        DataError: if no stay of the cohort has it.
    """
    table = cohort.outcomes
    rows = table[table["outcome"] == outcome]
    if rows.empty:
        known = ", ".join(sorted(table["outcome"].unique())) or "none"
        raise DataError(
            f"task.outcome must be an outcome of the cohort ({known}), got {outcome!r}; "
            "name one of them or prepare the cohort with its outcomes file"
        )
    value = np.full(len(cohort.stays), np.nan)
    time_min = np.full(len(cohort.stays), np.nan)
    stay = rows["stay"].to_numpy(dtype=np.int64)
    value[stay] = rows["value"].to_numpy(dtype=np.float64)
    time_min[stay] = rows["time_min"].to_numpy(dtype=np.float64, na_value=np.nan)
    return StayOutcomes(value, time_min)


def task_outcomes(cohort: Cohort, task: TaskSpec) -> StayOutcomes:
    """The task's outcome of every stay.

    Raises:
        DataError: if no stay of the cohort has it, or its values are not of the task's kind.
    """
    outcomes = outcomes_of(cohort, task.outcome)
    known = outcomes.value[~np.isnan(outcomes.value)]
    classes = {TargetKind.BINARY: 2, TargetKind.MULTICLASS: len(task.classes), TargetKind.REGRESSION: 0}[task.kind]
    if classes and not np.isin(known, np.arange(classes)).all():
        raise DataError(
            f"outcome {task.outcome!r} must have the values 0 to {classes - 1} for a task of kind '{task.kind}', got "
            "others; correct task.kind or task.classes, or map the words in the mapping's [outcomes.<name>.values]"
        )
    return outcomes


def every_stay_has(cohort: Cohort, outcome: str) -> bool:
    """Whether the outcome of every stay is known: simulated stays state what real ones beside them cannot."""
    return int((cohort.outcomes["outcome"] == outcome).sum()) == len(cohort.stays)


def step_labels(step_offsets: Ints, time_min: Ints, outcomes: StayOutcomes, task: TaskSpec) -> Floats:
    """(steps, targets) labels in the outcome's own units; NaN = not supervised.

    A stay-scope label stands at every step of its stay: which steps count in training is a matter of
    weights (`make_targets`), and evaluation reads the step it asks for.
    """
    stay = np.repeat(np.arange(len(step_offsets) - 1), np.diff(step_offsets))
    value, event_min = outcomes.value[stay], outcomes.time_min[stay]
    if not task.horizons_h:
        label = value
        if task.scope is LabelScope.STEP:
            label = _after_event(value, event_min, time_min, task)
        return label[:, None]
    columns = [_within_horizon(value, event_min, time_min, task, hours) for hours in task.horizons_h]
    return np.stack(columns, axis=1)


def _within_horizon(value: Floats, event_min: Floats, time_min: Ints, task: TaskSpec, hours: float) -> Floats:
    if np.any((value > 0) & np.isnan(event_min)):
        raise DataError(
            f"outcome {task.outcome!r} must have a time at every event to be given horizons, got events without one; "
            "drop task.horizons_h or give the times"
        )
    ahead = event_min - time_min
    label = np.where(np.isnan(value), np.nan, ((value > 0) & (ahead <= hours * MINUTES_PER_HOUR)).astype(np.float64))
    return _after_event(label, event_min, time_min, task)


def _after_event(label: Floats, event_min: Floats, time_min: Ints, task: TaskSpec) -> Floats:
    if task.after_event is AfterEvent.IGNORED:
        return np.where(event_min <= time_min, np.nan, label)
    return label


def make_targets(label: Floats, encoded: Encoded, task: TaskSpec, *, replication: float) -> StepTargets:
    """Training targets and weights from labels.

    Args:
        label: (steps, targets) as of `step_labels`, standardised already for regression.
        encoded: the stays' time steps.
        task: the task.
        replication: for stay scope, the weight that the steps before the last share (target replication):
            0 supervises the last step alone; 0.5 gives half of a stay's weight to the mean of its other
            steps. Ignored for step scope, where every supervised step weighs 1.

    Source: Lipton et al. 2016, Learning to Diagnose with LSTM Recurrent Neural Networks (target replication).
    """
    known = ~np.isnan(label)
    weight = known.astype(np.float64)
    if task.scope is LabelScope.STAY:
        lengths = np.repeat(encoded.lengths, encoded.lengths)
        final = np.zeros(len(label), dtype=bool)
        final[encoded.step_offsets[1:] - 1] = True
        share = np.where(final, 1.0 - replication, 0.0) + replication / lengths
        weight *= share[:, None]
    return StepTargets(np.where(known, label, 0.0).astype(np.float32), weight.astype(np.float32))


def target_scale(label: Floats, encoded: Encoded, task: TaskSpec) -> tuple[float, float]:
    """Mean and standard deviation of a regression target over stays (each weighs one); (0, 1) otherwise."""
    if task.kind is not TargetKind.REGRESSION:
        return 0.0, 1.0
    last = label[encoded.step_offsets[1:] - 1, 0]
    last = last[~np.isnan(last)]
    spread = float(last.std()) if len(last) else 0.0
    return (float(last.mean()), spread) if spread > 0 else (float(last.mean()) if len(last) else 0.0, 1.0)
