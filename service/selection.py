"""From the name of a model to a verified scorer: asks the registry, else takes the last verified copy.

The process that serves never talks to MLflow itself: a short one does (`service.fetch`). What it brings is
recorded as verified only after digests, schema and golden scores held here, so a copy that is served
while MLflow is down is one that was served, or could have been, before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from models.artifact import load_artifact
from models.errors import ArtifactError
from models.scorer import Scorer, resolve_device
from service.logs import Event, log_event
from service.model_uri import artifact_folder, names_registry, parse_registry_uri
from service.settings import Settings, fetch_environment


class Source(StrEnum):
    """Where the served artifact came from."""

    REGISTRY = "registry"
    CACHE = "cache"
    DIRECTORY = "directory"


@dataclass(frozen=True)
class Origin:
    """Which model answers, and how it was found.

    Args:
        source: registry, cache (MLflow did not answer) or directory.
        version: version in the registry; None for a directory.
    """

    source: Source = Source.DIRECTORY
    version: str | None = None


@dataclass(frozen=True)
class Selected:
    """A verified scorer and its origin."""

    scorer: Scorer
    origin: Origin


@dataclass(frozen=True)
class _Found:
    """A version of the registry and the digest of its artifact."""

    version: str
    digest: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> _Found:
        return cls(version=str(answer["version"]), digest=str(answer["digest"]))


class _UnreachableError(Exception):
    """Raised when MLflow did not answer; holds a reason without addresses."""


def select_model(settings: Settings) -> Selected:
    """Finds, verifies and loads the model.

    Raises:
        ArtifactError: if there is none, or its digests, schema or golden scores do not hold.
        ConfigError: if the model's name has no meaning.
    """
    device = _device(settings.device)
    if not names_registry(settings.model):
        scorer = load_artifact(Path(settings.model), device=device)
        return _selected(scorer, Origin())
    parse_registry_uri(settings.model)
    record = settings.cache / "verified" / f"{hashlib.sha256(settings.model.encode()).hexdigest()[:32]}.json"
    try:
        found, source = _fetch(settings), Source.REGISTRY
    except _UnreachableError as error:
        log_event(Event.REGISTRY_UNREACHABLE, level=logging.WARNING, model=settings.model, reason=str(error))
        found, source = _last_verified(record, settings.model), Source.CACHE
    scorer = load_artifact(artifact_folder(settings.cache, found.digest), device=device, expected_digest=found.digest)
    if source is Source.REGISTRY:
        _write_record(record, found)
    return _selected(scorer, Origin(source, found.version))


def _selected(scorer: Scorer, origin: Origin) -> Selected:
    log_event(
        Event.MODEL_LOADED,
        model=scorer.bundle.name,
        version=origin.version,
        digest=scorer.digest,
        source=str(origin.source),
        device=str(scorer.device),
    )
    return Selected(scorer, origin)


def _device(name: str) -> str:
    device = resolve_device(name)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ArtifactError(f"device must be present, got {device} without a GPU; set SEQUELA_DEVICE=auto")
    # Risks on the GPU shall be those on the CPU to 1e-5; the short mantissa of TF32 does not give that.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def _fetch(settings: Settings) -> _Found:
    """What `service.fetch` found.

    Raises:
        ArtifactError: if MLflow answered and has no such artifact.
        _UnreachableError: if it did not answer in time.
    """
    command = [sys.executable, "-m", "service.fetch", settings.model, str(settings.cache)]
    try:
        done = subprocess.run(
            command,
            env=fetch_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=settings.fetch_timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _UnreachableError(f"no answer within {settings.fetch_timeout_s:g} s") from None
    answer = _last_json_line(done.stdout)
    if done.returncode == 0 and {"version", "digest"} <= set(answer):
        return _Found.of(answer)
    if "refused" in answer:
        raise ArtifactError(str(answer["refused"]))
    raise _UnreachableError(str(answer.get("unreachable", f"fetch ended with status {done.returncode}")))


def _last_json_line(output: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _last_verified(record: Path, model: str) -> _Found:
    try:
        return _Found.of(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"MLflow must answer for {model}, or a verified copy be in the cache, got neither; "
            "start MLflow, check MLFLOW_TRACKING_URI, or name an artifact folder"
        ) from None


def _write_record(record: Path, found: _Found) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
    partial.replace(record)
