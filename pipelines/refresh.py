"""A job's source files in, its cohort out: read again only when the files, or what reads them, changed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import DataError, SequelaError
from pipelines.cohort import Cohort, read_cohort
from pipelines.prepare import Source, prepare
from pipelines.retrain_config import RetrainConfig


@dataclass(frozen=True)
class Refreshed:
    """A cohort that is up to date.

    Args:
        cohort: the cohort.
        reused: whether the prepared one was still valid.
    """

    cohort: Cohort
    reused: bool


def source_fingerprint(retrain: RetrainConfig) -> str:
    """Digest of every source file's name and content, the source's options and this release.

    Raises:
        DataError: if a file or folder does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    facts = {"release": importlib.metadata.version("sequela"), "source": retrain.source, "options": retrain.options}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    # The source csv takes further files as options; the synthetic one's are numbers, which the facts hold.
    further = retrain.options.values() if retrain.source == Source.CSV else ()
    for given in (*retrain.paths, retrain.outcomes, retrain.mapping, *further):
        digest.update(b"\0input\0")
        if given:
            for name, file in _files(Path(given)):
                digest.update(name.encode() + b"\0" + _content_digest(file))
    return f"sha256:{digest.hexdigest()}"


def refresh_cohort(retrain: RetrainConfig, fingerprint: str, *, progress: bool) -> Refreshed:
    """The prepared cohort if it was made from these very files, else a newly prepared one.

    Args:
        retrain: where the source and the cohort are.
        fingerprint: of the source, as it is now.
        progress: show progress bars on standard error.

    Raises:
        DataError: if the source cannot be read.
    """
    folder = Path(retrain.cohort)
    stamp = folder.with_name(folder.name + ".source.json")
    reused = _reusable(folder, stamp, fingerprint)
    if reused is not None:
        return Refreshed(reused, reused=True)
    stamp.unlink(missing_ok=True)
    cohort = prepare(
        retrain.source,
        [Path(p) for p in retrain.paths],
        out=folder,
        outcomes=Path(retrain.outcomes) if retrain.outcomes else None,
        mapping=Path(retrain.mapping) if retrain.mapping else None,
        options=dict(retrain.options),
        progress=progress,
    )
    stamp.write_text(json.dumps({"source": fingerprint, "cohort": cohort.fingerprint}) + "\n", encoding="utf-8")
    return Refreshed(cohort, reused=False)


def _reusable(folder: Path, stamp: Path, fingerprint: str) -> Cohort | None:
    """The cohort if its stamp and its own fingerprint hold; a damaged one is prepared again."""
    try:
        made_from = json.loads(stamp.read_text(encoding="utf-8"))
        if made_from["source"] != fingerprint:
            return None
        cohort = read_cohort(folder)
    except (OSError, ValueError, KeyError, TypeError, SequelaError):
        return None
    return cohort if cohort.fingerprint == made_from["cohort"] else None


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Names below a path, and the files, in the order of the names."""
    if path.is_file():
        yield path.name, path
    elif path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            yield str(file.relative_to(path)), file
    else:
        raise DataError(f"source must be an existing file or folder, got {path}; check retrain.paths and the mount")


def _content_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"source must be readable, got an error at {path.name}; check its permissions") from error
