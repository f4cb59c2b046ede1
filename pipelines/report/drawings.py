"""A report's figures as numbers in, drawings as SVG that a page holds in itself out; none is computed here."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from models.stay import Floats
from pipelines.plots import training_panels

BLUE, ORANGE, GREY = "#1f5f8b", "#c05a1c", "#8a8f94"
# Text stays text, and equal figures give equal bytes.
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sequela",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4a4f54",
    "axes.grid": True,
    "grid.color": "#e4e7ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "axes.axisbelow": True,
}


def data_address(figure: Figure) -> str:
    """The figure as an address that holds its SVG."""
    text = io.BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue()).decode("ascii")


def curves_drawing(curves: Mapping[str, Any]) -> Figure:
    """ROC and precision-recall curves with their bands."""
    figure, (left, right) = _axes(2)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--")
    _band(left, curves["roc"], "at")
    _name(left, "1 - specificity", "sensitivity")
    _band(right, curves["precision_recall"], "at")
    _name(right, "recall (sensitivity)", "precision (PPV)")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def reliability_drawing(table: Mapping[str, Any]) -> Figure:
    """Observed frequency over mean risk with intervals, above a histogram of the risks."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=[3, 1])
    shown = [group for group in table["groups"] if "observed" in group]
    risk = np.array([group["mean_risk"] for group in shown])
    value, low, high = _columns([group["observed"] for group in shown])
    limit = min(1.0, 1.1 * float(np.max(np.concatenate([risk, high]), initial=0.0))) or 1.0
    upper.plot([0, limit], [0, limit], color=GREY, linewidth=1.0, linestyle="--", label="observed = predicted")
    bars = np.maximum(np.stack([value - low, high - value]), 0.0)
    upper.errorbar(risk, value, yerr=bars, color=BLUE, marker="o", markersize=4, capsize=3, label="tenths of the risk")
    upper.set(xlim=(0, limit), ylim=(0, limit))
    upper.legend(loc="upper left")
    _name(upper, "mean predicted risk", "observed frequency")
    bars_shown = [bar for bar in table["histogram"] if "with_event" in bar]
    left = np.array([bar["from"] for bar in bars_shown])
    width = np.array([bar["to"] - bar["from"] for bar in bars_shown])
    for side, name, color in ((-1, "without_event", GREY), (1, "with_event", ORANGE)):
        count = np.array([bar[name] for bar in bars_shown], dtype=np.float64)
        place = left + (0.25 + 0.5 * (side > 0)) * width
        lower.bar(place, count, width=0.45 * width, color=color, label=name.replace("_", " the "))
    lower.set_yscale("symlog", linthresh=10.0)
    lower.legend(loc="upper right")
    _name(lower, "predicted risk", "rows")
    return figure


def decision_drawing(curve: Mapping[str, Any]) -> Figure:
    """Net benefit of the model with its band, of treating all and of treating none."""
    figure, (axes,) = _axes(1)
    points = curve["points"]
    at = [point["threshold"] for point in points]
    flat = [{"at": point["threshold"], **point["net_benefit"]} for point in points]
    everyone = _columns([point["treat_all"] for point in points])[0]
    axes.plot(at, everyone, color=ORANGE, linewidth=1.4, linestyle="-.", label="act on all")
    axes.axhline(0.0, color=GREY, linewidth=1.4, linestyle="--", label="act on none")
    _band(axes, flat, "at", label="model")
    top = 1.1 * max(curve["base_rate"], max(entry["high"] for entry in flat))
    axes.set(xlim=(at[0], at[-1]), ylim=(-0.25 * top, top))
    axes.legend(loc="upper right")
    _name(axes, "risk threshold", "net benefit")
    return figure


def alerts_drawing(alerts: Mapping[str, Any]) -> Figure:
    """Sensitivity and predictive value over alerts per patient-day, with intervals."""
    figure, (axes,) = _axes(1)
    points = sorted(alerts["points"], key=lambda p: float(p["threshold"]), reverse=True)
    for metric, name, color, marker in (("sensitivity", "sensitivity", BLUE, "o"), ("ppv", "PPV", ORANGE, "s")):
        held = [p["metrics"] for p in points if {metric, "alerts_per_patient_day"} <= set(p["metrics"])]
        value, low, high = _columns([m[metric] for m in held])
        burden = _columns([m["alerts_per_patient_day"] for m in held])[0]
        bars = np.maximum(np.stack([value - low, high - value]), 0.0)
        axes.errorbar(burden, value, yerr=bars, color=color, marker=marker, markersize=4, capsize=3, label=name)
    axes.set(ylim=(0, 1.02))
    axes.set_xlim(left=0)
    axes.legend(loc="best")
    _name(axes, "alerts per patient-day", "share")
    return figure


def forest_drawing(tables: Sequence[Mapping[str, Any]], metric: str, title: str, whole: float | None) -> Figure:
    """A metric of every group as a point with its interval; the line is the whole hold-out."""
    rows = [
        (
            f"{table['variable']}: {group['group']}" + (" (smallest)" if group["smallest"] else ""),
            group["metrics"][metric],
        )
        for table in tables
        for group in table.get("groups", [])
        if metric in group.get("metrics", {})
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 0.9 + 0.27 * max(len(rows), 1)), layout="constrained")
        axes = figure.subplots()
    value, low, high = _columns([entry for _, entry in rows])
    place = np.arange(len(rows))[::-1]
    if whole is not None:
        axes.axvline(whole, color=GREY, linewidth=1.0, linestyle="--")
    bars = np.maximum(np.stack([value - low, high - value]), 0.0)
    axes.errorbar(value, place, xerr=bars, color=BLUE, marker="o", markersize=4, capsize=2.5, linestyle="none")
    axes.set_yticks(place, [name for name, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(title)
    return figure


def training_drawing(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training curves; the networks of an ensemble as lines of one colour."""
    groups = training_panels(history)
    figure, panels = _axes(len(groups))
    for axes, group in zip(panels, groups, strict=True):
        for color, name in enumerate(group):
            for i, rows in enumerate(_by_member(history)):
                line = [(epoch, float(row[name])) for epoch, row in enumerate(rows, 1) if row.get(name) is not None]
                style: dict[str, Any] = {"color": f"C{color}", "marker": "o", "markersize": 3}
                axes.plot([x for x, _ in line], [y for _, y in line], label=None if i else name, **style)
        _name(axes, "epoch", "loss" if len(group) != 1 else group[0])
        if len(group) > 1:
            axes.legend(loc="best")
    return figure


def _by_member(history: Sequence[Mapping[str, float]]) -> list[list[Mapping[str, float]]]:
    members = sorted({int(row.get("member", 0)) for row in history})
    return [[row for row in history if int(row.get("member", 0)) == member] for member in members]


def _axes(panels: int) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(4.3 * panels + 0.9, 10.0), 3.6), layout="constrained")
        grid = figure.subplots(1, panels, squeeze=False)
    return figure, list(grid.ravel())


def _band(axes: Axes, points: Sequence[Mapping[str, float]], x: str, label: str = "") -> None:
    at = [point[x] for point in points]
    value, low, high = _columns(points)
    axes.fill_between(at, low, high, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(at, value, color=BLUE, linewidth=1.8, label=label or None)


def _columns(entries: Sequence[Mapping[str, float]]) -> tuple[Floats, Floats, Floats]:
    table = np.array([[entry["value"], entry["low"], entry["high"]] for entry in entries], dtype=np.float64)
    value, low, high = table.reshape(-1, 3).T
    return value, low, high


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
