"""Live stays that follow a new model in one process: how fast, how much of it is arithmetic, and what they weigh.

    python benchmarks/following.py                    # 4,000 stays, a GRU of 64 and an LSTM of two layers of 128
    python benchmarks/following.py --stays 100000 --cell gru

Every stay has 48 time steps of six values behind it and lies in memory over a store in memory. Then another model's
states are made of all of them, as after a change of champion, and each goes over to it. Prints one JSON object; figures
are processor time of the whole process, so that what else runs weighs little. `arithmetic` is the engine's part of it:
the products of matrices and the gates, measured by themselves on the same stays. The exit status is 1 where a state is
not what a replay of the stay's observations gives.
"""

# ruff: noqa: E402  # BLAS and OpenMP read their number of threads when they are loaded
from __future__ import annotations

import os

for _library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_library, "1")

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from serving_cohort import LiveStay, live_stays, save_network

from models.artifact import load_artifact
from models.cells import Cell
from models.live_replay import encode_block, stay_blocks
from service.assembly import Assembled, assembled
from service.audit import NoAudit
from service.live.reading import joined
from service.live.restoring import journal_of
from service.live.settling import Call
from service.live.stepper import Stepper
from service.selection import Origin, Selected
from service.served import Served
from service.settings import Settings

TEMPLATES, STEPS, COMPARED = 8, 48, 50
TOLERANCE = 1e-6
SHAPES = {"gru": (Cell.GRU, 64, 1), "lstm": (Cell.LSTM, 128, 2)}


async def fill(parts: Assembled, templates: list[LiveStay], count: int) -> None:
    """Admits every stay and sends its past as one call."""
    merged = [
        json.dumps({"observations": [o for body in t.steps for o in json.loads(body)["observations"]]}).encode()
        for t in templates
    ]
    for number in range(count):
        kind, name = number % TEMPLATES, f"stay-{number}"
        await parts.live.admit(Call("PUT stay", name, templates[kind].opening))
        await parts.live.observe(Call("POST observations", name, merged[kind]))


async def measure(folder: Path, shape: str, count: int) -> dict[str, Any]:
    """Fills, has all stays follow another model, and compares."""
    cell, size, layers = SHAPES[shape]
    first, second = (
        load_artifact(save_network(folder / f"{shape}-{seed}", cell=cell, hidden_size=size, layers=layers, seed=seed))
        for seed in (1, 2)
    )
    settings = Settings(store="memory:", state_bytes=1 << 34, max_waiting=4096)
    parts = assembled(settings, Selected(first, Origin()), None, NoAudit())
    await parts.keeping.open()
    service, place = parts.service, parts.service.models.champion
    templates = live_stays(first, TEMPLATES, STEPS)
    empty = _resident_mib()
    await fill(parts, templates, count)
    filled = _resident_mib()
    other = Served.of(second, Origin(), settings, service.inference)
    await other.warm_up(service.inference)
    place.current, place.aside = other, place.current
    began = time.process_time()
    await parts.changes.following.bring(lambda _: True)
    spent = time.process_time() - began
    figures = {
        "stays": count,
        "time_steps_a_stay": STEPS,
        "stays_per_processor_second": round(count / spent),
        "arithmetic": round(await _engine_s(parts, other.stepper, count) / spent, 2),
        "resident_mib": {"empty": empty, "filled": filled, "with_both_models": _resident_mib()},
        "largest_difference": await _worst(parts, other.stepper, count),
    }
    parts.changes.background.close()
    await service.inference.drain()
    await parts.keeping.close()
    return figures


async def _engine_s(parts: Assembled, stepper: Stepper, count: int) -> float:
    """Processor time of the engine's replays alone, for so many stays."""
    whole = []
    for number in range(min(count, 512)):
        head = await parts.keeping.store.head(f"stay-{number}")
        assert head is not None
        journal = await journal_of(parts.keeping.store, head.number)
        whole.append(stepper.reader.stays(journal.facts))
    blocks = [encode_block(stepper.bundle.encoding, block, None) for block in stay_blocks(joined(whole))]
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        for block in blocks:
            stepper.live.engine.replay(block.encoded, steps=block.encoded.lengths - 1)
        least = min(least, time.process_time() - began)
    return least / len(whole) * count


async def _worst(parts: Assembled, stepper: Stepper, count: int) -> float:
    """The largest difference of a state in memory from a fresh replay of the stay's journal."""
    worst = 0.0
    for number in random.Random(1).sample(range(count), min(COMPARED, count)):
        session = parts.live.sessions.held(f"stay-{number}")
        assert session is not None
        assert session.known is not None
        assert session.known.stepper is stepper
        journal = await journal_of(parts.keeping.store, session.known.number)
        fresh = await stepper.replay(journal.facts)
        mine, its = (stepper.live.layout.join([state])["network"] for state in (session.known.fold.state, fresh.state))
        worst = max(worst, float(np.abs(mine - its).max()))
    return worst


def _resident_mib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=4000)
    parser.add_argument("--cell", choices=sorted(SHAPES), action="append", help="default: both")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"machine": machine(), "load_average": os.getloadavg()}
    with tempfile.TemporaryDirectory(prefix="following-") as name:
        for shape in args.cell or SHAPES:
            figures[shape] = asyncio.run(measure(Path(name), shape, args.stays))
    print(json.dumps(figures, indent=2))
    return int(any(figures[shape]["largest_difference"] > TOLERANCE for shape in args.cell or SHAPES))


if __name__ == "__main__":
    sys.exit(main())
