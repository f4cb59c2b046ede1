"""An address in, a connected Ray cluster out, left as it was found; Ray is imported here, and only on demand."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import signal
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from models.errors import ConfigError, SequelaError
from pipelines.database import CONNECT_WAIT_S, EXIT_UNAVAILABLE
from pipelines.settings import switch_ray

LOCAL = "local"
LOOPBACK = "127.0.0.1"
SHUTDOWN_WAIT_S = 30


class ClusterUnreachableError(SequelaError):
    """Raised when no Ray cluster answers at the address."""

    exit_status = EXIT_UNAVAILABLE


@contextlib.contextmanager
def cluster(address: str, *, processes: int) -> Iterator[None]:
    """Connects to a cluster, or starts one on this machine and ends it.

    Args:
        address: `local`, `auto` (the cluster of this machine), or a host and port.
        processes: how many the local cluster has room for.

    Raises:
        ConfigError: if Ray is not installed.
        ClusterUnreachableError: if none answers.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("ray must be installed for --ray, got none; pip install 'sequela[ray]'")
    switch_ray()
    with quiet_ray():
        import ray

        try:
            with _kept_handler():
                _connect(ray, address, processes)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterUnreachableError(
                f"--ray must be local or the address of a cluster that answers, got {type(error).__name__}; "
                "check the address and the head node"
            ) from error
        children = _children(ray)
        try:
            yield
        finally:
            ray.shutdown()
            for child in children:
                child.wait(SHUTDOWN_WAIT_S)


def _connect(ray: Any, address: str, processes: int) -> None:
    if address == LOCAL:
        ray.init(
            num_cpus=processes,
            include_dashboard=False,
            _node_ip_address=LOOPBACK,  # names of this host need not resolve
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    else:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


def _children(ray: Any) -> list[subprocess.Popen[bytes]]:
    """The servers that Ray has started here: it ends them without waiting for their end."""
    node = ray._private.worker._global_node
    started = node.all_processes.values() if node is not None else ()
    return [info.process for group in started for info in group]


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """Keeps what SIGTERM does: Ray would end the process at once, without a checkpoint."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself would try for many minutes."""
    host, found, port = address.rpartition("://")[2].rpartition(":")
    if found and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_WAIT_S).close()


@contextlib.contextmanager
def silent_ray() -> Iterator[None]:
    """Keeps Ray's own lines off standard output, which is the command's, and its stack traces, which may hold data."""
    log = logging.getLogger("ray")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Silences warnings of Ray's own code, about which its caller can do nothing."""
    with warnings.catch_warnings():
        # It warns of its own future defaults, opens files and sockets that it leaves to the garbage collector, and
        # uses parts of other libraries that are going away.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")
        warnings.filterwarnings("ignore", category=ResourceWarning)
        yield
