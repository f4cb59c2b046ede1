"""A report's facts in, one HTML page out that holds everything in itself; no figure is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from pipelines.origin import origin_rows
from pipelines.report.drawings import (
    alerts_drawing,
    curves_drawing,
    data_address,
    decision_drawing,
    forest_drawing,
    reliability_drawing,
    training_drawing,
)
from pipelines.report.tripod import tripod_items

TEMPLATE = "report.html.j2"
# Figures of the first table, with the names that a reader knows; the others follow in a table of their own.
TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "utility": "Utility (Challenge 2019)",
    "event1": "Event 1 (Challenge 2012)",
    "event2": "Event 2 (Challenge 2012)",
    "log_loss": "Log loss",
    "accuracy": "Accuracy",
    "rmse": "Root mean squared error",
    "mae": "Mean absolute error",
    "r2": "R squared",
    "base_rate": "Base rate",
    "observed_over_expected": "Observed : expected",
    "alerts_per_patient_day": "Alerts per patient-day",
    "sensitivity": "Sensitivity",
    "events_alerted_any_time_before": "Events alerted at any time before",
    "ppv": "PPV",
    "stays_alerted": "Stays alerted",
    "lower_quartile_h": "Lower quartile (h)",
    "median_h": "Median (h)",
    "upper_quartile_h": "Upper quartile (h)",
    "share_early": "Share alerted early",
}
# Names of the models that stand in a table beside others; a registered version goes by its address.
MODELS = {
    "network": "this model",
    "networks_alone": "its networks alone",
    "single_network": "one network of it",
    "logistic_regression": "logistic regression",
    "lightgbm": "LightGBM",
    "true_risk": "the simulator's true risk",
    "parent": "the version it started from",
    "before_recalibration": "before recalibration",
}
# Numbers below this are zero but for rounding.
ROUNDING = 1e-9
# What label sets and intervals promised, as against what the risks themselves are worth.
UNCERTAINTY = ("conformal_", "abstain_share_", "neither_share_", "interval_width")


def report_html(facts: Mapping[str, Any]) -> str:
    """The page.

    Args:
        facts: as of `pipelines.report.facts.report_facts`.
    """
    environment = Environment(
        loader=PackageLoader("pipelines.report", "."),
        autoescape=select_autoescape(["html", "j2"], default_for_string=True, default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": interval_text,
        "title": metric_title,
        "model": model_title,
        "number": number_text,
        "short": short_text,
    }
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        first=next(iter(facts["metrics"].values()), {}),
        main_metrics=_main_metrics(facts["metrics"]),
        other_metrics=_other_metrics(facts["metrics"]),
        uncertainty=_uncertainty(facts["metrics"]),
        drawings=_drawings(facts),
        origin=origin_rows(facts["data"]),
        tripod=tripod_items(facts),
        configuration=list(_flat(facts["config"])),
    )


def interval_text(entry: Any) -> str:
    """A figure and its interval, all with as many decimals as the largest of them needs.

    Example:
        >>> interval_text({"value": 0.81234, "low": 0.79, "high": 0.8349}).replace("\N{NO-BREAK SPACE}", " ")
        '0.812 [0.790, 0.835]'
        >>> interval_text({"value": -3e-05, "low": -0.0042, "high": 2.8e-17}).replace("\N{NO-BREAK SPACE}", " ")
        '0.0000 [-0.0042, 0.0000]'
    """
    if not isinstance(entry, Mapping) or entry.get("value") is None:
        return ""
    if entry.get("low") is None or entry.get("high") is None:
        return number_text(entry["value"])
    numbers = [float(entry[name]) for name in ("value", "low", "high")]
    value, low, high = (_fixed(number, _decimals(*numbers)) for number in numbers)
    few = " (few events)" if entry.get("few_events") else ""
    # A narrow column breaks before the interval, never inside it.
    return f"{value} [{low},\N{NO-BREAK SPACE}{high}]{few}"


def number_text(value: Any) -> str:
    """A number with three decimals, or two significant digits where those would say less; text as it is.

    Example:
        >>> number_text(0.81234), number_text(-0.00003), number_text(-2.8e-17), number_text(1200), number_text("none")
        ('0.812', '-0.000030', '0.000', '1,200', 'none')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return _fixed(value, _decimals(value))


