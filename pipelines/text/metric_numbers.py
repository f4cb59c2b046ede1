"""Figures of a model of documents in, the numbers that MLflow keeps of them out, each under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# MLflow takes letters of any script, digits and few marks in a metric's name, and 250 characters of it.
_UNFIT = re.compile(r"[^\w.\- ]")
_LONGEST = 200


def metric_numbers(name: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """`<name>/<figure>` of every figure, with its interval under `_low` and `_high`.

    A figure's name may hold a label, which may be of any characters and length: what MLflow does not take becomes `_`,
    and figures whose names would then be one are numbered. `metrics.json` has the labels themselves.

    Args:
        name: of what was judged.
        figures: with `metrics`, each an entry with `value`, `low` and `high`.

    Example:
        >>> entry = {"value": 0.5, "low": 0.4, "high": 0.6}
        >>> list(metric_numbers("holdout", {"metrics": {"f1_T:E": entry}}))
        ['holdout/f1_T_E', 'holdout/f1_T_E_low', 'holdout/f1_T_E_high']
    """
    numbers: dict[str, float] = {}
    for metric, entry in figures["metrics"].items():
        plain = f"{name}/{_UNFIT.sub('_', metric)[:_LONGEST]}"
        number, own = 1, _three(plain)
        while numbers.keys() & set(own):
            number += 1
            own = _three(f"{plain} {number}")
        numbers |= dict(zip(own, (entry["value"], entry["low"], entry["high"]), strict=True))
    return numbers


def _three(plain: str) -> tuple[str, str, str]:
    return plain, f"{plain}_low", f"{plain}_high"
