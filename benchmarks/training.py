"""Speed of training: what a batch costs outside the network, and an epoch of GRU and GRU-D against others' loops.

    python benchmarks/training.py --data FOLDER                            # 3,200 stays of Challenge 2012's set a
    python benchmarks/training.py --data FOLDER --pypots-python PATH       # and PyPOTS, installed elsewhere
    python benchmarks/training.py                                          # generated stays of the same size

An epoch reads 48 hourly steps of values and masks (and times, for GRU-D) in float32, 64 stays at a time, with 64
hidden units. Ours is a whole epoch of `fit_network`: tapes, Lightning, clipping, figures and the validation of 16
stays included. Bare is a loop over `nn.GRU` with nothing but forward, backward and step. PyPOTS trains its GRU-D with
its own loader. All run with the same number of threads, in turn, and ratios are medians of the turns: other work on
the machine slows them alike. Prints one JSON object, and writes it to `--out`.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib.util
import json
import math
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from encoding import challenge, generated
from machine import machine
from training_inside import clocks

from models.cells import Cell
from models.channel_encoding import Feature
from models.encoded import Encoded
from models.encoding import Encoding, EncodingConfig
from models.grid import GridKind
from models.network import NetworkConfig
from models.stay import Stays
from models.task import TaskSpec
from pipelines.fit import fit_network
from pipelines.labels import StepTargets
from pipelines.training_config import TrainingConfig

STEPS, HIDDEN, BATCH, VALIDATION = 48, 64, 64, 16
BASIC = (Feature.VALUE, Feature.MASK)
TRAINING = TrainingConfig(truncation_length=STEPS, rows=BATCH, max_epochs=1, accelerator="cpu")
TASK = TaskSpec("death")
OURS = {Cell.GRU: "our GRU", Cell.GRU_D: "our GRU-D"}

Part = tuple[Encoded, StepTargets]
Turns = dict[str, list[float]]


def encode(stays: Stays, cell: Cell) -> Encoded:
    """The first 48 hourly steps of every stay, as the cell reads them; static values are left out."""
    features = BASIC if cell is not Cell.GRU_D else (*BASIC, Feature.DELTA)
    config = EncodingConfig(grid=GridKind.FIXED, features=features, channels=stays.channels)
    encoding = Encoding.fit(stays, config, statics=())
    encoded = encoding.encode(stays)
    rows = (encoded.step_offsets[:-1, None] + np.arange(STEPS)).ravel()
    offsets = np.arange(len(stays) + 1, dtype=np.int64) * STEPS
    return Encoded(encoded.features[rows], offsets, encoded.time_min[rows], layout=encoding.layout)


def long_enough(stays: Stays, count: int) -> Stays:
    """The first so many stays that have 48 hourly steps."""
    chosen = np.flatnonzero(stays.end_min >= STEPS * 60)[:count]
    return stays.select(chosen)


def labelled(encoded: Encoded) -> Part:
    """A label at the last step of every stay; what it says is of no matter to the clock."""
    last = encoded.step_offsets[1:] - 1
    value, weight = (np.zeros((len(encoded.features), 1), dtype=np.float32) for _ in range(2))
    value[last, 0] = np.random.default_rng(0).random(len(last)) < 0.15
    weight[last, 0] = 1.0
    return encoded, StepTargets(value, weight)


def our_epoch(part: Part, cell: Cell, training: TrainingConfig = TRAINING) -> float:
    """Seconds of the last epoch as the run's own history tells it."""
    stays = np.arange(min(VALIDATION, len(part[0])))
    some = part[0].select(stays)
    steps = slice(0, len(some.features))
    with tempfile.TemporaryDirectory() as folder:
        result = fit_network(
            train=part,
            validation=(some, StepTargets(part[1].value[steps], part[1].weight[steps])),
            network=NetworkConfig(cell=cell, hidden_size=HIDDEN),
            task=TASK,
            training=training,
            seed=0,
            folder=Path(folder),
        )
    return result.history[-1]["seconds"]


