"""Fixtures of every test: the open data's folder and the test database, each skipping where it is not given."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine must not fail a property for being slow; pytest's own time limit still holds.
settings.register_profile("sequela", deadline=None)
settings.load_profile("sequela")


@pytest.fixture(autouse=True, scope="module")
def no_mlflow_addresses_of_other_modules() -> Iterator[None]:
    """Takes away what a connection to MLflow leaves in the process's environment: its database may be gone by now."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the open data (`SEQUELA_DATA`)."""
    value = os.environ.get("SEQUELA_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("SEQUELA_DATA is not the folder of the open data")
    return Path(value)


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """Address of a PostgreSQL database for tests (`SEQUELA_TEST_POSTGRES`)."""
    value = os.environ.get("SEQUELA_TEST_POSTGRES")
    if not value:
        pytest.skip("SEQUELA_TEST_POSTGRES is not the address of a test database")
    return value
