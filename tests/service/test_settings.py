import pytest
from pydantic import ValidationError

from models.errors import ConfigError
from service.settings import Settings, fetch_environment, settings_from_environment


def test_defaults_listen_on_the_loopback_interface_alone():
    settings = Settings()
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8000, "models:/mortality-2012@champion")


def test_a_loopback_service_accepts_loopback_names_alone():
    assert "*" not in Settings().accepted_hosts
    assert "localhost" in Settings().accepted_hosts


def test_a_service_that_listens_elsewhere_accepts_every_name_unless_told():
    assert Settings(host="0.0.0.0").accepted_hosts == ("*",)
    assert Settings(host="0.0.0.0", trusted_hosts=("api",)).accepted_hosts == ("api",)


def test_variables_become_settings(monkeypatch):
    monkeypatch.setenv("SEQUELA_PORT", "9001")
    monkeypatch.setenv("SEQUELA_TRUSTED_HOSTS", "api, *.example.org ,")
    monkeypatch.setenv("SEQUELA_MODEL", "")
    settings = settings_from_environment()
    assert settings.port == 9001
    assert settings.trusted_hosts == ("api", "*.example.org")
    assert settings.model == "models:/mortality-2012@champion"


def test_a_wrong_variable_is_named_and_its_value_is_not_repeated(monkeypatch):
    monkeypatch.setenv("SEQUELA_PORT", "sixty-thousand")
    monkeypatch.setenv("SEQUELA_DEVICE", "toaster")
    with pytest.raises(ConfigError, match=r"SEQUELA_DEVICE.*SEQUELA_PORT") as caught:
        settings_from_environment()
    assert "sixty-thousand" not in str(caught.value)
    assert "toaster" not in str(caught.value)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_the_fetching_process_may_not_unpickle_and_keeps_the_operators_address(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    environment = fetch_environment()
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_the_operator_cannot_switch_unpickling_on(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    assert fetch_environment()["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_without_an_address_the_registry_is_the_local_file(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert fetch_environment()["MLFLOW_TRACKING_URI"] == "sqlite:///mlflow.db"
