"""From a bundle to its facts, and from a report's facts to the model card, Markdown and JSON.

The card says what the model is for, how good it is and where it ends. It shows figures and computes none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from models.bundle import Bundle
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.ensemble import MemberSpec
from models.grid import GridKind
from models.record import to_plain
from models.task import LabelScope, TargetKind
from pipelines.card_sections import card_sections, figure_text
from pipelines.cautions import card_cautions

# Order of the card's table; other figures follow in their own order.
FIRST_METRICS = ("auroc", "auprc", "brier", "ece", "calibration_slope", "calibration_intercept", "rmse", "mae")
LIMITS = (
    "The figures hold for patients like those of the hold-out. Another hospital, year or ward may differ: "
    "evaluate there before use, and recalibrate if the slope is outside 0.8 to 1.25.",
    "Which measurements are taken, and when, is itself information that the model uses. "
    "A change of routine changes the scores although no patient changed.",
    "A risk is a statement about patients like this one, neither a cause nor the effect of a treatment.",
    "Nothing here was tested in a clinical trial.",
)


def card_facts(bundle: Bundle) -> dict[str, Any]:
    """The card as plain values."""
    return {
        "name": bundle.name,
        "created": bundle.created,
        "disclaimer": DISCLAIMER_EN,
        "disclaimer_ja": DISCLAIMER_JA,
        "intended_use": _intended_use(bundle),
        "task": {
            "outcome": bundle.task.outcome,
            "kind": str(bundle.task.kind),
            "scope": str(bundle.task.scope),
            "outputs": list(bundle.task.output_names),
            "description": bundle.task.description,
        },
        "data": dict(bundle.cohort),
        "metrics": dict(bundle.metrics),
        "calibration": {
            "method": str(bundle.calibration.method),
            "fitted_on": _calibrated_on(bundle),
            "compared": [to_plain(candidate) for candidate in bundle.calibration.compared],
        },
        "thresholds": dict(bundle.thresholds),
        "network": _network(bundle),
        "channels": list(bundle.encoding.channels.names),
        "guards": [dict(guard) for guard in bundle.guards],
        "limits": list(LIMITS),
        "versions": dict(bundle.versions),
    }


def card_json(facts: Mapping[str, Any]) -> str:
    """The card as JSON text; `facts` as of `card_facts`, or a report's (`pipelines.report.facts`)."""
    return json.dumps(facts, ensure_ascii=False, allow_nan=False, indent=1)


def card_markdown(facts: Mapping[str, Any]) -> str:
    """The card as Markdown text; `facts` as of `card_facts`, or a report's (`pipelines.report.facts`)."""
    sections = [
        f"# {facts['name']}",
        f"> **{DISCLAIMER_EN}**\n>\n> **{DISCLAIMER_JA}**",
        f"## Intended use\n\n{facts['intended_use']}",
        *card_cautions(facts),
        f"## Data\n\n{bullets(flat(facts['data']))}",
        f"## Figures on the hold-out\n\n{_figures(facts['metrics'])}",
        *card_sections(facts),
        f"## Calibration\n\n{_calibration(facts)}",
        f"## Model\n\n{bullets(facts['network'].items())}\n- channels: {', '.join(facts['channels'])}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in LIMITS),
        f"## Made with\n\n{bullets(facts['versions'].items())}\n- created: {facts['created']}",
    ]
    return "\n\n".join(sections) + "\n"


def _intended_use(bundle: Bundle) -> str:
    task = bundle.task
    what = task.description or f"the outcome {task.outcome}"
    when = "by the end of the stay"
    if task.horizons_h:
        when = "within " + ", ".join(f"{h:g}" for h in task.horizons_h) + " h"
    elif task.kind is TargetKind.REGRESSION:
        when = f"in {task.unit or 'its own unit'}"
    every = "every time step of a stay" if task.scope is LabelScope.STEP else "the stay so far"
    return f"Research on retrospective data: {what}, {when}, scored from {every}. Any other use is out of scope."


def _network(bundle: Bundle) -> dict[str, Any]:
    grid = bundle.encoding.grid
    return {
        "members": "; ".join(map(_member, bundle.members)),
        "grid": f"{grid.kind}, {grid.width_h:g} h" if grid.kind is GridKind.FIXED else str(grid.kind),
        "notes": "read" if bundle.notes is not None else "not read",
    }


def _member(spec: MemberSpec) -> str:
    network = spec.network
    what = "boosted trees on the same features, read step by step"
    if network is not None:
        what = f"{network.cell}, {network.layers} x {network.hidden_size}, pooling {network.pooling}"
    left_out = "" if spec.fold is None else f", without fold {spec.fold}"
    return f"{what} (weight {spec.weight:.3g}, seed {spec.seed}{left_out})"


def _calibrated_on(bundle: Bundle) -> str:
    """Whose logits became risks, in words; a site's recalibration has a part of its own again."""
    folds = any(member.fold is not None for member in bundle.members)
    if folds and "calibration" not in bundle.cohort.get("parts", {}):
        return "the training part, each patient by members that never saw them"
    return "a part of its own"


def _calibration(facts: Mapping[str, Any]) -> str:
    lines = [f"Method: {facts['calibration']['method']}, fitted on {facts['calibration']['fitted_on']}."]
    lines += [f"- decision threshold {name}: {value:.4g}" for name, value in sorted(facts["thresholds"].items())]
    return "\n".join(lines)


def _figures(table: Mapping[str, Any]) -> str:
    """Network and baselines as columns, each figure with its interval, in one table."""
    if not table:
        return "No hold-out was kept."
    names = list(table)
    given = [m for figures in table.values() for m in figures.get("metrics", {})]
    order = [m for m in FIRST_METRICS if m in given] + [m for m in dict.fromkeys(given) if m not in FIRST_METRICS]
    shown = {metric: [figure_text(table[n].get("metrics", {}).get(metric)) for n in names] for metric in order}
    rows = [f"| {metric} | " + " | ".join(figures) + " |" for metric, figures in shown.items()]
    first = table[names[0]]
    head = [
        f"{first.get('stays', 0):,} stays, {first.get('events', 0):,} events; intervals by a bootstrap over patients.",
        "",
        "| figure | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    return "\n".join(head + rows)


def flat(facts: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Names and values, a table within as one line.

    Example:
        >>> list(flat({"source": "B", "trained_on": {"source": "A", "rejected": {"unit": 2}}}))
        [('source', 'B'), ('trained_on', 'source A, rejected (unit 2)')]
    """
    return [(name, _one_line(value) if isinstance(value, Mapping) else value) for name, value in facts.items()]


def _one_line(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} ({_one_line(v)})" if isinstance(v, Mapping) else f"{k} {v}" for k, v in table.items())


def bullets(facts: Iterable[tuple[str, Any]]) -> str:
    """A line a fact, as Markdown."""
    return "\n".join(f"- {name}: {value}" for name, value in facts)
