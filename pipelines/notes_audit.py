"""Training notes and outcomes in, the terms that tell most of the outcome out, for a human to judge whether they leak.

A term such as "discharged home" would make any figure worthless, and no rule knows all of them. What is told of a term
are counts alone, and of terms that many patients have: no sentence, and nobody's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.note_reader import NoteReader
from models.notes import NotesConfig
from models.stay import Floats, Stays

# Added to every cell of a table of counts, so that no ratio is infinite.
_SMOOTHED = 0.5


@dataclass(frozen=True)
class TermFigures:
    """What one term tells.

    Args:
        term: as the model's vocabulary has it.
        stays: with the term, whose outcome is known.
        events: among them.
        rate: share of them with the event.
        rate_without: share of the other stays with it.
        log_odds_ratio: of the event, with the term against without; both smoothed.
        z: that number by its standard error: how surely it is not 0.
    """

    term: str
    stays: int
    events: int
    rate: float
    rate_without: float
    log_odds_ratio: float
    z: float


def audit_notes(
    stays: Stays,
    patient_id: Sequence[str],
    outcome: Floats,
    reader: NoteReader,
    *,
    most: int = 40,
    min_patients: int = 5,
) -> tuple[TermFigures, ...]:
    """The terms of a vocabulary that tell most of a binary outcome, the surest first.

    Args:
        stays: the training stays.
        patient_id: patient of every stay.
        outcome: (n,) 0 or 1; NaN = not known.
        reader: the model's; what it excludes is not in the audit either.
        most: how many terms are told.
        min_patients: of a term, for it to be told.
    """
    known = ~np.isnan(outcome)
    having = _having(stays, reader)
    died = outcome[known] == 1
    found = []
    for number, rows in having.items():
        inside = np.zeros(len(stays), dtype=bool)
        inside[list(rows)] = True
        if len({patient_id[i] for i in rows if known[i]}) >= min_patients:
            found.append(_figures(reader.vocabulary[number], inside[known], died))
    return tuple(sorted(found, key=lambda one: (-abs(one.z), one.term))[:most])


def _having(stays: Stays, reader: NoteReader) -> dict[int, set[int]]:
    """Stays with every id."""
    having: dict[int, set[int]] = {}
    for stay, text in zip(stays.stay_of_note().tolist(), stays.note_text, strict=True):
        for number in reader.encode(text):
            having.setdefault(number, set()).add(stay)
    return having


def _figures(term: str, inside: NDArray[np.bool_], died: NDArray[np.bool_]) -> TermFigures:
    table = np.array([np.sum(a & b) for a in (inside, ~inside) for b in (died, ~died)], dtype=np.float64)
    smooth = table + _SMOOTHED
    ratio = float(np.log(smooth[0] * smooth[3] / (smooth[1] * smooth[2])))
    with_term, without = table[:2].sum(), table[2:].sum()
    return TermFigures(
        term=term,
        stays=int(with_term),
        events=int(table[0]),
        rate=float(table[0] / max(with_term, 1)),
        rate_without=float(table[2] / max(without, 1)),
        log_odds_ratio=ratio,
        z=ratio / float(np.sqrt((1.0 / smooth).sum())),
    )


def audit_markdown(figures: Sequence[TermFigures], config: NotesConfig) -> str:
    """The audit as a page; `config` says what the model leaves out."""
    lines = [
        "# Terms of the notes that tell most of the outcome",
        "",
        "Counts over the training stays. A term that states the outcome, or what follows from knowing it, does not",
        "belong among what a model reads: name its heading in `notes.exclude`, or its words in `notes.exclude_lines`,",
        "and train again. A qualified person must judge; the order says how sure an association is, not why there is",
        "one.",
        "",
        f"Excluded headings: {', '.join(config.exclude) or 'none'}.",
        f"Excluded lines: {'those with ' if config.exclude_lines else ''}{', '.join(config.exclude_lines) or 'none'}.",
        "",
        "| term | stays | with the event | rate | rate without | log odds ratio | z |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.term.replace('|', ' ')} | {one.stays} | {one.events} | {one.rate:.3f} | {one.rate_without:.3f} | "
        f"{one.log_odds_ratio:+.2f} | {one.z:+.1f} |"
        for one in figures
    ]
    return "\n".join(lines) + "\n"
