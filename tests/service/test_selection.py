"""A registry of its own, the process that asks it, and the start of the service with it and without it."""

import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from models.artifact_folder import artifact_digest
from models.errors import ArtifactError, ConfigError
from service.selection import Source, found_each, select_model
from service.settings import Settings
from service.watcher import Followed, Watcher

REGISTER = """
import json, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
versions = json.loads(sys.argv[1])
client = MlflowClient()
client.create_registered_model("mortality")
experiment = client.create_experiment("sequela", artifact_location=Path(sys.argv[2]).as_uri())
for folder, tag, alias in versions:
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, folder, "model/artifacts/bundle")
    source = client.get_run(run).info.artifact_uri + "/model"
    version = client.create_model_version("mortality", source, run, tags={"sequela.digest": tag} if tag else None)
    if alias:
        client.set_registered_model_alias("mortality", alias, version.version)
"""


@pytest.fixture(scope="module")
def registry(make_artifact, tmp_path_factory):
    """Address of an SQLite registry: a champion, a version without a digest, and one whose files were changed."""
    folder = tmp_path_factory.mktemp("registry")
    good = make_artifact(folder / "good")
    changed = folder / "changed"
    shutil.copytree(good, changed)
    (changed / "bundle.json").write_bytes(b"{}" + (changed / "bundle.json").read_bytes())
    digest = artifact_digest(good)
    versions = [[str(good), digest, "champion"], [str(good), "", "untagged"], [str(changed), digest, "changed"]]
    address = f"sqlite:///{folder / 'mlflow.db'}"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REGISTER, json.dumps(versions), str(folder / "artifacts")],
        env={
            # Other tests of this process may have left addresses of theirs.
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        check=True,
        capture_output=True,
    )
    return address


@pytest.fixture
def dead_address():
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def settings(cache, alias="champion", **more):
    return Settings(model=f"models:/mortality@{alias}", device="cpu", cache=cache, **more)


def test_the_champion_comes_from_the_registry_and_from_its_copy_while_mlflow_is_down(
    registry, dead_address, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    abandoned, ongoing = tmp_path / "artifacts" / "fetch-old", tmp_path / "artifacts" / "fetch-new"
    for partial in (abandoned, ongoing):
        partial.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    first = select_model(settings(tmp_path))
    assert (abandoned.exists(), ongoing.exists()) == (False, True)
    assert (first.origin.source, first.origin.version) == (Source.REGISTRY, "1")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    second = select_model(settings(tmp_path))
    assert (second.origin.source, second.origin.version) == (Source.CACHE, "1")
    assert second.scorer.digest == first.scorer.digest
    assert [r.event for r in caplog.records if r.levelname == "WARNING"] == ["registry_unreachable"]


def test_a_registry_that_is_too_slow_counts_as_down(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with pytest.raises(ArtifactError, match="or a verified copy be in the cache, got neither"):
        select_model(settings(tmp_path, fetch_timeout_s=0.05))


@pytest.mark.slow
def test_a_damaged_copy_is_fetched_again_and_refused_while_mlflow_is_down(
    registry, dead_address, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    digest = select_model(settings(tmp_path)).scorer.digest
    weights = tmp_path / "artifacts" / digest.removeprefix("sha256:") / "weights.safetensors"
    intact = weights.read_bytes()
    flipped = bytearray(intact)
    flipped[-1] ^= 1

    weights.write_bytes(flipped)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ArtifactError, match=r"weights\.safetensors must have"):
        select_model(settings(tmp_path))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    assert select_model(settings(tmp_path)).origin.source is Source.REGISTRY
    assert weights.read_bytes() == intact


@pytest.mark.parametrize(
    ("alias", "reason"),
    [
        ("nobody", "must be a registered version"),
        ("untagged", r"must have the tag sequela\.digest"),
        ("changed", r"bundle\.json must have the manifest's sha256"),
    ],
)
def test_what_the_registry_answers_is_not_papered_over_by_the_copy(registry, monkeypatch, tmp_path, alias, reason):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with pytest.raises(ArtifactError, match=reason) as refused:
        select_model(settings(tmp_path, alias))
    assert refused.value.version.isdecimal() == (alias != "nobody")


def test_a_version_that_cannot_be_had_is_refused_by_its_number():
    told = []

    async def point(found):
        raise AssertionError(found)

    answer = b'{"refused": "weights must hold, got others", "version": "7"}\n'
    (found,) = found_each(answer, 1, 1)
    name = Followed("models:/mortality@champion", point, lambda version, reason: told.append((version, reason)))
    assert asyncio.run(Watcher(Settings(), [name])._take(name, found)) is False
    assert told == [("7", "weights must hold, got others")]


def test_a_folder_needs_no_registry(artifact, tmp_path):
    selected = select_model(Settings(model=str(artifact), device="cpu", cache=tmp_path))
    assert (selected.origin.source, selected.origin.version) == (Source.DIRECTORY, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["models:/mortality", "models:/mortality/latest"])
def test_a_name_without_a_meaning_is_refused_before_anything_starts(model, tmp_path):
    with pytest.raises(ConfigError, match="model must be"):
        select_model(Settings(model=model, cache=tmp_path))


def test_a_folder_that_is_no_artifact_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        select_model(Settings(model=str(tmp_path), device="cpu"))


def test_a_gpu_that_is_not_there_is_refused(artifact, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ArtifactError, match="without a GPU"):
        select_model(Settings(model=str(artifact), device="cuda"))


def test_the_fetching_process_says_nothing_of_the_address(dead_address, tmp_path):
    secret = dead_address.replace("http://", "http://user:hunter2@")
    done = subprocess.run(
        [sys.executable, "-m", "service.fetch", "models:/mortality@champion", str(tmp_path)],
        env={**os.environ, "MLFLOW_TRACKING_URI": secret, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"unreachable"}
    assert "hunter2" not in done.stdout


def test_a_record_that_cannot_be_read_is_no_copy(dead_address, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name = hashlib.sha256(b"models:/mortality@champion").hexdigest()[:32]
    (tmp_path / "verified").mkdir()
    (tmp_path / "verified" / f"{name}.json").write_text("[]")
    with pytest.raises(ArtifactError, match="got neither"):
        select_model(settings(tmp_path))
