"""Small encoded cohorts with a learnable label, and the settings that train on them in a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.encoded import Encoded
from models.layout import Layout
from models.network import NetworkConfig
from models.task import LabelScope, TaskSpec
from pipelines.labels import StepTargets
from pipelines.training_config import TrainingConfig

STAY_TASK = TaskSpec("death")
STEP_TASK = TaskSpec("death", scope=LabelScope.STEP)
# The first three features as a channel's value, mask and delta, for the cell that reads them apart.
LAYOUT = Layout(1, 3, 0, 1, 2)
SMALL_NETWORK = NetworkConfig(hidden_size=8)


def encoded_of(lengths: Any, *, width: int = 5, seed: int = 0, dtype: Any = np.float32) -> Encoded:
    """Stays of these lengths with random features."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    features = np.random.default_rng(seed).normal(size=(int(offsets[-1]), width)).astype(dtype)
    time_min = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], np.diff(offsets))
    return Encoded(features, offsets, time_min.astype(np.int64))


def with_notes(encoded: Encoded, *, every: int = 3, seed: int = 0) -> Encoded:
    """The same stays with a note of a few tokens at every `every`-th step, and two at the first."""
    random = np.random.default_rng(seed)
    step = np.sort(np.concatenate([[0], np.arange(0, len(encoded.time_min), every)])).astype(np.int64)
    lengths = random.integers(1, 6, len(step))
    tokens = random.integers(1, 20, int(lengths.sum())).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Encoded(encoded.features, encoded.step_offsets, encoded.time_min, step, offsets, tokens)


def stay_targets(encoded: Encoded) -> StepTargets:
    """A label at the last step: whether the mean of the first feature is above zero."""
    total = np.add.reduceat(encoded.features[:, 0].astype(np.float64), encoded.step_offsets[:-1])
    last = encoded.step_offsets[1:] - 1
    value = np.zeros((len(encoded.features), 1), dtype=np.float32)
    weight = np.zeros_like(value)
    value[last, 0], weight[last, 0] = total > 0, 1.0
    return StepTargets(value, weight)


def step_targets(encoded: Encoded, *, outputs: int = 1) -> StepTargets:
    """A label at every step: whether a feature is above zero."""
    value = (encoded.features[:, :outputs] > 0).astype(np.float32)
    return StepTargets(value, np.ones_like(value))


def cohort_part(*, stays: int = 60, seed: int = 0, longest: int = 30) -> tuple[Encoded, StepTargets]:
    """Stays of different lengths with a label each."""
    lengths = np.random.default_rng(seed + 100).integers(1, longest, stays)
    encoded = encoded_of(lengths, seed=seed)
    return encoded, stay_targets(encoded)


def quick_training(**changes: Any) -> TrainingConfig:
    """Settings of a run that takes a second."""
    settings: dict[str, Any] = {
        "truncation_length": 10,
        "rows": 8,
        "max_epochs": 2,
        "learning_rate": 5e-3,
        "accelerator": "cpu",
    }
    return TrainingConfig(**(settings | changes))