def bare_epoch(part: Part) -> float:
    """Seconds of one epoch of `nn.GRU` and a linear head: forward, backward and step of shuffled batches."""
    encoded, targets = part
    features = torch.from_numpy(encoded.features.reshape(len(encoded), STEPS, -1))
    label = torch.from_numpy(targets.value.reshape(len(encoded), STEPS)[:, -1])
    torch.manual_seed(0)
    layer, head = nn.GRU(features.shape[2], HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)
    optimizer = torch.optim.AdamW([*layer.parameters(), *head.parameters()], lr=1e-3)
    began = time.perf_counter()
    for rows in torch.randperm(len(encoded)).split(BATCH):
        hidden, _ = layer(features[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(head(hidden[:, -1])[:, 0], label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


@contextmanager
def pypots(python: str, values: NDArray[Any], threads: int) -> Iterator[tuple[dict[str, str], Callable[[], float]]]:
    """PyPOTS in a process of its own: its versions, and what trains one epoch and tells its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stays.npz"
        np.savez(file, X=values, y=(np.random.default_rng(0).random(len(values)) < 0.15).astype(np.int64))
        script = Path(__file__).with_name("pypots_grud.py")
        command = [python, str(script), str(file), str(threads), str(HIDDEN), str(BATCH)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:

            def answer() -> dict[str, Any]:
                line = child.stdout.readline() if child.stdout else ""
                if not line:
                    raise SystemExit(f"{python} must train PyPOTS' GRU-D, got an end without an answer; see above")
                return json.loads(line)

            def epoch() -> float:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
                return float(answer()["epoch_s"])

            yield answer(), epoch
        finally:
            child.kill()
            child.communicate()


def observed(encoded: Encoded) -> NDArray[np.float32]:
    """(stays, steps, channels) the values of the same steps, NaN where nothing was observed: PyPOTS' input."""
    layout = encoded.layout
    assert layout is not None
    values, masks = (encoded.features[:, layout.columns(f)] for f in BASIC)
    return np.where(masks > 0, values, np.nan).astype(np.float32).reshape(len(encoded), STEPS, layout.channels)


def take_turns(contestants: dict[str, Callable[[], float]], rounds: int) -> Turns:
    """Seconds of every contestant in every round; one round before them warms up and does not count."""
    turns: Turns = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            seconds = run()
            if number:
                turns[name].append(seconds)
    return turns


def ratio(turns: Turns, one: str, other: str) -> float:
    """Median over the rounds of one's seconds by the other's."""
    return round(statistics.median(a / b for a, b in zip(turns[one], turns[other], strict=True)), 3)


def epochs(stays: Stays, rounds: int, python: str | None) -> dict[str, Any]:
    """Epochs in turn, and their ratios."""
    parts = {cell: labelled(encode(stays, cell)) for cell in OURS}
    contestants: dict[str, Callable[[], float]] = {
        "bare nn.GRU": lambda: bare_epoch(parts[Cell.GRU]),
        "our GRU": lambda: our_epoch(parts[Cell.GRU], Cell.GRU),
        "our GRU-D": lambda: our_epoch(parts[Cell.GRU_D], Cell.GRU_D),
    }
    versions: dict[str, str] = {}
    if python is None:
        turns = take_turns(contestants, rounds)
    else:
        with pypots(python, observed(parts[Cell.GRU_D][0]), torch.get_num_threads()) as (versions, epoch):
            turns = take_turns(contestants | {"PyPOTS GRU-D": epoch}, rounds)
    ratios = {f"{name} / bare nn.GRU": ratio(turns, name, "bare nn.GRU") for name in OURS.values()}
    if python is not None:
        ratios |= {f"PyPOTS GRU-D / {name}": ratio(turns, "PyPOTS GRU-D", name) for name in OURS.values()}
    seconds = {name: round(statistics.median(values), 3) for name, values in turns.items()}
    return {"stays": len(stays), "seconds": seconds, "ratios": ratios, **versions}


def outside(stays: Stays, rounds: int) -> dict[str, Any]:
    """Milliseconds of a batch within the network and around it, by the clock and of the processor."""
    figures: dict[str, Any] = {}
    for cell, name in OURS.items():
        part = labelled(encode(stays, cell))
        batches = math.ceil(len(part[0]) / BATCH)
        told: list[tuple[float, ...]] = []
        for number in range(rounds + 1):
            with clocks() as epoch:
                our_epoch(part, cell)
            if number:
                told.append((epoch.inside[0], *epoch.around))
        network, around, processor = (statistics.median(t) * 1e3 / batches for t in zip(*told, strict=True))
        figures[name] = {
            "batches": batches,
            "network_ms": round(network, 3),
            "around_ms": round(around, 3),
            "around_cpu_ms": round(processor, 3),
        }
    return figures


def profile(stays: Stays) -> None:
    """Where an epoch of GRU spends its time, by function, on standard error."""
    part = labelled(encode(stays, Cell.GRU))
    our_epoch(part, Cell.GRU)
    profiler = cProfile.Profile()
    profiler.runcall(our_epoch, part, Cell.GRU)
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the open data; without it stays are generated")
    parser.add_argument("--stays", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pypots-python", help="a Python that has PyPOTS; by default this one, if it has it")
    parser.add_argument("--profile", action="store_true", help="print where an epoch spends its time, and end")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stays = challenge(options.data)[0] if options.data else generated(options.stays, STEPS * 60, 420)
    stays = long_enough(stays, options.stays)
    if options.profile:
        profile(stays)
        return
    python = options.pypots_python or (sys.executable if importlib.util.find_spec("pypots") else None)
    figures = {
        "machine": machine(),
        "threads": options.threads,
        "rounds": options.rounds,
        "steps": STEPS,
        "channels": len(stays.channels),
        "batch_ms": outside(stays, options.rounds),
        "epoch": epochs(stays, options.rounds, python),
    }
    text = json.dumps(figures, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
