"""A registry in a folder, whose aliases move: MLflow in a process of its own, told what to do line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

CODE = """
import json, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
client = MlflowClient()
name = sys.argv[2]
client.create_registered_model(name)
experiment = client.create_experiment("sequela", artifact_location=Path(sys.argv[1]).as_uri())
print("ready", flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if "folder" in told:
        run = client.create_run(experiment).info.run_id
        client.log_artifacts(run, told["folder"], "model/artifacts/bundle")
        source = client.get_run(run).info.artifact_uri + "/model"
        tags = {"sequela.digest": told["digest"]}
        print(client.create_model_version(name, source, run, tags=tags).version, flush=True)
    else:
        client.set_registered_model_alias(name, told["alias"], told["version"])
        print("moved", flush=True)
"""


class Registry:
    """An MLflow registry of one model.

    Args:
        folder: where it lies; created.
        name: of the model.
    """

    def __init__(self, folder: Path, name: str = "mortality") -> None:
        folder.mkdir(parents=True)
        self.address = f"sqlite:///{folder / 'mlflow.db'}"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CODE, str(folder / "artifacts"), name],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
                "MLFLOW_TRACKING_URI": self.address,
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        self._await("ready")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def register(self, folder: Path, digest: str) -> str:
        """Adds a version, and gives its number."""
        return self._ask(folder=str(folder), digest=digest)

    def point(self, alias: str, version: str) -> None:
        """Moves an alias."""
        assert self._ask(alias=alias, version=version) == "moved"

    def _ask(self, **told: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _await(self, word: str) -> None:
        while self._line() != word:
            pass

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the registry must answer, got an end")
        return line.strip()
