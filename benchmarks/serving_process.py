"""`python -m service` as a process on a port that stays the same, so that writers find it again after it was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from serving_peers import free_port
from serving_run import wait_until_ready


class Service:
    """One service.

    Args:
        artifact: the model's folder.
        folder: where its cache and log go.
        environment: further variables of it.
        name: tells its log and cache from those of others in the folder.
    """

    def __init__(self, artifact: Path, folder: Path, environment: dict[str, str], *, name: str = "service") -> None:
        self.port = free_port()
        self._log = folder / f"{name}.log"
        self._environment = {
            "SEQUELA_MODEL": str(artifact),
            "SEQUELA_DEVICE": "cpu",
            "SEQUELA_PORT": str(self.port),
            "SEQUELA_CACHE": str(folder / f"{name}-cache"),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Starts it, and gives the seconds until it was ready to score."""
        began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env={**os.environ, **self._environment},
                cwd=Path(__file__).parent.parent,
                stdout=log,
                stderr=log,
            )
        wait_until_ready(self.port)
        return time.perf_counter() - began

    def kill(self) -> None:
        """Ends it as a power cut would end a process: at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Asks it to end, and gives its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)
