"""Scores, gradient norms, hidden states and training histories in, figures out; no figure names a patient.

Figures are built on matplotlib's object interface: no window, no state shared between threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.disclaimer import DISCLAIMER_EN
from models.stay import Floats, Ints
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.evaluate import judged_rows
from pipelines.metrics import Ranking
from pipelines.scores import MINUTES_PER_HOUR, StepScores

BINS = 10
# What only counts in an epoch's row.
_COUNTS = {"epoch", "seconds", "member"}
_GUIDE: dict[str, Any] = {"color": "0.6", "linewidth": 1.0, "linestyle": "--", "zorder": 0}


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a PNG and gives its path back."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120, format="png", metadata={"Software": None})
    return path


def evaluation_figures(
    scores: Mapping[str, StepScores], task: TaskSpec, *, output: int = 0, hours: Sequence[float] = (6, 12, 24, 48)
) -> dict[str, Figure]:
    """Figures of one output: ROC, precision and recall, calibration, score histogram; or of predicted numbers.

    Args:
        scores: of one hold-out by the name of the model, the network first.
        task: what was predicted.
        output: which output; of several classes, this one against the others.
        hours: hours into the stay that the calibration figure shows too.
    """
    first = next(iter(scores.values()))
    if task.kind is TargetKind.REGRESSION:
        return {"predicted_and_observed": number_figure(*judged(first, task, output), unit=task.unit)}
    pairs = {name: judged(one, task, output) for name, one in scores.items()}
    where = "end of stay" if task.scope is LabelScope.STAY else "all time steps"
    at_hours = {f"{hour:g} h": _pair(first, task, output, first.rows_at(hour)) for hour in hours}
    curves = {where: judged(first, task, output)} | {k: pair for k, pair in at_hours.items() if len(pair[0])}
    return {
        "roc": roc_figure(pairs),
        "precision_recall": precision_recall_figure(pairs),
        "calibration": calibration_figure(curves),
        "score_histogram": histogram_figure(*judged(first, task, output)),
    }


def judged(scores: StepScores, task: TaskSpec, output: int = 0) -> tuple[Floats, Floats]:
    """(rows,) labels and (rows,) risks that an output is judged on, as in `pipelines.evaluate`."""
    target = 0 if task.kind is TargetKind.MULTICLASS else output
    return _pair(scores, task, output, judged_rows(scores, task, target))


def _pair(scores: StepScores, task: TaskSpec, output: int, rows: Ints) -> tuple[Floats, Floats]:
    several = task.kind is TargetKind.MULTICLASS
    label = scores.label[rows, 0 if several else output]
    known = ~np.isnan(label)
    label, risk = label[known], scores.risk[rows[known], output]
    return ((label == output).astype(np.float64) if several else label), risk


def roc_figure(pairs: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Sensitivity over the false positive rate of every model."""
    figure, (axes,) = _figure("ROC curve")
    axes.plot([0, 1], [0, 1], **_GUIDE)
    for name, (label, risk) in pairs.items():
        curves = Ranking.of(label, risk).curves(np.ones((1, len(label))))
        false = curves.alerts[0] - curves.caught[0]
        caught = curves.caught[0] / max(curves.caught[0, -1], 1.0)
        axes.plot(false / max(false[-1], 1.0), caught, label=f"{name}: AUROC {curves.auroc()[0]:.3f}")
    _name(axes, "1 - specificity", "sensitivity")
    axes.legend(loc="lower right")
    return figure


