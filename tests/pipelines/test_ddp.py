"""Two processes on the CPU train what one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.network import NetworkConfig
from models.notes import NotesConfig
from pipelines.fit import FitResult, fit_network
from pipelines.training_config import Optimizer
from tests.tape_data import STAY_TASK, cohort_part, quick_training, with_notes

NOTES = NotesConfig(enabled=True, embedding_size=4, hidden_size=3)


def fit(folder: Path, devices: int, **changes: Any) -> FitResult:
    encoded, targets = cohort_part(stays=40)
    # Few notes: most batches of a rank have none, and the ranks must exchange the note reader's gradients even so.
    part = (with_notes(encoded, every=150), targets)
    return fit_network(
        train=part,
        validation=part,
        network=NetworkConfig(hidden_size=8, layers=2, dropout=0.0),
        notes=NOTES,
        vocabulary_size=20,
        task=STAY_TASK,
        # Adam would blow rounding up where a gradient is nearly zero.
        training=quick_training(devices=devices, optimizer=Optimizer.SGD, learning_rate=0.1, **changes),
        seed=2,
        folder=folder,
    )


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tmp_path: Path, accumulate: int) -> None:
    one, two = (fit(tmp_path / str(n), n, accumulate_batches=accumulate) for n in (1, 2))
    for name, weight in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], weight, rtol=0, atol=1e-6)
    for row, expected in zip(two.history, one.history, strict=True):
        for name in ("train_loss", "validation_loss", "gradient_norm"):
            assert row[name] == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.slow
def test_two_processes_report_their_epochs_at_the_end(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    encoded, targets = cohort_part(stays=40)
    result = fit_network(
        train=(encoded, targets),
        validation=(encoded, targets),
        network=NetworkConfig(hidden_size=8),
        task=STAY_TASK,
        training=quick_training(devices=2, average_decay=0.9, checkpoint_every_steps=2),
        seed=2,
        folder=tmp_path,
        on_epoch=rows.append,
    )
    assert rows == result.history
    assert len(rows) == 2
