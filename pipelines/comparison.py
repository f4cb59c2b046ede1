"""A cohort's encoded parts in, scores of what stands beside the model out: baselines and the best risk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.calibration import Calibration
from models.channel_encoding import SUMMARIES
from models.encoding import Encoding
from models.task import LabelScope, TargetKind, TaskSpec
from models.trees import TreeMember
from pipelines.baselines import BaselineScores, fit_baselines, part_scores
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import Dataset, PartData
from pipelines.labels import TRUE_RISK_SUFFIX, every_stay_has, outcomes_of
from pipelines.split import Part
from pipelines.tree_member import learns_from_last_steps

TRUE_RISK = "true_risk"


def compared(
    cohort: Cohort, data: Dataset, config: RunConfig, *, trees: TreeMember | None = None
) -> dict[str, BaselineScores]:
    """Scores by name: the baselines, where they are asked for, and the true risk, where a simulator states it.

    Args:
        cohort: the stays.
        data: its encoded parts.
        config: the run's configuration.
        trees: those of the model; they are the baseline too where they were fitted on the same rows and features.
    """
    return _baselines(cohort, data, config, trees) | _true_risk(cohort, data, config.task)


def _baselines(cohort: Cohort, data: Dataset, config: RunConfig, trees: TreeMember | None) -> dict[str, BaselineScores]:
    if not config.baselines.enabled:
        return {}
    mean, scale = data.scale
    parts = _summarised(cohort, data, config)
    same = parts is data.parts and learns_from_last_steps(config)
    return fit_baselines(
        parts[Part.TRAIN],
        parts[Part.CALIBRATION],
        parts[Part.TEST],
        config.task,
        config.baselines,
        seed=config.seed,
        mean=mean,
        scale=scale,
        trees=trees.predict if same and trees is not None else None,
    )


def _summarised(cohort: Cohort, data: Dataset, config: RunConfig) -> dict[Part, PartData]:
    """The parts with every summary of every channel: a network that is shown less is no reason for weak baselines."""
    if set(config.encoding.features) == set(SUMMARIES):
        return data.parts
    whole = replace(config.encoding, features=SUMMARIES)
    encoding = Encoding.fit(data.parts[Part.TRAIN].stays, whole, statics=cohort.statics)
    # With the tokenizer, so that notes make the same time steps as for the network.
    return {
        name: replace(part, encoded=encoding.encode(part.stays, tokenizer=data.tokenizer))
        for name, part in data.parts.items()
    }


def _true_risk(cohort: Cohort, data: Dataset, task: TaskSpec) -> dict[str, BaselineScores]:
    """The risks that the outcomes were drawn with, where a simulator states them all: the best that can be reached."""
    name = task.outcome + TRUE_RISK_SUFFIX
    if task.scope is not LabelScope.STAY or task.kind is not TargetKind.BINARY or not every_stay_has(cohort, name):
        return {}
    itself = Calibration.identity(task.kind, 1)
    risk = np.clip(outcomes_of(cohort, name).value, 1e-9, 1 - 1e-9)
    scores = []
    for part in (data.parts[Part.CALIBRATION], data.parts[Part.TEST]):
        stepwise = np.repeat(risk[part.index], part.encoded.lengths)[:, None]
        scores.append(part_scores(part, np.log(stepwise / (1 - stepwise)), itself))
    return {TRUE_RISK: BaselineScores(*scores)}
