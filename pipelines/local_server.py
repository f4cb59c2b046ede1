"""Local servers as child processes: a free port, a start that waits for an answer, an end that leaves none behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import SequelaError


def free_port(preferred: int = 0) -> int:
    """A port of the loopback interface that nothing listens on; the preferred one if it is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a server in a session of its own, its output in a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def wait_until_ready(process: subprocess.Popen[bytes], url: str, *, seconds: float, log: Path) -> None:
    """Waits for a 200 at `url`.

    Raises:
        SequelaError: if the process ends or does not answer in time; names the log to read.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SequelaError(f"server must stay up, got exit status {process.returncode}; read {log}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise SequelaError(f"server must answer {url} within {seconds:g} s, got no answer; read {log}")


def stop(process: subprocess.Popen[bytes], *, seconds: float = 20) -> None:
    """Ends the server and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def running(
    command: Sequence[str], *, url: str, log: Path, environment: Mapping[str, str], seconds: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers at `url` within the block and is gone after it."""
    process = start(command, log=log, environment=environment)
    try:
        wait_until_ready(process, url, seconds=seconds, log=log)
        yield process
    finally:
        stop(process)


def post_json(url: str, body: Any, *, seconds: float = 30) -> Any:
    """The JSON answer to a JSON body.

    Raises:
        SequelaError: if the status is not 200.
    """
    request = urllib.request.Request(  # noqa: S310 - an address of this machine
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SequelaError(f"{url} must answer 200, got {error.code}; read the service's log") from error
