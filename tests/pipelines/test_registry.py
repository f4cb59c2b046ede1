"""A model is found by alias, version or folder, fetched once, verified always; aliases move and come back."""

from pathlib import Path

import pytest

from models.errors import ArtifactError, DataError, RefusedError
from pipelines.registry import (
    fetch,
    find_version,
    move_alias,
    resolve_model,
    restore_previous,
    version_at,
)
from pipelines.tracking import connect


@pytest.fixture(scope="module")
def two_versions(line):
    """A model with two versions of different content."""
    from dataclasses import replace

    from pipelines.publish import Publication

    for trained in (line.good, line.weak):
        with Publication(replace(line.config, name="found"), line.settings) as publication:
            publication.register(trained)
    return "found"


def test_an_alias_and_a_number_find_the_same_version(line, two_versions):
    by_alias = resolve_model(f"models:/{two_versions}@challenger", line.settings)
    by_number = resolve_model(f"models:/{two_versions}/2", line.settings)
    assert by_alias == by_number
    assert by_alias.digest == line.weak.digest
    assert by_alias.version.version == 2


def test_an_artifact_folder_needs_no_registry(line):
    resolved = resolve_model(str(line.good.artifact), line.settings)
    assert resolved.folder == line.good.artifact
    assert resolved.digest == line.good.digest
    assert resolved.version is None


@pytest.mark.parametrize(
    "address", ["models:/found", "models:/found/one", "models:/", "models:/found@a@b", "no/such/folder"]
)
def test_an_address_of_another_form_is_refused(line, two_versions, address):
    with pytest.raises(DataError, match="model must be"):
        resolve_model(address, line.settings)


@pytest.mark.parametrize(
    "address", ["models:/found/99", "models:/found@absent", "models:/absent/1", "models:/absent@champion"]
)
def test_a_version_that_is_not_there_is_refused(line, two_versions, address):
    with pytest.raises(RefusedError, match="got none"):
        resolve_model(address, line.settings)


def test_a_version_that_something_else_registered_is_refused(line):
    client = connect(line.settings)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", str(line.good.artifact), run_id=None)
    with pytest.raises(ArtifactError, match=r"sequela\.digest"):
        resolve_model("models:/foreign/1", line.settings)


def test_a_damaged_copy_in_the_cache_is_fetched_again(line, two_versions):
    version = find_version(f"models:/{two_versions}/1", connect(line.settings))
    folder = fetch(version, line.settings)
    (folder / "bundle.json").write_text("{}", encoding="utf-8")
    again = resolve_model(f"models:/{two_versions}/1", line.settings)
    assert again.folder == folder
    assert (folder / "bundle.json").read_bytes() == (line.good.artifact / "bundle.json").read_bytes()


def test_a_carried_artifact_that_was_altered_is_refused(line, register):
    number = register("altered", line.good)
    client = connect(line.settings)
    stored = Path(client.get_model_version_download_uri("altered", str(number)).removeprefix("file://"))
    assert stored.is_dir()
    weights = next(stored.rglob("weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    version = find_version(f"models:/altered/{number}", client)
    cached = line.settings.cache / "models" / version.digest.removeprefix("sha256:")
    moved = cached.with_name("aside")
    if cached.exists():
        cached.rename(moved)
    try:
        with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
            fetch(version, line.settings)
        assert not cached.exists()
    finally:
        if moved.exists():
            moved.rename(cached)


def test_a_promotion_keeps_the_last_champion_as_previous_and_rollbacks_walk_back(line, register):
    for _ in range(3):
        register("walk", line.good)
    client = connect(line.settings)
    for number in (1, 2, 3):
        move_alias(client, "walk", "champion", number)

    def holders():
        found = {a: version_at(client, "walk", alias=a) for a in ("champion", "previous")}
        return {a: v.version if v else None for a, v in found.items()}

    assert holders() == {"champion": 3, "previous": 2}
    assert restore_previous(client, "walk").version == 2
    assert holders() == {"champion": 2, "previous": 1}
    restore_previous(client, "walk")
    assert holders() == {"champion": 1, "previous": None}
    with pytest.raises(RefusedError, match="previous version"):
        restore_previous(client, "walk")


def test_an_alias_other_than_champion_leaves_previous_alone(line, register):
    for _ in range(2):
        register("staged", line.good)
    client = connect(line.settings)
    move_alias(client, "staged", "staging", 1)
    move_alias(client, "staged", "staging", 2)
    assert version_at(client, "staged", alias="previous") is None
    assert version_at(client, "staged", alias="staging").version == 2
