"""Labels of documents by part in, which of a task's labels are in none of those that train or judge it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from models.stay import Ints
from pipelines.split import Part

_SAID = {
    Part.TRAIN: ("labels_without_training_document", "not learnt"),
    Part.TEST: ("labels_without_hold_out_document", "not judged, and in no mean"),
}


def absent_labels(
    labels: Sequence[str], own: Sequence[Iterable[str]], parts: Mapping[Part, Ints]
) -> dict[str, list[str]]:
    """Facts for the artifact and its card; a part that holds every label gives none.

    Args:
        labels: the task's.
        own: labels of every document of the corpus, or of its spans.
        parts: rows of every part.
    """
    facts: dict[str, list[str]] = {}
    for part, (fact, _) in _SAID.items():
        held = {label for row in parts[part].tolist() for label in own[row]}
        absent = [label for label in labels if label not in held]
        if absent:
            facts[fact] = absent
    return facts


def absent_lines(facts: Mapping[str, Sequence[str]], labels: Sequence[str]) -> list[str]:
    """The same for people, a line a part."""
    return [
        f"  {len(facts[fact]):,} of {len(labels):,} labels are in no document of the {part} part and therefore {so}: "
        + ", ".join(facts[fact])
        for part, (fact, so) in _SAID.items()
        if fact in facts
    ]
