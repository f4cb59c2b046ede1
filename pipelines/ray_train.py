"""One network's data-parallel training on Ray: what `pipelines.fit` would train here in, the same files out.

The processes run the same loop with the same tapes as those of one machine, so the weights are the same.
The run's folder must be one that every machine of the cluster sees under the same path.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from models.errors import RefusedError
from pipelines.checkpoints import RunFolder
from pipelines.epochs import Epochs
from pipelines.fit import Interrupted, Launch, run_trainer
from pipelines.module import TapeModule
from pipelines.ray_cluster import cluster, quiet_ray, silent_ray
from pipelines.training_config import TrainingConfig

RUNS = "ray"


@contextlib.contextmanager
def ray_launch(address: str | None, training: TrainingConfig) -> Iterator[Launch | None]:
    """How the training processes are started: on Ray; None, which means on this machine, without an address.

    Args:
        address: of the cluster; None = no Ray.
        training: `devices` is how many processes there are.
    """
    if address is None:
        yield None
        return
    with cluster(address, processes=training.devices):
        yield run_on_ray


def run_on_ray(module: TapeModule, epochs: Epochs, training: TrainingConfig, files: RunFolder, resumes: bool) -> None:
    """Runs the training in `training.devices` processes of the connected cluster.

    Raises:
        Interrupted: if it was asked to stop and a process ended before it could.
        RefusedError: if a process fails.
    """
    with quiet_ray():
        from ray.exceptions import RayError
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchTrainer

        folder = files.path
        trainer = TorchTrainer(
            _train_here,
            train_loop_config={
                "module": module,
                "epochs": epochs,
                "training": training,
                "folder": folder,
                "resumes": resumes,
            },
            scaling_config=ScalingConfig(num_workers=training.devices, use_gpu=training.accelerator == "gpu"),
            run_config=RunConfig(
                name="run", storage_path=str(folder / RUNS), failure_config=FailureConfig(max_failures=0)
            ),
        )
        try:
            with silent_ray():
                trainer.fit()
        except (TrainingFailedError, RayError) as error:
            if files.stop.exists():
                raise Interrupted(
                    "training must reach its last epoch, got a request to stop; run again with resume"
                ) from None
            raise RefusedError(
                f"training must end in every process of the cluster, got {type(error).__name__}; see Ray's logs of its "
                "workers, and check that every machine sees the folder of the run"
            ) from None
        finally:
            shutil.rmtree(folder / RUNS, ignore_errors=True)  # its notes on the run; the checkpoints are ours


def _train_here(order: dict[str, Any]) -> None:
    """What each process of the cluster runs."""
    folder: Path = order["folder"]
    run_trainer(order["module"], order["epochs"], order["training"], RunFolder(folder), order["resumes"], _trainer)


def _trainer(settings: dict[str, Any]) -> pl.Trainer:
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer

    # One device a process: Ray has said which.
    ray_ddp: Any = RayDDPStrategy
    ray_environment: Any = RayLightningEnvironment
    ours = {"devices": 1, "strategy": ray_ddp(), "plugins": [ray_environment()]}
    trainer = pl.Trainer(**{**settings, **ours})
    prepare_trainer(trainer)
    return trainer
