"""From a model's address to a verified folder, and from a version to the aliases that name it.

An address is `models:/name@alias`, `models:/name/version` or an artifact folder. What MLflow carries is
taken only if its digest is the one that the version's tag states.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.artifact_folder import artifact_digest, verify_digests
from models.errors import ArtifactError, DataError, RefusedError
from pipelines.settings import Settings
from pipelines.tracking import MlflowClient, MlflowException, TrackingError, connect, mlflow, quiet

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_TAG = "sequela.digest"
REPLACED_TAG = "sequela.replaced"
# What a version's run recorded about its hold-out.
HOLDOUT_FILE = "holdout.json"
BUNDLE_PATH = "artifacts/bundle"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class ModelVersion:
    """One registered version.

    Args:
        name: name of the registered model.
        version: its number.
        run_id: the run that made it.
        digest: digest of its artifact, `sha256:<hex>`.
        tags: what was noted about it.
    """

    name: str
    version: int
    run_id: str
    digest: str
    tags: dict[str, str]

    @property
    def address(self) -> str:
        """`models:/name/version`."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this machine.

    Args:
        folder: its artifact; every digest holds.
        digest: digest of the artifact.
        version: its registered version; None for a plain folder.
    """

    folder: Path
    digest: str
    version: ModelVersion | None = None


def resolve_model(model: str, settings: Settings) -> ResolvedModel:
    """The model at an address, verified.

    Raises:
        DataError: if the address has another form or names a folder that does not exist.
        RefusedError: if there is no such version or alias.
        ArtifactError: if a digest does not hold.
        TrackingError: if MLflow cannot be reached.
    """
    if not model.startswith("models:/"):
        folder = Path(model)
        if not folder.is_dir():
            raise DataError(
                f"model must be models:/name@alias, models:/name/version or an artifact folder, got {model!r}; "
                "check the address"
            )
        verify_digests(folder)
        return ResolvedModel(folder, artifact_digest(folder))
    version = find_version(model, connect(settings))
    return ResolvedModel(fetch(version, settings), version.digest, version)


def find_version(model: str, client: MlflowClient) -> ModelVersion:
    """The registered version at `models:/name@alias` or `models:/name/version`.

    Raises:
        DataError: if the address has another form.
        RefusedError: if there is no such version or alias.
        ArtifactError: if the version states no digest.
        TrackingError: if MLflow cannot be reached.
    """
    parts = ADDRESS.fullmatch(model)
    if parts is None:
        raise DataError(f"model must be models:/name@alias or models:/name/version, got {model!r}; check the address")
    found = version_at(client, parts["name"], alias=parts["alias"], version=parts["version"])
    if found is None:
        raise RefusedError(f"model must be a registered version, got none at {model!r}; check name, alias and version")
    return found


def version_at(
    client: MlflowClient, name: str, *, alias: str | None = None, version: str | int | None = None
) -> ModelVersion | None:
    """The version with this alias or number; None where there is none.

    Raises:
        ArtifactError: if the version states no digest: something else registered it.
        TrackingError: if MLflow cannot be reached.
    """
    try:
        with quiet():
            if alias is not None:
                found = client.get_model_version_by_alias(name, alias)
            else:
                found = client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise TrackingError(
            f"registry must answer, got error {error.error_code}; check MLFLOW_TRACKING_URI and the server"
        ) from error
    digest = found.tags.get(DIGEST_TAG)
    if digest is None:
        raise ArtifactError(
            f"version {found.version} must have the tag {DIGEST_TAG}, got none; register it with sequela train"
        )
    return ModelVersion(name, int(found.version), found.run_id or "", digest, dict(found.tags))


def fetch(version: ModelVersion, settings: Settings) -> Path:
    """The version's artifact in the cache, fetched where it is missing or damaged; its digests hold.

    Raises:
        ArtifactError: if what MLflow carries is not what the version states.
        TrackingError: if it cannot be fetched.
    """
    folder = settings.cache / "models" / version.digest.removeprefix("sha256:")
    try:
        verify_digests(folder, expected_digest=version.digest)
        return folder
    except ArtifactError:
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as partial:
        fetched = _download(version, Path(partial))
        verify_digests(fetched, expected_digest=version.digest)
        if not folder.exists():
            fetched.rename(folder)
    verify_digests(folder, expected_digest=version.digest)
    return folder


def _download(version: ModelVersion, into: Path) -> Path:
    try:
        with quiet():
            got = mlflow.artifacts.download_artifacts(f"{version.address}/{BUNDLE_PATH}", dst_path=str(into))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"artifact of {version.address} must be readable, got {type(error).__name__}; "
            "check the artifact store and its credentials"
        ) from error
    return Path(got)


def set_alias(client: MlflowClient, name: str, alias: str, version: int) -> None:
    """Moves an alias to a version."""
    with quiet():
        client.set_registered_model_alias(name, alias, str(version))


def move_alias(client: MlflowClient, name: str, alias: str, version: int) -> None:
    """Moves an alias; the champion's last holder becomes `previous`, and the version remembers whom it replaced."""
    holder = version_at(client, name, alias=alias)
    if alias == CHAMPION and holder is not None and holder.version != version:
        with quiet():
            client.set_model_version_tag(name, str(version), REPLACED_TAG, str(holder.version))
        set_alias(client, name, PREVIOUS, holder.version)
    set_alias(client, name, alias, version)


def restore_previous(client: MlflowClient, name: str) -> ModelVersion:
    """Moves the champion to `previous`, and `previous` to the version that this one had replaced, if any.

    So each rollback goes one step further back, and none returns to the version just left.

    Raises:
        RefusedError: if there is no previous version.
    """
    previous = version_at(client, name, alias=PREVIOUS)
    if previous is None:
        raise RefusedError(f"model {name!r} must have a previous version, got none; promote a version instead")
    set_alias(client, name, CHAMPION, previous.version)
    earlier = previous.tags.get(REPLACED_TAG)
    with quiet():
        if earlier is None or version_at(client, name, version=earlier) is None:
            client.delete_registered_model_alias(name, PREVIOUS)
        else:
            set_alias(client, name, PREVIOUS, int(earlier))
    return previous
