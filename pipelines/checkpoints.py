"""What a training run keeps in its folder: the newest checkpoint, the best weights and the wish to stop.

Checkpoints are Lightning's and stay on the machine that trains; the artifact holds none of them. Every file
is written beside its place and renamed, so a kill leaves the old one whole.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.cut import read_rows
from models.encoded import Encoded
from models.errors import ConfigError
from models.record import to_plain
from models.streaming import StreamingNetwork
from pipelines.base_rate import TargetSums


@dataclass(frozen=True)
class RunFolder:
    """Paths of one training run.

    Args:
        path: the folder; made where it is missing.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "newest.ckpt"

    @property
    def best(self) -> Path:
        """Weights of the best epoch so far."""
        return self.path / "best.safetensors"

    @property
    def stop(self) -> Path:
        """Exists while the run is asked to stop; a file, so that every process of the run sees it."""
        return self.path / "stop"

    def begin(self, *, resume: bool) -> dict[str, Any] | None:
        """Makes the folder ready; gives the checkpoint to continue from, if there is one."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.stop.unlink(missing_ok=True)
        if resume and self.checkpoint.exists():
            return self.read()
        self.checkpoint.unlink(missing_ok=True)
        self.best.unlink(missing_ok=True)
        return None

    def read(self) -> dict[str, Any]:
        """The newest checkpoint: tensors and plain values alone are allowed in it.

        Raises:
            ConfigError: if the file is damaged.
        """
        try:
            with zipfile.ZipFile(self.checkpoint) as archive:
                whole = archive.testzip() is None
        except zipfile.BadZipFile:
            whole = False
        if not whole:
            raise ConfigError(
                f"resume must continue from a whole checkpoint, got one that is damaged ({self.checkpoint.name}); "
                "start without resume"
            )
        loaded: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        return loaded

    def save_best(self, network: StreamingNetwork) -> None:
        """Replaces the best weights."""
        beside = self.best.with_suffix(".part")
        save_file({name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, beside)
        beside.replace(self.best)

    def load_best(self, network: StreamingNetwork) -> None:
        """Puts the best weights into a network."""
        network.load_state_dict(load_file(self.best))


def run_identity(settings: dict[str, Any], *, encoded: Encoded, sums: TargetSums) -> str:
    """Digest of settings and training data by which a checkpoint knows its run."""
    digest = hashlib.sha256(json.dumps(to_plain(settings), sort_keys=True).encode())
    sample = read_rows(encoded.features, 0, min(len(encoded.features), 1024))
    for array in (encoded.step_offsets, sample, sums.weight, sums.value):
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_identity(checkpoint: dict[str, Any], identity: str) -> None:
    """Refuses to continue another run.

    Raises:
        ConfigError: if the checkpoint was written with other settings or other data.
    """
    if checkpoint.get("identity") != identity:
        raise ConfigError(
            "resume must continue a run with the same settings and data, got a checkpoint of another one; "
            "start without resume, or give another folder"
        )
