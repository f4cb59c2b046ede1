"""Requests in, every answer with its times out: closed and open loops over keep-alive HTTP/1.1 connections.

The client is a bare asyncio protocol, because a general one costs more than the server that it measures. An open
loop's latency counts from the moment at which a request was due, so a server that stalls cannot hide the requests
that it kept waiting.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
# An open loop opens no more connections than this; a request that finds none free waits, and its latency shows it.
OPEN_CONNECTIONS = 256
CLOSING_S = 10.0


@dataclass(slots=True)
class Shot:
    """One request, and what its answer has to say.

    Args:
        payload: the bytes of the request.
        expected: the offline risk; None where the answer holds none.
        owner: whose turn it is again once the answer has come.
    """

    payload: bytes
    expected: float | None
    owner: object


class Source(Protocol):
    """Where requests come from, and the port that they go to."""

    port: int

    def take(self) -> Shot:
        """The next request; never one that must wait for another's answer."""

    def give_back(self, shot: Shot) -> None:
        """Says that a request was answered."""


@dataclass
class Load:
    """What a loop saw.

    Args:
        seconds: from the first request to the last answer within the time.
        latency_s: of every answer.
        answers: (status, body, expected) of every answer.
        late_s: how late the generator itself was for every request of an open loop.
    """

    seconds: float = 0.0
    latency_s: list[float] = field(default_factory=list)
    answers: list[tuple[int, bytes, float | None]] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds

    def figures(self) -> dict[str, float]:
        """Rate and percentiles in milliseconds."""
        found = {"requests": len(self.answers), "per_second": round(self.per_second, 1)}
        for name, share in (("p50", 50), ("p95", 95), ("p99", 99), ("p99_9", 99.9), ("max", 100)):
            found[f"{name}_ms"] = round(float(np.percentile(self.latency_s, share)) * 1e3, 3)
        if self.late_s:
            found["generator_late_p99_ms"] = round(float(np.percentile(self.late_s, 99)) * 1e3, 3)
        return found


