"""From a model and a cohort to scores: every stay, every time step, none dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.errors import DataError
from models.scorer import Scorer, Trajectories
from models.stay import Ints, Stays
from pipelines.cohort import Cohort
from pipelines.labels import StayOutcomes, step_labels, task_outcomes
from pipelines.progress import Progress
from pipelines.scores import StepScores

# Stays scored at once: bounds the memory that their encoding takes.
STAYS_PER_BLOCK = 2000


def score_cohort(scorer: Scorer, stays: Stays, *, progress: bool = False) -> Trajectories:
    """Risks at every time step of every stay.

    Args:
        scorer: the model.
        stays: at least one.
        progress: show a progress bar on standard error.
    """
    count, blocks = len(stays), []
    with Progress("scoring", total=count, unit="stay", show=progress) as bar:
        for start in range(0, count, STAYS_PER_BLOCK):
            end = min(start + STAYS_PER_BLOCK, count)
            blocks.append(scorer.score(stays.select(np.arange(start, end))))
            bar.to(end)
    lengths = np.concatenate([np.diff(b.step_offsets) for b in blocks])
    return Trajectories(
        step_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        time_min=np.concatenate([b.time_min for b in blocks]),
        logit=np.concatenate([b.logit for b in blocks]),
        risk=np.concatenate([b.risk for b in blocks]),
        spread=np.concatenate([b.spread for b in blocks]),
        label_set=_joined([b.label_set for b in blocks]),
        interval_low=_joined([b.interval_low for b in blocks]),
        interval_high=_joined([b.interval_high for b in blocks]),
    )


def _joined(blocks: Sequence[NDArray[Any] | None]) -> Any:
    """The blocks end to end; None where the model does not give them."""
    given = [block for block in blocks if block is not None]
    return np.concatenate(given) if given else None


def labelled_scores(scorer: Scorer, cohort: Cohort, index: Ints | None = None, *, progress: bool = False) -> StepScores:
    """Scores of a cohort beside its labels, for evaluation.

    Args:
        scorer: the model.
        cohort: stays with outcomes.
        index: positions of the stays to score; all of them where left out.
        progress: show a progress bar on standard error.

    Raises:
        DataError: if the cohort does not have the model's outcome, or has other values of it.
    """
    task = scorer.bundle.task
    chosen = np.arange(len(cohort.stays), dtype=np.int64) if index is None else index
    known = task_outcomes(cohort, task)
    outcomes = StayOutcomes(known.value[chosen], known.time_min[chosen])
    stays = cohort.stays.select(chosen)
    scored = score_cohort(scorer, stays, progress=progress)
    return StepScores(
        stay_id=stays.stay_id,
        patient_id=tuple(cohort.patient_id[i] for i in chosen),
        step_offsets=scored.step_offsets,
        time_min=scored.time_min,
        logit=scored.logit,
        risk=scored.risk,
        label=step_labels(scored.step_offsets, scored.time_min, outcomes, task),
        onset_min=outcomes.time_min,
    )


def score_table(scorer: Scorer, cohort: Cohort, *, progress: bool = False, uncertainty: bool = False) -> pd.DataFrame:
    """One row a time step: stay_id, time_h, and the risk (one column an output, `risk` for the first).

    With several members their `spread` stands beside each risk, in the same way.

    Args:
        scorer: the model.
        cohort: the stays.
        progress: show a progress bar on standard error.
        uncertainty: the ends of each risk's interval too, as `low` and `high`, and at each of the model's levels
            whether the label set holds the event, as `event_in_set_<level>` and `no_event_in_set_<level>`.

    Raises:
        DataError: if `uncertainty` is asked of a model that has no intervals.
    """
    scored = score_cohort(scorer, cohort.stays, progress=progress)
    names = scorer.bundle.task.output_names
    columns = {
        "stay_id": np.repeat(np.array(cohort.stays.stay_id, dtype=object), np.diff(scored.step_offsets)),
        "time_h": scored.time_min / 60.0,
        "risk": scored.risk[:, 0],
    }
    columns |= {f"risk_{name}": scored.risk[:, i] for i, name in enumerate(names) if len(names) > 1}
    if len(scorer.bundle.members) > 1:
        columns["spread"] = scored.spread[:, 0]
        columns |= {f"spread_{name}": scored.spread[:, i] for i, name in enumerate(names) if len(names) > 1}
    if uncertainty:
        for column, values in _uncertainty(scorer, scored).items():
            columns[column] = values[:, 0]
            columns |= {f"{column}_{name}": values[:, i] for i, name in enumerate(names) if len(names) > 1}
    return pd.DataFrame(columns)


def _uncertainty(scorer: Scorer, scored: Trajectories) -> dict[str, NDArray[Any]]:
    """Columns of shape (steps, outputs)."""
    known = scorer.bundle.uncertainty
    low, high, inside = scored.interval_low, scored.interval_high, scored.label_set
    if known is None or low is None or high is None or inside is None:
        raise DataError(
            "model must have intervals and label sets, got one without; train a binary task with "
            "calibration.conformal_share above 0"
        )
    columns: dict[str, NDArray[Any]] = {"low": low, "high": high}
    for i, level in enumerate(known.levels):
        columns[f"event_in_set_{level:g}"] = inside[:, :, i, 1]
        columns[f"no_event_in_set_{level:g}"] = inside[:, :, i, 0]
    return columns
