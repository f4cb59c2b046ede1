"""A source's files in, a written cohort out: which source reads what, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from models.errors import UsageError
from pipelines.cohort import Cohort, write_cohort
from pipelines.cohort_files import check_target


class Source(StrEnum):
    """What `sequela prepare` reads."""

    CHALLENGE_2012 = "challenge2012"
    CHALLENGE_2019 = "challenge2019"
    ICU_DEMO = "icu-demo"
    CSV = "csv"
    SYNTHETIC = "synthetic"


def prepare(
    source: str,
    paths: Sequence[Path],
    *,
    out: Path,
    outcomes: Path | None = None,
    mapping: Path | None = None,
    options: Mapping[str, str] | None = None,
    progress: bool = False,
) -> Cohort:
    """Reads a source and writes its cohort, all of it or nothing.

    Args:
        source: name of the source, see `Source`.
        paths: its files, folders or archives.
        out: folder of the cohort; a cohort that is there already is replaced.
        outcomes: the outcomes file (sources challenge2012 and csv).
        mapping: the mapping file (source csv).
        options: further options of the sources icu-demo, csv and synthetic.
        progress: whether to show progress bars on standard error.

    Raises:
        UsageError: for an unknown source, or an argument that the source does not take.
        DataError: if a file is malformed, or `out` holds anything but a cohort.
    """
    check_target(out)
    if source not in list(Source):
        raise UsageError(f"source must be one of {', '.join(Source)}, got {source!r}; choose one of them")
    cohort = _read(
        Source(source), paths, outcomes=outcomes, mapping=mapping, options=dict(options or {}), progress=progress
    )
    write_cohort(cohort, out)
    return cohort


def _read(
    source: Source,
    paths: Sequence[Path],
    *,
    outcomes: Path | None,
    mapping: Path | None,
    options: dict[str, str],
    progress: bool,
) -> Cohort:
    """Reads a source; its module is imported only now, so that no source waits for another's libraries."""
    match source:
        case Source.CHALLENGE_2012:
            from pipelines.sources import challenge2012

            _refuse(source, mapping=mapping, options=options)
            return challenge2012.read(_given(source, paths), outcomes=outcomes, progress=progress)
        case Source.CHALLENGE_2019:
            from pipelines.sources import challenge2019

            _refuse(source, outcomes=outcomes, mapping=mapping, options=options)
            return challenge2019.read(_given(source, paths), progress=progress)
        case Source.ICU_DEMO:
            from pipelines.sources import icu_demo

            _refuse(source, outcomes=outcomes, mapping=mapping)
            return icu_demo.read(_given(source, paths), options=options)
        case Source.CSV:
            from pipelines.sources import csv_files

            return csv_files.read(paths, outcomes=outcomes, mapping=mapping, options=options, progress=progress)
        case Source.SYNTHETIC:
            from pipelines.sources import synthetic

            _refuse(source, outcomes=outcomes, mapping=mapping)
            return synthetic.read(paths, options=options)


def _refuse(source: Source, **arguments: object) -> None:
    """Refuses arguments that the source would ignore."""
    for name, value in arguments.items():
        if value:
            raise UsageError(f"{name} must be left out for the source {source}, got one; drop it")


def _given(source: Source, paths: Sequence[Path]) -> Sequence[Path]:
    if not paths:
        raise UsageError(f"paths must name the files of the source {source}, got none; name a folder or an archive")
    return paths
