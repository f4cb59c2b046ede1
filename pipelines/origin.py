"""A report's facts in, the cohorts and versions that its model comes from out: in rows of words, and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECALIBRATED, WARM_STARTED = "recalibrated_from", "warm_started_from"


def origin_rows(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a model was made of, each with its name.

    Args:
        data: of a bundle's cohort, as of `pipelines.model_card.card_facts`.

    Example:
        >>> site = {"source": "B", "trained_on": {"source": "A"}, "recalibrated_from": {"name": "a", "digest": "d"}}
        >>> [(name, text.split(";")[0]) for name, text in origin_rows(site)]
        [('Trained on', 'A'), ('Recalibrated on', 'B'), ('Recalibrated from', 'a (d)')]
    """
    rows = origin_rows(data["trained_on"]) if data.get("trained_on") else []
    if RECALIBRATED in data:
        return [*rows, ("Recalibrated on", _cohort(data)), ("Recalibrated from", _version(data[RECALIBRATED]))]
    if WARM_STARTED in data:
        return [*rows, ("Trained further on", _cohort(data)), ("Started from", _version(data[WARM_STARTED]))]
    return [*rows, ("Trained on", _cohort(data))]


def updating(data: Mapping[str, Any]) -> str:
    """How the model was made out of another one; empty where it was not.

    Example:
        >>> updating({"source": "B", "recalibrated_from": {"name": "a", "digest": "d"}})
        'Recalibrated from a (d), on patients of B'
        >>> updating({"source": "A"})
        ''
    """
    for key, done in ((RECALIBRATED, "Recalibrated"), (WARM_STARTED, "Training was started")):
        if key in data:
            return f"{done} from {_version(data[key])}, on patients of {data.get('source', 'a source not stated')}"
    return ""


def first_source(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts of the cohort that the weights were first trained on."""
    before = data.get("trained_on")
    return data if not before else first_source(before)


def seen_cohorts(data: Mapping[str, Any]) -> frozenset[str]:
    """Fingerprints of every cohort that had a part in the model, over all the versions that it comes from.

    Example:
        >>> sorted(seen_cohorts({"fingerprint": "b", "trained_on": {"fingerprint": "a"}}))
        ['a', 'b']
    """
    before = data.get("trained_on")
    own = frozenset({str(data["fingerprint"])} if data.get("fingerprint") else ())
    return own | seen_cohorts(before) if before else own


def _cohort(data: Mapping[str, Any]) -> str:
    stays = data.get("stays", "an unknown number of")
    counted = f"{stays:,}" if isinstance(stays, int) else stays
    return (
        f"{data.get('source', 'not stated')}; {counted} stays; licence: {data.get('licence', 'not stated')}; "
        f"fingerprint {data.get('fingerprint', 'not stated')}"
    )


def _version(parent: Mapping[str, Any]) -> str:
    return f"{parent.get('name', 'a version not named')} ({parent.get('digest', 'digest not stated')})"
