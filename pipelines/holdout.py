"""A cohort, a split and a model in, the scores of the hold-out's stays with their labels out.

A patient's part depends on the split's key and the patient alone: two versions with the same split meet the
same hold-out, and neither was trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.errors import DataError, RefusedError
from models.scorer import Scorer
from pipelines.cohort import Cohort, concat_cohorts, read_cohort
from pipelines.score_cohort import labelled_scores
from pipelines.scores import StepScores
from pipelines.split import Part, SplitConfig, split_patients


def holdout_scores(scorer: Scorer, cohort: Cohort, split: SplitConfig) -> StepScores:
    """Every time step of every hold-out stay.

    Raises:
        RefusedError: if the split keeps no hold-out.
        DataError: if the cohort does not have the model's outcome.
    """
    index = split_patients(cohort.patient_id, split)[Part.TEST]
    if not len(index):
        raise RefusedError("split.test must keep patients for a hold-out, got none; raise the share or bring more")
    return labelled_scores(scorer, cohort, index)


def read_cohorts(folders: Sequence[Path], *, fingerprint: str) -> Cohort:
    """The cohort that a version was made from, whole.

    Raises:
        RefusedError: if a folder is missing, or the cohort is another one than the version states.
        DataError: if a folder is damaged.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise RefusedError(
            f"cohort must be at hand to score the hold-out, got no folder at {', '.join(missing) or 'any address'}; "
            "name it with --cohort"
        )
    cohorts = [read_cohort(folder) for folder in folders]
    cohort = concat_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]
    if cohort.fingerprint != fingerprint:
        raise DataError(
            f"cohort must have the fingerprint {fingerprint} that the version states, got {cohort.fingerprint}; "
            "name the cohort that it was trained on with --cohort"
        )
    return cohort
