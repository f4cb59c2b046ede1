"""A new champion under load: what live stays' senders notice of it, and whether every state is a fresh replay's.

    python benchmarks/swap.py                               # 10,000 stays with 48 time steps behind them
    python benchmarks/swap.py --stays 500 --per-second 20   # a quick look

Stays are filled, then sent one observation call after the other at a steady rate, latency counted from when each call
was due: first for a while as it is, then while the alias moves and all stays follow. Prints one JSON object; the exit
status is 1 if an answer is no 2xx, or a state is not what a replay gives. The added p99 is only worth something on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from serving_cohort import LiveStay, live_stays, save_network
from serving_load import Shot, open_loop, poisson, request
from serving_process import Service
from serving_writers import current_risk

from models.artifact import load_artifact
from models.artifact_folder import artifact_digest

TEMPLATES, HISTORY, AHEAD = 8, 48, 40
COMPARED = 50
# So few that each is used again before the service takes it for left: it closes what is idle for 5 seconds.
CONNECTIONS = 32
FILLERS = 16
TOLERANCE = 1e-6
WATCH_S = 5.0
PATIENCE_S = 900.0
REGISTER = """
import sys
from pathlib import Path
from mlflow.tracking import MlflowClient
client = MlflowClient()
client.create_registered_model("benchmark")
experiment = client.create_experiment("swap", artifact_location=Path(sys.argv[1]).as_uri())
for folder, digest in zip(sys.argv[2::2], sys.argv[3::2]):
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, folder, "model/artifacts/bundle")
    source = client.get_run(run).info.artifact_uri + "/model"
    client.create_model_version("benchmark", source, run, tags={"sequela.digest": digest})
client.set_registered_model_alias("benchmark", "champion", "1")
"""
MOVE = """
from mlflow.tracking import MlflowClient
MlflowClient().set_registered_model_alias("benchmark", "champion", "2")
"""


class Ward:
    """Stays as a source of calls, each stay's in their order.

    Args:
        port: of the service.
        templates: whose bodies are sent.
        count: of stays.
    """

    def __init__(self, port: int, templates: Sequence[LiveStay], count: int) -> None:
        self.port, self._templates = port, templates
        self.names = [f"stay-{i}" for i in range(count)]
        self.steps = dict.fromkeys(range(count), HISTORY)
        self._ready: deque[int] = deque(random.Random(0).sample(range(count), count))

    def take(self) -> Shot:
        """The next call of a stay that waits for none."""
        number = self._ready.popleft()
        body = self._templates[number % TEMPLATES].steps[self.steps[number]]
        self.steps[number] += 1
        return Shot(self._request("POST", f"/{self.names[number]}/observations", body), None, number)

    def give_back(self, shot: Shot) -> None:
        """Its stay may be sent on."""
        assert isinstance(shot.owner, int)
        if self.steps[shot.owner] < len(self._templates[shot.owner % TEMPLATES].steps):
            self._ready.append(shot.owner)

    def fill(self) -> None:
        """Sends every stay's past as one call."""
        merged = [_merged(template.steps[:HISTORY]) for template in self._templates]
        with ThreadPoolExecutor(FILLERS) as pool:
            list(pool.map(lambda share: self._fill(share, merged), range(FILLERS)))

    def send_on(self, number: int) -> dict[str, Any]:
        """The answer to a stay's next call."""
        body = self._templates[number % TEMPLATES].steps[self.steps[number]]
        self.steps[number] += 1
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            return _sent(connection, "POST", f"/v1/stays/{self.names[number]}/observations", body)

    def _fill(self, share: int, merged: Sequence[bytes]) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)) as connection:
            for number in range(share, len(self.names), FILLERS):
                path, kind = f"/v1/stays/{self.names[number]}", number % TEMPLATES
                _sent(connection, "PUT", path, self._templates[kind].opening)
                _sent(connection, "POST", f"{path}/observations", merged[kind])

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        return request(method, f"/v1/stays{path}", body, key=None, port=self.port)


def _merged(bodies: Sequence[bytes]) -> bytes:
    return json.dumps({"observations": [item for body in bodies for item in json.loads(body)["observations"]]}).encode()


