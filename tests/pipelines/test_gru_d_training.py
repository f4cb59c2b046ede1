"""GRU-D through the training loop: it learns, and its dropout masks live as long as their stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.cells import Cell
from models.network import NetworkConfig
from pipelines.fit import fit_network
from pipelines.labels import StepTargets
from tests.tape_data import LAYOUT, STAY_TASK, cohort_part, quick_training

NETWORK = NetworkConfig(cell=Cell.GRU_D, hidden_size=16, recurrent_dropout=0.1)


def part(seed: int) -> tuple[object, StepTargets]:
    """Stays whose label is the sign of the mean of what their channel shows where it is observed."""
    encoded, targets = cohort_part(stays=300, seed=seed, longest=15)
    features = encoded.features.copy()
    features[:, LAYOUT.mask] = features[:, LAYOUT.mask] > -0.5
    features[:, LAYOUT.delta] = np.abs(features[:, LAYOUT.delta])
    return replace(encoded, features=features, layout=LAYOUT), targets


def test_gru_d_learns_on_tapes(tmp_path: Path) -> None:
    result = fit_network(
        train=part(0),  # type: ignore[arg-type]
        validation=part(1),  # type: ignore[arg-type]
        network=NETWORK,
        task=STAY_TASK,
        training=quick_training(max_epochs=8, learning_rate=2e-2, rows=32, truncation_length=8),
        seed=0,
        folder=tmp_path,
    )
    losses = [row["validation_loss"] for row in result.history]
    # A risk that is the same for all costs ln 2.
    assert min(losses) < 0.45
    assert result.gradient_norms["h"].shape[:2] == (8, 1)
    assert all(bool(torch.isfinite(p).all()) for p in result.network.parameters())
