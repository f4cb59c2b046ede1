"""Figures beside throughput: how the cost of an observation grows, how long a start takes, other benchmarks' own."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
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


def by_line(model: dict[str, Any]) -> dict[str, Any]:
    """The figures of one model by what the service is to show; a ratio is to the empty endpoint of the same run."""
    steps, scored = model["steps"], model["windows"]
    opened = {kind: model["steps_open"][kind]["memory"]["p99_of_noop"] for kind in model["steps_open"]}
    return {
        "noop_of_bare": {n: v["noop"]["of_bare"] for n, v in steps.items()},
        "1_step_of_noop": {n: v["memory"]["of_noop"] for n, v in steps.items()},
        "1_step_of_lean_noop": {n: v["memory"]["of_lean_noop"] for n, v in steps.items()},
        "1_step_p99_of_noop": {**{n: v["memory"]["p99_of_noop"] for n, v in steps.items()}, **opened},
        "1_durable_step_of_noop": {n: v["sqlite"]["of_noop"] for n, v in steps.items()},
        "2_window_of_noop": {n: v["score"]["of_noop"] for n, v in scored.items()},
        "4_growth": model["growth"],
        "8_start": model["start"],
    }