def _decimals(*numbers: float) -> int:
    """Decimals that show the largest number with two significant digits: three, or more where it is small."""
    largest = max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)
    return max(3, 1 - math.floor(math.log10(largest))) if largest >= ROUNDING else 3


def _fixed(number: float, decimals: int) -> str:
    """The number with these decimals, and without a sign where they are all zero."""
    return f"{round(number, decimals) + 0.0:,.{decimals}f}"


def short_text(value: float) -> str:
    """A number without needless decimals.

    Example:
        >>> short_text(12.0), short_text(709.151), short_text(0.25)
        ('12', '709', '0.25')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def metric_title(name: str) -> str:
    """How a reader calls a metric.

    Example:
        >>> metric_title("auroc"), metric_title("auroc_at_6h"), metric_title("sensitivity_at_alert_rate_0.1")
        ('AUROC', 'AUROC at 6 h', 'Sensitivity at alert rate 0.1')
    """
    stem, at, hour = name.rpartition("_at_")
    if at and stem in TITLES and hour.endswith("h"):
        return f"{TITLES[stem]} at {hour[:-1]} h"
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def model_title(name: str) -> str:
    """How a reader calls a model of the table.

    Example:
        >>> model_title("network"), model_title("models:/mortality/3")
        ('this model', 'models:/mortality/3')
    """
    return MODELS.get(name, name)


def _main_metrics(table: Mapping[str, Any]) -> list[str]:
    return [name for name in TITLES if any(name in figures["metrics"] for figures in table.values())]


def _other_metrics(table: Mapping[str, Any]) -> list[str]:
    given = dict.fromkeys(name for figures in table.values() for name in figures["metrics"])
    return [name for name in given if name not in TITLES and not name.startswith(UNCERTAINTY)]


def _uncertainty(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    first: Mapping[str, Any] = next(iter(table.values()), {"metrics": {}})
    return [(name, entry) for name, entry in first["metrics"].items() if name.startswith(UNCERTAINTY)]


def _drawings(facts: Mapping[str, Any]) -> dict[str, str]:
    """Addresses of the drawings by section and output, of those sections that hold figures."""
    found: dict[str, Figure] = {}
    makers = {"curves": curves_drawing, "decision_curve": decision_drawing, "alerts": alerts_drawing}
    for section, draw in makers.items():
        for output, table in facts[section].items():
            if "undefined" not in table:
                found[f"{section}/{output}"] = draw(table)
    for output, table in facts["reliability"].items():
        if table["groups"]:
            found[f"reliability/{output}"] = reliability_drawing(table)
    for output, tables in facts["subgroups"].items():
        for metric, title in (("auroc", "AUROC"), ("observed_over_expected", "observed : expected")):
            if _holds(tables, metric):
                found[f"{metric}/{output}"] = forest_drawing(tables, metric, title, _whole(facts, output, metric))
    if facts["history"]:
        found["training"] = training_drawing(facts["history"])
    return {name: data_address(figure) for name, figure in found.items()}


def _holds(tables: Sequence[Mapping[str, Any]], metric: str) -> bool:
    return any(metric in group.get("metrics", {}) for table in tables for group in table.get("groups", []))


def _whole(facts: Mapping[str, Any], output: str, metric: str) -> float | None:
    if metric == "observed_over_expected":
        return 1.0
    figures: Mapping[str, Any] = next(iter(facts["metrics"].values()), {})
    entry = figures.get("outputs", {}).get(output, figures.get("metrics", {})).get(metric)
    return float(entry["value"]) if entry else None


def _flat(plain: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(plain, Mapping) and plain:
        return [row for key, value in plain.items() for row in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, str(plain))]
