"""A report's facts in, the sections of its model card out that say how the model serves, and whom it serves less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GROUP_METRICS = ("auroc", "auprc", "observed_over_expected", "calibration_slope", "rmse", "mae")
ALERT_METRICS = ("alerts_per_patient_day", "sensitivity", "ppv")


def card_sections(facts: Mapping[str, Any]) -> list[str]:
    """Markdown of alerts, subgroups, density of measurement and comparisons; of a bundle alone there are none."""
    sections = []
    for output, table in facts.get("alerts", {}).items():
        if "points" in table:
            sections.append(f"## Alerts, {output}\n\n{_alerts(table)}")
    for output, tables in facts.get("subgroups", {}).items():
        groups = [
            {**group, "group": f"{table['variable']}: {group['group']}"}
            for table in tables
            for group in table.get("groups", [])
        ]
        strata = facts["missingness"][output]["groups"]
        sections.append(f"## Subgroups, {output}\n\n{_groups([*groups, *strata], facts['intervals']['min_group'])}")
    if facts.get("comparisons"):
        sections.append(f"## Paired differences\n\n{_comparisons(facts['comparisons'])}")
    return sections


def figure_text(entry: Mapping[str, Any] | None) -> str:
    """A figure with its interval.

    Example:
        >>> figure_text({"value": 0.8, "low": 0.7, "high": 0.9}), figure_text(None)
        ('0.800 [0.700, 0.900]', '')
    """
    if entry is None or entry.get("value") is None:
        return ""
    if entry.get("low") is None or entry.get("high") is None:
        return f"{entry['value']:.3f}"
    few = " (few events)" if entry.get("few_events") else ""
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]{few}"


def _alerts(table: Mapping[str, Any]) -> str:
    head = (
        f"{table['watched_stays']:,} stays watched for {table['patient_days']:,.0f} patient-days; after an alert a "
        f"stay is silent for {table['silence_h']:g} h."
    )
    rows = [
        [point["name"], f"{point['threshold']:.4g}", *(figure_text(point["metrics"].get(m)) for m in ALERT_METRICS)]
        for point in table["points"]
    ]
    return f"{head}\n\n{_table(['rule', 'threshold', *ALERT_METRICS], rows)}"


def _groups(groups: Sequence[Mapping[str, Any]], min_group: int) -> str:
    metrics = [m for m in GROUP_METRICS if any(m in group.get("metrics", {}) for group in groups)]
    rows = []
    for group in groups:
        name = group["group"] + (" (smallest)" if group["smallest"] else "")
        if group.get("suppressed"):
            rows.append([name, f"fewer than {min_group}", *("" for _ in metrics)])
            continue
        rows.append([name, f"{group['stays']:,}", *(figure_text(group["metrics"].get(m)) for m in metrics)])
    return _table(["group", "stays", *metrics], rows)


def _comparisons(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for entry in entries:
        if "undefined" in entry:
            rows.append([entry["with"], "", f"not compared: {entry['undefined']}"])
            continue
        for output, metrics in entry["outputs"].items():
            rows += [[entry["with"], f"{output}, {m}", figure_text(found)] for m, found in metrics.items()]
    return _table(["less", "figure", "difference"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
