"""Where an interrupted training job left off: a folder with its checkpoints and what it had reached.

The lease keeps two jobs of one model apart, so the folder has one writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from models.errors import ConfigError
from models.record import from_plain, to_plain
from pipelines.config import RunConfig


@dataclass(frozen=True)
class JobProgress:
    """What a job had reached.

    Args:
        key: what it trains on and how; another key is another job.
        run_id: its run in MLflow.
        version: the version that it registered; 0 before.
    """

    key: str
    run_id: str = ""
    version: int = 0


def job_key(config: RunConfig, source: str) -> str:
    """Names a job by its configuration, its source's fingerprint and this release."""
    facts = {"config": to_plain(config), "source": source, "release": importlib.metadata.version("sequela")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class JobFolder:
    """One model's job folder.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def training(self) -> Path:
        """Folder of checkpoints, plots and artifact."""
        return self.path / "training"

    def begin(self, key: str) -> JobProgress:
        """What a job with this key had reached; another job's remains are removed."""
        progress = self._read()
        if progress is not None and progress.key == key:
            return progress
        self.clear()
        return JobProgress(key)

    def note(self, progress: JobProgress) -> None:
        """Keeps what the job has reached, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / "progress.json.partial"
        partial.write_text(json.dumps(to_plain(progress)) + "\n", encoding="utf-8")
        partial.replace(self.path / "progress.json")

    def clear_training(self) -> None:
        """Removes checkpoints, plots and artifact."""
        shutil.rmtree(self.training, ignore_errors=True)

    def clear(self) -> None:
        """Removes the folder; the job is done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self) -> JobProgress | None:
        with contextlib.suppress(OSError, ValueError, ConfigError):
            text = (self.path / "progress.json").read_text(encoding="utf-8")
            return from_plain(JobProgress, json.loads(text), where="progress")
        return None
