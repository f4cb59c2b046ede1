"""A cohort's encoded parts in, scores of what stands beside the model out: baselines and the best risk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.calibration import Calibration
from models.channel_encoding import SUMMARIES
from models.encoding import Encoding
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.baselines import BaselineScores, fit_baselines, part_scores
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.labels import TRUE_RISK_SUFFIX, every_stay_has, outcomes_of
from pipelines.part_data import Dataset
from pipelines.split import Part

TRUE_RISK = "true_risk"


def compared(cohort: Cohort, data: Dataset, config: RunConfig) -> dict[str, BaselineScores]:
    """Scores by name: the baselines, where they are asked for, and the true risk, where a simulator states it.

    Args:
        cohort: the stays.
        data: its encoded parts.
        config: the run's configuration.
    """
    return _baselines(cohort, data, config) | _true_risk(cohort, data, config.task)


def _baselines(cohort: Cohort, data: Dataset, config: RunConfig) -> dict[str, BaselineScores]:
    if not config.baselines.enabled:
        return {}
    mean, scale = data.scale
    shown = _summarised(cohort, data, config)
    return fit_baselines(
        shown.parts[Part.TRAIN],
        shown.calibration,
        shown.parts[Part.TEST],
        config.task,
        config.baselines,
        seed=config.seed,
        mean=mean,
        scale=scale,
        folds=data.folds,
    )


def _summarised(cohort: Cohort, data: Dataset, config: RunConfig) -> Dataset:
    """The parts with every summary of every channel: a network that is shown less is no reason for weak baselines."""
    if set(config.encoding.features) == set(SUMMARIES):
        return data
    whole = replace(config.encoding, features=SUMMARIES)
    encoding = Encoding.fit(data.parts[Part.TRAIN].stays, whole, statics=cohort.statics)
    # With the tokenizer, so that notes make the same time steps as for the network.
    parts = {
        name: replace(part, encoded=encoding.encode(part.stays, tokenizer=data.tokenizer))
        for name, part in data.parts.items()
    }
    return replace(data, parts=parts)


def _true_risk(cohort: Cohort, data: Dataset, task: TaskSpec) -> dict[str, BaselineScores]:
    """The risks that the outcomes were drawn with, where a simulator states them all: the best that can be reached."""
    name = task.outcome + TRUE_RISK_SUFFIX
    if task.scope is not LabelScope.STAY or task.kind is not TargetKind.BINARY or not every_stay_has(cohort, name):
        return {}
    itself = Calibration.identity(task.kind, 1)
    risk = np.clip(outcomes_of(cohort, name).value, 1e-9, 1 - 1e-9)
    scores = []
    for part in (data.calibration, data.parts[Part.TEST]):
        stepwise = np.repeat(risk[part.index], part.encoded.lengths)[:, None]
        scores.append(part_scores(part, np.log(stepwise / (1 - stepwise)), itself))
    return {TRUE_RISK: BaselineScores(*scores)}
