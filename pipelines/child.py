"""A command in, its exit status out: one child process at a time, with a time limit, retries and a way to stop it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.errors import ConfigError

logger = logging.getLogger(__name__)

# Statuses that another attempt would only repeat: done, refused, wrong usage, another process holds the lease.
FINAL_STATUSES = frozenset({0, 1, 2, 3})


@dataclass(frozen=True)
class Limits:
    """How long and how often a command may run.

    Args:
        time_limit_s: an attempt that runs longer gets SIGTERM, and SIGKILL after the grace.
        grace_s: time between the two, for a checkpoint to be written.
        retries: further attempts after one that ended by itself or by its limit without a final status.
        backoff_s: wait before the first retry; doubled each time.
    """

    time_limit_s: float = 6 * 3600.0
    grace_s: float = 120.0
    retries: int = 2
    backoff_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuses limits that no run could keep."""
        if not (self.time_limit_s > 0 and self.grace_s >= 0 and self.retries >= 0 and self.backoff_s >= 0):
            raise ConfigError(
                f"time limit must be above 0 and grace, retries and backoff at least 0, got {self.time_limit_s}, "
                f"{self.grace_s}, {self.retries} and {self.backoff_s}; correct them"
            )


class ChildRunner:
    """Runs commands one after the other until it is stopped; `stop` may come from another thread."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], environment: Mapping[str, str], limits: Limits) -> int | None:
        """The last attempt's exit status; None if the runner was stopped before one began.

        A child that a signal ended has the signal's negative number.
        """
        status = None
        for attempt in range(limits.retries + 1):
            if attempt and self._stopped.wait(limits.backoff_s * 2 ** (attempt - 1)):
                break
            if (child := self._begin(command, environment)) is None:
                break
            status = self._wait(child, limits)
            if status in FINAL_STATUSES or self._stopped.is_set():
                break
            logger.warning("attempt %d of %d ended with status %d", attempt + 1, limits.retries + 1, status)
        return status

    def stop(self) -> None:
        """Sends SIGTERM to the child and starts no other; the running attempt's grace bounds how long it may take."""
        with self._lock:
            self._stopped.set()
            if self._child is not None:
                _signal(self._child, signal.SIGTERM)

    def _begin(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopped.is_set():
                return None
            # A session of its own: a terminal's Ctrl-C reaches this process alone, which then stops the child.
            self._child = subprocess.Popen(command, env=dict(environment), start_new_session=True)
            return self._child

    def _wait(self, child: subprocess.Popen[bytes], limits: Limits) -> int:
        remaining = limits.time_limit_s
        while remaining > 0 and not self._stopped.is_set():
            slice_s = min(remaining, 0.2)
            try:
                return self._ended(child, child.wait(slice_s))
            except subprocess.TimeoutExpired:
                remaining -= slice_s
        if not self._stopped.is_set():
            _signal(child, signal.SIGTERM)
        try:
            return self._ended(child, child.wait(limits.grace_s))
        except subprocess.TimeoutExpired:
            logger.error("the child did not end within its grace of %g s and is killed", limits.grace_s)
            _signal(child, signal.SIGKILL)
            return self._ended(child, child.wait())

    def _ended(self, child: subprocess.Popen[bytes], status: int) -> int:
        with self._lock:
            if self._child is child:
                self._child = None
        return status


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signals the child if it is still there; SIGKILL goes to its whole session, so that nothing is left behind."""
    if child.poll() is not None:
        return
    try:
        if number is signal.SIGKILL:
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)
    except ProcessLookupError:
        logger.info("the child had ended before the signal")
