"""How densely stays were measured in, figures by tercile of observations an hour out.

Which measurements are taken is itself informative: a model that only reads how much is measured shows here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.stay import Floats
from models.task import TaskSpec
from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.group_figures import Mask, group_table
from pipelines.scores import StepScores

NAMES = ("fewest observations", "middle", "most observations")


def missingness_figures(
    scores: StepScores, task: TaskSpec, output: int, observations_per_hour: Floats, config: EvaluationConfig
) -> dict[str, Any]:
    """Figures by tercile of the scored stays.

    Returns:
        `cuts` (observations an hour between the terciles) and `groups` as of `group_table`.
    """
    cuts = [float(cut) for cut in np.quantile(observations_per_hour, [1 / 3, 2 / 3])]
    groups = terciles(observations_per_hour, cuts)
    return {"cuts": cuts, "groups": group_table(scores, task, output, groups, config)}


def terciles(values: Floats, cuts: list[float]) -> dict[str, Mask]:
    """(stays,) masks by the name of the stratum; a value on a cut belongs to the upper one.

    Example:
        >>> {name: mask.astype(int).tolist() for name, mask in terciles(np.array([1.0, 2.0, 3.0]), [2.0, 3.0]).items()}
        {'fewest observations': [1, 0, 0], 'middle': [0, 1, 0], 'most observations': [0, 0, 1]}
    """
    place = np.searchsorted(np.asarray(cuts), values, side="right")
    return {name: np.asarray(place == i, dtype=np.bool_) for i, name in enumerate(NAMES)}
