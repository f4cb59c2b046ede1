"""A model's files in, a folder sealed by their digests out; and the folder verified again wherever it arrives."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.bundle import SCHEMA_VERSION, check_schema
from models.errors import ArtifactError

MANIFEST = "manifest.json"


@contextmanager
def sealed_folder(folder: Path) -> Iterator[Path]:
    """A folder to write files into, which then appears under its name with their digests: whole, or not at all.

    Raises:
        ArtifactError: if the folder exists.
    """
    if folder.exists():
        raise ArtifactError(f"folder must not exist yet, got {folder.name!r} which does; choose another name")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    files = {p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in sorted(partial.iterdir())}
    write_json(partial / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": files})
    partial.rename(folder)


def new_place(folder: Path, created: str) -> Path:
    """Where a run puts the artifact that it made at this time: beside those before it, even of the same second.

    The folder's own name is the same each time, as MLflow keeps it and a model's bundle is found there.

    Args:
        folder: the run's.
        created: RFC 3339 time, UTC.

    Example:
        >>> new_place(Path("work"), "2026-03-01T12:30:00+00:00").as_posix()
        'work/artifacts/2026-03-01T123000Z/bundle'
    """
    stamp = created.replace(":", "").replace("+0000", "Z")
    numbered = (stamp if number == 1 else f"{stamp}-{number}" for number in itertools.count(1))
    return next(p for name in numbered if not (p := folder / "artifacts" / name / "bundle").exists())


def artifact_digest(folder: Path) -> str:
    """Digest of an artifact: that of its manifest, which holds those of its files."""
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"artifact must hold {MANIFEST}, got a folder without it; fetch the artifact again")
    return "sha256:" + _sha256(folder / MANIFEST)


def verify_digests(folder: Path, *, expected_digest: str | None = None) -> None:
    """Refuses a folder whose files are not the ones that the manifest, and the registry, name.

    Raises:
        ArtifactError: with the name of the first file that does not hold.
    """
    digest = artifact_digest(folder)
    if expected_digest is not None and digest != expected_digest:
        raise ArtifactError(f"digest must be {expected_digest}, got {digest}; fetch the artifact again")
    manifest = read_json(folder / MANIFEST)
    check_schema(manifest.get("schema_version"))
    files = manifest.get("files", {})
    present = {p.name for p in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        odd = ", ".join(sorted(present ^ set(files)))
        raise ArtifactError(
            f"artifact must hold exactly the manifest's files, got a difference in {odd}; fetch it again"
        )
    for name, facts in files.items():
        if _sha256(folder / name) != facts["sha256"]:
            raise ArtifactError(f"{name} must have the manifest's sha256, got another; fetch the artifact again")


def artifact_kind(folder: Path) -> str:
    """What a folder's model reads and answers, as its bundle says; empty for a model of stays.

    Raises:
        ArtifactError: if it has no readable bundle.
    """
    plain = read_json(folder / "bundle.json")
    return str(plain.get("kind", "")) if isinstance(plain, dict) else ""


def write_json(path: Path, value: Any) -> None:
    """Writes plain values, keys in order, so that equal values are equal bytes."""
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The values of a JSON file of an artifact.

    Raises:
        ArtifactError: if there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name} must be a readable JSON file, got none; fetch the artifact again") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
