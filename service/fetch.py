"""`python -m service.fetch MODEL... CACHE`: registered models in, their artifact folders under their digests out.

A process of its own, gone before the first request, because it is the only one that needs MLflow. Standard output ends
with one JSON object a model, in their order; the exit status says which the last one is. After one that MLflow did not
answer for no other is asked for:

| status | object |
|---|---|
| 0 | `{"version", "digest"}`: `CACHE/artifacts/<digest>` holds the version's artifact, digests verified |
| 1 | `{"refused"}`: MLflow answered, and there is no such version, or its files are not what its tag says |
| 75 | `{"unreachable"}`: MLflow did not answer; trying again later may help |
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from models.artifact import BUNDLE
from models.artifact_folder import MANIFEST, verify_digests
from models.errors import ArtifactError
from service.model_uri import RegistryUri, VersionRefusedError, artifact_folder, parse_registry_uri

REFUSED = 1
UNREACHABLE = 75  # EX_TEMPFAIL
DIGEST_TAG = "sequela.digest"
PARTIAL = "fetch-"
ABANDONED_S = 3600.0
NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


def fetch(uri: RegistryUri, cache: Path) -> dict[str, str]:
    """Resolves the version and downloads its artifact, unless the cache holds it intact.

    Raises:
        VersionRefusedError: if the version has no digest, or its files do not have it.
        MlflowException: as MLflow raises it.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    if uri.alias:
        found = client.get_model_version_by_alias(uri.name, uri.alias)
    else:
        found = client.get_model_version(uri.name, uri.version)
    version, digest = str(found.version), str(found.tags.get(DIGEST_TAG, ""))
    try:
        _have(uri.name, version, digest, cache)
    except ArtifactError as error:
        raise VersionRefusedError(str(error), version) from error
    return {"version": version, "digest": digest}


def _have(name: str, version: str, digest: str, cache: Path) -> None:
    """Returns once the cache holds the version's files, their digests verified."""
    if not digest.startswith("sha256:"):
        raise ArtifactError(
            f"version {version} must have the tag {DIGEST_TAG}, got none; register it by `sequela train`"
        )
    folder = artifact_folder(cache, digest)
    if not _is_intact(folder, digest):
        _download(name, version, digest, folder)


def _is_intact(folder: Path, digest: str) -> bool:
    try:
        verify_digests(folder, expected_digest=digest)
    except (ArtifactError, OSError):
        return False
    return True


def _download(name: str, version: str, digest: str, folder: Path) -> None:
    """Downloads into a folder of its own and renames it, so that a kill leaves no half artifact."""
    from mlflow.artifacts import download_artifacts

    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as partial:
        root = Path(download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=partial))
        found = [p.parent for p in root.rglob(MANIFEST) if (p.parent / BUNDLE).is_file()]
        if len(found) != 1:
            raise ArtifactError(
                f"version {version} must hold exactly one artifact folder, got {len(found)}; "
                "register it by `sequela train`"
            )
        verify_digests(found[0], expected_digest=digest)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            found[0].rename(folder)
        except OSError:
            # Another process that shares the cache may have put the same folder there meanwhile.
            if not _is_intact(folder, digest):
                raise


def _remove_abandoned(parent: Path) -> None:
    """Removes what killed downloads left behind; a download that goes on is younger than an hour."""
    for partial in parent.glob(f"{PARTIAL}*"):
        if time.time() - partial.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(partial, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Fetches models and says what came of each; returns the last one's status."""
    *models, cache = arguments
    status = UNREACHABLE
    for model in models:
        status = _fetched(model, Path(cache))
        if status == UNREACHABLE:
            break
    return status


def _fetched(model: str, cache: Path) -> int:
    try:
        uri = parse_registry_uri(model)
        return _say(0, **fetch(uri, cache))
    except VersionRefusedError as error:
        return _say(REFUSED, refused=str(error), version=error.version)
    except ArtifactError as error:
        return _say(REFUSED, refused=str(error))
    except Exception as error:  # noqa: BLE001 - every failure of the client or the network is one of two answers
        # An error's text may hold an address with a password: its class and code are enough.
        code = str(getattr(error, "error_code", ""))
        reason = f"{type(error).__name__} {code}".strip()
        if code in NOT_THERE:
            expected = f"{model} must be a registered version, got {code}; register or promote one"
            return _say(REFUSED, refused=expected)
        return _say(UNREACHABLE, unreachable=reason)


def _say(status: int, **answer: Any) -> int:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    STATUS = main(sys.argv[1:])
    # MLflow may leave threads that wait for a dead server; nothing here needs their end.
    os._exit(STATUS)
