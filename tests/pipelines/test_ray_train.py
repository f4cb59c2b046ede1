"""Two processes of a Ray cluster train what two processes of this machine train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import SequelaError
from models.network import NetworkConfig
from pipelines.fit import FitResult, Launch, fit_network
from pipelines.ray_cluster import ClusterUnreachableError, cluster
from pipelines.ray_train import ray_launch
from pipelines.training_config import Optimizer
from tests.tape_data import STAY_TASK, cohort_part, quick_training

TRAINING = quick_training(devices=2, optimizer=Optimizer.SGD, learning_rate=0.1)


def fit(folder: Path, launch: Launch | None, **more: Any) -> FitResult:
    part = cohort_part(stays=40)
    return fit_network(
        train=part,
        validation=part,
        network=NetworkConfig(hidden_size=8, layers=2, dropout=0.3),
        task=STAY_TASK,
        training=TRAINING,
        seed=2,
        folder=folder,
        launch=launch,
        **more,
    )


@pytest.mark.slow
def test_the_weights_of_ray_s_processes_are_those_of_this_machine_s(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    with ray_launch("local", TRAINING) as launch:
        assert launch is not None
        there = fit(tmp_path / "ray", launch, on_epoch=rows.append)
    here = fit(tmp_path / "here", None)
    for name, weight in here.network.state_dict().items():
        torch.testing.assert_close(there.network.state_dict()[name], weight, rtol=0, atol=1e-4)
    assert rows == there.history
    for row, expected in zip(there.history, here.history, strict=True):
        assert row["validation_loss"] == pytest.approx(expected["validation_loss"], abs=1e-4)

    import ray

    assert not ray.is_initialized()


def test_without_an_address_the_training_stays_on_this_machine() -> None:
    with ray_launch(None, TRAINING) as launch:
        assert launch is None


def test_a_cluster_that_does_not_answer_is_said_to_be_so() -> None:
    with (
        pytest.raises(ClusterUnreachableError, match="--ray must be local or the address"),
        cluster("127.0.0.1:1", processes=1),
    ):
        pytest.fail("there is no cluster")
    assert issubclass(ClusterUnreachableError, SequelaError)
