"""How a model is named (`models:/name@alias`, `models:/name/version` or a folder), and where its copy lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.errors import ArtifactError, ConfigError

SCHEME = "models:"
PATTERN = re.compile(r"models:/(?P<name>[^/:@]+)(@(?P<alias>[^/:@]+)|/(?P<version>[1-9]\d*))")


class VersionRefusedError(ArtifactError):
    """Raised where a name points to a version that does not hold.

    Args:
        reason: why.
        version: the version; empty where nobody could say which it is.
    """

    def __init__(self, reason: str, version: str) -> None:
        super().__init__(reason)
        self.version = version


@dataclass(frozen=True)
class RegistryUri:
    """A version in the registry, by alias or by number; exactly one of the two is set."""

    name: str
    alias: str
    version: str


def names_registry(model: str) -> bool:
    """Whether the model is one of the registry, and not a folder."""
    return model.startswith(SCHEME)


def parse_registry_uri(model: str) -> RegistryUri:
    """The parts of a registry address.

    Raises:
        ConfigError: if it is neither an alias nor a version of a name.

    Example:
        >>> parse_registry_uri("models:/mortality@champion")
        RegistryUri(name='mortality', alias='champion', version='')
    """
    match = PATTERN.fullmatch(model)
    if match is None:
        raise ConfigError(
            f"model must be models:/name@alias, models:/name/version or a folder, got {model!r}; correct SEQUELA_MODEL"
        )
    return RegistryUri(match["name"], match["alias"] or "", match["version"] or "")


def artifact_folder(cache: Path, digest: str) -> Path:
    """Where the cache holds the artifact with this digest."""
    return cache / "artifacts" / digest.removeprefix("sha256:")
