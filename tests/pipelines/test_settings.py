"""Settings are read from variables alone, and secrets stay out of their printed form."""

from pathlib import Path

import pytest

from models.errors import ConfigError
from pipelines.settings import Settings


def test_without_variables_everything_is_local():
    settings = Settings.from_environment({})
    assert settings.tracking_uri == "sqlite:///mlflow.db"
    assert settings.registry_uri == settings.tracking_uri
    assert settings.database_url == settings.tracking_uri
    assert settings.experiment == "sequela"


def test_the_lease_lives_in_the_tracking_database_if_that_is_a_database():
    settings = Settings.from_environment({"MLFLOW_TRACKING_URI": "postgresql://user@host/mlflow"})
    assert settings.database_url == "postgresql+psycopg2://user@host/mlflow"
    assert settings.tracking_uri == settings.database_url


def test_the_lease_lives_in_a_local_file_if_tracking_is_a_server():
    settings = Settings.from_environment({"MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    assert settings.database_url == "sqlite:///sequela.db"
    assert settings.registry_uri == "http://mlflow:5000"


def test_a_given_database_wins_and_an_empty_variable_counts_as_not_set():
    settings = Settings.from_environment(
        {
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "SEQUELA_DATABASE_URL": "postgresql://u:p@db/x",
            "MLFLOW_EXPERIMENT_NAME": "",
            "SEQUELA_CACHE": "elsewhere",
        }
    )
    assert settings.database_url == "postgresql+psycopg2://u:p@db/x"
    assert settings.experiment == "sequela"
    assert settings.cache == Path("elsewhere")


def test_a_database_without_leases_is_refused_without_showing_its_password():
    with pytest.raises(ConfigError, match="SEQUELA_DATABASE_URL must begin with") as error:
        Settings.from_environment({"SEQUELA_DATABASE_URL": "mysql://user:secret@host/x"})
    assert "secret" not in str(error.value)


def test_printing_settings_shows_no_password():
    settings = Settings.from_environment({"MLFLOW_TRACKING_URI": "postgresql://user:secret@host/mlflow"})
    assert "secret" not in repr(settings)
