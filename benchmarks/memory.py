"""Memory of training by length of stay: a number of time steps in, megabytes above the idle process out.

Run `python benchmarks/memory.py` for a table; `python benchmarks/memory.py STEPS` prints one figure as JSON.
The features lie in a memory-mapped file, as `Encoding.encode(..., out=...)` writes them, so that what is
measured is the training's own memory. Private memory is what this process alone holds (Linux, /proc/self/smaps).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from models.encoded import Encoded
from models.network import NetworkConfig
from models.task import LabelScope, TaskSpec
from pipelines.fit import fit_network
from pipelines.labels import StepTargets
from pipelines.training_config import TrainingConfig

STAYS, WIDTH, HIDDEN, TRUNCATION_LENGTH = 8, 37, 32, 64
LENGTHS = (640, 6_400, 64_000)
MEGABYTE = 2**20


def private_bytes() -> int:
    """Memory that is this process's alone, program code left out.

    Pages of a library count as private or shared by whether another process happens to use the same library.
    """
    total, counts = 0, True
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):
            counts = ".so" not in (rest[-1] if rest else "")
        elif counts and name.startswith("Private_"):
            total += 1024 * int(rest[0])
    return total


class Watch(threading.Thread):
    """Highest private memory while it runs; looks many times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Looks until it is told to end."""
        while not self._ended.wait(0.05):
            self.highest = max(self.highest, private_bytes())

    def end(self) -> int:
        """Stops looking; gives the highest figure seen."""
        self._ended.set()
        self.join()
        return self.highest


def write_cohort(folder: Path, steps: int) -> tuple[Encoded, StepTargets]:
    """Stays of one length in memory-mapped files, written a stay at a time."""
    shapes = {"features": (STAYS * steps, WIDTH), "value": (STAYS * steps, 1), "weight": (STAYS * steps, 1)}
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        written = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        for begin in range(0, len(written), 4096):
            block = random.random((min(4096, len(written) - begin), shape[1]), dtype=np.float32)
            written[begin : begin + 4096] = 1.0 if name == "weight" else block.round() if name == "value" else block
        del written
    times = np.lib.format.open_memmap(folder / "time.npy", mode="w+", dtype=np.int64, shape=(STAYS * steps,))
    times[:] = np.tile(np.arange(steps), STAYS)
    del times
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*shapes, "time")}
    offsets = np.arange(STAYS + 1, dtype=np.int64) * steps
    return Encoded(mapped["features"], offsets, mapped["time"]), StepTargets(mapped["value"], mapped["weight"])


def train(folder: Path, part: tuple[Encoded, StepTargets]) -> None:
    """One epoch of truncated BPTT, validation included."""
    fit_network(
        train=part,
        validation=part,
        network=NetworkConfig(hidden_size=HIDDEN, layers=2),
        task=TaskSpec("death", scope=LabelScope.STEP),
        training=TrainingConfig(
            truncation_length=TRUNCATION_LENGTH, rows=STAYS, max_epochs=1, accelerator="cpu", gradient_clip=1.0
        ),
        seed=0,
        folder=folder / "run",
    )


def measure(steps: int) -> dict[str, float]:
    """Highest private memory while training on stays of this length, above the process before."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part = write_cohort(folder, steps)
        idle = private_bytes()
        watch = Watch()
        watch.start()
        train(folder, part)
        return {"steps": steps, "above_idle_mb": (watch.end() - idle) / MEGABYTE}


def main() -> None:
    """Prints one figure, or the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, nargs="?", help="length of the stays; default a table of several lengths")
    steps = parser.parse_args().steps
    if steps is not None:
        if steps < 1:
            parser.error(f"steps must be at least 1, got {steps}; give the length of the stays")
        print(json.dumps(measure(steps)))
        return
    for length in LENGTHS:
        # One process a length: memory that an allocator keeps would hide what the next length needs.
        done = subprocess.run([sys.executable, __file__, str(length)], capture_output=True, text=True, check=True)
        print(f"{length:>7,} steps: {json.loads(done.stdout)['above_idle_mb']:.1f} MiB above the idle process")


if __name__ == "__main__":
    main()
