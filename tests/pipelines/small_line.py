"""A simulated cohort and two tiny trained models: what the tests of registration and promotion share."""

from dataclasses import dataclass, replace
from pathlib import Path

from models.record import from_plain
from pipelines.cohort import Cohort, write_cohort
from pipelines.config import RunConfig
from pipelines.settings import Settings, local_settings
from pipelines.sources.simulator import simulate
from pipelines.train import TrainedRun, train

TINY = {
    "name": "tiny",
    "seed": 1,
    "task": {"outcome": "in_hospital_death", "description": "death in hospital (simulated)"},
    "split": {"key": "t", "train": 0.4, "validation": 0.1, "calibration": 0.2, "test": 0.3},
    "encoding": {"grid": "fixed", "width_h": 6.0, "features": ["value", "mask"]},
    "notes": {"enabled": True, "vocabulary_size": 300, "embedding_size": 4, "hidden_size": 4},
    "identifiers": {"allow": ["name"]},
    "network": {"hidden_size": 8},
    "training": {"truncation_length": 32, "rows": 16, "max_epochs": 3, "learning_rate": 1e-2},
    "baselines": {"enabled": False},
    "evaluation": {"bootstrap": 50},
    "retrain": {"source": "synthetic", "cohort": "unused", "gate": {"min_events": 10, "bootstrap": 200}},
}


@dataclass(frozen=True)
class Line:
    """What the tests share; nothing of it may be changed."""

    cohort: Cohort
    cohort_folder: Path
    config: RunConfig
    settings: Settings
    good: TrainedRun
    weak: TrainedRun


def train_line(folder: Path) -> Line:
    """Trains both models."""
    # Enough events that calibration on one part holds on another, by a margin, whatever moves a last digit.
    cohort = simulate(stays=1000, seed=1, mean_hours=24.0)
    write_cohort(cohort, folder / "cohort")
    config = from_plain(RunConfig, TINY, where="config")
    untaught = replace(config, training=replace(config.training, learning_rate=1e-9, max_epochs=1), seed=7)
    return Line(
        cohort,
        folder / "cohort",
        config,
        local_settings(folder),
        train([cohort], config, folder=folder / "good", progress=False),
        train([cohort], untaught, folder=folder / "weak", progress=False),
    )
