"""Options of `sequela prepare synthetic` in, a simulated cohort out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import UsageError
from pipelines.cohort import Cohort
from pipelines.sources.simulator import Language, simulate

OPTIONS = ("stays", "seed", "language", "mean_hours", "hours")
DEFAULT_STAYS = 2000
DEFAULT_MEAN_HOURS = 48.0


def read(paths: Sequence[Path] = (), *, options: Mapping[str, Any] | None = None) -> Cohort:
    """Simulates a cohort; see `pipelines.sources.simulator.simulate`.

    Args:
        paths: none: there is no file to read.
        options: stays, seed, language (en, ja or both), mean_hours and hours; those left out or None keep defaults.

    Raises:
        UsageError: if there is a path, an unknown option or language, or a number that is not positive.
    """
    if paths:
        raise UsageError(f"paths must be empty for the synthetic source, got {len(paths)}; leave them out")
    given = {name: value for name, value in (options or {}).items() if value is not None}
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise UsageError(f"options must be among {', '.join(OPTIONS)}, got {', '.join(unknown)}; rename or drop them")
    language = str(given.get("language", Language.ENGLISH))
    if language not in list(Language):
        raise UsageError(f"language must be one of {', '.join(Language)}, got {language!r}; choose one of them")
    return simulate(
        stays=int(_number(given, "stays", DEFAULT_STAYS, whole=True)),
        seed=int(_number(given, "seed", 0, whole=True)),
        language=Language(language),
        mean_hours=_number(given, "mean_hours", DEFAULT_MEAN_HOURS),
        hours=_number(given, "hours", 0) if "hours" in given else None,
    )


def _number(given: Mapping[str, Any], name: str, default: float, *, whole: bool = False) -> float:
    """An option as a number, which the command line gives as text."""
    text = given.get(name, default)
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name} must be {kind} of at least 0, got {text!r}; correct it")
    return number
