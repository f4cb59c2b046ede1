"""The same seed, configuration, cohort and number of threads give the same model, bit for bit, in another process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cohort import write_cohort
from pipelines.sources.simulator import simulate
from tests.pipelines.small_line import TINY

ROOT = Path(__file__).parents[2]
# Figures of the clock: the only facts of a model that a repetition changes.
CLOCK = ("created",)
# Files that hold such a figure, or digests of those that do.
DATED = ("bundle.json", "card.json", "card.md", "manifest.json")
RUN = """
import sys
from pathlib import Path
from models.record import from_plain
from pipelines.cohort import read_cohort
from pipelines.config import RunConfig
from pipelines.train import train
import json

config = from_plain(RunConfig, json.loads(sys.argv[2]), where="config")
folder = Path(sys.argv[3])
cache = Path(sys.argv[4]) if len(sys.argv) > 4 else None
print(train([read_cohort(Path(sys.argv[1]))], config, folder=folder, progress=False, cache=cache).artifact)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains in processes of their own: once, again from kept features, and with another seed."""
    folder = tmp_path_factory.mktemp("reproducible")
    write_cohort(simulate(stays=300, seed=4, mean_hours=24.0), folder / "cohort")
    config = TINY | {
        "threads": 1,
        "ensemble": {"members": 2, "trees": True},
        "training": TINY["training"] | {"max_epochs": 2},
        "network": {"hidden_size": 8, "dropout": 0.2, "input_dropout": 0.2, "layers": 2},
    }
    cache = str(folder / "cache")
    runs = {
        "first": (config, [cache]),
        "again": (config, [cache]),
        "another seed": (config | {"seed": 2}, []),
    }
    found = {}
    for name, (settings, more) in runs.items():
        command = [sys.executable, "-c", RUN, str(folder / "cohort"), json.dumps(settings), str(folder / name), *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[name] = Path(done.stdout.splitlines()[-1])
    return found


def facts(artifact):
    bundle = json.loads((artifact / "bundle.json").read_text(encoding="utf-8"))
    return {name: value for name, value in bundle.items() if name not in CLOCK}


def test_a_repetition_gives_the_same_model_bit_for_bit(trained):
    first, again = trained["first"], trained["again"]
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in again.iterdir())
    for file in sorted(p.name for p in first.iterdir() if p.name not in DATED):
        assert (first / file).read_bytes() == (again / file).read_bytes(), file
    assert facts(first) == facts(again)


def test_another_seed_gives_another_model(trained):
    first, other = trained["first"], trained["another seed"]
    assert (first / "weights.safetensors").read_bytes() != (other / "weights.safetensors").read_bytes()
    assert facts(first)["metrics"] != facts(other)["metrics"]
    assert facts(first)["encoding"] == facts(other)["encoding"]
