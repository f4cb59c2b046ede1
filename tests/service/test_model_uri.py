from pathlib import Path

import pytest

from models.errors import ConfigError
from service.model_uri import RegistryUri, artifact_folder, names_registry, parse_registry_uri


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("models:/mortality@champion", RegistryUri("mortality", "champion", "")),
        ("models:/mortality-2012/17", RegistryUri("mortality-2012", "", "17")),
    ],
)
def test_an_alias_or_a_version_is_read(model, expected):
    assert parse_registry_uri(model) == expected


@pytest.mark.parametrize(
    "model",
    ["models:/", "models:/a", "models:/a/0", "models:/a/latest", "models:/a@b/3", "models:/a/b@c", "models:a/1"],
)
def test_any_other_registry_address_is_refused(model):
    assert names_registry(model)
    with pytest.raises(ConfigError, match="model must be"):
        parse_registry_uri(model)


def test_a_path_names_no_registry():
    assert not names_registry("artifacts/mortality")


def test_a_copy_lies_under_its_digest():
    assert artifact_folder(Path("cache"), "sha256:ab12") == Path("cache/artifacts/ab12")
