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
from service.model_uri import VersionRefusedError, artifact_folder, names_registry, parse_registry_uri
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
class Located:
    """Where an artifact lies.

    Args:
        model: its name, as the settings give it.
        folder: of the artifact.
        digest: that the registry states; None for a folder's own.
        origin: how it was found.
        device: where it shall run.
    """

    model: str
    folder: Path
    digest: str | None
    origin: Origin
    device: str


@dataclass(frozen=True)
class Found:
    """A version of the registry and the digest of its artifact."""

    version: str
    digest: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Found:
        """From an answer of `service.fetch`, or a record of one."""
        return cls(version=str(answer["version"]), digest=str(answer["digest"]))


class UnreachableError(Exception):
    """Raised when MLflow did not answer; holds a reason without addresses."""


def select_model(settings: Settings) -> Selected:
    """Finds, verifies and loads the model.

    Raises:
        ArtifactError: if there is none, or its digests, schema or golden scores do not hold.
        ConfigError: if the model's name has no meaning.
    """
    place = located(settings, settings.model)
    scorer = load_artifact(place.folder, device=place.device, expected_digest=place.digest)
    keep_verified(settings, place)
    return _selected(scorer, place.origin)


def located(settings: Settings, model: str) -> Located:
    """Where a model's artifact lies, fetched if need be; it is yet to be verified and loaded.

    Raises:
        ArtifactError: if there is none.
        ConfigError: if the model's name has no meaning.
    """
    device = usable_device(settings.device)
    if not names_registry(model):
        return Located(model, Path(model), None, Origin(), device)
    parse_registry_uri(model)
    try:
        found, source = _fetch(settings, model), Source.REGISTRY
    except UnreachableError as error:
        log_event(Event.REGISTRY_UNREACHABLE, level=logging.WARNING, model=model, reason=str(error))
        found, source = _last_verified(_record_of(settings, model), model), Source.CACHE
    folder = artifact_folder(settings.cache, found.digest)
    return Located(model, folder, found.digest, Origin(source, found.version), device)


def keep_verified(settings: Settings, place: Located) -> None:
    """Notes that what the registry named was verified."""
    if place.origin.source is Source.REGISTRY and place.digest and place.origin.version is not None:
        record_verified(settings, place.model, Found(place.origin.version, place.digest))


def select_challenger(settings: Settings) -> Selected | None:
    """The model that answers a share of the patients; None without one, and where it does not hold.

    Raises:
        ConfigError: if its name has no meaning.
    """
    if not settings.challenger:
        return None
    try:
        return select_model(settings.model_copy(update={"model": settings.challenger}))
    except ArtifactError as error:
        log_event(Event.MODEL_REFUSED, level=logging.ERROR, model=settings.challenger, reason=str(error))
        return None


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


def usable_device(name: str) -> str:
    """The device that a setting names, prepared.

    Raises:
        ArtifactError: if it is not there.
    """
    device = resolve_device(name)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ArtifactError(f"device must be present, got {device} without a GPU; set SEQUELA_DEVICE=auto")
    # Risks on the GPU shall be those on the CPU to 1e-5; the short mantissa of TF32 does not give that.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def _fetch(settings: Settings, model: str) -> Found:
    """What `service.fetch` found.

    Raises:
        ArtifactError: if MLflow answered and has no such artifact.
        UnreachableError: if it did not answer in time.
    """
    try:
        done = subprocess.run(
            fetch_command(settings, model),
            env=fetch_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=settings.fetch_timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no answer within {settings.fetch_timeout_s:g} s") from None
    return found_in(done.stdout, done.returncode)


def fetch_command(settings: Settings, *models: str) -> list[str]:
    """The command of the short process that asks MLflow."""
    return [sys.executable, "-m", "service.fetch", *models, str(settings.cache)]


def found_in(output: bytes, status: int) -> Found:
    """What that process found.

    Raises:
        ArtifactError: if MLflow answered and has no such artifact.
        UnreachableError: if it did not answer.
    """
    (found,) = found_each(output, status, 1)
    if isinstance(found, Exception):
        raise found
    return found


def found_each(output: bytes, status: int, number: int) -> list[Found | ArtifactError | UnreachableError]:
    """What that process found of so many models, in their order; the error of each that it did not find."""
    answers = [answer for answer in map(_json_line, output.splitlines()) if answer]
    unreached = next((answer for answer in answers if "unreachable" in answer), {})
    lacking = UnreachableError(str(unreached.get("unreachable", f"fetch ended with status {status}")))
    found: list[Found | ArtifactError | UnreachableError] = []
    for answer in answers:
        if {"version", "digest"} <= set(answer):
            found.append(Found.of(answer))
        elif "refused" in answer:
            found.append(VersionRefusedError(str(answer["refused"]), str(answer.get("version", ""))))
    return [*found, *(lacking,) * number][:number]


def _json_line(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _last_verified(record: Path, model: str) -> Found:
    try:
        return Found.of(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            f"MLflow must answer for {model}, or a verified copy be in the cache, got neither; "
            "start MLflow, check MLFLOW_TRACKING_URI, or name an artifact folder"
        ) from None


def record_verified(settings: Settings, model: str, found: Found) -> None:
    """Notes that the copy of a version was verified, and may be served while MLflow is down."""
    record = _record_of(settings, model)
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
    partial.replace(record)


def _record_of(settings: Settings, model: str) -> Path:
    return settings.cache / "verified" / f"{hashlib.sha256(model.encode()).hexdigest()[:32]}.json"
