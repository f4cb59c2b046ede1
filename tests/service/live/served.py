"""A service as a process of its own, that may be killed and started again over the same store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Self

import httpx

# How long to wait for what a service does beside its calls. A look at the registry is a process of lower priority and
# takes seven seconds of processor time: where every core is busy with others' work, twenty times as long.
PATIENCE_S = 900
LAST_LINES = 20


class Served:
    """A started service.

    Args:
        artifact: the model's folder.
        folder: where its store lies.
    """

    def __init__(self, artifact: Path, folder: Path, **environment: str) -> None:
        self.environment = {
            **os.environ,
            "SEQUELA_MODEL": str(artifact),
            "SEQUELA_PORT": "0",
            "SEQUELA_DEVICE": "cpu",
            "SEQUELA_CACHE": str(folder / "cache"),
            "SEQUELA_STORE": f"sqlite:///{folder / 'stays.sqlite3'}",
            "SEQUELA_AUDIT": "off",
            "SEQUELA_FETCH_TIMEOUT_S": str(PATIENCE_S),
            **environment,
        }
        self.address = ""
        self.told: deque[str] = deque(maxlen=LAST_LINES)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and returns once it is ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service"], env=self.environment, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.told.append(line)
            told = json.loads(line)
            if told["event"] == "listening":
                self.address = f"http://127.0.0.1:{told['port']}"
                break
        # What it says later must not wait for a reader.
        self._reader = threading.Thread(target=self.told.extend, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the service did not become ready; it said {''.join(self.told)}")

    def wait_for(self, **wanted: str) -> dict[str, str]:
        """What its one model stands for, once that is as wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            (place,) = httpx.get(f"{self.address}/readyz").json()["models"]
            if all(place[name] == value for name, value in wanted.items()):
                return dict(place)
            time.sleep(0.05)
        raise AssertionError(f"never {wanted}, but {place}; it said {''.join(self.told)}")

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """`kill -9`."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process = self._process
        assert process is not None
        assert process.stderr is not None
        if process.poll() is None:
            process.send_signal(number)
        status = process.wait(60)
        self._reader.join()
        process.stderr.close()
        return status
