"""What figures rest on in, the words that keep a reader from taking more from them than they hold out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Differences of these are better above 0; all others of a recalibration below.
RANKING = ("auroc", "auprc")
# What tells of one risk at a time how far off it is.
ERRORS = ("brier", "log_loss", "rmse", "mae")


def few_events(patients: Sequence[int], least: int) -> str:
    """A caution where fewer patients than `least` are of one kind; empty where there are enough.

    Args:
        patients: how many have the event and how many have not; of a number one count.
        least: `evaluation.min_events`.

    Example:
        >>> few_events((1, 12), 10)[:45]
        '1 patient with the event and 12 without it: f'
        >>> few_events((40, 30), 10)
        ''
    """
    if min(patients) >= least:
        return ""
    first = f"{patients[0]:,} patient{'s' * (patients[0] != 1)}"
    counted = f"{first} with the event and {patients[1]:,} without it" if len(patients) > 1 else f"{first} with a value"
    return (
        f"{counted}: fewer than {least} of a kind (evaluation.min_events), so no interval here is to be trusted; "
        "judge on more patients"
    )


def ranking_falls(paired: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A caution for every figure of ranking whose paired difference lies below 0 with its whole interval.

    Args:
        paired: after less before, as of `pipelines.recalibration_figures.paired_calibration`.
    """
    return [
        f"{name} falls by recalibration, {paired[name]['value']:+.4f} [{paired[name]['low']:+.4f}, "
        f"{paired[name]['high']:+.4f}]: slope and intercept follow the time in the stay, and can reorder scores of "
        "unequal hours; bring more patients with the event, try calibration.method=temperature, which has no "
        "intercept, or keep the version as it was"
        for name in RANKING
        if name in paired and paired[name]["high"] < 0
    ]


def risks_worsen(paired: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A caution for every error of the risks whose paired difference lies above 0 with its whole interval.

    Args:
        paired: as for `ranking_falls`.
    """
    return [
        f"{name} grows by recalibration, {paired[name]['value']:+.4f} [{paired[name]['low']:+.4f}, "
        f"{paired[name]['high']:+.4f}]: the risks fit these patients less well than before; bring more patients with "
        "the event, choose another calibration.method, or keep the version as it was"
        for name in ERRORS
        if name in paired and paired[name]["low"] > 0
    ]


def recalibration_cautions(paired: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Every caution that the differences of a recalibration call for; `paired` as for `ranking_falls`."""
    return ranking_falls(paired) + risks_worsen(paired)


def same_model(names: Sequence[str]) -> list[str]:
    """A caution for every rival that is the very model that it is compared with.

    Args:
        names: of the rivals whose digest is the model's own.
    """
    return [f"{name} is the same model, by its digest: every difference is 0 and says nothing" for name in names]


def card_cautions(facts: Mapping[str, Any]) -> list[str]:
    """Markdown of a report's cautions; none where there are none."""
    lines = [f"- {line}" for line in facts.get("cautions", ())]
    return ["## Cautions\n\n" + "\n".join(lines)] if lines else []
