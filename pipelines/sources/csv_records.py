"""A CSV file's bytes in, records with their lines out: what Arrow's quick reader cannot say about a file.

Python's slower reader knows lines; it reads the header, and the whole file only to say where a fault is.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from tqdm import tqdm

from models.errors import DataError
from pipelines.sources.csv_mapping import HospitalMapping

READ_FAULTS = (pa.ArrowInvalid, UnicodeError, OSError, EOFError, lzma.LZMAError, zlib.error)
_OPENERS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


_NATIVE = {".gz": "gzip", ".bz2": "bz2"}
_CHUNK_BYTES = 1 << 20


def _is_utf8(mapping: HospitalMapping) -> bool:
    return mapping.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


@contextmanager
def text_stream(path: Path, mapping: HospitalMapping, *, progress: bool) -> Iterator[tuple[Any, Callable[[], object]]]:
    """The file as a stream of UTF-8 for Arrow, and what tells a progress bar how far the stream was read.

    The stream is Arrow's own throughout: its threads read ahead, and one that holds a Python object while the
    interpreter ends takes the process down with it, whatever its exit status was to be.
    """
    native = _is_utf8(mapping) and path.suffix != ".xz"
    raw = pa.OSFile(str(path)) if native else pa.BufferReader(_decoded(path, mapping, progress=progress))
    show = progress and native
    bar = tqdm(total=raw.size(), desc=path.name, unit="B", unit_scale=True, leave=False, disable=not show)
    method = _NATIVE.get(path.suffix) if native else None
    with bar, raw:
        yield pa.CompressedInputStream(raw, method) if method else raw, lambda: bar.update(raw.tell() - bar.n)


def _decoded(path: Path, mapping: HospitalMapping, *, progress: bool) -> pa.Buffer:
    """The whole file in UTF-8, in memory of Arrow's own."""
    sink = pa.BufferOutputStream()
    decoder = codecs.getincrementaldecoder(mapping.encoding)()
    with binary(path, progress=progress) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sink.write(decoder.decode(chunk).encode())
        sink.write(decoder.decode(b"", final=True).encode())
    return sink.getvalue()


@contextmanager
def binary(path: Path, *, progress: bool) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed; the bar counts the bytes on disk."""
    bar = tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=not progress)
    with bar, path.open("rb") as raw:
        counted: Any = _Counted(raw, bar) if progress else raw
        opener = _OPENERS.get(path.suffix)
        if opener is None:
            yield counted
        else:
            with opener(counted) as plain:
                yield plain


class _Counted:
    """A file that tells a progress bar how much of it was read."""

    def __init__(self, raw: IO[bytes], bar: Any) -> None:
        self._raw, self._bar = raw, bar

    def read(self, size: int = -1) -> bytes:
        """Reads and counts."""
        data = self._raw.read(size)
        self._bar.update(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


@contextmanager
def _records(path: Path, mapping: HospitalMapping) -> Iterator[Any]:
    """Python's slower reader, which knows lines; for the header and for faults alone."""
    csv.field_size_limit(2**31 - 1)  # a note may be longer than the default allows
    opener = _OPENERS.get(path.suffix, open)
    encoding = "utf-8-sig" if _is_utf8(mapping) else mapping.encoding
    with opener(path, "rt", encoding=encoding, newline="") as text:
        yield csv.reader(text, delimiter=mapping.delimiter)


def lines_of_records(path: Path, mapping: HospitalMapping, records: set[int]) -> dict[int, int]:
    """Lines at which records begin; record 0 is the header. Blank lines are no records."""
    lines: dict[int, int] = {}
    record = before = 0
    with _records(path, mapping) as reader:
        for row in reader:
            if row and record in records:
                lines[record] = before + 1
                if len(lines) == len(records):
                    break
            record += bool(row)
            before = reader.line_num
    return lines


def has_rows(path: Path, mapping: HospitalMapping) -> bool:
    """Whether a record follows the header, or might where the file cannot be read."""
    try:
        with _records(path, mapping) as reader:
            records = (row for row in reader if row)
            next(records, None)
            return next(records, None) is not None
    except (*READ_FAULTS, csv.Error):
        return True


def diagnosis(path: Path, columns: int, mapping: HospitalMapping) -> DataError:
    """Reads the file again, slowly, and says where it is malformed."""
    line = 0
    try:
        with _records(path, mapping) as reader:
            for row in reader:
                if row and columns and len(row) != columns:
                    return DataError(
                        f"{path.name} must have {columns} columns in every line, got {len(row)} in line {line + 1}; "
                        "quote cells that hold the delimiter or a line break"
                    )
                line = reader.line_num
    except UnicodeError:
        return DataError(
            f"{path.name} must be text in {mapping.encoding}, got other bytes in line {_undecodable(path, mapping)}; "
            'name its encoding in the mapping: encoding = "cp932"'
        )
    except (OSError, EOFError, lzma.LZMAError, zlib.error):
        return DataError(f"{path.name} must be a whole compressed file, got damaged content; copy it again")
    except csv.Error:
        return DataError(f"{path.name} must be a CSV file, got a malformed line after line {line}; write it again")
    return DataError(f"{path.name} must be a CSV file that Arrow reads, got a malformed one; write it again")


def _undecodable(path: Path, mapping: HospitalMapping) -> int:
    """First line whose bytes are not text in the encoding; 0 where every line alone is."""
    with binary(path, progress=False) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                raw.decode(mapping.encoding)
            except UnicodeError:
                return number
    return 0


def csv_header(path: Path, mapping: HospitalMapping, *, expected: str) -> list[str]:
    """The first record.

    Raises:
        DataError: if there is none, or the file cannot be read.
    """
    try:
        with _records(path, mapping) as reader:
            header: list[str] | None = next((row for row in reader if row), None)
    except (*READ_FAULTS, csv.Error):
        raise diagnosis(path, 0, mapping) from None
    if header is None:
        raise DataError(
            f"{path.name} must begin with a header line such as {expected}, got an empty file; write the file"
        )
    return header
