"""What people write and run instead: the eager model inside the route, `mlflow models serve`, and LitServe."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from models.batch import Chunk
from models.intake import Columns, build_stays
from models.scorer import MINUTES_PER_HOUR, Scorer
from models.state import State
from models.stepping import EncoderState
from service.scoring import StayScoring
from service.selection import Origin
from service.settings import Settings
from service.vocabulary import Vocabulary


class _Opening(BaseModel):
    admission: Any
    static: dict[str, Any] = {}


class _Value(BaseModel):
    channel: str
    value: float
    unit: str
    time: str


class _Values(BaseModel):
    observations: list[_Value]


class Naive:
    """A model whose eager network is stepped for one stay at a time.

    Args:
        scorer: the model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._vocabulary = Vocabulary.of(scorer.bundle)
        self._admissions: dict[str, Any] = {}
        self._states: dict[str, tuple[EncoderState, State]] = {}

    def open(self, stay_id: str, opening: _Opening) -> float:
        """Starts a stay with the step at its admission."""
        row = [self._static(v, opening.static.get(v.name)) for v in self._scorer.bundle.statics]
        nothing = np.zeros(0, dtype=np.int64)
        stays, _ = build_stays(
            stay_id=(stay_id,),
            end_min=np.zeros(1, dtype=np.int64),
            columns=Columns(nothing, nothing, nothing.astype(np.int16), nothing.astype(np.float64)),
            channels=self._scorer.bundle.encoding.channels.names,
            static=np.array([row]),
            static_names=tuple(v.name for v in self._scorer.bundle.statics),
        )
        self._admissions[stay_id] = datetime.fromisoformat(opening.admission)
        self._states[stay_id] = (self._scorer.bundle.encoding.start(stays), self._scorer.network.initial_state(1))
        return self._step(stay_id, 0, [], [])

    def observe(self, stay_id: str, body: _Values) -> float:
        """Takes one time step."""
        numbers = self._scorer.bundle.encoding.channels.numbers
        channels, values = [], []
        for item in body.observations:
            declared = self._vocabulary.channels[self._vocabulary.channel_index[item.channel]]
            conversion = declared.conversion(item.unit)
            assert conversion is not None
            channels.append(numbers[item.channel])
            values.append(item.value * conversion.factor + conversion.offset)
        since = datetime.fromisoformat(body.observations[0].time) - self._admissions[stay_id]
        return self._step(stay_id, int(since.total_seconds() // 60), channels, values)

    def _step(self, stay_id: str, minute: int, channels: list[int], values: list[float]) -> float:
        encoder, state = self._states[stay_id]
        features, encoder = self._scorer.bundle.encoding.step(encoder, minute, channels, values)
        rows = torch.from_numpy(features.astype(np.float32))[None, None]
        chunk = Chunk(rows, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
        with torch.inference_mode():
            logit, state = self._scorer.network(chunk, state)
        self._states[stay_id] = (encoder, state)
        hours = np.array([minute / MINUTES_PER_HOUR])
        return float(self._scorer.bundle.calibration.apply(logit[0].numpy(), hours)[0, 0])

    @staticmethod
    def _static(variable: Any, given: Any) -> float:
        if given is None:
            return float("nan")
        return float(variable.categories.index(given)) if variable.categories else float(given["value"])


def naive_router(scorer: Scorer, settings: Settings) -> APIRouter:
    """Routes that do the model's work where they stand."""
    torch.set_num_threads(1)
    naive, whole, router = Naive(scorer), StayScoring(scorer, Origin(), settings), APIRouter()

    @router.put("/v1/stays/{stay_id}")
    async def put(stay_id: str, body: _Opening) -> dict[str, float]:
        return {"risk": naive.open(stay_id, body)}

    @router.post("/v1/stays/{stay_id}/observations")
    async def post(stay_id: str, body: _Values) -> dict[str, float]:
        return {"risk": naive.observe(stay_id, body)}

    @router.post("/v1/score")
    async def score(request: Request) -> Response:
        return Response(whole.score(await request.body()).content, media_type="application/json")

    return router


def serve_litserve(scorer: Scorer, settings: Settings) -> None:
    """Windows by LitServe, batched as its documentation says; it knows no state between requests."""
    import litserve

    class Windows(litserve.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            del device
            torch.set_num_threads(1)
            self.whole = StayScoring(scorer, Origin(), settings)

        def decode_request(self, request: dict[str, Any]) -> bytes:
            return json.dumps(request).encode()

        def predict(self, x: list[bytes]) -> list[float]:
            return [json.loads(self.whole.score(body).content)["risk"] for body in x]

        def encode_response(self, output: float) -> dict[str, float]:
            return {"risk": output}

    port = free_port()
    print(json.dumps({"port": port}), flush=True)
    server = litserve.LitServer(
        Windows(max_batch_size=8, batch_timeout=0.002, api_path="/v1/score"), accelerator="cpu", workers_per_device=1
    )
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def save_mlflow(artifact: Path, folder: Path) -> Path:
    """The artifact as the MLflow model that the pipelines log, for `mlflow models serve`."""
    import mlflow.pyfunc

    code = Path(__file__).parent.parent / "pipelines" / "pyfunc_model.py"
    mlflow.pyfunc.save_model(folder, python_model=str(code), artifacts={"bundle": str(artifact)}, pip_requirements=[])
    return folder


def serve_mlflow(folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Starts `mlflow models serve` with one worker."""
    port = free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # it looks for uvicorn there
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    process = subprocess.Popen(
        [*command, "-p", str(port), "-h", "127.0.0.1", "-w", "1"],
        env={**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return process, port
