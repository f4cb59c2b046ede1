"""A cohort's notes in, what may identify people in them said by counts, or a refusal to train on them out."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.text.identifiers.guard import guard


def scan_notes(cohort: Cohort, config: RunConfig, say: Callable[[str], None]) -> None:
    """Scans every note of the cohort where the run reads notes; nothing is scanned where it does not.

    Args:
        cohort: its notes are read.
        config: `identifiers` says what was looked at and allowed.
        say: receives the report, counts by kind alone, whatever was found.

    Raises:
        DataError: if findings are neither allowed nor below their share; it names kinds and counts alone.
    """
    if config.notes.enabled and cohort.stays.note_text:
        for line in guard(cohort.stays.note_text, config.identifiers, what="notes").lines():
            say(f"  {line}")
