"""A service of documents without a model of stays: what it answers, and what it tells who asks for more."""

import pytest
from fastapi.testclient import TestClient

from models.errors import ConfigError
from service.app import create_app
from service.settings import Settings, settings_from_environment


@pytest.fixture
def alone(text_settings, text_models):
    """A client of a service without a model of stays."""
    with TestClient(create_app(text_settings, None, texts=text_models)) as started:
        yield started


def test_it_is_ready_and_answers_for_documents(alone):
    ready = alone.get("/readyz")
    told = ready.json()
    assert (ready.status_code, told["status"], told["source"], told["models"]) == (200, "ready", None, [])
    assert [place["name"] for place in told["text_models"]] == ["ward", "symptoms", "entities"]
    asked = {"model": "ward", "documents": [{"text": "no fever"}]}
    assert alone.post("/v1/notes/classify", json=asked).status_code == 200
    assert alone.get("/metrics").status_code == 200
    assert alone.get("/openapi.json").status_code == 200
    assert alone.post("/v1/admin/models/look").json()["models"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/score", {"as_of_h": 1}),
        ("GET", "/v1/model", None),
        ("GET", "/v1/model/card", None),
        ("PUT", "/v1/stays/s1", {}),
    ],
)
def test_who_asks_for_a_stay_is_told_what_the_operator_has_to_set(alone, method, path, body):
    refused = alone.request(method, path, json=body)
    assert refused.status_code == 503
    assert "SEQUELA_MODEL" in refused.json()["detail"]


def test_every_line_of_a_batch_is_told_so_too(alone):
    answer = alone.post("/v1/score/batch", content=b"{}\n", headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200
    assert '"status":503' in answer.text
    assert "SEQUELA_MODEL" in answer.text


def test_no_stay_is_kept_and_none_can_be_gone_back_from(alone):
    alone.put("/v1/stays/s1", json={})
    assert alone.get("/v1/stays").json()["stays"] == []
    assert alone.get("/v1/stays/s1").status_code == 404
    assert alone.post("/v1/admin/models/champion/rollback").status_code == 404


@pytest.mark.parametrize(
    ("model", "texts", "expected"),
    [
        (None, None, "models:/mortality-2012@champion"),
        (None, "a=models:/x@champion", ""),
        ("none", "a=models:/x@champion", ""),
        ("models:/y/1", "a=models:/x@champion", "models:/y/1"),
    ],
)
def test_settings_say_whether_there_is_a_model_of_stays(monkeypatch, model, texts, expected):
    for name, value in (("SEQUELA_MODEL", model), ("SEQUELA_TEXT_MODELS", texts)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert settings_from_environment().stays_model == expected


def test_a_service_without_anything_to_serve_is_refused(monkeypatch):
    monkeypatch.setenv("SEQUELA_MODEL", "none")
    with pytest.raises(ConfigError, match="TEXT_MODELS"):
        settings_from_environment()
    with pytest.raises(ValueError, match="CHALLENGER"):
        Settings(text_models="a=x", challenger="models:/y@z", challenger_key="k" * 16)
