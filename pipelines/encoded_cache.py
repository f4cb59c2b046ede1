"""Encoded stays kept on disk between runs: what decides them in, the features of an earlier run or new ones out.

Features are patient data. The folder is its owner's alone, holds no identifier, is bounded, and can be switched off
(`cache.enabled = false`) or removed at any time when no training runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import ConfigError
from models.note_reader import NoteReader
from models.record import to_plain
from models.stay import Ints
from pipelines.held_folder import PARTIAL, HeldFolder, hold, new_held_folder, remove_left, remove_unheld

SCHEMA = 1
MANIFEST = "entry.json"
FEATURES = "features"
# Everything of `Encoded` but the features is small and read into memory.
COLUMNS = ("step_offsets", "time_min", "note_step", "note_offsets", "tokens")
GIB = 1024**3

# Encodes stays, with the file that holds the features.
Encode = Callable[[Path], Encoded]


@dataclass(frozen=True)
class CacheConfig:
    """Whether and how much is kept.

    Args:
        enabled: encoded stays are kept for later runs; false: no feature outlives its run.
        max_gib: what is kept; the least recently used goes first.
    """

    enabled: bool = True
    max_gib: float = 5.0

    def __post_init__(self) -> None:
        """Refuses a bound that bounds nothing."""
        if not 0 < self.max_gib < float("inf"):
            raise ConfigError(f"cache.max_gib must be above 0, got {self.max_gib}; set cache.enabled to false for none")


def entry_key(fingerprint: str, index: Ints, encoding: Encoding, tokenizer: NoteReader | None) -> str:
    """Names everything that decides encoded stays: the cohort, which stays, what was fitted, and the code.

    Args:
        fingerprint: of the cohort.
        index: positions of the stays in it, in their order.
        encoding: as it is fitted.
        tokenizer: as it is trained; None where notes are not read.
    """
    facts = {
        "schema": SCHEMA,
        "cohort": fingerprint,
        "stays": hashlib.sha256(np.ascontiguousarray(index, dtype="<i8").data).hexdigest(),
        "encoding": to_plain(encoding),
        "tokenizer": None if tokenizer is None else tokenizer.to_json(),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """Digest of the code that encodes: a changed line makes new entries, whoever forgets to count a version up."""
    digest = hashlib.sha256()
    for name in ("numpy", "tokenizers"):
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    sources = [f for f in resources.files("models").iterdir() if f.name.endswith(".py")]
    for source in sorted(sources, key=lambda f: f.name):
        digest.update(source.name.encode() + b"\n" + source.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def open_cache(folder: Path | None, config: CacheConfig) -> Iterator[EncodedCache | None]:
    """The cache in this folder; None where there is no folder, or the configuration keeps nothing."""
    if folder is None or not config.enabled:
        yield None
        return
    with EncodedCache(folder, max_bytes=config.max_gib * GIB) as opened:
        yield opened


class EncodedCache:
    """A folder of entries; use it as a context manager: what it hands out stays on disk until it ends.

    Several processes may use one folder: an entry is written beside and renamed, so that it is whole or not there,
    and its digests are verified before it is used.

    Args:
        folder: where entries lie; made for its owner alone.
        max_bytes: bound of all entries together once no run uses them.
    """

    def __init__(self, folder: Path, *, max_bytes: float) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._held: list[HeldFolder] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        remove_left(self.folder, PARTIAL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of what was handed out, and removes entries beyond the bound."""
        for held in self._held:
            held.release()
            if held.path.name.startswith(PARTIAL):
                remove_unheld(held.path)
        self._held.clear()
        self._shrink()

    def get(self, key: str, encode: Encode) -> Encoded:
        """The entry's encoded stays, features memory-mapped; a missing or damaged entry is made.

        Args:
            key: as of `entry_key`.
            encode: makes it, with the features in the file that it is given.
        """
        return self._find(key) or self._make(key, encode)

    def entries(self) -> list[Path]:
        """Folders of the entries, the least recently used first."""
        found = [p for p in self.folder.iterdir() if not p.name.startswith(".") and p.is_dir()]
        return sorted(found, key=lambda p: (_last_used(p), p.name))

    def _find(self, key: str) -> Encoded | None:
        held = hold(self.folder / key)
        if held is None:
            remove_left(self.folder, key)  # one that has lost its lock file would be in the way
            return None
        encoded = _read(held.path, key)
        if encoded is None:
            held.remove()  # damaged; if another process uses it still, this one makes its own
            return None
        os.utime(held.path / MANIFEST)
        self._held.append(held)
        return encoded

    def _make(self, key: str, encode: Encode) -> Encoded:
        part = new_held_folder(self.folder, PARTIAL)
        self._held.append(part)
        file = part.path / f"{FEATURES}.npy"
        encoded = encode(file)
        if not file.exists():  # nothing to map
            np.save(file, encoded.features)
        for name in COLUMNS:
            np.save(part.path / f"{name}.npy", getattr(encoded, name))
        _seal(part.path, key)
        # Where another process was faster or uses a damaged one still, this run's copy goes when it ends.
        part.move(self.folder / key)
        return _load(part.path)

    def _shrink(self) -> None:
        """Removes the least recently used entries until the rest is within the bound; those in use stay."""
        sizes = {path: _size(path) for path in self.entries()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self.max_bytes:
                return
            total -= size if remove_unheld(path) else 0


def _seal(folder: Path, key: str) -> None:
    """Writes the manifest: name and digest of every file."""
    files = sorted(folder.glob("*.npy"))
    for file in files:
        file.chmod(0o600)
    manifest = {"schema": SCHEMA, "key": key, "files": {f.name: _digest(f) for f in files}}
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    path.chmod(0o600)


def _read(folder: Path, key: str) -> Encoded | None:
    """The entry if it is whole and what its manifest says; else None."""
    try:
        manifest: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest["schema"] == SCHEMA and manifest["key"] == key
        digests = dict(manifest["files"])
        expected = {f"{name}.npy" for name in (FEATURES, *COLUMNS)}
        if not whole or set(digests) != expected or any(_digest(folder / n) != d for n, d in digests.items()):
            return None
        return _load(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _load(folder: Path) -> Encoded:
    columns: dict[str, Any] = {name: np.load(folder / f"{name}.npy") for name in COLUMNS}
    file = folder / f"{FEATURES}.npy"
    empty = not len(columns["time_min"])  # an empty array cannot be mapped
    features = np.load(file) if empty else np.load(file, mmap_mode="r")
    return Encoded(features=features, **columns)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in entry.iterdir())
    except OSError:  # another process removed it
        return 0


def _last_used(entry: Path) -> float:
    try:
        return (entry / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0
