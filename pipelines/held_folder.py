"""Folders that belong to running processes: a lock says who still uses one, and frees what a killed process left.

The system releases a process's locks however it ends, so that no time limit has to guess whether it is alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOCK = "lock"
# Begins the names of folders that are being written or removed.
PARTIAL = ".part-"


class HeldFolder:
    """A folder that no one removes while this process holds it.

    Args:
        path: the folder.
        descriptor: its open lock file, with a shared lock.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets others remove the folder."""
        os.close(self._descriptor)

    def move(self, target: Path) -> bool:
        """Renames the folder, still held; False if the target is taken."""
        try:
            self.path.rename(target)
        except OSError:
            if not target.exists():
                raise
            return False
        self.path = target
        return True

    def remove(self) -> None:
        """Removes the folder with all that is in it, unless another process holds it too."""
        self.release()
        remove_unheld(self.path)


def hold(folder: Path) -> HeldFolder | None:
    """Holds a folder; None if there is none, or another process is removing it."""
    descriptor = _locked(folder, fcntl.LOCK_SH)
    return None if descriptor is None else HeldFolder(folder, descriptor)


def new_held_folder(parent: Path, prefix: str) -> HeldFolder:
    """An empty folder that only its owner can enter, held from the start."""
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))  # mode 0700
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
        held = hold(path)
        if held is not None:
            return held
        # Another process took the folder for a left one before it was locked.


def remove_unheld(folder: Path) -> bool:
    """Removes a folder that no process holds, whole at once; False if it is held or gone."""
    descriptor = _locked(folder, fcntl.LOCK_EX)
    if descriptor is None:
        return False
    try:
        doomed = folder.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True


def remove_left(parent: Path, prefix: str) -> None:
    """Removes the folders with this prefix that killed processes left."""
    for left in [p for p in parent.iterdir() if p.name.startswith(prefix) and p.is_dir() and not p.is_symlink()]:
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(left / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
            remove_unheld(left)


@contextlib.contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder for this process alone, removed at the end; what killed processes left beside it goes first."""
    for left in (prefix, PARTIAL):
        remove_left(parent, left)
    held = new_held_folder(parent, prefix)
    try:
        yield held.path
    finally:
        held.remove()


def _locked(folder: Path, kind: int) -> int | None:
    """The locked, open lock file of a folder; None if it has none, or it cannot be locked so at once."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        # Between opening and locking, the folder may have been moved away and another put in its place.
        if os.fstat(descriptor).st_ino == (folder / LOCK).stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError, NotADirectoryError):
        pass
    os.close(descriptor)
    return None
