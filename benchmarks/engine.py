"""Speed and memory of live steps: one stay at a time, in batches, replayed, and a hundred thousand of them in memory.

    python benchmarks/engine.py                      # an LSTM of two layers of 128, as served
    python benchmarks/engine.py --artifact FOLDER    # also a saved model, such as the champion

Prints one JSON object. `step_us` is the processor time of one step at batch 1 inside the engine, beside that of
`torch.nn.LSTM` of the same shape stepped eagerly, both measured in turns in this process; every engine's logits are
compared with the members' first. `observation_us` is encoding, step and calibration of 6 values together.
"""

# ruff: noqa: E402  # BLAS and OpenMP read their number of threads when they are loaded
from __future__ import annotations

import os

for _library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_library, "1")

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoding import AGE, CHANNELS, generated
from machine import machine

from models.artifact import load_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.cells import Cell
from models.channel_encoding import Feature
from models.channels import Channel
from models.encoding import Encoding, EncodingConfig
from models.engine import make_engine
from models.engine_state import EngineState
from models.ensemble import Ensemble, network_members
from models.grid import GridKind
from models.live import LiveModel
from models.live_input import LiveInput
from models.network import NetworkConfig, RecurrentNetwork
from models.scorer import Scorer
from models.stay import Stays
from models.task import TargetKind, TaskSpec

LSTM = NetworkConfig(cell=Cell.LSTM, hidden_size=128, layers=2)
FEATURES = (Feature.VALUE, Feature.MASK)
STEPS, BATCHES, LIVE_STAYS = 48, (1, 4, 16, 64), 100_000
VALUES = 6
TURNS, CALLS = 20, 20


def lstm_scorer(stays: Stays) -> Scorer:
    """Random weights over 37 channels, each with its value and mask."""
    encoding = Encoding.fit(stays, EncodingConfig(min_stays=1, grid=GridKind.FIXED, features=FEATURES), statics=(AGE,))
    torch.manual_seed(0)
    network = Ensemble([RecurrentNetwork(LSTM, width=encoding.width, outputs=1)])
    method = Calibration.identity(TargetKind.BINARY, 1).method
    bundle = Bundle(
        name="lstm-2x128",
        task=TaskSpec("death"),
        channels=tuple(Channel(name, "1", (0, 1e6), ()) for name in CHANNELS),
        statics=(AGE,),
        encoding=encoding,
        members=network_members(LSTM),
        notes=None,
        calibration=Calibration(TargetKind.BINARY, method, ((0.1,) * 4,), ((0.1,) * 4,), (0.0, 4.0)),
    )
    return Scorer(bundle, network)


def in_turns(*works: Callable[[], object]) -> list[float]:
    """Microseconds of processor time of each, the least of many turns, so that what else runs weighs on all alike."""
    least = [float("inf")] * len(works)
    for _ in range(TURNS):
        for number, work in enumerate(works):
            began = time.thread_time()
            for _ in range(CALLS):
                work()
            least[number] = min(least[number], (time.thread_time() - began) / CALLS * 1e6)
    return [round(one, 1) for one in least]


def step_figures(model: LiveModel) -> dict[str, Any]:
    """One step inside the engine at batch 1 and more, beside an eager LSTM."""
    width, engine = model.scorer.network.width, model.engine
    eager = torch.nn.LSTM(width, LSTM.hidden_size, num_layers=LSTM.layers, batch_first=True).eval()
    one = torch.zeros(1, 1, width)
    state = (torch.zeros(LSTM.layers, 1, LSTM.hidden_size),) * 2
    rng = np.random.default_rng(0)
    seen = {n: rng.standard_normal((n, width)).astype(np.float32) for n in BATCHES}
    begun = {n: engine.initial_state(n) for n in BATCHES}
    with torch.inference_mode():
        eager_us, *steps = in_turns(
            lambda: eager(one, state), *(lambda n=n: engine.step(seen[n], begun[n]) for n in BATCHES)
        )
    return {
        "engine": engine.kind,
        "width": width,
        "eager_lstm_us": eager_us,
        "step_us": steps[0],
        "eager_over_step": round(eager_us / steps[0], 2),
        "batch_us": dict(zip(map(str, BATCHES), steps, strict=True)),
    }


def observation_figures(model: LiveModel) -> dict[str, Any]:
    """Encoding, step and calibration of one observation of several values; late in a stay as early in it."""
    channel, value = list(range(VALUES)), [20.0 + i for i in range(VALUES)]
    states = [model.start(generated(1, 100, VALUES))]
    for number in range(1, 1001):
        states.append(model.step(states[-1], [LiveInput(60 * number, channel, value)]).states)
    early, late = (lambda n=n: model.step(states[n - 1], [LiveInput(60 * n, channel, value)]) for n in (10, 1000))
    early_us, late_us = in_turns(early, late)
    many = {}
    for n in BATCHES:
        inputs = [LiveInput(600, channel, value)] * n
        together = states[9] * n
        (many[str(n)],) = in_turns(lambda t=together, i=inputs: model.step(t, i))
    return {
        "observation_us": early_us,
        "thousandth_over_tenth": round(late_us / early_us, 3),
        "observation_us_a_stay_in_a_batch": {n: round(us / int(n), 1) for n, us in many.items()},
    }


def replay_figures(model: LiveModel, stays: Stays, threads: int) -> dict[str, Any]:
    """Stays a second whose states are made anew from their observations, encoding included."""
    model.replay(stays, threads=threads)
    began, busy = time.perf_counter(), time.process_time()
    model.replay(stays, threads=threads)
    elapsed, spent = time.perf_counter() - began, time.process_time() - busy
    return {
        "stays": len(stays),
        "steps_a_stay": STEPS,
        "threads": threads,
        "stays_per_s": round(len(stays) / elapsed),
        "stays_per_processor_second": round(len(stays) / spent),
    }


def memory_figures(model: LiveModel, stays: Stays) -> dict[str, Any]:
    """Resident memory with a hundred thousand live states, each its own object."""
    replayed = model.replay(stays)
    states = [bytes(bytearray(replayed[number % len(replayed)])) for number in range(LIVE_STAYS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"live_stays": len(states), "bytes_a_stay": model.layout.bytes_a_stay, "peak_memory_mib": round(peak)}


def difference(scorer: Scorer, stays: Stays) -> float:
    """The largest difference of a state replayed by the engine from one replayed by the members."""
    encoded = scorer.bundle.encoding.encode(stays, tokenizer=scorer.tokenizer)
    found: list[EngineState] = [make_engine(scorer, kind).replay(encoded) for kind in ("auto", "reference")]
    return float(np.abs(found[0].values - found[1].values).max(initial=0.0))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, help="folder of a saved model to measure too")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores of a replay")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stays = generated(512, STEPS * 60, STEPS * VALUES)
    scorer = lstm_scorer(stays)
    model = LiveModel(scorer)
    figures: dict[str, Any] = {
        "machine": machine(),
        "load": os.getloadavg(),
        "lstm": {
            **step_figures(model),
            **observation_figures(model),
            "replay": replay_figures(model, stays, arguments.threads),
            "difference_from_members": difference(scorer, stays.select(range(16))),
            **memory_figures(model, stays),
        },
    }
    if arguments.artifact:
        saved = LiveModel(load_artifact(arguments.artifact))
        figures["artifact"] = {"name": saved.scorer.bundle.name, **step_figures(saved), **observation_figures(saved)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