class Wire(asyncio.Protocol):
    """A connection that carries one request at a time.

    Args:
        answered: called with the connection, the status and the body of every answer.
    """

    def __init__(self, answered: Callable[[Wire, int, bytes], None]) -> None:
        self.answered = answered
        self.shot: Shot | None = None
        self.since = 0.0
        self.lost: BaseException | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way to the server."""
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Remembers why nothing more can be sent."""
        self.lost = error or ConnectionResetError("the server closed the connection")

    def send(self, shot: Shot, since: float) -> None:
        """Sends a request whose latency counts from `since`."""
        if self.lost is not None:
            raise ConnectionError("a connection must stay open, got one that the server closed") from self.lost
        self.shot, self.since = shot, since
        self.transport.write(shot.payload)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Hands over an answer once it is whole."""
        self._data = data = self._data + data if self._data else data
        head = data.find(HEAD_END)
        if head < 0:
            return
        start = head + len(HEAD_END)
        end = start + _content_length(data[:head])
        if len(data) < end:
            return
        self._data = data[end:]
        self.answered(self, int(data[9:12]), data[start:end])


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(LENGTH)
    if at < 0:
        raise ValueError("an answer must state its length, got one without; measure routes that do not stream")
    end = lowered.find(b"\r", at)
    return int(lowered[at + len(LENGTH) : end if end >= 0 else None])


def request(method: str, path: str, body: bytes, *, key: str | None, port: int) -> bytes:
    """The bytes of a request."""
    secret = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{secret}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def closed_loop(source: Source, *, connections: int, seconds: float, most: int = sys.maxsize) -> Load:
    """Every connection sends its next request once the last one is answered, until the time or `most` is reached."""
    load, clock = Load(), time.perf_counter
    done = asyncio.get_running_loop().create_future()
    ends = 0.0
    open_ones = 0

    def answered(wire: Wire, status: int, body: bytes) -> None:
        nonlocal open_ones
        now, shot = clock(), wire.shot
        assert shot is not None
        load.latency_s.append(now - wire.since)
        load.answers.append((status, body, shot.expected))
        source.give_back(shot)
        if now < ends and len(load.answers) < most:
            wire.send(source.take(), clock())
            return
        open_ones -= 1
        if not open_ones:
            done.set_result(now)

    wires = await _connect(connections, source.port, answered)
    gc.collect()
    gc.disable()  # the generator's own collections are not the server's latency
    try:
        began = clock()
        ends, open_ones = began + seconds, len(wires)
        for wire in wires:
            wire.send(source.take(), clock())
        finished = await asyncio.wait_for(done, seconds + CLOSING_S)
    finally:
        gc.enable()
        _close(wires)
    load.seconds = finished - began
    return load


async def open_loop(source: Source, *, arrivals_s: NDArray[np.float64], connections: int = OPEN_CONNECTIONS) -> Load:
    """Sends every request when it is due, whatever became of those before it."""
    schedule = _Schedule(source, arrivals_s.tolist())
    wires = await _connect(connections, source.port, schedule.answered)
    await _met(wires, source)
    schedule.idle.extend(wires)
    gc.collect()
    gc.disable()
    try:
        began = schedule.start()
        finished = await asyncio.wait_for(schedule.done, float(arrivals_s[-1]) + CLOSING_S)
    finally:
        gc.enable()
        _close(wires)
    schedule.load.seconds = finished - began
    return schedule.load


class _Schedule:
    """Requests that are due, on whichever connection is free."""

    def __init__(self, source: Source, arrivals_s: Sequence[float]) -> None:
        self.source = source
        self.arrivals = arrivals_s
        self.load = Load()
        self.idle: deque[Wire] = deque()
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[float] = self.loop.create_future()
        self._waiting: deque[float] = deque()

    def start(self) -> float:
        """Lets the requests become due from now on."""
        self._began = time.perf_counter()
        threading.Thread(target=self._arrive, name="arrivals", daemon=True).start()
        return self._began

    def _arrive(self) -> None:
        """Sleeps from arrival to arrival: an event loop's own timers are up to a millisecond late.

        Nothing spins: where the cores of server and load are two threads of one, that would take from the server.
        """
        for arrival in self.arrivals:
            due = self._began + arrival
            time.sleep(max(due - time.perf_counter(), 0.0))
            self.loop.call_soon_threadsafe(self._take, due)

    def _take(self, due: float) -> None:
        self.load.late_s.append(time.perf_counter() - due)
        self._waiting.append(due)
        self._send()

    def _send(self) -> None:
        while self._waiting and self.idle:
            # The one that was used last, as pools do: going through all of them would find the state of each cold.
            wire = self.idle.pop()
            if wire.lost is None:  # servers close what rests for seconds
                wire.send(self.source.take(), self._waiting.popleft())

    def answered(self, wire: Wire, status: int, body: bytes) -> None:
        now, shot = time.perf_counter(), wire.shot
        assert shot is not None
        self.load.latency_s.append(now - wire.since)
        self.load.answers.append((status, body, shot.expected))
        self.source.give_back(shot)
        self.idle.append(wire)
        self._send()
        if len(self.load.answers) == len(self.arrivals):
            self.done.set_result(now)


def poisson(per_second: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Times at which independent requests arrive."""
    return gamma(per_second, seconds, seed, shape=1.0)


def gamma(per_second: float, seconds: float, seed: int, *, shape: float = 0.25) -> NDArray[np.float64]:
    """Times of arrivals in bursts: gaps from a gamma distribution, the burstier the smaller its shape."""
    count = max(int(per_second * seconds), 2)
    gaps = np.random.default_rng(seed).gamma(shape, 1.0 / (per_second * shape), count)
    return np.cumsum(gaps)


async def _connect(count: int, port: int, answered: Callable[[Wire, int, bytes], None]) -> list[Wire]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Wire(answered), "127.0.0.1", port))[1] for _ in range(count)]


async def _met(wires: Sequence[Wire], source: Source) -> None:
    """Sends one request on every connection: a server that is still accepting them would be measured at that."""
    done = asyncio.get_running_loop().create_future()
    left = set(wires)

    def answered(wire: Wire, status: int, body: bytes) -> None:
        del status, body
        assert wire.shot is not None
        source.give_back(wire.shot)
        left.discard(wire)
        if not left:
            done.set_result(None)

    usual = [wire.answered for wire in wires]
    for wire in wires:
        wire.answered = answered
        wire.send(source.take(), 0.0)
    await asyncio.wait_for(done, CLOSING_S)
    for wire, callback in zip(wires, usual, strict=True):
        wire.answered = callback


def _close(wires: Sequence[Wire]) -> None:
    for wire in wires:
        wire.transport.close()