def precision_recall_figure(pairs: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Precision over recall of every model; the dashed line is the prevalence."""
    figure, (axes,) = _figure("Precision and recall")
    for name, (label, risk) in pairs.items():
        curves = Ranking.of(label, risk).curves(np.ones((1, len(label))))
        recall = curves.caught[0, 1:] / max(curves.caught[0, -1], 1.0)
        precision = curves.caught[0, 1:] / curves.alerts[0, 1:]
        axes.step(recall, precision, where="pre", label=f"{name}: AUPRC {curves.auprc()[0]:.3f}")
        axes.axhline(float(label.mean()) if len(label) else 0.0, **_GUIDE)
    _name(axes, "recall (sensitivity)", "precision (positive predictive value)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper right")
    return figure


def calibration_figure(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Observed frequency over mean risk in tenths of the rows, for the first curve with 95 % intervals."""
    figure, (axes,) = _figure("Calibration")
    axes.plot([0, 1], [0, 1], **_GUIDE)
    highest = 0.0
    for index, (name, (label, risk)) in enumerate(curves.items()):
        mean, observed, rows = calibration_points(label, risk)
        highest = max(highest, float(np.max(np.concatenate([mean, observed]), initial=0.0)))
        style: dict[str, Any] = {"marker": "o", "markersize": 4.0, "label": name}
        if index:
            axes.plot(mean, observed, linewidth=1.0, alpha=0.7, **style)
            continue
        low, high = wilson_interval(observed, rows)
        bars = np.stack([observed - low, high - observed])
        axes.errorbar(mean, observed, yerr=bars, linewidth=2.0, capsize=3.0, zorder=5, **style)
    limit = min(1.0, 1.15 * highest) or 1.0
    axes.set(xlim=(0, limit), ylim=(0, limit))
    _name(axes, "mean predicted risk", "observed frequency")
    axes.legend(loc="upper left")
    return figure


def calibration_points(label: Floats, risk: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean risk, observed frequency and rows of up to ten groups of equal size by risk."""
    groups = [g for g in np.array_split(np.argsort(risk, kind="stable"), BINS) if len(g)]
    table = np.array([[risk[g].mean(), label[g].mean(), len(g)] for g in groups]).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def wilson_interval(share: Floats, rows: Floats, z: float = 1.96) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share of independent rows.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def histogram_figure(label: Floats, risk: Floats) -> Figure:
    """How often each risk is given, with and without the event; counts on a logarithmic axis."""
    figure, (axes,) = _figure("Score histogram")
    for value, name in ((0.0, "without the event"), (1.0, "with the event")):
        axes.hist(risk[label == value], bins=np.linspace(0, 1, 41).tolist(), alpha=0.6, label=name)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlim(0, 1)
    _name(axes, "predicted risk", "rows")
    axes.legend(loc="upper right")
    return figure


def number_figure(label: Floats, predicted: Floats, *, unit: str = "") -> Figure:
    """Observed over predicted numbers."""
    figure, (axes,) = _figure("Predicted and observed")
    axes.scatter(predicted, label, s=6, alpha=0.3)
    if len(label):
        span = [float(min(predicted.min(), label.min())), float(max(predicted.max(), label.max()))]
        axes.plot(span, span, **_GUIDE)
    suffix = f" ({unit})" if unit else ""
    _name(axes, f"predicted{suffix}", f"observed{suffix}")
    return figure


def gradient_norm_figure(norms: Mapping[str, NDArray[Any]]) -> Figure:
    """Norm of the loss's total derivative with respect to the state at every time step, a line a layer.

    Lines that fall towards the first step show vanishing gradients, lines that rise exploding ones.

    Args:
        norms: (layers, time), or (epochs, layers, time), by the name of the state: `h`, and `c` for an LSTM. Of
            several epochs the first is drawn dotted and the last in full.
    """
    figure, panels = _figure("Gradient norms of the state", panels=len(norms))
    for axes, (name, table) in zip(panels, norms.items(), strict=True):
        epochs = np.asarray(table, dtype=np.float64).reshape(-1, *np.shape(table)[-2:])
        for epoch in sorted({0, len(epochs) - 1}):
            last = epoch == len(epochs) - 1
            for layer, line in enumerate(epochs[epoch]):
                # A norm of exactly 0 (after the last supervised step) has no place on a logarithmic axis.
                drawn = np.where(line > 0, line, np.nan)
                text = f"layer {layer + 1}" + (f", epoch {epoch + 1}" if len(epochs) > 1 else "")
                axes.plot(drawn, color=f"C{layer}", linestyle="-" if last else ":", label=text)
        if np.any(epochs > 0):
            axes.set_yscale("log")
        _name(axes, "time step of the chunk", f"norm of d loss / d {name}")
        axes.legend(loc="best")
    return figure


def hidden_state_figure(states: NDArray[Any], time_min: Ints) -> Figure:
    """Hidden state of one stay as a heat map, a panel a layer; time in hours since admission.

    Args:
        states: (layers, time, width).
        time_min: (time,) minute of every step; steps are drawn at equal widths.
    """
    figure, panels = _figure("Hidden state of one stay", panels=len(states), across=False)
    limit = float(np.abs(states).max(initial=0.0)) or 1.0
    ticks = np.unique(np.linspace(0, len(time_min) - 1, min(9, len(time_min))).astype(int))
    for layer, (axes, table) in enumerate(zip(panels, states, strict=True)):
        image = axes.imshow(
            np.asarray(table).T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        figure.colorbar(image, ax=axes)
        axes.set_xticks(ticks, [f"{time_min[tick] / MINUTES_PER_HOUR:.0f}" for tick in ticks])
        _name(axes, "hours since admission", f"layer {layer + 1}, unit")
    return figure


def training_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training curves: the losses in one panel, every other figure of an epoch in one of its own.

    Args:
        history: one mapping of names to numbers an epoch; what only counts (`epoch`, `seconds`) is not drawn.
    """
    groups = training_panels(history)
    figure, panels = _figure("Training", panels=len(groups), width=4.0)
    for axes, group in zip(panels, groups, strict=True):
        for name in group:
            line = [(epoch, float(row[name])) for epoch, row in enumerate(history) if row.get(name) is not None]
            axes.plot([x for x, _ in line], [y for _, y in line], marker="o", markersize=3, label=name)
        _name(axes, "epoch", "loss" if len(group) != 1 else group[0])
        if len(group) > 1:
            axes.legend(loc="best", fontsize="small")
    return figure


def training_panels(history: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Names of an epoch's figures by panel: the losses together, every other one alone; counts are left out."""
    names = [name for name in dict.fromkeys(n for row in history for n in row) if name not in _COUNTS]
    return [[name for name in names if "loss" in name], *([name] for name in names if "loss" not in name)]


def _figure(title: str, *, panels: int = 1, across: bool = True, width: float = 6.0) -> tuple[Figure, list[Axes]]:
    rows, columns = (1, panels) if across else (panels, 1)
    figure = Figure(figsize=(width * columns, 4.5 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title)
    figure.supxlabel(DISCLAIMER_EN.replace("alarms. ", "alarms.\n"), fontsize=7, color="0.35")
    return figure, list(grid.ravel())


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.25)
