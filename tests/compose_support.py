"""From `docker-compose.yml` to resolved services, and from a service to a process of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<operator>:?[-?+])(?P<word>[^}]*))?\}|(?P<bare>\w+))")


def load_raw() -> dict[str, Any]:
    """The file as written: variables not resolved, anchors and merges applied."""
    return dict(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")))


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """Resolves `${NAME}`, `:-`, `-`, `:?`, `?`, `:+`, `+` and `$$` in every string, as Compose does.

    Raises:
        KeyError: for a variable that the file requires and the environment does not have.
    """
    if isinstance(value, dict):
        return {key: interpolate(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolate(part, environment) for part in value]
    return VARIABLE.sub(lambda m: _resolve(m, environment), value) if isinstance(value, str) else value


def _resolve(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    name, operator, word = match["name"] or match["bare"], match["operator"] or "", match["word"] or ""
    given = environment.get(name)
    present = given is not None and not (operator.startswith(":") and given == "")
    if operator.endswith("+"):
        return word if present else ""
    if present:
        return given or ""
    if operator.endswith("?"):
        raise KeyError(f"{name}: {word}")
    return word


def variables(value: Any) -> set[str]:
    """Names of all variables in the file."""
    if isinstance(value, dict):
        return {name for part in value.values() for name in variables(part)}
    if isinstance(value, list):
        return {name for part in value for name in variables(part)}
    found = VARIABLE.finditer(value) if isinstance(value, str) else ()
    return {match["name"] or match["bare"] for match in found if not match["escaped"]}


@dataclass(frozen=True)
class Substitution:
    """What differs between a container and a process of this machine: addresses, ports, folders.

    Args:
        values: exact text -> text, applied to whole words first and then inside longer ones.
    """

    values: Mapping[str, str]

    def apply(self, text: str) -> str:
        if text in self.values:
            return self.values[text]
        # Bare port numbers stand alone as words; inside a longer word only addresses and paths are replaced.
        for old in sorted((k for k in self.values if not k.isdigit()), key=len, reverse=True):
            text = text.replace(old, self.values[old])
        return text


@dataclass(frozen=True)
class LocalService:
    """One service of the file as a process: its own command, environment and health check.

    Args:
        name: of the service.
        service: resolved.
        substitution: container to machine.
        folder: working directory; the log lies beside it.
    """

    name: str
    service: Mapping[str, Any]
    substitution: Substitution
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.name}.log"

    @property
    def temporary(self) -> Path:
        """Stands for the container's `/tmp`, the home of its user."""
        return self.folder.parent / f"{self.name}-tmp"

    @property
    def environment(self) -> dict[str, str]:
        """The container's variables and nothing of this process's but what an image has."""
        own = {key: self.substitution.apply(str(value)) for key, value in self.service["environment"].items()}
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        temporary = str(self.temporary)
        image = {"PATH": programs, "HOME": temporary, "TMPDIR": temporary, "MPLCONFIGDIR": f"{temporary}/matplotlib"}
        return {**image, "PYTHONUNBUFFERED": "1", "GIT_PYTHON_REFRESH": "quiet", "OMP_NUM_THREADS": "1", **own}

    @property
    def command(self) -> list[str]:
        return [self.substitution.apply(word) for word in self.service["command"]]

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process within the block; it and all that it started are gone after it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end_tree(process)

    def written_outside_volumes(self) -> set[str]:
        """Files in the working directory that no volume would have taken; a read-only container refuses them."""
        targets = [Path(self.substitution.apply(v["target"])) for v in self.service.get("volumes", [])]
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path) for path in files if not any(path.is_relative_to(target) for target in targets)}

    def healthy(self) -> bool:
        """Runs the file's own health check once."""
        kind, *test = self.service["healthcheck"]["test"]
        if kind != "CMD":
            raise ValueError(f"health check must be of the form CMD, got {kind}; write it as a list")
        command = [self.substitution.apply(word) for word in test]
        check = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, timeout=60, check=False
        )
        return check.returncode == 0

    def wait_until_healthy(self, process: subprocess.Popen[bytes], *, seconds: float) -> None:
        """Waits for the health check to pass.

        Raises:
            AssertionError: with the end of the log, if it does not or the process ends.
        """
        deadline = time.monotonic() + seconds
        while not self.healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} is not healthy (status {process.poll()}):\n{self.tail()}")
            time.sleep(0.3)

    def tail(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])


def end_tree(process: subprocess.Popen[bytes], *, seconds: float = 20) -> int:
    """SIGTERM to the process, SIGKILL to whatever of its tree is left; its exit status.

    Children may have sessions of their own, so they are found by their parents and known by their start time.
    """
    before = _descendants(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid, started in before.items():
        if _stat(pid) is not None and (_stat(pid) or ("", ""))[1] == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return process.wait()


def _stat(pid: int) -> tuple[str, str] | None:
    """Parent and start time of a process; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[1], fields[19]


def _descendants(pid: int) -> dict[int, str]:
    known = {int(p.name): stat for p in Path("/proc").glob("[0-9]*") if (stat := _stat(int(p.name))) is not None}
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = str(waiting.pop())
        for child, (its_parent, started) in known.items():
            if its_parent == parent and child not in found:
                found[child] = started
                waiting.append(child)
    return found