def _sent(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> dict[str, Any]:
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    if not 200 <= response.status < 300:
        raise RuntimeError(f"a call must be accepted, got status {response.status}; see the service's log")
    return answer


def standing(port: int) -> dict[str, Any]:
    """Where the change of model stands."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/readyz")
        (place,) = json.loads(connection.getresponse().read())["models"]
    found: dict[str, Any] = place
    return found


def run(service: Service, ward: Ward, move: list[str], environment: dict[str, str], args: Any) -> dict[str, Any]:
    """Fills, measures as it is, moves the alias, measures on until all stays follow, and compares."""
    began = time.perf_counter()
    ward.fill()
    filled_s = time.perf_counter() - began
    base = asyncio.run(open_loop(ward, arrivals_s=poisson(args.per_second, args.seconds, 1), connections=CONNECTIONS))
    resident = _resident_mib(service.pid)
    mover = subprocess.Popen(move, env=environment)
    loads = []
    deadline = time.monotonic() + PATIENCE_S
    while (place := standing(ward.port))["phase"] != "keeping":
        if time.monotonic() > deadline:
            raise TimeoutError(f"stays must follow the alias, got {place}; see the log")
        arrivals = poisson(args.per_second, 5.0, 2 + len(loads))
        loads.append(asyncio.run(open_loop(ward, arrivals_s=arrivals, connections=CONNECTIONS)))
    mover.wait()
    after = asyncio.run(
        open_loop(ward, arrivals_s=poisson(args.per_second, args.seconds, 1000), connections=CONNECTIONS)
    )
    everything = [base, *loads, after]
    latency = [value for load in loads for value in load.latency_s]
    p99, base_p99 = (1e3 * float(np.percentile(values, 99)) for values in (latency, base.latency_s))
    return {
        "stays": len(ward.names),
        "time_steps_before": HISTORY,
        "filled_in_s": round(filled_s, 1),
        "calls": sum(len(load.answers) for load in everything),
        "not_2xx": sum(not 200 <= status < 300 for load in everything for status, _, _ in load.answers),
        "before": base.figures(),
        "during": {"calls": len(latency), "p99_ms": round(p99, 2), "max_ms": round(1e3 * max(latency), 2)},
        "after": after.figures(),
        "added_p99_ms": round(p99 - base_p99, 2),
        "resident_mib": {"before": round(resident), "with_both_models": round(_resident_mib(service.pid))},
        "largest_difference": _worst(ward),
    }


def _worst(ward: Ward) -> float:
    """How far an answer from a stay's state is from the replay that reading the stay makes, at the most."""
    worst = 0.0
    for number in random.Random(1).sample(range(len(ward.names)), min(COMPARED, len(ward.names))):
        answer = ward.send_on(number)
        if answer["model"]["version"] != "2":
            raise RuntimeError("every stay must be answered by the new version, got another")
        worst = max(worst, abs(answer["risk"] - current_risk(ward.port, ward.names[number])))
    return worst


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError("the service must run, got one that ended")


def main() -> int:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=10_000)
    parser.add_argument("--per-second", type=float, default=100.0, help="calls that are due every second")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long it is measured before and after")
    parser.add_argument("--out", type=Path, help="file for the JSON beside standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="swap-") as name:
        folder = Path(name)
        artifacts = [save_network(folder / f"lstm-{seed}", seed=seed) for seed in (0, 1)]
        templates = live_stays(load_artifact(artifacts[0]), TEMPLATES, HISTORY + AHEAD)
        address = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {**os.environ, **address}
        python = [sys.executable, "-W", "ignore", "-c"]
        named = [word for artifact in artifacts for word in (str(artifact), artifact_digest(artifact))]
        subprocess.run([*python, REGISTER, str(folder / "registry"), *named], env=environment, check=True)
        told = {"SEQUELA_WATCH_S": str(WATCH_S), "SEQUELA_RATE_LIMIT": "1000000/second", **address}
        service = Service(artifacts[0], folder, {**told, "SEQUELA_MODEL": "models:/benchmark@champion"})
        try:
            ready_s = service.start()
            found = run(service, Ward(service.port, templates, args.stays), [*python, MOVE], environment, args)
        finally:
            service.kill()
    figures = {"machine": machine(), "load_average": os.getloadavg(), "ready_s": round(ready_s, 2), **found}
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 1 if found["not_2xx"] or found["largest_difference"] > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
