"""Records to lines of a hash chain, lines to files, and files back to a verdict.

A line is a JSON object whose last member `hash` is the SHA-256 of the line up to it, which begins with `prev`, the
hash of the line before. Changing, removing, inserting or reordering lines breaks a link. Files of a folder follow each
other by name; a new one begins after `MAX_BYTES`, so that old ones can be kept elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from models.errors import ConfigError, DataError

GENESIS = "0" * 64
MAX_BYTES = 64 * 1024 * 1024
_TAIL = 1 << 20
_BEFORE_HASH = b',"hash":"'


def link(previous: str, facts: Mapping[str, object]) -> tuple[bytes, str]:
    """The line of a record behind the one whose hash is given, and its own hash."""
    body = orjson.dumps({"prev": previous, **facts})[:-1]
    own = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, own.encode()), own


def files_of(folder: Path) -> list[Path]:
    """The chain's files in their order."""
    return sorted(folder.glob("audit-*.jsonl"))


class ChainFile:
    """The last file of a chain, opened to append; no other process can have it at the same time.

    Args:
        folder: of the chain.

    Raises:
        ConfigError: if another process has it, it cannot be written, or its last line is no record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.torn: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"audit folder must be writable, got {folder} ({error.strerror}); set SEQUELA_AUDIT"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"audit folder must be this process's alone, got {folder} of another; set SEQUELA_AUDIT to a new one"
            ) from None
        self._open(self._resume())

    def _resume(self) -> Path:
        """Finds where the chain ends; what a crash left of a line is cut off, and its digest kept."""
        files = files_of(self._folder)
        self.head, self.count = "", 0
        if not files:
            return self._folder / "audit-000001.jsonl"
        self.torn = _cut_torn_line(files[-1])
        last = _last_line(files[-1]) or (_last_line(files[-2]) if len(files) > 1 else None)
        if last is not None:
            record = read_line(last)
            self.head, self.count = record["hash"], record["seq"]
        return files[-1]

    def _open(self, path: Path) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        directory = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def write(self, line: bytes) -> None:
        """Appends one line: all of it or nothing.

        Raises:
            OSError: if it cannot be written.
        """
        if self._size >= MAX_BYTES:
            self.flush()
            os.close(self._descriptor)
            number = int(self._path.stem.rpartition("-")[2]) + 1
            self._open(self._folder / f"audit-{number:06d}.jsonl")
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, self._size)
            raise OSError("no space left for the whole line")
        self._size += written

    def duplicate(self) -> int:
        """A descriptor of the same file, which the caller closes: a slow disk then holds up no writer."""
        return os.dup(self._descriptor)

    def flush(self) -> None:
        """Brings what was written to the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Brings everything to the disk and gives the chain free."""
        self.flush()
        os.close(self._descriptor)
        os.close(self._lock)


@dataclass(frozen=True)
class Verdict:
    """What a chain turned out to be.

    Args:
        first: number of the first record; above 1 where older files were taken elsewhere.
        records: intact ones, from there on.
        head: hash of the last of them.
        fault: where and how the chain breaks; empty if it is whole.
    """

    first: int
    records: int
    head: str
    fault: str = ""


def verify(folder: Path, *, expected: str = "") -> Verdict:
    """Follows a chain from its first record to its last.

    Args:
        folder: of the chain.
        expected: a hash that was noted before; it must be one of the chain's, or records were taken from its end.

    Raises:
        DataError: if there is no chain.
    """
    files = files_of(folder)
    if not files:
        raise DataError(f"audit folder must hold audit-*.jsonl, got {folder}; name the folder of SEQUELA_AUDIT")
    verdict = Verdict(0, 0, "")
    seen = expected == ""
    for where, line in _lines(files):
        try:
            record = read_line(line)
        except ConfigError:
            return replace(verdict, fault=f"{where} is not what was written")
        if not _follows(record, verdict):
            return replace(verdict, fault=f"{where} does not follow the record before it")
        verdict = Verdict(verdict.first or record["seq"], verdict.records + 1, record["hash"])
        seen = seen or verdict.head == expected
    if not verdict.records:  # a service writes its first record when it starts
        return replace(verdict, fault="there is no record: all of them were taken away, or none was ever written")
    return verdict if seen else replace(verdict, fault="the expected record is missing: the chain's end was taken away")


def records_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a chain, in their order.

    Raises:
        ConfigError: if a line is not one that was written.
    """
    return (read_line(line) for _, line in _lines(files_of(folder)))


def _follows(record: Mapping[str, Any], so_far: Verdict) -> bool:
    if so_far.records == 0:
        return bool((record["prev"] == GENESIS) == (record["seq"] == 1))
    return bool(record["prev"] == so_far.head and record["seq"] == so_far.first + so_far.records)


def read_line(line: bytes) -> dict[str, Any]:
    """The record of a line.

    Raises:
        ConfigError: if the line is not one that was written.
    """
    body, found, rest = line.rpartition(_BEFORE_HASH)
    try:
        record = json.loads(line)
        intact = bool(found) and hashlib.sha256(body).hexdigest() == record["hash"] and len(rest) == 66
        intact = intact and isinstance(record["seq"], int) and isinstance(record["prev"], str)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ConfigError("audit line must be as it was written, got another; verify the chain: sequela audit verify")
    return dict(record)


def _lines(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path.name}:{number}", line.removesuffix(b"\n")


def _cut_torn_line(path: Path) -> str | None:
    """Cuts off a last line that a crash left without its end; its digest, or None if there is none."""
    size = path.stat().st_size
    tail = _read_tail(path)
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return None
    os.truncate(path, size - len(torn))
    return hashlib.sha256(torn).hexdigest()


def _last_line(path: Path) -> bytes | None:
    lines = _read_tail(path).splitlines()
    return lines[-1] if lines else None


def _read_tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()
