"""A bundle of a model of documents in, the facts of its card out; and those facts as Markdown and as JSON.

The card shows figures and computes none: both forms come from the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.record import to_plain
from models.text.bundle import TextBundle
from models.text.tagging_artifact import TaggingBundle
from pipelines.card_sections import figure_text
from pipelines.model_card import bullets, card_json, flat

CARD, CARD_JSON = "card.md", "card.json"
LIMITS = (
    "The figures hold for documents like those of the hold-out. Another hospital, department, year or way of writing "
    "may differ: evaluate there before use.",
    "What is named says what is written, which need not be what is the case: copied, suspected and negated findings "
    "are written too.",
    "Weights of tokens tell what the model used, neither a cause nor a proof.",
    "Nothing here was tested in a clinical trial.",
)


def text_card(bundle: TextBundle | TaggingBundle) -> dict[str, str]:
    """The card's files, by name."""
    facts = text_card_facts(bundle)
    return {CARD: text_card_markdown(facts), CARD_JSON: card_json(facts)}


def text_card_facts(bundle: TextBundle | TaggingBundle) -> dict[str, Any]:
    """The card as plain values."""
    task = _classifying(bundle) if isinstance(bundle, TextBundle) else _tagging(bundle)
    return {
        "name": bundle.name,
        "created": bundle.created,
        "disclaimer": DISCLAIMER_EN,
        "disclaimer_ja": DISCLAIMER_JA,
        "intended_use": f"Research on documents that were written already: {task['what']}. Any other use is out of "
        "scope.",
        **task,
        "data": dict(bundle.corpus),
        "metrics": dict(bundle.metrics),
        "network": to_plain(bundle.network),
        "limits": list(LIMITS),
        "versions": dict(bundle.versions),
    }


def text_card_markdown(facts: Mapping[str, Any]) -> str:
    """The card as Markdown text; `facts` as of `text_card_facts`."""
    sections = [
        f"# {facts['name']}",
        f"> **{DISCLAIMER_EN}**\n>\n> **{DISCLAIMER_JA}**",
        f"## Intended use\n\n{facts['intended_use']}",
        f"## Task\n\n{bullets(flat(facts['task']))}",
        f"## Data\n\n{bullets(flat(facts['data']))}",
        f"## Figures on the hold-out\n\n{_figures(facts['metrics'])}",
        f"## Calibration\n\n{facts['calibration']}",
        f"## Model\n\n{bullets(flat(facts['network']))}\n- members: {facts['members']}",
        "## Limits\n\n" + "\n".join(f"- {line}" for line in facts["limits"]),
        f"## Made with\n\n{bullets(facts['versions'].items())}\n- created: {facts['created']}",
    ]
    return "\n\n".join(sections) + "\n"


def _classifying(bundle: TextBundle) -> dict[str, Any]:
    task = bundle.task
    counted = [f"{member.kind} (weight {member.weight:.3g}, seed {member.seed})" for member in bundle.members]
    return {
        "what": task.description or f"{len(task.labels)} labels of a document",
        "task": {"kind": str(task.kind), "language": task.language, "labels": ", ".join(task.labels)},
        "calibration": f"Method: {bundle.calibration.method}, fitted on a part of its own.",
        "members": "; ".join(counted),
    }


def _tagging(bundle: TaggingBundle) -> dict[str, Any]:
    sharpness = bundle.corpus.get("sharpness")
    fitted = "" if sharpness is None else f": {sharpness:.3g}"
    return {
        "what": bundle.description or f"stretches of a document with {len(bundle.labels)} labels",
        "task": {"kind": "tagging", "language": bundle.language, "labels": ", ".join(bundle.labels)},
        "calibration": f"One factor on all scores, fitted on a part of its own{fitted}.",
        "members": "one network under a linear chain of tags",
    }


def _figures(figures: Mapping[str, Any]) -> str:
    """The model and its rivals as columns, each figure with its interval, and the differences below."""
    if not figures.get("metrics"):
        return "No hold-out was kept."
    rivals: Mapping[str, Any] = figures.get("rivals", {})
    columns = {"model": figures["metrics"]} | {name: rival["metrics"] for name, rival in rivals.items()}
    rows = [
        f"| {metric} | " + " | ".join(figure_text(column.get(metric)) for column in columns.values()) + " |"
        for metric in figures["metrics"]
    ]
    spans = f", {figures['spans']:,} spans" if "spans" in figures else ""
    differences = [
        f"- {metric}, model less {name}: {figure_text(entry)}"
        for name, rival in rivals.items()
        for metric, entry in rival["difference"].items()
    ]
    lines = [
        f"{figures['documents']:,} documents of {figures['groups']:,} groups{spans}; intervals by a bootstrap over "
        "groups.",
        "",
        "| figure | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *rows,
        *(["", *differences] if differences else []),
    ]
    return "\n".join(lines)
