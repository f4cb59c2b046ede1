"""Static values of stays in, the groups they make and the figures of each out: age, sex, unit, hospital."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from models.channels import StaticKind, StaticVariable
from models.stay import Floats
from models.task import TaskSpec
from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.group_figures import Mask, group_table
from pipelines.report.stay_facts import StayFacts
from pipelines.scores import StepScores

NOT_RECORDED = "not recorded"
# Ages are told in completed years, so that bands read 18-44, 45-64.
YEARS = "a"


def subgroup_figures(
    scores: StepScores, task: TaskSpec, output: int, facts: StayFacts, config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Figures by every configured static variable.

    Returns:
        a variable each: `variable`, and `groups` as of `group_table`; or `undefined` with the reason.
    """
    columns = {variable.name: i for i, variable in enumerate(facts.statics)}
    found: list[dict[str, Any]] = []
    for name in config.subgroups:
        if name not in columns:
            found.append({"variable": name, "undefined": "the cohort does not record it"})
            continue
        variable, values = facts.statics[columns[name]], facts.static[:, columns[name]]
        if variable.kind is StaticKind.NUMERIC and name not in config.subgroup_cuts:
            found.append({"variable": name, "undefined": f"evaluation.subgroup_cuts does not say where to cut {name}"})
            continue
        groups = groups_of(variable, values, config.subgroup_cuts.get(name, ()))
        found.append({"variable": name, "groups": group_table(scores, task, output, groups, config)})
    return found


def groups_of(variable: StaticVariable, values: Floats, cuts: Sequence[float]) -> dict[str, Mask]:
    """(stays,) masks by the name of the group; the last holds the stays without a value.

    Example:
        >>> age = StaticVariable("age", unit="a")
        >>> groups = groups_of(age, np.array([44.9, 45.0, 90.0, np.nan]), (18, 45, 65))
        >>> {name: mask.astype(int).tolist() for name, mask in groups.items() if mask.any()}
        {'18-44': [1, 0, 0, 0], '45-64': [0, 1, 0, 0], '65+': [0, 0, 1, 0], 'not recorded': [0, 0, 0, 1]}
    """
    missing = np.isnan(values)
    if variable.kind is StaticKind.CATEGORICAL:
        names = list(variable.categories)
        place = np.where(missing, len(names), values).astype(np.int64)
    else:
        names = band_names(cuts, variable.unit)
        place = np.where(missing, len(names), np.searchsorted(np.asarray(cuts), values, side="right"))
    return {name: np.asarray(place == i, dtype=np.bool_) for i, name in enumerate([*names, NOT_RECORDED])}


def band_names(cuts: Sequence[float], unit: str) -> list[str]:
    """Names of the bands between cuts, the open ones at both ends included.

    Example:
        >>> band_names((18, 45), "a"), band_names((0.5, 2), "kg")
        (['under 18', '18-44', '45+'], ['under 0.5 kg', '0.5 to below 2 kg', '2 kg and above'])
    """
    if unit == YEARS and all(float(cut).is_integer() for cut in cuts):
        middle = [f"{low:g}-{high - 1:g}" for low, high in pairwise(cuts)]
        return [f"under {cuts[0]:g}", *middle, f"{cuts[-1]:g}+"]
    middle = [f"{low:g} to below {high:g} {unit}" for low, high in pairwise(cuts)]
    return [f"under {cuts[0]:g} {unit}", *middle, f"{cuts[-1]:g} {unit} and above"]
