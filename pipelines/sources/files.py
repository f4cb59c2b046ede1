"""Folders, tar archives and single files in, the text files of their stays out, one after the other.

An archive is read as one stream and never unpacked to disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from models.errors import DataError
from pipelines.progress import Progress

_OPENERS = ((b"\xfd7zXZ\x00", lzma.open), (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open))
_BLOCK = 512  # bytes: a tar archive consists of such blocks and ends with blocks of zeros
_DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class TextFile:
    """One file: its name for messages (archive and member) and its bytes."""

    name: str
    data: bytes

    @property
    def stem(self) -> str:
        """The file's own name without folder and suffix."""
        return Path(self.name.rpartition(":")[2]).stem


def read_files(paths: Sequence[Path], *, suffix: str, progress: bool) -> Iterator[TextFile]:
    """Every file with this suffix in the folders and archives, but hidden ones and outcomes files.

    Args:
        paths: folders (searched with their subfolders), tar archives (plain, xz, gz or bz2) or files.
        suffix: for example `.txt`.
        progress: whether to show a bar on standard error.

    Raises:
        DataError: if a path does not exist, is damaged or truncated, or holds no such file.
    """
    for path in paths:
        found = 0
        for file in _open_path(path, suffix, progress=progress):
            found += 1
            yield file
        if not found:
            raise DataError(
                f"{path} must hold files named *{suffix}, got none; name the folder or archive of the stays"
            )


def _open_path(path: Path, suffix: str, *, progress: bool) -> Iterator[TextFile]:
    if path.is_dir():
        return _from_folder(path, suffix, progress=progress)
    if not path.is_file():
        raise DataError(f"{path} must be a folder, a tar archive or a file, got nothing there; correct the path")
    if path.suffix == suffix:
        return iter([TextFile(path.name, _content(path))])
    return _from_archive(path, suffix, progress=progress)


def _is_stay(name: str, suffix: str) -> bool:
    own = name.rpartition("/")[2]
    return own.endswith(suffix) and not own.startswith(".") and not own.lower().startswith("outcomes")


def _from_folder(folder: Path, suffix: str, *, progress: bool) -> Iterator[TextFile]:
    paths = sorted(p for p in folder.rglob(f"*{suffix}") if p.is_file() and _is_stay(p.name, suffix))
    with Progress(folder.name, total=len(paths), unit="file", show=progress) as bar:
        for path in paths:
            yield TextFile(path.relative_to(folder).as_posix(), _content(path))
            bar.to(bar.done + 1)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} must be a file that can be read, got {error.strerror}; check its permissions"
        ) from error


class _Stream:
    """A decompressed stream that remembers its last read, for tarfile hides how an archive ended."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _from_archive(path: Path, suffix: str, *, progress: bool) -> Iterator[TextFile]:
    with path.open("rb") as raw, Progress(path.name, total=path.stat().st_size, unit="B", show=progress) as bar:
        try:
            stream = _Stream(_decompressed(raw))
            with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
                for member in archive:
                    if member.isreg() and _is_stay(member.name, suffix):
                        # The stream stands at the member's data: tarfile's own reader would cost as much as parsing.
                        stream.seek(member.offset_data)
                        yield TextFile(f"{path.name}:{member.name}", _exactly(stream, member.size))
                    bar.to(raw.tell())
            if stream.last != bytes(_BLOCK):
                raise EOFError
            while stream.read(_BLOCK * _BLOCK):
                pass  # the compressed stream's own end and checksum come behind the archive's
        except _DAMAGED as error:
            raise DataError(
                f"{path} must be a whole tar archive (xz, gz, bz2 or plain), got a damaged one; fetch it again"
            ) from error


def _exactly(stream: _Stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(6)
    raw.seek(0)
    for prefix, opener in _OPENERS:
        if magic.startswith(prefix):
            return opener(raw)  # type: ignore[return-value]
    return raw
