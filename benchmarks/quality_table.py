"""Rows of `quality.py` in, figures by division and model over the seeds, and their Markdown table, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier",
    "calibration_slope": "slope",
    "calibration_intercept": "intercept",
    "event1": "Event 1",
    "event2": "Event 2",
    "utility": "utility",
}
# How `divisions.held_out` names what it judges, before the key.
HELD_OUT = "hold-out, key "
DIGITS = {"event2": 1, "calibration_slope": 2, "calibration_intercept": 2}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every division's models and differences over its seeds.

    A figure is the mean over the seeds with its standard deviation (None for one seed); `low` and `high` are the means
    of the seeds' interval ends, so they speak of patients and not of seeds. Hold-outs of several keys get a mean of
    their own, whose standard deviation is that over hold-outs.
    """
    divisions: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        divisions.setdefault(row["what"], []).append(row)
    found = [_division(what, of_seed) for what, of_seed in divisions.items()]
    held = {what: of_seed for what, of_seed in divisions.items() if what.startswith(HELD_OUT)}
    if len(held) > 1:
        found.append(_division(f"mean of {len(held)} hold-outs", [row for of_seed in held.values() for row in of_seed]))
    return found


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: the models' figures, and the paired differences."""
    models = [m for division in found for m in division["models"].values()]
    shown = [name for name in NAMES if any(name in m["metrics"] for m in models)]
    redrawn = any("event2_redrawn_p95" in m["metrics"] for m in models)
    head = ["stays judged", "model", *(NAMES[n] for n in shown), *(["Event 2 by chance, 95 %"] if redrawn else [])]
    lines = _head(head)
    for division in found:
        for name, model in division["models"].items():
            cells = [_figure(n, model["metrics"].get(n)) for n in shown]
            cells += [_figure("event2", model["metrics"].get("event2_redrawn_p95"))] if redrawn else []
            lines.append(_line([_what(division), name, *cells]))
    gaps = sorted({n for division in found for gap in division["differences"] for n in gap["metrics"]}, key=_order)
    lines += ["", *_head(["stays judged", "difference", *(NAMES[n] for n in gaps)])]
    for division in found:
        for gap in division["differences"]:
            cells = [_figure(n, gap["metrics"].get(n), sign="+") for n in gaps]
            lines.append(_line([_what(division), f"{gap['of']} less {gap['less']}", *cells]))
    return "\n".join(lines) + "\n"


def line(row: Mapping[str, Any]) -> str:
    """The served model's figures of one row, for the progress."""
    served = row["models"]["served"]["metrics"]
    return "  ".join(f"{NAMES[n]} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for n, m in served.items())


def _division(what: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    models: dict[str, Any] = {}
    for name in dict.fromkeys(n for row in rows for n in row["models"]):
        of_seed = [row["models"][name] for row in rows if name in row["models"]]
        metrics = _over_seeds([m["metrics"] for m in of_seed])
        chance = [{"event2_redrawn_p95": {"value": m["event2_redrawn"]["p95"]}} for m in of_seed if _has_chance(m)]
        models[name] = {**of_seed[0], "metrics": metrics | _over_seeds(chance)}
        models[name].pop("event2_redrawn", None)
    pairs = dict.fromkeys((gap["of"], gap["less"]) for row in rows for gap in row["differences"])
    gaps = []
    for of, less in pairs:
        of_seed = [g["metrics"] for row in rows for g in row["differences"] if (g["of"], g["less"]) == (of, less)]
        gaps.append({"of": of, "less": less, "metrics": _over_seeds(of_seed)})
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    mean = {"seconds": float(np.mean(seconds))} if seconds else {}
    return {"what": what, "seeds": [row["seed"] for row in rows], "models": models, "differences": gaps} | mean


def _has_chance(model: Mapping[str, Any]) -> bool:
    return "event2_redrawn" in model


def _over_seeds(of_seed: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in dict.fromkeys(n for metrics in of_seed for n in metrics):
        entries = [metrics[name] for metrics in of_seed if metrics.get(name) is not None]
        if not entries:
            continue
        values = [entry["value"] for entry in entries]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        ends = {end: float(np.mean([e[end] for e in entries])) for end in ("low", "high") if end in entries[0]}
        above = {"above_0": sum(e["low"] > 0 for e in entries)} if "low" in entries[0] else {}
        found[name] = {"value": float(np.mean(values)), "seeds": spread, "of": len(values), **ends, **above}
    return found


def _figure(name: str, figure: Mapping[str, Any] | None, *, sign: str = "") -> str:
    if figure is None:
        return ""
    form = f"{sign}.{DIGITS.get(name, 3)}f"
    spread = "" if figure["seeds"] is None else f" ± {figure['seeds']:.{DIGITS.get(name, 3)}f}"
    ends = f" [{figure['low']:{form}}, {figure['high']:{form}}]" if "low" in figure else ""
    return f"{figure['value']:{form}}{spread}{ends}"


def _what(division: Mapping[str, Any]) -> str:
    count = len(division["seeds"])
    if division["what"].startswith("mean of"):
        return str(division["what"])
    stays = next(iter(division["models"].values()))["stays"]
    return f"{division['what']}; {stays:,} stays; {count} seed{'s' if count > 1 else ''}"


def _order(name: str) -> int:
    return list(NAMES).index(name)


def _head(cells: Iterable[str]) -> list[str]:
    names = list(cells)
    return [_line(names), "|---" * len(names) + "|"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
