"""Threads that send stays step by step, and send again what was not answered, as a sender who may lose nothing does."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving_cohort import LiveStay

TIMEOUT_S = 30.0
# How long the service may be away before a writer gives up.
PATIENCE_S = 180.0
BUSY = (429, 503)


@dataclass
class Sent:
    """What a writer sent of one stay.

    Args:
        identifiers: of all observations that it sent.
        acknowledged: of those that the service said it has.
        risk: what its current score must be.
    """

    identifiers: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    risk: float = float("nan")


class Writer(threading.Thread):
    """Sends one stay after the other until it is told to finish the one that it has begun.

    Every second call carries an Idempotency-Key beside the identifiers of its observations.

    Args:
        port: where the service listens.
        stays: whose bodies are sent.
        name: begins the identifiers of its stays.
    """

    def __init__(self, port: int, stays: Sequence[LiveStay], name: str) -> None:
        super().__init__(daemon=True, name=name)
        self._port, self._stays = port, stays
        self._connection: http.client.HTTPConnection | None = None
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self.sent: dict[str, Sent] = {}
        self.acknowledged = self.again = 0
        self.worst = 0.0

    def run(self) -> None:
        """Sends until it is told to finish."""
        try:
            for number, stay in enumerate(itertools.cycle(self._stays)):
                if self._ending.is_set():
                    return
                self._send_stay(f"{self.name}-{number}", stay)
        except Exception as error:  # noqa: BLE001  # told to whoever waits for the thread
            self._failure = error

    def finish(self) -> None:
        """Waits until the stay that was begun is whole.

        Raises:
            RuntimeError: if the writer failed.
        """
        self._ending.set()
        self.join()
        if self._failure is not None:
            raise RuntimeError(f"{self.name} must be answered, got a failure") from self._failure

    def _send_stay(self, stay_id: str, stay: LiveStay) -> None:
        sent = Sent()
        self._call("PUT", f"/v1/stays/{stay_id}", stay.opening, {})
        self.sent[stay_id] = sent
        for number, (body, risk) in enumerate(zip(stay.steps, stay.risks, strict=True)):
            content = json.loads(body)
            names = [f"{number}-{i}" for i in range(len(content["observations"]))]
            for item, name in zip(content["observations"], names, strict=True):
                item["observation_id"] = name
            sent.identifiers += names
            sent.risk = risk
            repeat = {"Idempotency-Key": f"call-{number}"} if number % 2 else {}
            path = f"/v1/stays/{stay_id}/observations"
            answer = self._call("POST", path, json.dumps(content).encode(), repeat)
            sent.acknowledged += names
            self.acknowledged += 1
            self.worst = max(self.worst, abs(answer["risk"] - risk))

    def _call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """The answer, asked for again until there is one."""
        deadline = time.monotonic() + PATIENCE_S
        for attempt in itertools.count():
            self.again += attempt == 1
            try:
                status, content = self._once(method, path, body, headers)
            except (OSError, http.client.HTTPException):
                self._connection = None
                status = 503
            if status in (200, 201):
                answer: dict[str, Any] = json.loads(content)
                return answer
            if status not in BUSY or time.monotonic() > deadline:
                raise RuntimeError(f"a call must be accepted, got status {status}: {content[:300]!r}")
            time.sleep(0.02)
        raise AssertionError

    def _once(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        self._connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = self._connection.getresponse()
        return response.status, response.read()


def current_risk(port: int, stay_id: str) -> float:
    """The last point of a stay's trajectory as it is now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/v1/stays/{stay_id}")
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"a stay must be there, got status {response.status}: {content[:300]!r}")
    return float(json.loads(content)["current"][-1]["values"][0])
