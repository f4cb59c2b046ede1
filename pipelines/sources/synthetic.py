"""Options of `sequela prepare synthetic` in, a simulated cohort out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import ConfigError
from pipelines.cohort import Cohort
from pipelines.sources.simulator import Language, simulate

DEFAULT_STAYS = 2000


def read(paths: Sequence[Path] = (), *, options: Mapping[str, Any] | None = None) -> Cohort:
    """Simulates a cohort; see `pipelines.sources.simulator.simulate`.

    Args:
        paths: none: there is no file to read.
        options: stays, seed, language (en, ja or both), mean_hours and hours; those left out or None keep defaults.

    Raises:
        ConfigError: if there is a path, an unknown language or a number that is not positive.
    """
    if paths:
        raise ConfigError(f"paths must be empty for the synthetic source, got {len(paths)}; leave them out")
    given = {name: value for name, value in (options or {}).items() if value is not None}
    name = str(given.get("language", Language.ENGLISH))
    if name not in list(Language):
        raise ConfigError(f"language must be one of {', '.join(Language)}, got {name!r}; choose one of them")
    return simulate(
        stays=int(given.get("stays", DEFAULT_STAYS)),
        seed=int(given.get("seed", 0)),
        language=Language(name),
        mean_hours=float(given.get("mean_hours", 48.0)),
        hours=None if given.get("hours") is None else float(given["hours"]),
    )
