"""Contenders as processes, stays and windows as sources of requests, and the check of every answer."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from serving_cohort import LiveStay, Window
from serving_load import Load, Shot, request

# Every engine agrees with the offline scorer to this much.
TOLERANCE = 1e-5
START_S = 300.0


@dataclass(frozen=True)
class Server:
    """A running contender.

    Args:
        port: where it listens.
        key: API key to present; None where it asks for none.
        pid: its process.
        ready_s: seconds from its start until it was ready to score.
    """

    port: int
    key: str | None
    pid: int
    ready_s: float

    @property
    def resident_mib(self) -> float:
        """Memory that it holds at this moment."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError("the contender must run, got one that ended")


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has had so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """The core of the servers, and that of the load; the same one where there is no other."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: dict[str, str], log: Path, *, key: str | None = None
) -> Iterator[Server]:
    """A contender that says its port, pinned to the servers' core."""
    core, _ = cores()
    began = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            said = log.read_text(errors="replace")[-2000:]
            raise ChildProcessError(f"{command[1:3]} must start, got one that ended: {said}")
        port = int(json.loads(line)["port"])
        wait_until_ready(port)
        yield Server(port, key, process.pid, time.perf_counter() - began)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a contender and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def wait_until_ready(port: int, path: str = "/readyz") -> None:
    """Returns once something answers; a contender without this address is ready when it says so."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status != 503:
                return
        time.sleep(0.02)
    raise TimeoutError(f"a contender must be ready within {START_S:g} s, got one that is not")


def server_command(kind: str) -> list[str]:
    """How a contender of `serving_server.py` is started."""
    return [sys.executable, str(Path(__file__).with_name("serving_server.py")), kind]


class Steps:
    """Stays that are opened one after the other and then sent step by step; a stay waits for its own answers.

    Args:
        server: where they are sent.
        stays: whose bodies are used again and again, under new identifiers.
        name: begins the identifiers, so that no two sources share a stay.
        at: path that takes the steps, where they are all posted to an empty endpoint.
    """

    def __init__(self, server: Server, stays: Sequence[LiveStay], name: str, *, at: str | None = None) -> None:
        self._server, self._name, self._at = server, name, at
        self.port = server.port
        self._bodies = itertools.cycle(stays)
        self._numbers = itertools.count()
        self._pid = server.pid
        self._turns: deque[Iterator[Shot]] = deque()

    def cpu_s(self) -> float:
        """Processor time that the server has had so far."""
        return processor_s(self._pid)

    def take(self) -> Shot:
        """The next request of a stay that waits for no answer; of a new one if there is none."""
        while self._turns:
            shot = next(self._turns.popleft(), None)
            if shot is not None:
                return shot
        return next(self._stay())

    def give_back(self, shot: Shot) -> None:
        """Lets the stay go on."""
        turn: Iterator[Shot] = shot.owner  # type: ignore[assignment]
        self._turns.append(turn)

    def _stay(self) -> Iterator[Shot]:
        stay, stay_id = next(self._bodies), f"{self._name}-{next(self._numbers)}"
        port, key = self._server.port, self._server.key

        def shots() -> Iterator[Shot]:
            if self._at is None:
                yield Shot(request("PUT", f"/v1/stays/{stay_id}", stay.opening, key=key, port=port), None, turn)
            path = f"/v1/stays/{stay_id}/observations" if self._at is None else f"{self._at}/{stay_id}"
            for body, risk in zip(stay.steps, stay.risks, strict=True):
                expected = risk if self._at is None else None
                yield Shot(request("POST", path, body, key=key, port=port), expected, turn)

        turn = shots()
        return turn


class Windows:
    """Whole stays, each a request of its own.

    Args:
        server: where they are sent.
        windows: used again and again.
        at: path that takes them.
        scored: whether the answers hold risks.
    """

    def __init__(
        self, server: Server, windows: Sequence[Window], *, at: str = "/v1/score", scored: bool = True
    ) -> None:
        self.port, self._pid = server.port, server.pid
        made = [
            Shot(request("POST", at, w.body, key=server.key, port=server.port), w.risk if scored else None, None)
            for w in windows
        ]
        self._shots = itertools.cycle(made)

    def cpu_s(self) -> float:
        """Processor time that the server has had so far."""
        return processor_s(self._pid)

    def take(self) -> Shot:
        """The next window."""
        return next(self._shots)

    def give_back(self, shot: Shot) -> None:
        """Nobody waits for it."""


class WrongAnswerError(AssertionError):
    """Raised where an answer is none, or is not the offline score."""


def checked(load: Load) -> float:
    """The largest difference of an answer's risk from the offline one.

    Raises:
        WrongAnswerError: if an answer is a refusal, or its risk differs.
    """
    worst = 0.0
    for status, body, expected in load.answers:
        if not 200 <= status < 300:
            raise WrongAnswerError(f"every answer must be a success, got {status} {body[:300]!r}")
        if expected is not None:
            worst = max(worst, abs(_risk(orjson.loads(body)) - expected))
    if worst > TOLERANCE:
        raise WrongAnswerError(f"every risk must be the offline one to {TOLERANCE:g}, got one {worst:g} away")
    return worst


def _risk(answer: dict[str, object]) -> float:
    """The first output's risk, as the service or `mlflow models serve` words it."""
    predictions = answer.get("predictions")
    found = predictions[0]["risk"] if isinstance(predictions, list) else answer["risk"]
    return float(found)  # type: ignore[arg-type]
