"""From a model and a cohort to scores: every stay, every time step, none dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.scorer import Scorer, Trajectories
from models.stay import Ints, Stays
from pipelines.cohort import Cohort
from pipelines.labels import StayOutcomes, step_labels, task_outcomes
from pipelines.scores import StepScores

# Stays scored at once: bounds the memory that their encoding takes.
STAYS_PER_BLOCK = 2000


def score_cohort(scorer: Scorer, stays: Stays) -> Trajectories:
    """Risks at every time step of every stay."""
    count = len(stays)
    blocks = [
        scorer.score(stays.select(np.arange(start, min(start + STAYS_PER_BLOCK, count))))
        for start in range(0, count, STAYS_PER_BLOCK)
    ]
    lengths = np.concatenate([np.diff(b.step_offsets) for b in blocks])
    return Trajectories(
        step_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        time_min=np.concatenate([b.time_min for b in blocks]),
        logit=np.concatenate([b.logit for b in blocks]),
        risk=np.concatenate([b.risk for b in blocks]),
        spread=np.concatenate([b.spread for b in blocks]),
    )


def labelled_scores(scorer: Scorer, cohort: Cohort, index: Ints | None = None) -> StepScores:
    """Scores of a cohort beside its labels, for evaluation.

    Args:
        scorer: the model.
        cohort: stays with outcomes.
        index: positions of the stays to score; all of them where left out.

    Raises:
        DataError: if the cohort does not have the model's outcome, or has other values of it.
    """
    task = scorer.bundle.task
    chosen = np.arange(len(cohort.stays), dtype=np.int64) if index is None else index
    known = task_outcomes(cohort, task)
    outcomes = StayOutcomes(known.value[chosen], known.time_min[chosen])
    stays = cohort.stays.select(chosen)
    scored = score_cohort(scorer, stays)
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


def score_table(scorer: Scorer, cohort: Cohort) -> pd.DataFrame:
    """One row a time step: stay_id, time_h, and the risk (one column an output, `risk` for the first).

    With several members their `spread` stands beside each risk, in the same way.
    """
    scored = score_cohort(scorer, cohort.stays)
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
    return pd.DataFrame(columns)
