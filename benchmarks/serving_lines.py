"""Figures beside throughput: how the cost of an observation grows, how long a start takes, other benchmarks' own."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving_cohort import live_stays
from serving_load import closed_loop
from serving_process import Service
from serving_run import Server, Steps, checked

from models.scorer import Scorer

EARLY, LATE = slice(5, 16), slice(995, 1006)
LONG_STEPS, LONG_RUNS = 1_010, 5
STARTS = 3
# Seconds for the long stays; they end long before.
AMPLE_S = 600.0


def growth(server: Server, scorer: Scorer) -> dict[str, float]:
    """Latency of the observations around the 1,000th of a stay against those around the 10th."""
    stays = live_stays(scorer, 1, LONG_STEPS, seed=7, gap_min=10)
    early: list[float] = []
    late: list[float] = []
    for run in range(LONG_RUNS):
        source = Steps(server, stays, f"long-{run}")
        load = asyncio.run(closed_loop(source, connections=1, seconds=AMPLE_S, most=LONG_STEPS + 1))
        checked(load)
        early += load.latency_s[EARLY]
        late += load.latency_s[LATE]
    first, last = statistics.median(early) * 1e3, statistics.median(late) * 1e3
    return {"tenth_ms": round(first, 3), "thousandth_ms": round(last, 3), "ratio": round(last / first, 3)}


def starts(artifact: Path, folder: Path) -> dict[str, float]:
    """Seconds until `python -m service` is ready to score, and its memory then."""
    ready, resident = [], []
    for number in range(STARTS):
        service = Service(artifact, folder, {}, name=f"start-{number}")
        ready.append(service.start())
        resident.append(Server(service.port, None, service.pid, 0.0).resident_mib)
        service.stop()
    return {"ready_s": round(statistics.median(ready), 2), "resident_mib": round(statistics.median(resident), 1)}


def other(script: str, *arguments: str) -> Any:
    """What another benchmark of this folder prints.

    Raises:
        CalledProcessError: if it fails.
    """
    command: Sequence[str] = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def line_figures(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures by what the service is to show; a ratio is to the empty endpoint of the same run.

    Args:
        figures: of the models, and of the other benchmarks by name; what was left out is None.
    """
    swap = figures.get("swap")
    lstm = figures["engine"]["lstm"] if "engine" in figures else None
    return {
        "0 no-op of a bare route": _by_model(figures, _noop),
        "1 observations": _by_model(figures, _observations),
        "2 windows of no-op": _by_model(figures, lambda model: _ratios(model["windows"], "score", "of_noop")),
        "3 one step in the engine": lstm and {k: lstm[k] for k in ("step_us", "eager_lstm_us", "eager_over_step")},
        "4 many stays": {
            "memory": lstm and {k: lstm[k] for k in ("live_stays", "bytes_a_stay", "peak_memory_mib")},
            "replayed": lstm and lstm["replay"],
            "growth": _by_model(figures, lambda model: model.get("growth")),
        },
        "5 crashes": figures.get("crash"),
        "6 change of model": swap and {k: swap[k] for k in ("stays", "not_2xx", "added_p99_ms", "largest_difference")},
        "7 on a GPU": figures.get("gpu"),
        "8 start": _by_model(figures, lambda model: model.get("start")),
    }


def _by_model(figures: dict[str, Any], of: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    return {name: of(model) for name, model in figures["models"].items()}


def _ratios(points: dict[str, Any], contender: str, ratio: str) -> dict[str, float]:
    """By connections."""
    return {connections: found[contender][ratio] for connections, found in points.items()}


def _noop(model: dict[str, Any]) -> dict[str, Any]:
    return {kind: _ratios(model[kind], "noop", "of_bare") for kind in ("steps", "windows")}


def _observations(model: dict[str, Any]) -> dict[str, Any]:
    steps, opened = model["steps"], model.get("steps_open", {})
    return {
        "of_noop": _ratios(steps, "memory", "of_noop"),
        "of_lean_noop": _ratios(steps, "memory", "of_lean_noop"),
        "cpu_of_noop": _ratios(steps, "memory", "cpu_of_noop"),
        "durable_of_noop": _ratios(steps, "sqlite", "of_noop"),
        "p99_of_noop": _ratios(steps, "memory", "p99_of_noop"),
        "open_p99_of_noop": {kind: found["memory"]["p99_of_noop"] for kind, found in opened.items()},
    }
