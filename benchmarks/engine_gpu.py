"""A batched step on a GPU: encoded features in pinned memory in, risks on the host out, states staying on the device.

    python benchmarks/engine_gpu.py [--stays 4096] [--artifact FOLDER]

Prints one JSON object: median, 99th percentile and worst milliseconds of such a step from the first copy to the
calibrated risks, and the largest difference of logits and states from those of the members on the processor. Without a
GPU it says so and ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoding import generated
from engine import LSTM, STEPS, VALUES, lstm_scorer
from machine import machine

from models.artifact import load_artifact
from models.engine_device import ResidentStates
from models.engine_reference import ReferenceEngine
from models.engine_state import StateLayout
from models.scorer import Scorer

ROUNDS, CHECKED = 300, 3


def milliseconds(scorer: Scorer, resident: ResidentStates, features: np.ndarray) -> dict[str, float]:
    """Of `ROUNDS` steps of all stays, calibration included."""
    rows, hours = np.arange(len(features)), np.full(len(features), 24.0)
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        logits = resident.step(rows, features)
        scorer.bundle.calibration.apply(scorer.network.combine(logits), hours)
        spent.append((time.perf_counter() - began) * 1e3)
    median, high, worst = np.percentile(spent[ROUNDS // 10 :], [50, 99, 100])
    return {"median_ms": round(median, 3), "p99_ms": round(high, 3), "worst_ms": round(worst, 3)}


def differences(scorer: Scorer, resident: ResidentStates, features: np.ndarray) -> dict[str, float]:
    """From the same steps by the members on the processor, from the beginning of the stays."""
    layout = StateLayout.of(scorer.network)
    reference = ReferenceEngine(scorer.network, layout, torch.device("cpu"))
    rows, states = np.arange(len(features)), reference.initial_state(len(features))
    resident.put(rows, states)
    worst = 0.0
    for _ in range(CHECKED):
        expected, states = reference.step(features, states)
        worst = max(worst, float(np.abs(resident.step(rows, features) - expected).max()))
    return {"logits": worst, "states": float(np.abs(resident.take(rows).values - states.values).max())}


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=4096, help="stays of a batch")
    parser.add_argument("--artifact", type=Path, help="folder of a saved model; without it an LSTM of 2 layers of 128")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("engine_gpu: a GPU must be present, got none; run this on a machine with one\n")
        return 1
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    stays = generated(256, STEPS * 60, STEPS * VALUES)

    def scorer() -> Scorer:
        return load_artifact(arguments.artifact) if arguments.artifact else lstm_scorer(stays)

    on_host, on_device, device = scorer(), scorer(), torch.device("cuda")
    features = np.random.default_rng(0).standard_normal((arguments.stays, on_host.network.width)).astype(np.float32)
    resident = ResidentStates(
        on_device.network.to(device), StateLayout.of(on_host.network), device, capacity=arguments.stays
    )
    figures: dict[str, Any] = {
        "machine": machine(),
        "gpu": torch.cuda.get_device_name(device),
        "model": str(arguments.artifact or LSTM),
        "stays": arguments.stays,
        "differences_from_members": differences(on_host, resident, features),
        "step": milliseconds(on_host, resident, features),
        "states_mib": round(resident.take(np.arange(arguments.stays)).values.nbytes / 2**20, 1),
    }
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
